"""What cannot be learned from, and how that is said; nothing is changed by what is refused."""

import numpy as np
import pytest

from ferroformer import BertConfig, BertForSequenceClassification, BertModel, training
from ferroformer.errors import InputError, TokenIdError, WeightMismatchError

from .small_models import SETTINGS, bits, small_batch, small_model


@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
def test_weights_that_are_rounded(dtype):
    model = BertForSequenceClassification(BertConfig(**SETTINGS, num_labels=4), dtype=dtype)
    with pytest.raises(InputError, match=f'weights in {dtype} cannot be trained: load the checkpoint with dtype="float32"'):
        training.value_and_grad(model, **small_batch("rows"))


def test_weights_in_a_mapped_file(tmp_path):
    small_model("rows").save_pretrained(tmp_path, packed=True)
    before = (tmp_path / "model.packed.safetensors").read_bytes()
    model = BertForSequenceClassification.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="weights that are mapped from a packed file cannot be trained"):
        training.value_and_grad(model, **small_batch("rows"))
    with pytest.raises(InputError, match="mapped from a packed file"):
        model.load_state_dict(small_model("rows", seed=1).state_dict())
    gradients = {name: np.ones_like(w) for name, w in model.state_dict().items()}
    with pytest.raises(InputError, match="mapped from a packed file"):
        training.SGD(model, lr=1.0).step(gradients)
    assert (tmp_path / "model.packed.safetensors").read_bytes() == before


CHANGES = [
    ("rows", {"labels": None}, InputError, "labels is missing: a BertForSequenceClassification learns from labels"),
    ("answers", {"end_positions": None}, InputError, "end_positions is missing: a BertForQuestionAnswering learns from start"),
    ("rows", {"labels": [0, 1]}, InputError, r"labels have the shape \(2,\); expected \(8,\)"),
    ("rows", {"labels": [0, 1, 2, 3, 4, 0, 0, 0]}, InputError, r"labels\[4\] is 4: allowed are 0 to 3"),
    ("rows", {"labels": [0, -1, 2, 3, 0, 0, 0, 0]}, InputError, r"labels\[1\] is -1"),
    ("next", {"labels": [0, 1, 2, 0, 0, 0, 0, 0]}, InputError, r"labels\[2\] is 2: allowed are 0 to 1"),
    ("choices", {"labels": [0, 4]}, InputError, r"labels\[1\] is 4: allowed are 0 to 3"),
    ("several labels", {"labels": np.ones((8, 3), np.float32)}, InputError, r"shape \(8, 3\); expected \(8, 4\)"),
    ("several labels", {"labels": np.ones((8, 4), int)}, TypeError, "labels must hold floats"),
    ("words", {"labels": np.full((8, 22), 53)}, InputError, "labels"),
    ("tokens", {"labels": np.zeros((8, 22), int)}, InputError, r"labels\[0, 13\] is 0, where attention_mask is 0"),
    ("tokens", {"labels": np.zeros((8, 21), int)}, InputError, "labels have the shape"),
    ("rows", {"input_ids": np.full((8, 22), 53)}, TokenIdError, r"input_ids\[0, 0\] is 53"),
    ("rows", {"attention_mask": np.ones((8, 21), int)}, InputError, "attention_mask"),
    ("rows", {"weights": 1}, TypeError, "BertForSequenceClassification.forward has no argument 'weights'"),
    ("rows", {"class_weights": [1, 2]}, InputError, "class_weights must be 4 numbers"),
    ("rows", {"label_smoothing": 2}, InputError, "label_smoothing is 2"),
    ("a number", {"label_smoothing": 0.1}, InputError, "are for cross-entropy, not for the loss of regression"),
]


@pytest.mark.parametrize("kind, change, error, problem", CHANGES)
def test_batches(kind, change, error, problem):
    model = small_model(kind)
    gradients = training.Gradients(model)
    with pytest.raises(error, match=problem):
        training.value_and_grad(model, gradients=gradients, **small_batch(kind) | change)
    assert gradients.norm() == 0


def test_embeddings_are_not_learned_from():
    batch = small_batch("rows")
    del batch["input_ids"]
    with pytest.raises(NotImplementedError, match="from input_ids, not from inputs_embeds"):
        training.value_and_grad(small_model("rows"), inputs_embeds=np.zeros((8, 22, 39), np.float32), **batch)


def test_a_model_without_a_head():
    with pytest.raises(InputError, match="a BertModel learns from no labels: it has no head"):
        training.value_and_grad(BertModel(BertConfig(**SETTINGS)), input_ids=[[1, 2]], labels=[1])


