"""A checkpoint saved with a head, loaded without it, and the reverse."""

import numpy as np
import pytest

import ferroformer
from ferroformer import AutoModel, AutoModelForSequenceClassification, BertForSequenceClassification, BertModel

from .conftest import DATA, read_safetensors
from .test_loading import same

# task -> names of the head's tensors, and whether its model has a pooler
HEADS = {
    "MaskedLM": (
        {"cls.predictions.bias", "cls.predictions.decoder.bias"}
        | {f"cls.predictions.transform.{part}.{kind}" for part in ("dense", "LayerNorm") for kind in ("weight", "bias")},
        False,
    ),
    "MultipleChoice": ({"classifier.weight", "classifier.bias"}, True),
    "NextSentencePrediction": ({"cls.seq_relationship.weight", "cls.seq_relationship.bias"}, True),
    "QuestionAnswering": ({"qa_outputs.weight", "qa_outputs.bias"}, False),
    "SequenceClassification": ({"classifier.weight", "classifier.bias"}, True),
    "TokenClassification": ({"classifier.weight", "classifier.bias"}, False),
}
POOLER = {"pooler.dense.weight", "pooler.dense.bias"}


def auto(task):
    return getattr(ferroformer, f"AutoModelFor{task}")


@pytest.mark.parametrize("task", HEADS)
def test_the_model_inside_of_a_saved_head(task, caplog):
    directory = DATA / "models" / f"bert-{task}"
    head, has_pooler = HEADS[task]
    model, info = AutoModel.from_pretrained(directory, output_loading_info=True)
    stored = read_safetensors(directory / "model.safetensors")
    assert type(model) is BertModel
    assert info["unexpected_keys"] == head & set(stored) and info["mismatched_keys"] == set()
    assert info["missing_keys"] == (set() if has_pooler else POOLER)
    assert "BertModel LOAD REPORT" in caplog.text and ("newly initialized" in caplog.text) is not has_pooler
    weights = model.state_dict()
    for name in set(weights) - info["missing_keys"]:
        assert np.array_equal(weights[name], stored["bert." + name]), name


@pytest.mark.parametrize("task", HEADS)
def test_a_new_head_on_a_saved_model(task, caplog):
    directory = DATA / "models" / "bert"
    head, has_pooler = HEADS[task]
    model, info = auto(task).from_pretrained(directory, output_loading_info=True, seed=3)
    own = head & set(model.tensor_names.values())
    assert info["missing_keys"] == own and own
    assert info["unexpected_keys"] == set() and info["mismatched_keys"] == set()
    assert "newly initialized; train the model" in caplog.text
    assert all(f"{name} " in caplog.text for name in own)
    again, other = (auto(task).from_pretrained(directory, seed=seed).state_dict() for seed in (3, 4))
    stored = read_safetensors(directory / "model.safetensors")
    for name, array in model.state_dict().items():
        assert np.array_equal(array, again[name])
        if name in own:
            random = name.endswith("weight") and "LayerNorm" not in name
            assert np.array_equal(array, other[name]) is not random, name
        else:
            assert np.array_equal(array, stored[name.removeprefix("bert.")]), name


def test_there_and_back(tmp_path, caplog):
    """The model inside keeps its bits through a head that is saved and taken off."""
    body = BertModel.from_pretrained(DATA / "models" / "bert")
    with_head = AutoModelForSequenceClassification.from_pretrained(DATA / "models" / "bert", num_labels=5)
    with_head.save_pretrained(tmp_path)
    assert same(AutoModel.from_pretrained(tmp_path), body)
    caplog.clear()
    again = BertForSequenceClassification.from_pretrained(tmp_path)
    assert again.config.num_labels == 5 and same(again, with_head)
    assert not caplog.records
