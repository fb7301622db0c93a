"""Reading and writing checkpoints: every spelling of a tensor's name, and every way in which files can be wrong."""

import copy
import json
import pickle

import numpy as np
import pytest

from ferroformer import BertConfig, BertModel
from ferroformer.errors import ConfigError, CorruptModelError, ResourceLimitError, WeightMismatchError

from .conftest import DATA, TINY, read_safetensors, write_safetensors

WORDS = "embeddings.word_embeddings.weight"


def rewrite(directory, change):
    """Save the weights again with other names and values; `change` maps a dict of them to another one."""
    path = directory / "model.safetensors"
    write_safetensors(path, change(read_safetensors(path)))


def edit_config(directory, **settings):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def split(directory, **index):
    """Turn model.safetensors into two shards and an index."""
    tensors = list(read_safetensors(directory / "model.safetensors").items())
    (directory / "model.safetensors").unlink()
    parts = {"a.safetensors": dict(tensors[:9]), "b.safetensors": dict(tensors[9:])}
    for name, part in parts.items():
        write_safetensors(directory / name, part)
    weight_map = {tensor: name for name, part in parts.items() for tensor in part}
    content = {"metadata": {}, "weight_map": weight_map} | index
    (directory / "model.safetensors.index.json").write_text(json.dumps(content))
    return weight_map


def same(model, other):
    ours, theirs = model.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_save_and_load(tiny, caplog):
    model = BertModel.from_pretrained(tiny)
    model.save_pretrained(tiny / "again")
    assert same(BertModel.from_pretrained(tiny / "again"), model)
    assert {path.name for path in (tiny / "again").iterdir()} == {"config.json", "model.safetensors"}
    saved = json.loads((tiny / "again" / "config.json").read_text())
    assert (saved["architectures"], saved["dtype"], saved["model_type"]) == (["BertModel"], "float32", "bert")
    assert not caplog.records


def test_state_dict_is_the_checkpoint():
    directory = DATA / "models" / "bert"
    stored, ours = read_safetensors(directory / "model.safetensors"), BertModel.from_pretrained(directory).state_dict()
    assert ours.keys() == stored.keys()
    assert all(np.array_equal(ours[name], stored[name]) for name in stored)


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: "bert." + name,
        lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"),
    ],
)
def test_other_spellings_of_names(tiny, rename, caplog):
    model = BertModel.from_pretrained(tiny)
    rewrite(tiny, lambda tensors: {rename(name): array for name, array in tensors.items()})
    assert same(BertModel.from_pretrained(tiny), model)
    assert not caplog.records


def test_buffers_are_ignored(tiny, caplog):
    rewrite(tiny, lambda tensors: tensors | {"embeddings.position_ids": np.zeros((1, 16))})
    BertModel.from_pretrained(tiny)
    assert not caplog.records


def test_report(tiny, caplog):
    pooler = ("pooler.dense.weight", "pooler.dense.bias")
    head = {"cls.predictions.bias": np.zeros(50)}
    rewrite(tiny, lambda tensors: {name: array for name, array in tensors.items() if name not in pooler} | head)
    model, info = BertModel.from_pretrained(tiny, output_loading_info=True)
    assert info["missing_keys"] == set(pooler) and info["unexpected_keys"] == {"cls.predictions.bias"}
    assert info["mismatched_keys"] == set() and info["error_msgs"] == []
    (record,) = caplog.records
    assert record.name.startswith("ferroformer") and record.levelname == "WARNING"
    assert f"BertModel LOAD REPORT from: {tiny}" in record.message
    for line in ("pooler.dense.weight  | MISSING", "cls.predictions.bias | UNEXPECTED", "newly initialized"):
        assert line in record.message
    assert model.state_dict()["pooler.dense.weight"].any()


@pytest.mark.parametrize("name", [WORDS, "encoder.layer.1.output.dense.bias", "embeddings.LayerNorm.weight"])
def test_a_missing_tensor_of_the_encoder_is_an_error(tiny, name):
    rewrite(tiny, lambda tensors: {other: array for other, array in tensors.items() if other != name})
    with pytest.raises(WeightMismatchError, match=f"lacks tensors of the model: {name}$"):
        BertModel.from_pretrained(tiny)


def test_model_without_pooler(tiny, caplog):
    model = BertModel.from_pretrained(tiny, add_pooling_layer=False)
    assert model([[1, 2]]).pooler_output is None and "pooler.dense.weight" not in model.state_dict()
    assert not caplog.records


