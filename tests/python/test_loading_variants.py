"""`variant` and `use_safetensors`: which of the weights in a directory are read."""

import json
import pickle

import numpy as np
import pytest

from ferroformer import AutoModel, BertModel
from ferroformer.errors import InputError

from .conftest import read_safetensors, write_safetensors
from .torch_writer import write_torch

NORM = "embeddings.LayerNorm.bias"


@pytest.fixture
def several(tiny):
    """A directory of weights of four kinds, which one tensor tells apart."""
    tensors = read_safetensors(tiny / "model.safetensors")

    def marked(number):
        return tensors | {NORM: np.full_like(tensors[NORM], number)}

    write_safetensors(tiny / "model.safetensors", marked(1))
    write_torch(tiny / "pytorch_model.bin", marked(2))
    write_safetensors(tiny / "model.fp16.safetensors", marked(3))
    write_torch(tiny / "pytorch_model.fp16.bin", marked(4))
    return tiny


def kind(directory, **options):
    """Which of them was read."""
    (number,) = set(BertModel.from_pretrained(directory, **options).state_dict()[NORM].tolist())
    return number


@pytest.mark.parametrize(
    "options, number",
    [
        ({}, 1),
        ({"use_safetensors": True}, 1),
        ({"use_safetensors": False}, 2),
        ({"variant": "fp16"}, 3),
        ({"variant": "fp16", "use_safetensors": True}, 3),
        ({"variant": "fp16", "use_safetensors": False}, 4),
    ],
)
def test_what_is_read(several, options, number):
    assert kind(several, **options) == number
    again = pickle.loads(pickle.dumps(AutoModel.from_pretrained(several, **options)))
    assert set(again.state_dict()[NORM].tolist()) == {number}


def test_formats_stand_in_only_where_none_is_asked_for(several):
    (several / "model.fp16.safetensors").unlink()
    assert kind(several, variant="fp16") == 4
    names = "model.fp16.safetensors or model.safetensors.index.fp16.json"
    with pytest.raises(FileNotFoundError, match=f"no file named {names} found.*variant=None"):
        kind(several, variant="fp16", use_safetensors=True)
    (several / "pytorch_model.bin").unlink()
    with pytest.raises(FileNotFoundError, match="no file named pytorch_model.bin or pytorch_model.bin.index.json"):
        kind(several, use_safetensors=False)
    with pytest.raises(FileNotFoundError, match="no file named model.int4.safetensors, .*variant=None reads"):
        kind(several, variant="int4")


def test_shards_of_a_variant(several):
    tensors = list(read_safetensors(several / "model.fp16.safetensors").items())
    (several / "model.fp16.safetensors").unlink()
    halves = enumerate((dict(tensors[:9]), dict(tensors[9:])), 1)
    parts = {f"model.fp16-0000{number}-of-00002.safetensors": half for number, half in halves}
    for name, part in parts.items():
        write_safetensors(several / name, part)
    weight_map = {tensor: name for name, part in parts.items() for tensor in part}
    (several / "model.safetensors.index.fp16.json").write_text(json.dumps({"weight_map": weight_map}))
    assert kind(several, variant="fp16") == 3
    assert kind(several) == 1


def test_a_packed_file_is_no_variant(several):
    model = BertModel.from_pretrained(several)
    model.load_state_dict(model.state_dict() | {NORM: np.full_like(model.state_dict()[NORM], 5)})
    model.save_pretrained(several, packed=True)
    assert kind(several) == kind(several, use_safetensors=True) == 5
    assert kind(several, use_safetensors=False) == 2 and kind(several, variant="fp16") == 3


@pytest.mark.parametrize("variant", ["", "../fp16", "a\\b", "a\0b", 16])
def test_what_is_no_variant(several, variant):
    with pytest.raises(InputError, match="variant=.*expected a part of a file's name"):
        BertModel.from_pretrained(several, variant=variant)
    with pytest.raises(InputError, match="use_safetensors='yes'; expected None, True or False"):
        BertModel.from_pretrained(several, use_safetensors="yes")
