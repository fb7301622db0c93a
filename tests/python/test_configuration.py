"""Configurations: transformers' rules and JSON, and errors that name key, value and what is allowed."""

import json
import pickle

import numpy as np
import pytest

from ferroformer import AutoConfig, BertConfig
from ferroformer.configuration_utils import PreTrainedConfig
from ferroformer.errors import ConfigError, ConfigFileError, CorruptModelError

SETTINGS = [
    {},
    {"num_labels": 3, "foo": 1, "dtype": "float32", "torch_dtype": "float16", "top_k": 5, "architectures": ["B"]},
    {"id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}},
    {"problem_type": "regression", "num_labels": 1, "output_attentions": True},
    {"scale": float("inf"), "scales": [float("nan"), -float("inf"), 0.5], "nested": {"x": float("inf")}},
    {"return_dict": False, "output_hidden_states": True, "gradient_checkpointing": False, "hidden_size": 24},
]


class Renamed(PreTrainedConfig):
    model_type = "renamed"
    attribute_map = {"hidden_size": "n_embd"}
    n_embd: int = 8


@pytest.mark.parametrize("settings", SETTINGS)
def test_json_is_that_of_transformers(settings, tmp_path):
    transformers = pytest.importorskip("transformers")
    ours, theirs = BertConfig(**settings), transformers.BertConfig(**settings)
    assert ours.to_json_string() == theirs.to_json_string()
    assert ours.to_json_string(use_diff=False) == theirs.to_json_string(use_diff=False)
    theirs.save_pretrained(tmp_path)
    assert BertConfig.from_pretrained(tmp_path).to_json_string() == theirs.to_json_string()
    ours.save_pretrained(tmp_path)
    assert transformers.BertConfig.from_pretrained(tmp_path).to_json_string() == ours.to_json_string()


@pytest.mark.parametrize("settings", SETTINGS[:4])
def test_round_trip(settings, tmp_path):
    config = BertConfig(**settings)
    config.save_pretrained(tmp_path)
    loaded = BertConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict()
    assert pickle.loads(pickle.dumps(config)) == config
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_unknown_keys_are_kept(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert", "my_key": [1, {"a": null}]}')
    config = BertConfig.from_pretrained(tmp_path)
    assert config.my_key == [1, {"a": None}]
    assert json.loads(config.to_json_string())["my_key"] == config.my_key


def test_alias_reads_and_writes():
    config = Renamed(hidden_size=5)
    assert (config.n_embd, config.hidden_size) == (5, 5)
    config.hidden_size = 6
    assert config.n_embd == 6 and "hidden_size" not in config.to_dict()


def test_labels(caplog):
    assert BertConfig().id2label == {0: "LABEL_0", 1: "LABEL_1"}
    config = BertConfig(id2label={"0": "a", "1": "b", "2": "c"})
    assert config.num_labels == 3 and config.id2label == {0: "a", 1: "b", 2: "c"}
    config.num_labels = 1
    assert config.id2label == {0: "LABEL_0"} and config.label2id == {"LABEL_0": 0}
    assert BertConfig(id2label={0: "a"}, num_labels=4).num_labels == 4
    assert "num_labels=4 does not fit id2label" in caplog.text


def test_overrides(tmp_path):
    BertConfig().save_pretrained(tmp_path)
    config, unused = BertConfig.from_pretrained(
        tmp_path, hidden_size=24, num_labels=5, torch_dtype="auto", mine=1, return_unused_kwargs=True
    )
    assert (config.hidden_size, config.num_labels, config.dtype, unused) == (24, 5, None, {"mine": 1})
    assert BertConfig.from_pretrained(tmp_path / "config.json") == BertConfig.from_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="hidden_act"):
        BertConfig.from_pretrained(tmp_path, hidden_act="nonsense")


def test_dtype_by_any_name():
    for dtype in ("float32", np.float32, np.dtype("float32")):
        assert json.loads(BertConfig(dtype=dtype).to_json_string())["dtype"] == "float32"
    assert BertConfig(torch_dtype="bfloat16").dtype == "bfloat16"


def test_repr_and_equality():
    assert repr(BertConfig()).startswith('BertConfig {\n  "add_cross_attention": false,')
    assert BertConfig() == BertConfig() != BertConfig(vocab_size=3)


def test_update():
    config = BertConfig()
    config.update({"hidden_size": 24, "new": 1})
    assert (config.hidden_size, config.new) == (24, 1)


@pytest.mark.parametrize(
    "settings, text",
    [
        ({"hidden_size": 10, "num_attention_heads": 3}, r"hidden size \(10\).*heads \(3\)"),
        ({"num_attention_heads": 0}, "num_attention_heads=0: at least 1"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers=1000000000: at most"),
        ({"intermediate_size": -3}, "intermediate_size=-3"),
        ({"hidden_size": "768"}, "hidden_size='768': expected int, got str"),
        ({"hidden_size": True}, "hidden_size=True: expected int, got bool"),
        ({"hidden_size": None}, "got NoneType"),
        ({"hidden_size": 7.5}, "hidden_size=7.5"),
        ({"hidden_act": "gleu"}, "hidden_act='gleu'.*supported: gelu, .*did you mean 'gelu'"),
        ({"hidden_act": "quick_gelu"}, "quick_gelu"),
        ({"hidden_act": ["gelu"]}, "hidden_act=.*expected str, got list"),
        ({"layer_norm_eps": -1e-12}, "layer_norm_eps"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps"),
        ({"layer_norm_eps": "1e-12"}, "layer_norm_eps"),
        ({"hidden_dropout_prob": 1.0}, r"hidden_dropout_prob=1.0: a number in \[0, 1\)"),
        ({"attention_probs_dropout_prob": float("nan")}, "attention_probs_dropout_prob"),
        ({"id2label": ["a"]}, "id2label"),
        ({"id2label": {"x": "a"}}, "id2label"),
        ({"problem_type": "single_label_classification", "num_labels": 1}, "num_labels > 1"),
    ],
)
def test_bad_settings(settings, text):
    with pytest.raises(ConfigError, match=text):
        BertConfig(**settings)


def test_whole_floats_are_integers():
    assert repr(BertConfig(hidden_size=768.0).hidden_size) == "768"


@pytest.mark.parametrize(
    "content, text",
    [
        (b"", "line 1 column 1"),
        (b'{"a": 1,\n  b}', "not a valid JSON file: line 2 column 3"),
        (b"[1]", "must hold a JSON object, not list"),
        (b'{"a": "\xe9"}', "not UTF-8 at byte 7"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'{"a":' * 100_000, "nested too deeply|not a valid JSON file"),
    ],
)
def test_bad_files(tmp_path, content, text):
    (tmp_path / "config.json").write_bytes(content)
    for load in (BertConfig.from_pretrained, AutoConfig.from_pretrained):
        with pytest.raises(ConfigFileError, match=text) as caught:
            load(tmp_path)
        assert isinstance(caught.value, (OSError, ValueError)) and str(tmp_path) in str(caught.value)
        assert isinstance(caught.value, CorruptModelError)


def test_byte_order_mark_and_special_tokens_of_json(tmp_path):
    (tmp_path / "config.json").write_text('\ufeff{"x": Infinity, "y": {"__float__": "-Infinity"}}', encoding="utf-8")
    config = BertConfig.from_pretrained(tmp_path)
    assert (config.x, config.y) == (float("inf"), -float("inf"))


def test_other_model_type_warns(tmp_path, caplog):
    (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
    BertConfig.from_pretrained(tmp_path)
    assert "model of type `roberta` to instantiate a model of type `bert`" in caplog.text


def test_failed_save_leaves_the_old_file(tmp_path):
    BertConfig(vocab_size=7).save_pretrained(tmp_path)
    with pytest.raises(TypeError):
        BertConfig(unserializable=object()).save_pretrained(tmp_path)
    assert BertConfig.from_pretrained(tmp_path).vocab_size == 7
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