def test_layers_that_the_config_does_not_have_are_reported(tiny, caplog):
    edit_config(tiny, num_hidden_layers=1)
    _, info = BertModel.from_pretrained(tiny, output_loading_info=True)
    assert len(info["unexpected_keys"]) == 16 and "encoder.layer.1.output.dense.bias" in caplog.text


def test_nothing_matches(tiny):
    rewrite(tiny, lambda tensors: {"model." + name: array for name, array in tensors.items()})
    with pytest.raises(WeightMismatchError, match=rf"0 of 39 .*holds model\.\w+.*needs {WORDS}"):
        BertModel.from_pretrained(tiny)


def test_one_tensor_under_two_names(tiny):
    rewrite(tiny, lambda tensors: tensors | {"bert." + WORDS: tensors[WORDS]})
    with pytest.raises(CorruptModelError, match="two names"):
        BertModel.from_pretrained(tiny)


@pytest.mark.parametrize(
    "settings, text",
    [
        ({"vocab_size": 60}, rf"{WORDS}: \(50, 12\) in the checkpoint, \(60, 12\) in the model \(.*vocab_size=60"),
        ({"max_position_embeddings": 512}, "max_position_embeddings=512, the checkpoint 16"),
        ({"intermediate_size": 40}, r"intermediate\.dense\.bias: \(20,\).*intermediate_size=40, the checkpoint 20"),
        ({"hidden_size": 6}, "hidden_size=6, the checkpoint 12"),
    ],
)
def test_config_of_another_model(tiny, settings, text):
    edit_config(tiny, **settings)
    with pytest.raises(WeightMismatchError, match=text) as caught:
        BertModel.from_pretrained(tiny)
    assert isinstance(caught.value, RuntimeError)


def test_huge_config_does_not_allocate(tiny):
    edit_config(tiny, vocab_size=2**31 - 1)
    with pytest.raises((ResourceLimitError, WeightMismatchError), match="103079226112 bytes|vocab_size=2147483647"):
        BertModel.from_pretrained(tiny)


def test_transposed(tiny):
    name = "encoder.layer.0.intermediate.dense.weight"
    rewrite(tiny, lambda tensors: tensors | {name: np.ascontiguousarray(tensors[name].T)})
    with pytest.raises(WeightMismatchError, match="looks transposed"):
        BertModel.from_pretrained(tiny)


def test_ignore_mismatched_sizes(tiny, caplog):
    edit_config(tiny, vocab_size=60)
    model, info = BertModel.from_pretrained(tiny, ignore_mismatched_sizes=True, output_loading_info=True)
    assert info["mismatched_keys"] == {(WORDS, (50, 12), (60, 12))}
    assert model([[59]]).last_hidden_state.shape == (1, 1, 12)
    assert "MISMATCH: checkpoint (50, 12), model (60, 12)" in caplog.text


def test_integers_are_no_weights(tiny):
    path = tiny / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"I32"'))
    with pytest.raises(WeightMismatchError, match="stored as I32; expected one of BF16, F16, F32, F64"):
        BertModel.from_pretrained(tiny)


def test_shards(tiny):
    model = BertModel.from_pretrained(tiny)
    split(tiny)
    assert same(BertModel.from_pretrained(tiny), model)


