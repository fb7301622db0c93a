"""BERT under its heads: files, options, losses and what is refused; its numbers are in test_models_recorded."""

import json

import numpy as np
import pytest

import ferroformer
from ferroformer import AutoModel, BertConfig, BertForSequenceClassification, BertForTokenClassification, BertModel
from ferroformer.errors import ConfigError, InputError, WeightMismatchError
from ferroformer.models import auto

from .conftest import DATA, read_safetensors, write_safetensors

pytestmark = pytest.mark.numbers

TASKS = [
    "MaskedLM",
    "MultipleChoice",
    "NextSentencePrediction",
    "QuestionAnswering",
    "SequenceClassification",
    "TokenClassification",
]


def directory(task):
    return DATA / "models" / f"bert-{task}"


def recorded(task, case):
    tensors = read_safetensors(directory(task) / "cases.safetensors.gz")
    return [
        {name.removeprefix(start): array for name, array in tensors.items() if name.startswith(start)}
        for start in (f"{case}/in/", f"{case}/out/")
    ]


def load(task, **kwargs):
    return getattr(ferroformer, f"BertFor{task}").from_pretrained(directory(task), **kwargs)


@pytest.mark.parametrize("task", TASKS)
def test_checkpoints_have_transformers_names(task, tmp_path):
    model = load(task)
    model.save_pretrained(tmp_path)
    saved = read_safetensors(tmp_path / "model.safetensors")
    theirs = read_safetensors(directory(task) / "model.safetensors")
    assert saved.keys() == theirs.keys()
    assert all(np.array_equal(saved[name], theirs[name]) for name in theirs)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [f"BertFor{task}"]
    assert sum(array.size for array in theirs.values()) == model.num_parameters()


@pytest.mark.parametrize("task", TASKS)
def test_auto_class_and_packed_file(task, tmp_path):
    auto = getattr(ferroformer, f"AutoModelFor{task}")
    inputs = recorded(task, "choices" if task == "MultipleChoice" else "padded")[0]
    inputs = {name: array for name, array in inputs.items() if name == "input_ids" or name == "attention_mask"}
    model = auto.from_pretrained(directory(task))
    assert type(model).__name__ == f"BertFor{task}"
    model.save_pretrained(tmp_path, packed=True)
    again = auto.from_pretrained(tmp_path)
    assert np.array_equal(again(**inputs)[0], model(**inputs)[0])
    assert type(auto.from_config(model.config)) is type(model)
    with pytest.raises(TypeError, match=f"use AutoModelFor{task}.from_pretrained"):
        auto()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("task", ["SequenceClassification", "TokenClassification"])
def test_company_does_not_matter(task, dtype):
    model = load(task, dtype=dtype)
    ids = np.random.default_rng(0).integers(0, 131, (5, 13))
    lengths = np.array([13, 1, 7, 2, 12])
    batch = model(ids, attention_mask=np.arange(13) < lengths[:, None]).logits
    for row, length in enumerate(lengths):
        alone = model(ids[row : row + 1, :length]).logits[0]
        assert np.array_equal(batch[row] if task == "SequenceClassification" else batch[row, :length], alone)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_words_shared_with_the_head_are_looked_up_alike(dtype):
    """Word embeddings lie otherwise where a head shares them; int8 rounds them otherwise too."""
    shared, own = load("MaskedLM", dtype=dtype), BertModel.from_pretrained(directory("MaskedLM"), dtype=dtype)
    ids = np.random.default_rng(0).integers(0, 131, (2, 9))
    hidden = [model(ids, output_hidden_states=True).hidden_states[0] for model in (shared, own)]
    assert np.abs(hidden[0] - hidden[1]).max() <= (0.05 if dtype == "int8" else 0)
    exact = load("MaskedLM")(ids).logits
    cosine = (shared(ids).logits * exact).sum() / np.linalg.norm(shared(ids).logits) / np.linalg.norm(exact)
    assert cosine >= {"float32": 1 - 1e-6, "bfloat16": 0.999, "int8": 0.99}[dtype]


def test_a_decoder_that_is_saved_once_more_is_no_surprise(tmp_path, caplog):
    theirs = read_safetensors(directory("MaskedLM") / "model.safetensors")
    more = {
        "cls.predictions.decoder.weight": theirs["bert.embeddings.word_embeddings.weight"],
        "cls.predictions.decoder.bias": theirs["cls.predictions.bias"],
    }
    write_safetensors(tmp_path / "model.safetensors", theirs | more)
    load("MaskedLM").config.save_pretrained(tmp_path)
    model = ferroformer.BertForMaskedLM.from_pretrained(tmp_path)
    assert not caplog.text
    assert np.array_equal(model([[1, 2, 3]]).logits, load("MaskedLM")([[1, 2, 3]]).logits)


