"""Packed files: what `save_pretrained(packed=True)` writes, which file a load takes, and how bad ones are refused."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from ferroformer import BertConfig, BertModel, SentenceTransformer
from ferroformer.errors import CorruptModelError, WeightMismatchError

from .conftest import TINY, read_safetensors

PACKED = "model.packed.safetensors"
DTYPES = ("float32", "bfloat16", "int8")
IDS = [[1, 2, 3, 4], [5, 6, 7, 8]]


def bits(model):
    output = model(IDS)
    return output.last_hidden_state.tobytes() + output.pooler_output.tobytes()


def pack(tiny, dtype, directory=None):
    model = BertModel.from_pretrained(tiny, dtype=dtype)
    model.save_pretrained(directory or tiny, packed=True)
    return model


@pytest.mark.numbers
@pytest.mark.parametrize("dtype", DTYPES)
def test_save_and_load(tiny, tmp_path, dtype):
    model = pack(tiny, dtype, tmp_path / "packed")
    assert sorted(os.listdir(tmp_path / "packed")) == ["config.json", PACKED]
    for asked in (None, "auto", dtype):
        mapped = BertModel.from_pretrained(tmp_path / "packed", dtype=asked)
        assert bits(mapped) == bits(model) and str(mapped.dtype) == dtype
        assert mapped.memory_footprint() == model.memory_footprint() == model.get_memory_footprint()


@pytest.mark.parametrize("dtype", DTYPES)
def test_beside_a_checkpoint_the_dtype_decides(tiny, dtype):
    pack(tiny, dtype)
    (tiny / "model.safetensors").write_bytes(b"not read")
    assert BertModel.from_pretrained(tiny, dtype=dtype).core.dtype == dtype
    for other in {None, "auto", *DTYPES} - {dtype} - ({None, "auto"} if dtype == "float32" else set()):
        with pytest.raises(CorruptModelError, match="/model.safetensors"):
            BertModel.from_pretrained(tiny, dtype=other)


def test_alone_it_must_have_the_dtype_that_is_asked_for(tiny):
    pack(tiny, "int8")
    (tiny / "model.safetensors").unlink()
    with pytest.raises(WeightMismatchError, match=rf'{PACKED}: precision is "int8"; expected "bfloat16"'):
        BertModel.from_pretrained(tiny, dtype="bfloat16")


def test_another_instruction_set(tiny):
    pack(tiny, "int8")
    script = "import sys; from ferroformer import BertModel; BertModel.from_pretrained(sys.argv[1], dtype='int8')"

    def load():
        return subprocess.run(
            [sys.executable, "-c", script, tiny], env=os.environ | {"FERROFORMER_ISA": other}, capture_output=True
        )

    from ferroformer import _native

    if _native.isa() == (other := "scalar"):
        pytest.skip("this is the scalar run")
    assert load().returncode == 0, "the checkpoint is packed anew"
    (tiny / "model.safetensors").unlink()
    assert b'layout is "panels of' in load().stderr


def damage(directory):
    data = bytearray((directory / PACKED).read_bytes())
    data[-1000] ^= 1
    (directory / PACKED).write_bytes(data)


def test_a_damaged_file_beside_a_checkpoint_is_reported(tiny, caplog):
    model = pack(tiny, "float32")
    damage(tiny)
    assert bits(BertModel.from_pretrained(tiny)) == bits(model)
    (record,) = caplog.records
    assert "checksum" in record.message and "the checkpoint beside it is loaded instead" in record.message


def test_a_damaged_file_alone_is_an_error(tiny):
    pack(tiny, "float32")
    (tiny / "model.safetensors").unlink()
    damage(tiny)
    with pytest.raises(CorruptModelError, match=f"{PACKED}: checksum is .*; expected .*: the file is damaged"):
        BertModel.from_pretrained(tiny)


def test_config_of_another_model(tiny):
    pack(tiny, "float32")
    (tiny / "model.safetensors").unlink()
    with pytest.raises(WeightMismatchError, match="shapes is .*vocab_size 50,.*expected .*vocab_size 60,"):
        BertModel.from_pretrained(tiny, vocab_size=60)


def test_a_file_changed_under_a_model(tiny):
    pack(tiny, "float32")
    model = BertModel.from_pretrained(tiny)
    model(IDS)
    os.utime(tiny / PACKED, ns=(0, 0))
    with pytest.raises(CorruptModelError, match=f"{PACKED}: the file was changed after the model was loaded"):
        model(IDS)


def test_two_processes(tiny):
    """Both map the file, and writing it anew disturbs neither."""
    model = pack(tiny, "int8")
    code = """
        import sys
        from ferroformer import BertModel
        model = BertModel.from_pretrained(sys.argv[1], dtype="int8")
        assert any("model.packed.safetensors" in line and " r--s " in line for line in open("/proc/self/maps"))
        print("ready", flush=True)
        sys.stdin.readline()
        print(model([[1, 2, 3, 4], [5, 6, 7, 8]]).last_hidden_state.tobytes().hex())
    """
    if not os.path.exists("/proc/self/maps"):
        pytest.skip("needs /proc")
    code = "\n".join(line[8:] for line in code.splitlines())
    command = [sys.executable, "-c", code, str(tiny)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
    pack(tiny, "float32")
    expected = model(IDS).last_hidden_state.tobytes().hex()
    assert [process.communicate("go\n", timeout=60)[0].strip() for process in processes] == [expected] * 2


def test_bfloat16_is_saved_as_such(tiny, tmp_path):
    model = BertModel.from_pretrained(tiny, dtype="bfloat16")
    model.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["dtype"] == "bfloat16"
    size = (tmp_path / "again" / "model.safetensors").stat().st_size
    assert size < 0.75 * (tiny / "model.safetensors").stat().st_size
    again = BertModel.from_pretrained(tmp_path / "again", dtype="auto")
    assert again.core.dtype == "bfloat16" and bits(again) == bits(model)
    assert BertModel.from_pretrained(tmp_path / "again").dtype == np.float32


def test_int8_has_no_plain_form(tiny, tmp_path):
    model = BertModel.from_pretrained(tiny, dtype="int8")
    with pytest.raises(ValueError, match="packed=True"):
        model.save_pretrained(tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_random_weights_can_be_packed(tmp_path):
    model = BertModel(BertConfig(**TINY), seed=3, dtype="int8")
    model.save_pretrained(tmp_path, packed=True)
    assert bits(BertModel.from_pretrained(tmp_path)) == bits(model)


def test_the_file_is_safetensors(tiny):
    pack(tiny, "float32")
    data = (tiny / PACKED).read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    facts = header.pop("__metadata__")
    assert (facts["format"], facts["precision"], facts["layout_version"]) == ("ferroformer-packed", "float32", "1")
    assert (8 + size) % 64 == 0 and all(entry["data_offsets"][0] % 64 == 0 for entry in header.values())
    assert max(entry["data_offsets"][1] for entry in header.values()) == len(data) - 8 - size


@pytest.mark.parametrize("packed", [False, True])
def test_sentence_transformer(minilm, tmp_path, packed, caplog):
    texts = ["A cat sleeps.", "Shares fell sharply today."]
    model = SentenceTransformer(minilm, prompts={"query": "find: "})
    model.max_seq_length = 100
    model.save_pretrained(tmp_path, packed=packed)
    again = SentenceTransformer(tmp_path)
    assert (tmp_path / PACKED).exists() == packed
    assert np.array_equal(again.encode(texts), model.encode(texts))
    assert np.array_equal(again.encode_query(texts), model.encode_query(texts))
    assert (again.max_seq_length, again.similarity_fn_name, again.prompts) == (100, "cosine", model.prompts)
    assert not caplog.records
