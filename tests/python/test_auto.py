"""AutoConfig and AutoModel: the class that model_type names, or a clear refusal."""

import json

import numpy as np
import pytest

from ferroformer import AutoConfig, AutoModel, BertConfig, BertModel
from ferroformer.configuration_utils import PreTrainedConfig
from ferroformer.errors import ConfigError
from ferroformer.models import auto


def edit_config(directory, **settings):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_finds_bert(tiny):
    config = AutoConfig.from_pretrained(tiny)
    assert type(config) is BertConfig and config == BertConfig.from_pretrained(tiny)
    model = AutoModel.from_pretrained(tiny)
    assert type(model) is BertModel
    assert np.array_equal(model([[1, 2]])[0], BertModel.from_pretrained(tiny)([[1, 2]])[0])
    assert type(AutoModel.from_config(config, seed=3)) is BertModel
    assert AutoConfig.for_model("bert", hidden_size=24).hidden_size == 24


def test_config_arguments_pass_through(tiny):
    config, unused = AutoConfig.from_pretrained(tiny, num_labels=7, x=1, return_unused_kwargs=True)
    assert (config.num_labels, unused) == (7, {"x": 1})
    model = AutoModel.from_pretrained(tiny, add_pooling_layer=False, num_labels=4)
    assert model([[1]]).pooler_output is None and model.config.num_labels == 4
    assert AutoModel.from_pretrained(tiny, config=tiny).num_parameters() > model.num_parameters()


@pytest.mark.parametrize("model_type", ["zzz", 3, ["bert"], None])
def test_unknown_model_type(tiny, model_type):
    edit_config(tiny, model_type=model_type)
    found = "no model_type" if model_type is None else f"model_type {model_type!r}"
    for auto_class in (AutoConfig, AutoModel):
        with pytest.raises(ConfigError) as caught:
            auto_class.from_pretrained(tiny)
        assert found in str(caught.value) and "supported: albert, bart, bert, " in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"auto_map": {"AutoModel": "someone/code--modeling_bert.JinaBertModel"}},
        {"position_embedding_type": "alibi"},
        {"position_embedding_type": "relative_key"},
        {"is_decoder": True},
        {"add_cross_attention": True},
    ],
)
def test_other_computations_under_berts_name_are_refused(tiny, settings):
    edit_config(tiny, **settings)
    for model_class in (AutoModel, BertModel):
        with pytest.raises(ConfigError, match=next(iter(settings))):
            model_class.from_pretrained(tiny)


def test_no_code_from_checkpoints(tiny):
    for auto_class in (AutoConfig, AutoModel):
        with pytest.raises(NotImplementedError, match="trust_remote_code"):
            auto_class.from_pretrained(tiny, trust_remote_code=True)


def test_register(monkeypatch):
    monkeypatch.setattr(auto, "MODELS", dict(auto.MODELS))

    class MyConfig(PreTrainedConfig):
        model_type = "mine"
        size: int = 3

    class MyModel:
        def __init__(self, config):
            self.config = config

    AutoConfig.register("mine", MyConfig)
    with pytest.raises(ConfigError, match="no model class"):
        AutoModel.from_config(MyConfig())
    AutoModel.register(MyConfig, MyModel)
    assert AutoModel.from_config(AutoConfig.for_model("mine", size=4)).config.size == 4
    for again in (lambda: AutoConfig.register("mine", MyConfig), lambda: AutoModel.register(MyConfig, MyModel)):
        with pytest.raises(ValueError, match="exist_ok"):
            again()
    with pytest.raises(ValueError, match="model_type"):
        AutoConfig.register("other", MyConfig)


def test_not_to_be_instantiated():
    for auto_class in (AutoConfig, AutoModel):
        with pytest.raises(TypeError, match="from_pretrained"):
            auto_class()
