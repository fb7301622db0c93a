"""The configuration of every architecture beside transformers' own, and what is refused by name."""

import json

import pytest

import ferroformer
from ferroformer import AutoConfig, AutoModel
from ferroformer.errors import ConfigError
from ferroformer.models.auto import MODELS, load_class

from . import recorded

# keys that transformers has as attributes, and writes only if they are set
EXTRA = {"nomic_bert": {"tie_word_embeddings": True}}
# the old names of ModernBERT's settings, and settings that decide others
SETTINGS = [
    ("albert", {"num_hidden_groups": 3, "hidden_size": 128}),
    ("bart", {"hidden_size": 24, "num_attention_heads": 2, "num_labels": 5}),
    ("blenderbot", {"decoder_layers": 3, "forced_eos_token_id": None}),
    ("m2m_100", {"num_hidden_layers": 3, "decoder_start_token_id": 7}),
    ("marian", {"vocab_size": 50, "pad_token_id": 49, "decoder_start_token_id": 49}),
    ("marian", {"decoder_vocab_size": 70, "share_encoder_decoder_embeddings": False}),
    ("mbart", {"d_model": 24, "encoder_attention_heads": 3, "scale_embedding": True}),
    ("pegasus", {"encoder_ffn_dim": 24, "eos_token_id": [1, 2]}),
    ("convbert", {"num_groups": 2, "conv_kernel_size": 3, "head_ratio": 5}),
    ("convbert", {"hidden_size": 36, "num_attention_heads": 5, "summary_type": "first"}),
    ("deberta", {"pos_att_type": "c2p|P2C", "pooler_hidden_size": 24, "hidden_size": 24, "num_attention_heads": 2}),
    ("deberta-v2", {"pos_att_type": ["p2c"], "position_buckets": 8, "legacy": False}),
    ("distilbert", {"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 3}),
    ("electra", {"summary_use_proj": False}),
    ("ernie", {"use_task_id": True, "task_type_vocab_size": 7}),
    ("eurobert", {"rope_theta": 250000}),
    ("eurobert", {"num_key_value_heads": 4, "head_dim": 32, "clf_pooling": "mean"}),
    ("eurobert", {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}),
    ("gpt2", {"n_embd": 24, "num_attention_heads": 2, "n_inner": 50, "num_hidden_layers": 3}),
    ("gpt_neo", {"num_layers": 3, "attention_types": [[["global"], 2], [["local"], 1]]}),
    ("gpt_neox", {"rotary_pct": 0.5, "rotary_emb_base": 500, "hidden_size": 24, "num_attention_heads": 2}),
    ("gpt_neox", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    ("opt", {"word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    ("phi", {"partial_rotary_factor": 0.25, "num_key_value_heads": 8}),
    ("phi", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5.0}}),
    ("gemma2", {"num_hidden_layers": 3, "attn_logit_softcapping": None, "rope_theta": 500.0}),
    ("llama", {"hidden_size": 24, "num_attention_heads": 4, "rope_scaling": {"type": "linear", "factor": 2.0}}),
    ("llama", {"max_position_embeddings": 99, "rope_scaling": {"rope_type": "yarn", "factor": 2.0}, "rope_theta": 5.0}),
    ("llama", {"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}}),
    ("mistral", {"head_dim": 8, "sliding_window": None, "num_key_value_heads": 4}),
    ("modernbert", {"global_rope_theta": 1e5, "local_rope_theta": 500.0}),
    ("modernbert", {"local_rope_theta": 160000.0, "num_hidden_layers": 3}),
    ("modernbert", {"global_attn_every_n_layers": 2, "num_hidden_layers": 5}),
    ("modernbert", {"layer_types": ["full_attention"], "num_hidden_layers": 1}),
    ("modernbert", {"num_hidden_layers": 2, "rope_parameters": {"full_attention": {"rope_theta": 5.0}}}),
    ("nomic_bert", {"rope_theta": 10.0, "head_dim": 8}),
    ("qwen2", {"use_sliding_window": True, "max_window_layers": 3, "num_hidden_layers": 5}),
    ("qwen3", {"layer_types": ["full_attention", "sliding_attention"], "num_hidden_layers": 2}),
    ("roberta", {"num_labels": 3, "position_embedding_type": "absolute"}),
    ("roformer", {"hidden_size": 24, "num_attention_heads": 2}),
    ("roformer", {"embedding_size": 8}),
    ("t5", {"num_layers": 3, "hidden_size": 24, "head_dim": 5, "tie_word_embeddings": False}),
    ("t5", {"feed_forward_proj": "gated-gelu", "num_decoder_layers": 2, "decoder_start_token_id": 0}),
    ("mt5", {"feed_forward_proj": "silu", "tie_word_embeddings": False}),
    ("umt5", {"feed_forward_proj": "gated-silu", "tie_word_embeddings": False, "num_layers": 2}),
    ("smollm3", {"no_rope_layer_interval": 3, "num_hidden_layers": 7}),
    ("smollm3", {"num_hidden_layers": 3, "no_rope_layers": [0, 1, 0], "use_sliding_window": True, "sliding_window": 9}),
    ("mobilebert", {"intra_bottleneck_size": 64, "num_attention_heads": 8, "normalization_type": "layer_norm"}),
    ("mobilebert", {"use_bottleneck": False, "hidden_size": 48, "trigram_input": False, "num_feedforward_networks": 1}),
    ("squeezebert", {"q_groups": 2, "output_groups": 8, "hidden_size": 48, "embedding_size": 48}),
]


def configs(model_type):
    """Our class and transformers'."""
    transformers = pytest.importorskip("transformers")
    ours = load_class(MODELS[model_type].config)
    return ours, getattr(transformers, ours.__name__)


def said(text, model_type):
    """What a config.json says."""
    return EXTRA.get(model_type, {}) | json.loads(text)


@pytest.mark.parametrize("model_type", MODELS)
def test_defaults_and_names(model_type):
    ours, theirs = configs(model_type)
    assert ours.model_type == theirs.model_type and ours.attribute_map == theirs.attribute_map
    for use_diff in (True, False):
        assert said(ours().to_json_string(use_diff), model_type) == said(theirs().to_json_string(use_diff), model_type)
    attributes = {key for key in vars(theirs()) if not key.startswith("_")} - {"generation_config", "ignore_keys_at_rope_validation"}
    assert all(getattr(ours(), key) == getattr(theirs(), key) for key in attributes - {"transformers_version"})


@pytest.mark.parametrize("model_type, settings", SETTINGS)
def test_settings(model_type, settings, tmp_path):
    ours, theirs = configs(model_type)
    expected = theirs(**json.loads(json.dumps(settings)))
    config = ours(**settings)
    assert said(config.to_json_string(), model_type) == said(expected.to_json_string(), model_type)
    config.save_pretrained(tmp_path)
    again = theirs.from_pretrained(tmp_path)
    assert said(again.to_json_string(), model_type) == said(expected.to_json_string(), model_type)
    assert ours.from_pretrained(tmp_path).to_dict() == config.to_dict() | {"_name_or_path": ""}


@pytest.mark.parametrize("name", recorded.NAMES)
def test_recorded_files(name, tmp_path):
    transformers = pytest.importorskip("transformers")
    model_type = recorded.model_type(name)
    ours = AutoConfig.from_pretrained(recorded.MODELS_DIR / name)
    theirs = transformers.AutoConfig.from_pretrained(recorded.MODELS_DIR / name)
    assert type(ours).__name__ == type(theirs).__name__
    assert said(ours.to_json_string(), model_type) == said(theirs.to_json_string(), model_type)
    ours.save_pretrained(tmp_path)
    again = transformers.AutoConfig.from_pretrained(tmp_path)
    assert said(again.to_json_string(), model_type) == said(theirs.to_json_string(), model_type)
    assert AutoConfig.from_pretrained(tmp_path) == ours


SMALL = {
    "vocab_size": 50,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "max_position_embeddings": 16,
    "num_hidden_groups": 1,
    "embedding_size": 8,
    "attention_types": [[["global", "local"], 1]],
    "num_key_value_heads": 1,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
}
LLAMAS = ["gemma2", "llama", "mistral", "qwen2", "qwen3", "smollm3"]
ROTARY = ["eurobert", "modernbert", "nomic_bert", *LLAMAS]


def refusal(model_type, settings, task=None):
    """The message of the ConfigError that a configuration, or else its model, raises."""
    with pytest.raises(ConfigError) as caught:
        config = AutoConfig.for_model(model_type, **SMALL | settings)
        getattr(ferroformer, f"AutoModelFor{task}" if task else "AutoModel").from_config(config)
    return str(caught.value)


@pytest.mark.parametrize("model_type", MODELS)
def test_sizes_that_cannot_be(model_type):
    for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"):
        name = load_class(MODELS[model_type].config).attribute_map.get(key, key)
        for value in (0, -3):
            assert f"{name}={value}: at least 1 is needed" in refusal(model_type, {key: value})
        assert name in refusal(model_type, {key: "12"})
        assert name in refusal(model_type, {key: 1.5})
    assert "at most 1024" in refusal(model_type, {"num_hidden_layers": 10**9})
    # heads of those that transformers lets have any number of heads are in groups, or have a width of their own; of ConvBERT's half are left
    heads = 10 if model_type == "convbert" else 5
    if model_type not in ("t5", "mt5", "umt5"):
        assert "multiple" in refusal(model_type, {"num_attention_heads": heads, "num_key_value_heads": 3})
    spread = load_class(MODELS[model_type].model).initializer_key
    assert f"{spread}=nan" in refusal(model_type, {spread: float("nan")})


REFUSED = [
    ("albert", {"inner_group_num": 2}, "inner_group_num=2: only 1"),
    ("albert", {"num_hidden_groups": 3}, "num_hidden_groups=3 is more than num_hidden_layers=2"),
    ("albert", {"num_hidden_groups": 0}, "num_hidden_groups=0: at least 1"),
    ("albert", {"embedding_size": 0}, "embedding_size=0: at least 1"),
    ("albert", {"position_embedding_type": "relative_key"}, "position_embedding_type='relative_key'"),
    ("camembert", {"pad_token_id": None}, "pad_token_id=None: positions are counted from it"),
    ("convbert", {"conv_kernel_size": 4}, "conv_kernel_size=4: an odd number"),
    ("convbert", {"conv_kernel_size": 0}, "conv_kernel_size=0: at least 1"),
    ("convbert", {"head_ratio": 0}, "head_ratio=0: at least 1"),
    ("convbert", {"num_groups": 3}, "num_groups=3 is no divisor of intermediate_size=20"),
    ("convbert", {"num_groups": -1}, "num_groups=-1: at least 1"),
    ("convbert", {"hidden_size": 21, "num_attention_heads": 3}, "not a multiple of twice the number of attention heads"),
    ("convbert", {"add_cross_attention": True}, "add_cross_attention=true"),
    ("deberta", {"talking_head": True, "embedding_size": 24}, "talking_head=true is not supported"),
    ("deberta", {"embedding_size": 8}, "embedding_size=8 is not supported: 24 is what hidden_size says"),
    ("deberta", {"pos_att_type": "c2p|p2p"}, "pos_att_type='p2p' is not supported"),
    ("distilbert", {"activation": "geluu"}, "activation='geluu' is not supported.*did you mean 'gelu'"),
    ("electra", {"embedding_size": -1}, "embedding_size=-1: at least 1"),
    ("electra", {"position_embedding_type": "relative_key_query"}, "relative_key_query"),
    ("ernie", {"task_type_vocab_size": 0}, "task_type_vocab_size=0: at least 1"),
    ("ernie", {"is_decoder": True}, "is_decoder=true"),
    ("eurobert", {"num_key_value_heads": 0}, "num_key_value_heads=0: at least 1"),
    ("eurobert", {"num_key_value_heads": 3}, "num_attention_heads=2 is not a multiple of num_key_value_heads=3"),
    ("eurobert", {"classifier_pooling": "cls"}, "classifier_pooling='cls' is not supported; supported: bos, late, mean"),
    ("eurobert", {"rms_norm_eps": float("nan")}, "rms_norm_eps=nan: a finite number"),
    ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention=true is not supported"),
    ("gemma2", {"attn_logit_softcapping": 0.0}, "attn_logit_softcapping=0.0: a finite number > 0, or None"),
    ("gemma2", {"final_logit_softcapping": float("nan")}, "final_logit_softcapping=nan: a finite number > 0, or None"),
    ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar=0: at least 1"),
    ("gemma2", {"sliding_window": None}, "sliding_window=None: layers with a window need one of at least 1"),
    ("mistral", {"sliding_window": 0}, "sliding_window=0: layers with a window need one of at least 1"),
    ("mobilebert", {"normalization_type": "rms_norm"}, "normalization_type='rms_norm' is not supported; supported: layer_norm, no_norm"),
    ("mobilebert", {"num_feedforward_networks": 0}, "num_feedforward_networks=0: at least 1"),
    ("mobilebert", {"num_feedforward_networks": 65}, "num_feedforward_networks=65: at most 64"),
    ("mobilebert", {"true_hidden_size": 24}, "true_hidden_size=24: it is intra_bottleneck_size, 128"),
    ("mobilebert", {"use_bottleneck": False, "true_hidden_size": 128}, "true_hidden_size=128: it is hidden_size, 24"),
    ("mobilebert", {"key_query_shared_bottleneck": False}, "hidden_size=24, intra_bottleneck_size=128: they are the same where"),
    ("mobilebert", {"intra_bottleneck_size": 9}, "intra_bottleneck_size=9 is not a multiple of num_attention_heads=2"),
    ("modernbert", {"classifier_pooling": "bos"}, "classifier_pooling='bos' is not supported; supported: cls, mean"),
    ("modernbert", {"layer_types": ["full_attention"]}, "layer_types has 1 entries, num_hidden_layers is 2"),
    ("modernbert", {"layer_types": ["full_attention", "causal"]}, "layer_types='causal' is not supported"),
    ("modernbert", {"local_attention": 0}, "local_attention=0: at least 1"),
    ("modernbert", {"global_attn_every_n_layers": 0}, "global_attn_every_n_layers=0: an integer of at least 1"),
    ("modernbert", {"rope_parameters": {"rope_theta": 3.0}}, "rope_parameters='rope_theta' is not supported"),
    ("modernbert", {"rope_parameters": {"full_attention": 3}}, "rope_parameters=3: expected a dict"),
    ("modernbert", {"norm_eps": -1.0}, "norm_eps=-1.0: a finite number"),
    ("mpnet", {"relative_attention_num_buckets": 6}, "relative_attention_num_buckets=6: 32 is what"),
    ("nomic_bert", {"n_inner": 3072}, "n_inner=3072: a configuration of older code"),
    ("nomic_bert", {"activation_function": "swiglu"}, "activation_function='swiglu': a configuration of older code"),
    ("qwen2", {"layer_types": ["full_attention"]}, "layer_types has 1 entries, num_hidden_layers is 2"),
    ("qwen3", {"layer_types": ["full_attention", "chunked"]}, "layer_types='chunked' is not supported"),
    ("qwen3", {"rope_parameters": {"full_attention": {"rope_theta": 5.0}}}, "a rotation for each kind of layer"),
    ("roberta", {"pad_token_id": None}, "pad_token_id=None: positions are counted from it"),
    ("roberta", {"pad_token_id": -1}, "pad_token_id=-1: positions are counted from it"),
    ("roberta", {"add_cross_attention": True}, "add_cross_attention=true"),
    ("roformer", {"rotary_value": True}, "rotary_value=true is not supported"),
    ("roformer", {"num_attention_heads": 8}, "3 channels of a head are no pairs"),
    ("t5", {"feed_forward_proj": "glu-relu"}, "feed_forward_proj='glu-relu': an activation is needed, or 'gated-'"),
    ("t5", {"feed_forward_proj": "gated-geluu"}, "feed_forward_proj='geluu' is not supported.*did you mean 'gelu'"),
    ("mt5", {"relative_attention_num_buckets": 3}, "relative_attention_num_buckets=3: at least 4"),
    ("umt5", {"relative_attention_max_distance": 16}, "relative_attention_max_distance=16: more than half of"),
    ("t5", {"num_decoder_layers": 0}, "num_decoder_layers=0: at least 1"),
    ("umt5", {"d_kv": 0}, "d_kv=0: at least 1"),
    ("smollm3", {"no_rope_layers": [1]}, "no_rope_layers has 1 entries, num_hidden_layers is 2"),
    ("smollm3", {"no_rope_layer_interval": 0}, "no_rope_layer_interval=0: at least 1"),
    ("squeezebert", {"embedding_size": 8, "q_groups": 1}, "embedding_size=8, hidden_size=24: they are the same"),
    ("squeezebert", {"k_groups": 5}, "k_groups=5 is no divisor of hidden_size=24"),
    ("squeezebert", {"output_groups": 3}, "output_groups=3 is no divisor of intermediate_size=20"),
    ("squeezebert", {"intermediate_groups": 0}, "intermediate_groups=0: at least 1"),
    ("xlm-roberta", {"pad_token_id": None}, "pad_token_id=None: positions are counted from it"),
]


@pytest.mark.parametrize("model_type, settings, message", REFUSED)
def test_refused_by_name(model_type, settings, message):
    import re

    assert re.search(message, refusal(model_type, settings))


def test_words_wider_than_hidden_states_predict_none():
    wide = {"embedding_size": 30}
    assert "embedding_size=30, hidden_size=24: word vectors are no wider" in refusal("mobilebert", wide, "MaskedLM")
    AutoModel.from_config(AutoConfig.for_model("mobilebert", **SMALL | wide))


@pytest.mark.parametrize("settings", [{"summary_type": "mean"}, {"summary_use_proj": False}, {"summary_activation": None}])
def test_other_summaries_are_refused(settings):
    assert next(iter(settings)) in refusal("electra", settings, "MultipleChoice")
    AutoModel.from_config(AutoConfig.for_model("electra", **SMALL | settings))


@pytest.mark.parametrize(
    "settings",
    [{"summary_type": "first"}, {"summary_use_proj": True}, {"summary_activation": "tanh"}, {"summary_last_dropout": 0.1}],
)
def test_summaries_of_roformer_are_refused(settings):
    assert next(iter(settings)) in refusal("roformer", settings, "MultipleChoice")
    AutoModel.from_config(AutoConfig.for_model("roformer", **SMALL | settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"summary_type": "mean"},
        {"summary_type": "cls_index"},
        {"summary_activation": "gelu"},
        {"summary_proj_to_labels": True, "summary_use_proj": True},
    ],
)
def test_convberts_other_summaries_are_refused(settings):
    assert next(iter(settings)) in refusal("convbert", settings, "MultipleChoice")
    AutoModel.from_config(AutoConfig.for_model("convbert", **SMALL | settings))


@pytest.mark.parametrize("model_type", ROTARY)
@pytest.mark.parametrize(
    "rope, message",
    [
        ({"rope_type": "longrope"}, "rope_type='longrope' is not supported; supported: default, linear, llama3, propor"),
        ({"rope_type": "dynamic", "factor": 2.0}, "rope_type='dynamic' is not supported"),
        ({"rope_type": "yarn", "factor": 0.0}, "factor=0.0: a finite number > 0"),
        ({"rope_type": "yarn", "factor": 2.0, "beta_fast": "fast"}, "beta_fast='fast': a finite number > 0"),
        ({"rope_type": "proportional", "partial_rotary_factor": -1}, "partial_rotary_factor=-1: a finite number > 0"),
        ({"rope_type": "linear"}, "factor=None: a finite number > 0"),
        ({"rope_type": "linear", "factor": 0}, "factor=0: a finite number > 0"),
        ({"rope_type": "linear", "factor": "2"}, "factor='2': a finite number > 0"),
        ({"rope_type": "llama3", "factor": 8.0}, "low_freq_factor=None: a finite number > 0"),
        ({"rope_theta": -1.0}, "rope_theta=-1.0: a finite number > 0"),
        ({"rope_theta": float("inf")}, "rope_theta=inf: a finite number > 0"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5 is not supported"),
    ],
)
def test_rotations_that_are_not_computed(model_type, rope, message):
    rope = {"rope_type": "default"} | rope
    given = {"full_attention": rope} if model_type == "modernbert" else rope
    assert message in refusal(model_type, {"rope_parameters": given})
    assert "rope_scaling=[3]: expected a dict or None, got list" in refusal(model_type, {"rope_scaling": [3]})


def test_heads_that_cannot_be_turned():
    for head_dim in (0, -2, 7, 10**12):
        for model_type in ("eurobert", "nomic_bert", "llama", "qwen3"):
            assert f"a head of {head_dim} channels cannot be turned" in refusal(model_type, {"head_dim": head_dim})
    assert "cannot be turned" in refusal("modernbert", {"hidden_size": 2 * 10**12})


@pytest.mark.parametrize("model_type", MODELS)
def test_code_of_its_own(model_type):
    """Refused but where the code that checkpoints carry is of before transformers knew the architecture, and computes the same."""
    settings = {"auto_map": {"AutoModel": "someone/code--modeling.Model"}}
    if load_class(MODELS[model_type].config).code_is_known:
        assert model_type in ("eurobert", "nomic_bert")
        AutoModel.from_config(AutoConfig.for_model(model_type, **SMALL | settings))
    else:
        assert "auto_map=" in refusal(model_type, settings)
