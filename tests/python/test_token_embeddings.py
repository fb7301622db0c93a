"""Longer and shorter vocabularies: what is kept, what is new, and that all that has the vocabulary's length follows."""

import json

import numpy as np
import pytest

from ferroformer import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertModel
from ferroformer.errors import InputError, TokenIdError

from .conftest import DATA, TINY
from .test_loading import WORDS, same

IDS = [[7, 3, 49], [1, 0, 2]]


def masked_lm(**settings):
    """With a bias that is not zero."""
    model = BertForMaskedLM(BertConfig(**TINY | settings), seed=2)
    weights = model.state_dict()
    weights["cls.predictions.bias"] += np.linspace(4, 6, len(weights["cls.predictions.bias"]), dtype=np.float32)
    model.load_state_dict(weights)
    return model


def test_more_words():
    model = BertModel(BertConfig(**TINY), seed=1)
    old, before = model.state_dict(), model(IDS)
    with pytest.raises(TokenIdError):
        model([[59]])
    embedding = model.resize_token_embeddings(60)
    assert (embedding.num_embeddings, embedding.embedding_dim, model.config.vocab_size) == (60, 12, 60)
    weights = model.state_dict()
    assert np.array_equal(weights.pop(WORDS), embedding.weight) and np.array_equal(embedding.weight[:50], old[WORDS])
    assert all(np.array_equal(array, old[name]) for name, array in weights.items())
    assert np.array_equal(model(IDS).last_hidden_state, before.last_hidden_state)
    assert model([[59]]).last_hidden_state.shape == (1, 1, 12)
    assert model.num_parameters() == sum(array.size for array in old.values()) + 120


def test_new_rows_lie_about_the_mean():
    model = BertModel(BertConfig(**TINY | {"vocab_size": 400}), seed=1)
    old = model.get_input_embeddings().weight
    new = model.resize_token_embeddings(20_400).weight[400:].astype(np.float64)
    expected = np.cov(old.T.astype(np.float64), bias=True) * 1e-9
    spread = new - old.mean(0, np.float64)
    found = spread.T @ spread / len(new)
    # of 20,000 samples, whose covariance is known to about 1 part in 100; float32 adds less than that
    assert np.abs(found - expected).max() < 0.06 * np.diag(expected).max()


def test_fewer_words_than_columns_have_only_a_mean():
    model = BertModel(BertConfig(**TINY | {"vocab_size": 3}), seed=1)
    mean = model.get_input_embeddings().weight.mean(0)
    new = model.resize_token_embeddings(5).weight[3:]
    assert np.abs(new - mean).max() < 1e-8