def test_missing_shard(tiny):
    split(tiny)
    (tiny / "b.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"index\.json lists the shard 'b\.safetensors', which is missing"):
        BertModel.from_pretrained(tiny)


@pytest.mark.parametrize(
    "weight_map",
    [None, [], {}, "x", {"a": 3}, {"a": None}, {"a": "../b.safetensors"}, {"a": "/b.safetensors"}, {"a": ""}],
)
def test_malformed_index(tiny, weight_map):
    split(tiny, weight_map=weight_map)
    with pytest.raises(CorruptModelError, match=r"model\.safetensors\.index\.json"):
        BertModel.from_pretrained(tiny)


def test_index_names_a_tensor_that_its_shard_lacks(tiny):
    weight_map = split(tiny)
    split_again = {**weight_map, WORDS: "a.safetensors" if weight_map[WORDS][0] == "b" else "b.safetensors"}
    (tiny / "model.safetensors.index.json").write_text(json.dumps({"weight_map": split_again}))
    with pytest.raises(CorruptModelError, match=WORDS):
        BertModel.from_pretrained(tiny)


def test_no_weights(tiny):
    (tiny / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no file named model.safetensors"):
        BertModel.from_pretrained(tiny)


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\2\0\0\0\0\0\0\0{]", b"version https://git-lfs"])
def test_damaged_weights(tiny, content):
    (tiny / "model.safetensors").write_bytes(content)
    with pytest.raises(CorruptModelError, match="model.safetensors"):
        BertModel.from_pretrained(tiny)


def test_truncated_weights(tiny):
    path = tiny / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(OSError, match="incomplete"):
        BertModel.from_pretrained(tiny)


def test_subfolder(tiny):
    model = BertModel.from_pretrained(tiny.parent, subfolder="tiny")
    assert same(model, BertModel.from_pretrained(tiny))


@pytest.mark.parametrize(
    "arguments",
    [{"dtype": "auto"}, {"dtype": np.float32}, {"torch_dtype": "float32"}]
    + [{"device_map": name} for name in ("auto", "cpu")]
    + [{"attn_implementation": name} for name in ("eager", "sdpa")],
)
def test_arguments_that_change_nothing(tiny, arguments):
    assert same(BertModel.from_pretrained(tiny, **arguments), BertModel.from_pretrained(tiny))


def test_dtype_by_numpy(tiny):
    assert BertModel.from_pretrained(tiny, dtype=np.int8).dtype == np.int8


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ({"dtype": "float64"}, NotImplementedError, "float64.*float32, bfloat16, int8, auto"),
        ({"dtype": "int4"}, NotImplementedError, "int4"),
        ({"torch_dtype": np.float16}, NotImplementedError, "float16"),
        ({"device_map": "cuda"}, ValueError, "cuda"),
        ({"attn_implementation": "flash_attention_2"}, ValueError, "flash_attention_2"),
        ({"no_such_argument": 1}, TypeError, "no_such_argument"),
        ({"hidden_act": "nonsense"}, ConfigError, "nonsense"),
    ],
)
def test_arguments_that_are_refused(tiny, arguments, error, text):
    with pytest.raises(error, match=text):
        BertModel.from_pretrained(tiny, **arguments)


def test_config_given(tiny):
    config = BertConfig(**TINY, hidden_act="relu")
    model = BertModel.from_pretrained(tiny, config=config, num_labels=5)
    assert (model.config.hidden_act, model.config.num_labels, config.num_labels) == ("relu", 5, 2)
    assert model.name_or_path == str(tiny) and config.name_or_path == ""
    assert BertModel.from_pretrained(tiny, config=tiny / "config.json").config.hidden_act == "gelu"


def test_random_weights():
    config = BertConfig(**TINY)
    model = BertModel(config, seed=4)
    assert same(model, BertModel(config, seed=4)) and not same(model, BertModel(config, seed=5))
    weights = model.state_dict()
    assert 0.01 < weights[WORDS].std() < 0.03
    assert not weights["pooler.dense.bias"].any() and (weights["embeddings.LayerNorm.weight"] == 1).all()


def test_changed_config_is_checked_again():
    config = BertConfig(**TINY)
    config.num_attention_heads = 5
    with pytest.raises(ConfigError, match="multiple"):
        BertModel(config)


def test_what_a_model_is(tiny):
    model = BertModel.from_pretrained(tiny)
    assert model.num_parameters() == sum(array.size for array in model.state_dict().values())
    assert model.get_memory_footprint() >= 4 * model.num_parameters()
    assert [name for name, _ in model.named_parameters()] == list(model.state_dict())
    assert (model.dtype, model.device, model.base_model_prefix) == (np.float32, "cpu", "bert")
    assert model.eval() is model and not model.training and model.train().training
    assert "BertModel(" in repr(model)


@pytest.mark.parametrize("clone", [lambda model: pickle.loads(pickle.dumps(model)), copy.deepcopy])
def test_pickle_by_path(tiny, clone):
    model = BertModel.from_pretrained(tiny, add_pooling_layer=False, num_labels=3)
    twin = clone(model)
    assert same(twin, model) and twin.config.to_dict() == model.config.to_dict()


def test_random_weights_cannot_be_pickled():
    with pytest.raises(TypeError, match="save_pretrained"):
        pickle.dumps(BertModel(BertConfig(**TINY)))


def test_names_and_shapes_are_those_of_transformers():
    """Recorded checkpoints are transformers' own; their names must be all of ours."""
    for name in ("bert", "bert-relu", "bert-gelu_new"):
        _, info = BertModel.from_pretrained(DATA / "models" / name, output_loading_info=True)
        assert not any(info.values())


def test_labels_by_number_do_not_warn(tiny, caplog):
    from ferroformer import AutoModel

    assert AutoModel.from_pretrained(tiny, num_labels=5).config.num_labels == 5
    assert not caplog.records
