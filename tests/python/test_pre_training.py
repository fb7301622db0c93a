"""Models with two heads: what they say and lose is what two models with one head each do."""

import numpy as np
import pytest

import ferroformer
from ferroformer import training
from ferroformer.errors import InputError

SIZES = {
    "vocab_size": 50,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 30,
    "initializer_range": 0.25,
}
KINDS = {"Albert": "sentence_order_label"} | dict.fromkeys(("Bert", "Ernie", "MobileBert"), "next_sentence_label")
OWN = {"MobileBert": {"intra_bottleneck_size": 12, "embedding_size": 8, "normalization_type": "layer_norm"}}


def model_of(kind):
    config = getattr(ferroformer, f"{kind}Config")(**SIZES, **OWN.get(kind, {}))
    return getattr(ferroformer, f"{kind}ForPreTraining")(config, seed=3)


def batch_of(kind):
    dice = np.random.default_rng(1)
    ids, mask = dice.integers(3, 50, (3, 11)), np.ones((3, 11), int)
    mask[1, 7:] = 0
    words = np.where((dice.random((3, 11)) < 0.4) & (mask == 1), ids, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": words, KINDS[kind]: [0, 1, 1]}


@pytest.mark.parametrize("kind", ["Bert", "Ernie", "MobileBert"])
def test_two_heads_are_two_models(kind, tmp_path):
    both, batch = model_of(kind), batch_of(kind)
    both.save_pretrained(tmp_path)
    words = getattr(ferroformer, f"{kind}ForMaskedLM").from_pretrained(tmp_path)
    order = getattr(ferroformer, f"{kind}ForNextSentencePrediction").from_pretrained(tmp_path)
    labels = batch.pop(KINDS[kind])
    of_words, out = words(**batch), both(**batch, **{KINDS[kind]: labels})
    del batch["labels"]
    of_order = order(**batch, labels=labels)
    assert np.array_equal(out.prediction_logits, of_words.logits)
    assert np.array_equal(out.seq_relationship_logits, of_order.logits)
    assert out.loss == pytest.approx(of_words.loss + of_order.loss, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_learned_and_saved(kind, tmp_path):
    model, batch = model_of(kind), batch_of(kind)
    optimizer = training.AdamW(model, lr=1e-2)
    for _ in range(60):
        outputs, gradients = training.value_and_grad(model, **batch)
        optimizer.step(gradients)
    assert outputs.loss < 0.2
    model.save_pretrained(tmp_path)
    again = ferroformer.AutoModelForPreTraining.from_pretrained(tmp_path)
    assert type(again) is type(model)
    for ours, theirs in zip(again(**batch).to_tuple(), model(**batch).to_tuple(), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_slopes(kind):
    model, batch = model_of(kind), batch_of(kind)
    _, gradients = training.value_and_grad(model, **batch)
    start = model.state_dict()
    for name in [name for name in start if "seq_relationship" in name or "sop" in name or "pooler" in name]:
        way = np.sign(gradients[name])

        def loss(t, name=name, way=way):
            model.load_state_dict(start | {name: start[name] + np.float32(t) * way})
            return float(training.loss(model, **batch))

        slope = (8 * (loss(0.01) - loss(-0.01)) - (loss(0.02) - loss(-0.02))) / 0.12
        assert slope == pytest.approx(np.abs(gradients[name]).sum(), rel=1e-2, abs=1e-4), name
        model.load_state_dict(start)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_belong_together(kind):
    model, batch = model_of(kind), batch_of(kind)
    for missing in ("labels", KINDS[kind]):
        with pytest.raises(InputError, match=f"labels and {KINDS[kind]} belong together"):
            model(**{name: value for name, value in batch.items() if name != missing})


def test_labels_may_come_by_their_place():
    """As `forward` lists them: none is dropped in silence."""
    model, batch = model_of("Bert"), batch_of("Bert")
    arrays = batch["input_ids"], batch["attention_mask"], None, None, None
    placed = model(*arrays, batch["labels"], next_sentence_label=batch["next_sentence_label"])
    assert placed.loss == model(**batch).loss
    with pytest.raises(InputError, match="belong together"):
        model(*arrays, batch["labels"])
