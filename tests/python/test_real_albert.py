"""A trained ALBERT, from a file of torch before 1.6 and from safetensors: the words that transformers finds most likely, each of them."""

import hashlib
import json

import numpy as np
import pytest

from ferroformer import AlbertForMaskedLM, AutoModelForMaskedLM

from .conftest import DATA, read_safetensors

REAL = DATA / "albert-rxnmapper"
REACTIONS = json.loads((REAL / "masked_argmax.json").read_text())
MASK = (REAL / "vocab.txt").read_text().split("\n").index("[MASK]")


@pytest.fixture(scope="module")
def from_torch():
    return AutoModelForMaskedLM.from_pretrained(REAL)


@pytest.fixture(scope="module")
def from_safetensors(from_torch, tmp_path_factory):
    directory = tmp_path_factory.mktemp("albert")
    from_torch.save_pretrained(directory)
    assert sorted(path.name for path in directory.iterdir()) == ["config.json", "model.safetensors"]
    return AlbertForMaskedLM.from_pretrained(directory), directory


def masked(ids):
    """(T - 2, T): each token but the first and the last masked once."""
    places = np.arange(1, len(ids) - 1)
    rows = np.tile(ids, (len(places), 1))
    rows[places - 1, places] = MASK
    return rows


def guesses(model, ids):
    """The likeliest word at each masked place."""
    logits = model(masked(ids)).logits
    return logits[np.arange(len(logits)), 1 + np.arange(len(logits))].argmax(-1).tolist()


def test_all_that_transformers_guesses(from_torch):
    found = [guesses(from_torch, reaction["input_ids"]) for reaction in REACTIONS]
    expected = [reaction["masked_argmax"] for reaction in REACTIONS]
    assert sum(map(len, expected)) == 3038
    assert found == expected


def test_every_weight_to_the_last_bit(from_torch, from_safetensors):
    """What we write is what transformers writes; what we read of it is what we read of torch's file."""
    model, directory = from_safetensors
    digests = {
        name: hashlib.sha256(array.tobytes()).hexdigest()
        for name, array in read_safetensors(directory / "model.safetensors").items()
    }
    assert digests == json.loads((REAL / "sha256.json").read_text())
    assert model.config.to_diff_dict() == from_torch.config.to_diff_dict() | {"architectures": ["AlbertForMaskedLM"]}
    for reaction in REACTIONS[::20]:
        rows = masked(reaction["input_ids"])
        assert np.array_equal(model(rows).logits, from_torch(rows).logits)


def test_reactions_together(from_torch):
    """Of all lengths in one batch: the bits of each alone."""
    length = max(len(reaction["input_ids"]) for reaction in REACTIONS)
    ids = np.zeros((len(REACTIONS), length), np.int64)
    mask = np.zeros_like(ids)
    for row, reaction in enumerate(REACTIONS):
        ids[row, : len(reaction["input_ids"])] = reaction["input_ids"]
        mask[row, : len(reaction["input_ids"])] = 1
    together = from_torch(ids, mask).logits
    for row, reaction in enumerate(REACTIONS):
        alone = from_torch([reaction["input_ids"]]).logits[0]
        assert np.array_equal(together[row, : len(alone)], alone)