def test_new_rows_as_in_a_new_model():
    resized = [BertModel(BertConfig(**TINY), seed=1) for _ in range(3)]
    first, again, other = (
        model.resize_token_embeddings(450, mean_resizing=False, seed=seed).weight[50:]
        for model, seed in zip(resized, (5, 5, 6))
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert 0.018 < first.std() < 0.022 and abs(first.mean()) < 0.002


def test_as_transformers_resizes():
    """Recorded: new rows, and with these the logits of an input that has new words in it."""
    directory = DATA / "models" / "bert-MaskedLM"
    recorded = json.loads((directory / "resized.json").read_text())
    model = BertForMaskedLM.from_pretrained(directory)
    old = model.get_input_embeddings().weight
    table = model.resize_token_embeddings(recorded["new_num_tokens"]).weight
    for rows in (table[len(old) :], np.array(recorded["new_rows"])):
        assert (np.abs(rows - old.mean(0)) < 6 * np.sqrt(1e-9) * old.std(0)).all()
    table[len(old) :] = recorded["new_rows"]
    model.set_input_embeddings(table)
    logits = model(recorded["input_ids"]).logits
    assert np.abs(logits - np.array(recorded["logits"])).max() <= 2e-5


@pytest.mark.parametrize("size", [60, 40])
def test_a_head_on_the_same_words(size):
    """transformers 5.23: the decoder is the resized table, and the biases of new words are zero."""
    model = masked_lm()
    old, before = model.state_dict(), model([[7, 3, 39]]).logits
    model.resize_token_embeddings(size)
    kept, weights = min(size, 50), model.state_dict()
    assert weights["bert." + WORDS].shape == (size, 12) and weights["cls.predictions.bias"].shape == (size,)
    assert np.array_equal(weights["bert." + WORDS][:kept], old["bert." + WORDS][:kept])
    assert np.array_equal(weights["cls.predictions.bias"][:kept], old["cls.predictions.bias"][:kept])
    assert not weights["cls.predictions.bias"][kept:].any()
    after = model([[7, 3, 39]], labels=[[1, -100, kept - 1]])
    assert after.logits.shape == (1, 3, size) and np.isfinite(after.loss)
    assert np.array_equal(after.logits[..., :kept], before[..., :kept])


def test_a_head_that_only_looks_alike():
    """As many labels as words."""
    model = BertForSequenceClassification(BertConfig(**TINY, num_labels=50), seed=1)
    old = model.state_dict()["classifier.weight"]
    model.resize_token_embeddings(60)
    assert np.array_equal(model.state_dict()["classifier.weight"], old) and model([[59]]).logits.shape == (1, 50)


@pytest.mark.parametrize(
    "arguments, size",
    [((None, 16), 64), ((50, 16), 64), ((64, 16), 64), ((65, 16), 80), ((50,), 50), ((None,), 50), ((np.int64(51),), 51)],
)
def test_sizes(arguments, size):
    model = BertModel(BertConfig(**TINY), seed=1)
    assert model.resize_token_embeddings(*arguments).num_embeddings == size == model.config.vocab_size


@pytest.mark.parametrize("arguments", [(0,), (-3,), (50.0,), ("50",), (50, -8), (50, 0), (50, 2.5)])
def test_sizes_that_are_refused(arguments):
    model = BertModel(BertConfig(**TINY), seed=1)
    with pytest.raises(InputError, match="an integer of at least 1 is needed"):
        model.resize_token_embeddings(*arguments)
    assert model.config.vocab_size == 50


def test_a_resized_model_is_saved_and_loaded(tiny):
    model = BertModel.from_pretrained(tiny, add_pooling_layer=False)
    model.resize_token_embeddings(60)
    with pytest.raises(TypeError, match="cannot be pickled"):
        model.__reduce__()
    assert model(IDS).pooler_output is None
    model.save_pretrained(tiny / "longer")
    assert json.loads((tiny / "longer" / "config.json").read_text())["vocab_size"] == 60
    assert same(BertModel.from_pretrained(tiny / "longer", add_pooling_layer=False), model)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_other_dtypes_are_refused(tiny, dtype):
    model = BertModel.from_pretrained(tiny, dtype=dtype)
    with pytest.raises(NotImplementedError, match=f"resize the float32 model, save it, and load that as {dtype}"):
        model.resize_token_embeddings(60)
    assert model.resize_token_embeddings(50).num_embeddings == 50


def test_embeddings_are_set():
    model, other = (BertModel(BertConfig(**TINY), seed=seed) for seed in (1, 2))
    model.set_input_embeddings(other.get_input_embeddings())
    assert np.array_equal(model.get_input_embeddings().weight, other.get_input_embeddings().weight)
    model.set_input_embeddings(np.zeros((50, 12)))
    assert not model.get_input_embeddings().weight.any()
    with pytest.raises(InputError, match=r"shape \(51, 12\); the word embeddings have \(50, 12\)"):
        model.set_input_embeddings(np.zeros((51, 12)))


def test_new_words_learn():
    from ferroformer import training

    model = masked_lm()
    model.resize_token_embeddings(60)
    before = model.get_input_embeddings().weight
    optimizer = training.AdamW(model, lr=0.1)
    _, gradients = training.value_and_grad(model, input_ids=[[55, 3]], labels=[[55, -100]])
    optimizer.step(gradients)
    assert not np.array_equal(model.get_input_embeddings().weight[55], before[55])
