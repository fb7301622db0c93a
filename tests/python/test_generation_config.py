"""GenerationConfig: transformers' attributes, rules and JSON."""

import json
import logging

import pytest

from ferroformer.generation import GenerationConfig
from ferroformer.generation.configuration import _DEFAULTS, _SETTINGS
from ferroformer.generation.unsupported import SETTINGS

SETS = [
    {},
    {"max_new_tokens": 5, "do_sample": True, "top_k": 3, "temperature": 0.5, "my_key": {"a": [1]}},
    {"num_beams": 4, "early_stopping": "never", "length_penalty": 2.0, "eos_token_id": [2, 3], "bad_words_ids": [[1]]},
    {"sequence_bias": {(1, 2): 0.5}, "_from_model_config": True, "foo": 1, "transformers_version": "4.0.0"},
    {"temperature": float("inf"), "suppress_tokens": [1, 2], "forced_eos_token_id": 3, "use_cache": False},
    {"_from_model_config": True, "force_bos_token_to_be_generated": True, "bos_token_id": 7},
    {"output_scores": True, "top_p": 0.5, "pad_token_id": -1, "cache_implementation": "static"},
]
WRONG = [
    {"early_stopping": "x"},
    {"max_new_tokens": 0},
    {"num_return_sequences": 2},
    {"num_return_sequences": 3, "num_beams": 2},
    {"cache_implementation": "x"},
    {"suppress_tokens": [1, 2], "forced_eos_token_id": [1]},
    {"suppress_tokens": [1, 2], "forced_bos_token_id": 2},
    {"logits_processor": []},
    {"streamer": 1},
]


@pytest.fixture(scope="module")
def theirs():
    return pytest.importorskip("transformers").GenerationConfig


@pytest.mark.parametrize("settings", SETS)
def test_json_is_that_of_transformers(theirs, settings, tmp_path):
    ours, other = GenerationConfig(**settings), theirs(**settings)
    for how in ((True, False), (False, False), (True, True)):
        assert ours.to_json_string(*how) == other.to_json_string(*how)
    assert ours.to_dict() == other.to_dict()
    assert repr(ours) == repr(other)
    other.to_json_file(tmp_path / "generation_config.json")
    read = GenerationConfig.from_pretrained(tmp_path)
    assert read.to_json_string() == theirs.from_pretrained(tmp_path).to_json_string()
    read.save_pretrained(tmp_path / "again")
    text = (tmp_path / "again" / "generation_config.json").read_text()
    assert text == read.to_json_string()


@pytest.mark.parametrize("settings", WRONG)
def test_what_cannot_be(theirs, settings):
    with pytest.raises(ValueError):
        theirs(**settings)
    with pytest.raises(ValueError) as error:
        GenerationConfig(**settings)
    assert any(name in str(error.value) for name in settings)


def test_settings_and_defaults_are_those_of_transformers(theirs):
    assert set(_SETTINGS) | {"_from_model_config", "transformers_version"} == set(theirs().to_dict())
    assert _DEFAULTS == theirs._get_default_generation_params()
    assert set(SETTINGS) <= set(_SETTINGS)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"do_sample": True},
        {"num_beams": 2},
        {"num_beams": 2, "do_sample": True},
        {"prompt_lookup_num_tokens": 2},
        {"prompt_lookup_num_tokens": 2, "num_beams": 2},
        {"penalty_alpha": 0.6, "top_k": 4},
        {"num_beams": 4, "num_beam_groups": 2},
        {"constraints": [1]},
        {"dola_layers": "low"},
    ],
)
def test_mode(theirs, settings):
    assert GenerationConfig(**settings).get_generation_mode() == theirs(**settings).get_generation_mode().value


def test_update(theirs):
    for how in ({}, {"defaults_only": True}, {"allow_custom_entries": True}):
        ours, other = GenerationConfig(top_k=4), theirs(top_k=4)
        settings = {"top_k": 5, "top_p": 0.5, "other": 1, "do_sample": True}
        assert ours.update(**how, **settings) == other.update(**how, **settings)
        assert ours.to_dict() == other.to_dict()


def test_strict_validation_and_saving(tmp_path):
    config = GenerationConfig(temperature=0.5)
    with pytest.raises(ValueError, match="temperature"):
        config.validate(strict=True)
    with pytest.raises(ValueError, match="Fix these issues"):
        config.save_pretrained(tmp_path)
    # what was read like that may be written again
    (tmp_path / "generation_config.json").write_text('{"temperature": 0.5}')
    read = GenerationConfig.from_pretrained(tmp_path)
    read.save_pretrained(tmp_path / "again")
    read.top_p = 0.5
    with pytest.raises(ValueError, match="top_p"):
        read.save_pretrained(tmp_path / "again")


def test_overrides_and_what_is_none(tmp_path):
    (tmp_path / "other.json").write_text('{"top_k": 4}')
    config, unused = GenerationConfig.from_pretrained(
        tmp_path, "other.json", do_sample=True, nonsense=1, top_k=2, return_unused_kwargs=True
    )
    # as in transformers, what is passed to the constructor is an attribute from then on
    assert (config.top_k, config.do_sample, config.nonsense, unused) == (2, True, 1, {})
    with pytest.raises(FileNotFoundError, match="generation_config.json"):
        GenerationConfig.from_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(OSError, match="not a valid JSON"):
        GenerationConfig.from_pretrained(tmp_path)


def test_of_model(theirs, tmp_path):
    """Old models say in config.json how they generate."""
    settings = {"model_type": "x", "num_beams": 4, "eos_token_id": 2, "vocab_size": 9, "decoder": {"bos_token_id": 1}}
    (tmp_path / "config.json").write_text(json.dumps(settings | {"output_scores": True}))
    config = GenerationConfig.of_model(tmp_path)
    reference = theirs.from_pretrained(tmp_path, "config.json", _from_model_config=True)
    assert config.to_dict() == reference.to_dict()
    assert (config.num_beams, config.bos_token_id, config.return_dict_in_generate) == (4, 1, True)
    (tmp_path / "generation_config.json").write_text('{"num_beams": 2}')
    assert GenerationConfig.of_model(tmp_path).num_beams == 2


def test_what_is_without_effect_is_logged(caplog):
    with caplog.at_level(logging.WARNING):
        GenerationConfig(length_penalty=1.25, min_p=0.125)
    assert "['min_p', 'length_penalty']" in caplog.text
    caplog.clear()
    # greedy on purpose, while the model's file says how it samples
    config = GenerationConfig(do_sample=True, top_p=0.375)
    config.update(do_sample=False)
    assert not caplog.text


def test_equal_by_value():
    one, other = GenerationConfig(top_k=4, do_sample=True), GenerationConfig(do_sample=True, top_k=4)
    assert one == other and hash(one) == hash(other) and one != GenerationConfig()
