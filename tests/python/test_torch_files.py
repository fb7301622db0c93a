"""pytorch_model.bin: read without torch and without running anything, to the last bit what safetensors would give."""

import json
import pickle
import zipfile

import numpy as np
import pytest

from ferroformer import BertForMaskedLM, BertModel, DebertaModel
from ferroformer._native import Checkpoint
from ferroformer.errors import CorruptModelError, WeightMismatchError

from .conftest import DATA, read_safetensors
from .test_loading import WORDS, same
from .torch_writer import as_bfloat16, write_torch

RECORDED = DATA / "torch_files"
FLOATS = ("F64", "F32", "F16", "BF16")
TORCH_DTYPES = {
    "torch.float64": "F64",
    "torch.float32": "F32",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
    "torch.int64": "I64",
    "torch.int8": "I8",
    "torch.bool": "BOOL",
}


def to_torch(directory, change=lambda tensors: tensors, **options):
    """Replace model.safetensors by pytorch_model.bin."""
    tensors = read_safetensors(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    write_torch(directory / "pytorch_model.bin", change(tensors), **options)


def split(directory):
    """Turn model.safetensors into two torch files and an index."""
    tensors = list(read_safetensors(directory / "model.safetensors").items())
    (directory / "model.safetensors").unlink()
    parts = {"pytorch_model-1.bin": dict(tensors[:9]), "pytorch_model-2.bin": dict(tensors[9:])}
    for name, part in parts.items():
        write_torch(directory / name, part)
    weight_map = {tensor: name for name, part in parts.items() for tensor in part}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize("name", ["zip.bin", "legacy.bin"])
def test_what_torch_wrote(name):
    """Parameters, views of one storage (rows, columns, transposed, with steps, expanded), every dtype."""
    expected = json.loads((RECORDED / "expected.json").read_text())
    checkpoint = Checkpoint([str(RECORDED / name)])
    assert checkpoint.names() == sorted(expected)
    for tensor, entry in expected.items():
        assert checkpoint.shape(tensor) == entry["shape"] and checkpoint.dtype(tensor) == TORCH_DTYPES[entry["dtype"]]
        if checkpoint.dtype(tensor) in FLOATS:
            values = np.array(entry["values"], np.float32).reshape(entry["shape"])
            assert np.array_equal(checkpoint.read(tensor), values), tensor
        else:
            with pytest.raises(WeightMismatchError, match="expected F32, F16, BF16 or F64"):
                checkpoint.read(tensor)


def test_the_same_model_from_both_formats(tiny, caplog):
    model = BertModel.from_pretrained(tiny)
    to_torch(tiny)
    assert same(BertModel.from_pretrained(tiny), model)
    assert not caplog.records


@pytest.mark.parametrize("dtype", ["<f8", "<f2", "bfloat16"])
@pytest.mark.parametrize("big_endian", [False, True])
def test_every_dtype_and_byte_order(tiny, dtype, big_endian):
    convert = as_bfloat16 if dtype == "bfloat16" else lambda array: array.astype(dtype)
    stored = {name: convert(array) for name, array in read_safetensors(tiny / "model.safetensors").items()}
    to_torch(tiny, lambda _: stored, big_endian=big_endian)
    for name, array in BertModel.from_pretrained(tiny).state_dict().items():
        wide = (stored[name].astype("<u4") << 16).view("<f4") if dtype == "bfloat16" else stored[name].astype("<f4")
        assert np.array_equal(array, wide), name


def test_older_torch_says_no_byte_order(tiny):
    model = BertModel.from_pretrained(tiny)
    to_torch(tiny, byteorder=None)
    assert same(BertModel.from_pretrained(tiny), model)


def test_weights_that_are_views(tiny):
    """As torch saves layers that were cut from one matrix, or turned."""
    model = BertModel.from_pretrained(tiny)

    def views(tensors):
        queries = [f"encoder.layer.{i}.attention.self.{part}.weight" for i in (0, 1) for part in ("query", "key")]
        joined = np.concatenate([tensors[name] for name in queries], 1)  # (12, 48)
        cut = {name: joined[:, 12 * i : 12 * i + 12] for i, name in enumerate(queries)}
        return tensors | cut | {WORDS: tensors[WORDS].T.copy().T}

    to_torch(tiny, views)
    assert same(BertModel.from_pretrained(tiny), model)


def test_prefixes_and_old_names(tiny, caplog):
    model = BertModel.from_pretrained(tiny)

    def rename(name):
        return "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    buffer = {"bert.embeddings.position_ids": np.arange(16, dtype="<i8")[None]}
    to_torch(tiny, lambda tensors: {rename(name): array for name, array in tensors.items()} | buffer)
    assert same(BertModel.from_pretrained(tiny), model)
    assert not caplog.records


def test_tied_weights_share_a_storage(tmp_path, caplog):
    directory = DATA / "models" / "bert-MaskedLM"
    tensors = read_safetensors(directory / "model.safetensors")
    words = tensors["bert." + WORDS].copy()
    write_torch(
        tmp_path / "pytorch_model.bin",
        tensors | {"bert." + WORDS: words, "cls.predictions.decoder.weight": words},
    )
    (tmp_path / "config.json").write_bytes((directory / "config.json").read_bytes())
    assert same(BertForMaskedLM.from_pretrained(tmp_path), BertForMaskedLM.from_pretrained(directory))
    assert not caplog.records


def test_shards(tiny, caplog):
    model = BertModel.from_pretrained(tiny)
    split(tiny)
    assert same(BertModel.from_pretrained(tiny), model)
    assert not caplog.records
    (tiny / "pytorch_model-2.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"index\.json lists the shard 'pytorch_model-2\.bin', which is missing"):
        BertModel.from_pretrained(tiny)


def test_the_first_of_transformers_order(tiny):
    """model.safetensors, its index, pytorch_model.bin, its index: what comes later is not looked at."""
    model = BertModel.from_pretrained(tiny)
    weights = (tiny / "model.safetensors").read_bytes()
    split(tiny)
    (tiny / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(CorruptModelError, match=r"pytorch_model\.bin"):
        BertModel.from_pretrained(tiny)
    (tiny / "a.safetensors").write_bytes(weights)
    index = {"weight_map": dict.fromkeys(model.state_dict(), "a.safetensors")}
    (tiny / "model.safetensors.index.json").write_text(json.dumps(index))
    assert same(BertModel.from_pretrained(tiny), model)
    (tiny / "a.safetensors").unlink()
    (tiny / "model.safetensors").write_bytes(weights)
    assert same(BertModel.from_pretrained(tiny), model)


class Planted:
    """What a pickle would run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.mkdir, (str(self.path),)


def test_nothing_is_run(tiny, tmp_path):
    planted = pickle.dumps({"a": Planted(tmp_path / "run")}, protocol=2)
    to_torch(tiny, **{"data.pkl": planted})
    with pytest.raises(CorruptModelError, match=r"pytorch_model\.bin: it holds (posix|nt)\.mkdir, which is not a plain"):
        BertModel.from_pretrained(tiny)
    assert not (tmp_path / "run").exists()
    pickle.loads(planted)
    assert (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "options, text",
    [
        ({"compression": zipfile.ZIP_DEFLATED}, "is compressed or encrypted"),
        ({"byteorder": b"middle"}, 'byteorder is "middle"'),
        ({"constants.pkl": b""}, "a TorchScript program"),
        ({"data.pkl": pickle.dumps([1], protocol=2)}, "it holds a list; expected a dict of tensors by name"),
        ({"data.pkl": pickle.dumps({"epoch": 3}, protocol=2)}, 'its "epoch" is an int, which is not a tensor'),
        ({"data.pkl": pickle.dumps({}, protocol=4)}, "protocol 4; only 2"),
        ({"data.pkl": b""}, "its pickle is cut short"),
        ({"data.pkl": None}, "a zip archive without data.pkl"),
        ({"data/3": None}, '"archive/data/3" is missing'),
        ({"data/3": b"abc"}, '"archive/data/3" has 3 bytes; 24 elements are expected there'),
    ],
)
def test_other_files(tiny, options, text):
    to_torch(tiny, **options)
    with pytest.raises(CorruptModelError, match=text):
        BertModel.from_pretrained(tiny)


def test_cut_short(tiny):
    to_torch(tiny)
    path = tiny / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptModelError, match="an incomplete download"):
        BertModel.from_pretrained(tiny)


@pytest.mark.parametrize("dtype", ["<f4", "<f2"])
def test_views_of_what_the_model_reads_in_another_order(dtype, tmp_path):
    """DeBERTa's queries, keys and values, which lie head by head, in files as they are, transposed, and as each second column."""
    directory = DATA / "models" / "deberta"
    tensors = {name: w.astype(dtype) for name, w in read_safetensors(directory / "model.safetensors").items()}
    DebertaModel.from_pretrained(directory).config.save_pretrained(tmp_path)
    for view in (np.array, lambda w: w.T.copy().T, lambda w: np.repeat(w, 2, axis=-1)[..., ::2]):
        write_torch(tmp_path / "pytorch_model.bin", {name: view(w) for name, w in tensors.items()})
        state = DebertaModel.from_pretrained(tmp_path).state_dict()
        assert state.keys() == tensors.keys()
        assert all(np.array_equal(state[name], w.astype("<f4")) for name, w in tensors.items())