def test_a_decoder_of_its_own(tmp_path):
    theirs = read_safetensors(directory("MaskedLM") / "model.safetensors")
    more = {"cls.predictions.decoder.weight": 2 * theirs["bert.embeddings.word_embeddings.weight"]}
    write_safetensors(tmp_path / "model.safetensors", theirs | more)
    load("MaskedLM").config.save_pretrained(tmp_path)
    model = ferroformer.BertForMaskedLM.from_pretrained(tmp_path, tie_word_embeddings=False)
    bias = theirs["cls.predictions.bias"]
    twice = 2 * (load("MaskedLM")([[1, 2, 3]]).logits - bias) + bias
    assert np.abs(model([[1, 2, 3]]).logits - twice).max() < 1e-5
    model.save_pretrained(tmp_path / "again")
    saved = read_safetensors(tmp_path / "again" / "model.safetensors")
    assert saved.keys() - theirs.keys() == {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    assert theirs.keys() - saved.keys() == {"cls.predictions.bias"}


def test_positions_of_answers_come_in_pairs():
    model = load("QuestionAnswering")
    with pytest.raises(InputError, match="belong together"):
        model([[1, 2, 3]], start_positions=[0])
    with pytest.raises(ConfigError, match="num_labels=3"):
        load("QuestionAnswering", num_labels=3)
    beyond = model([[1, 2, 3]], start_positions=[1], end_positions=[7])
    start = model([[1, 2, 3]]).start_logits[0].astype(np.float64)
    assert np.isnan(beyond.loss)  # as in transformers, where the mean of no labels is NaN
    both = model([[1, 2, 3]], start_positions=[1], end_positions=[1])
    end = both.end_logits[0].astype(np.float64)
    exact = -np.mean([np.log(np.exp(x)[1] / np.exp(x).sum()) for x in (start, end)])
    assert both.loss == pytest.approx(exact, abs=1e-6)


def test_a_row_without_tokens_has_zeros():
    for task in ("SequenceClassification", "TokenClassification"):
        logits = load(task)([[5, 6], [7, 8]], attention_mask=[[1, 1], [0, 0]]).logits
        assert logits[0].any() and not logits[1].any()


def test_options_are_those_of_the_model_inside():
    inputs = {"input_ids": [[5, 6, 7]], "output_hidden_states": True, "output_attentions": True}
    head, bare = load("SequenceClassification"), BertModel.from_pretrained(directory("SequenceClassification"))
    named, expected = head(**inputs), bare(**inputs)
    for name in ("hidden_states", "attentions"):
        assert all(np.array_equal(a, b) for a, b in zip(named[name], expected[name], strict=True))
    logits, hidden, _ = head(**inputs, return_dict=False)
    assert np.array_equal(logits, named.logits) and len(hidden) == 3
    assert head(**inputs, labels=[1], return_dict=False)[0] == head(**inputs, labels=[1]).loss


def test_a_bare_checkpoint_gets_a_new_head(caplog):
    model, info = BertForSequenceClassification.from_pretrained(
        DATA / "models" / "bert", num_labels=3, output_loading_info=True
    )
    assert info["missing_keys"] == {"classifier.weight", "classifier.bias"}
    assert "newly initialized" in caplog.text
    assert model([[1, 2]]).logits.shape == (1, 3)
    again = BertForSequenceClassification.from_pretrained(DATA / "models" / "bert", num_labels=3)
    assert np.array_equal(again([[1, 2]]).logits, model([[1, 2]]).logits)


def test_a_head_of_another_size_is_refused():
    with pytest.raises(WeightMismatchError, match=r"num_labels=7, the checkpoint 4"):
        load("SequenceClassification", num_labels=7)
    assert load("SequenceClassification", num_labels=7, ignore_mismatched_sizes=True)([[1]]).logits.shape == (1, 7)


def test_a_packed_head_is_not_taken_for_another(tmp_path):
    load("SequenceClassification").save_pretrained(tmp_path, packed=True)
    with pytest.raises(WeightMismatchError, match="head 4"):
        BertForSequenceClassification.from_pretrained(tmp_path, num_labels=3)


def test_a_single_label_is_a_regression():
    config = BertConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=8, num_labels=1)
    model = BertForSequenceClassification(config)
    output = model([[1, 2], [3, 4]], labels=[0.5, 2.0])
    assert output.loss == pytest.approx(np.mean((output.logits[:, 0] - [0.5, 2.0]) ** 2), abs=1e-6)


def test_labels_that_do_not_count():
    model = load("TokenClassification")
    logits = model([[1, 2, 3]]).logits[0].astype(np.float64)
    loss = -np.log(np.exp(logits[1, 2]) / np.exp(logits[1]).sum())
    assert model([[1, 2, 3]], labels=[[-100, 2, -100]]).loss == pytest.approx(loss, abs=1e-6)
    assert np.isnan(model([[1, 2, 3]], labels=[[-100] * 3]).loss)


def test_wrong_labels_say_what_is_wrong():
    rows, tokens = load("SequenceClassification"), load("TokenClassification")
    with pytest.raises(InputError, match=r"labels\[1\] is 4: allowed are 0 to 3, and -100"):
        rows([[1], [2]], labels=[0, 4])
    with pytest.raises(InputError, match=r"labels have the shape \(3,\); expected \(2,\)"):
        rows([[1], [2]], labels=[0, 1, 2])
    with pytest.raises(TypeError, match="labels must hold integers, got dtype float"):
        tokens([[1, 2]], labels=[[0.5, 1.5]])
    with pytest.raises(InputError, match=r"labels\[0, 1\] is 3, where attention_mask is 0: expected -100 there"):
        tokens([[1, 2]], attention_mask=[[1, 0]], labels=[[0, 3]])
    with pytest.raises(InputError, match=r"input_ids must have 3 axes"):
        load("MultipleChoice")([[1, 2]])


def test_a_type_without_such_a_class_is_refused(monkeypatch):
    monkeypatch.setattr(auto, "MODELS", dict(auto.MODELS))

    class Other(BertConfig):
        model_type = "other"

    ferroformer.AutoConfig.register("other", Other)
    AutoModel.register(Other, BertModel)
    with pytest.raises(ConfigError, match="no model class for AutoModelForTokenClassification"):
        ferroformer.AutoModelForTokenClassification.from_config(Other())
    ferroformer.AutoModelForTokenClassification.register(Other, BertForTokenClassification)
    with pytest.raises(ValueError, match="has a model class"):
        ferroformer.AutoModelForTokenClassification.register(Other, BertForTokenClassification)