def test_a_recording_is_used_once():
    model = small_model("rows")
    outputs, recording = training.record(model, input_ids=[[1, 2]])
    d = np.ones_like(outputs.logits)
    with pytest.raises(InputError, match="the gradient of logits has 8 elements; the model's logits have 4"):
        training.record(model, input_ids=[[1, 2]])[1].backward(logits=np.ones((2, 4)))
    recording.backward(logits=d)
    with pytest.raises(InputError, match="good for one way back"):
        recording.backward(logits=d)


@pytest.mark.parametrize("given", [{"pooler_output": np.ones((1, 39))}, {"last_hidden_state": np.ones((1, 2, 40))}])
def test_gradients_of_outputs_have_their_shapes(given):
    model = BertModel(BertConfig(**SETTINGS), add_pooling_layer=False)
    with pytest.raises(InputError, match="the gradient of (pooled|last_hidden_state) has"):
        training.record(model, input_ids=[[1, 2]])[1].backward(**given)


OTHERS = {
    "larger": lambda: small_model("rows", hidden_size=42),
    "other labels": lambda: small_model("rows", num_labels=5),
    "another head": lambda: small_model("words"),
    "another layer": lambda: small_model("rows", num_hidden_layers=3),
}


@pytest.mark.parametrize("other", OTHERS)
def test_gradients_of_another_model(other):
    model, other = small_model("rows"), OTHERS[other]()
    with pytest.raises(InputError, match="the gradients are those of another model"):
        training.value_and_grad(model, **small_batch("rows"), gradients=training.Gradients(other))


@pytest.mark.parametrize("other", OTHERS)
def test_a_step_with_gradients_of_another_model(other):
    model, other = small_model("rows"), OTHERS[other]()
    optimizer, before = training.AdamW(model, lr=0.1), bits(model.state_dict())
    with pytest.raises(InputError, match="the gradients are those of another model"):
        optimizer.step(training.Gradients(other))
    assert bits(model.state_dict()) == before and optimizer.steps == 0


# --- weights in place -------------------------------------------------------------------------
def test_state_dict_goes_round():
    model, other = small_model("words"), small_model("words", seed=1)
    batch = small_batch("words")
    assert model(**batch).loss != other(**batch).loss
    model.load_state_dict(other.state_dict())
    assert bits(model.state_dict()) == bits(other.state_dict()) and model(**batch).loss == other(**batch).loss


def test_state_dict_of_others():
    model = small_model("rows")
    before, given = bits(model.state_dict()), small_model("rows", seed=1).state_dict()
    for wrong, problem in (
        ({n: w for n, w in given.items() if n != "classifier.bias"}, "'classifier.bias' is missing"),
        (given | {"classifier": np.zeros(4)}, "'classifier' is no weight of this model"),
        (given | {"classifier.bias": np.zeros(5)}, r"'classifier.bias' has the shape \(5,\); the model's is \(4,\)"),
    ):
        with pytest.raises(WeightMismatchError, match=problem):
            model.load_state_dict(wrong)
    assert bits(model.state_dict()) == before


@pytest.mark.parametrize("kind", ["rows", "words"])
def test_weights_are_read_again(kind, tmp_path):
    model, batch = small_model(kind), small_batch(kind)
    model.save_pretrained(tmp_path)
    before, loss = bits(model.state_dict()), model(**batch).loss
    training.SGD(model, lr=0.1).step(training.value_and_grad(model, **batch)[1])
    assert bits(model.state_dict()) != before
    model.load_weights(tmp_path)
    assert bits(model.state_dict()) == before and model(**batch).loss == loss


@pytest.mark.parametrize("other", ["larger", "other labels", "another head"])
def test_weights_of_others_change_nothing(other, tmp_path):
    OTHERS[other]().save_pretrained(tmp_path)
    model = small_model("rows")
    before = bits(model.state_dict())
    with pytest.raises(WeightMismatchError):
        model.load_weights(tmp_path)
    assert bits(model.state_dict()) == before
    with pytest.raises(FileNotFoundError):
        model.load_weights(tmp_path / "nowhere")


# --- other threads ----------------------------------------------------------------------------
def test_calls_from_another_thread_while_a_model_learns():
    """A step that comes while a call is under way is refused and can be tried again; neither waits for ever."""
    import threading

    model, batch = small_model("rows"), small_batch("rows", repeats=4)
    optimizer, stop, seen, failed = training.SGD(model, lr=1e-3), threading.Event(), [], []

    def call():
        try:
            while not stop.is_set():
                seen.append(float(model(**batch).loss))
        except Exception as error:
            failed.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    try:
        for _ in range(30):
            _, gradients = training.value_and_grad(model, **batch)
            for _ in range(100_000):
                try:
                    optimizer.step(gradients)
                    break
                except InputError as error:
                    assert "while another call uses the model" in str(error)
            else:
                pytest.fail("the step never found the model at rest")
    finally:
        stop.set()
        caller.join(60)
    assert not caller.is_alive() and not failed
    assert optimizer.steps == 30 and np.isfinite(seen).all() and len(set(seen)) > 1
