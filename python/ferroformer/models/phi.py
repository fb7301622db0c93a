"""Phi (Li et al. 2023, https://arxiv.org/abs/2309.05463): a decoder with rotations of a part of each head's channels, whose attention and
feed-forward read the same norm of the hidden states. The head has a bias.
"""

from __future__ import annotations

from typing import Any

from .. import modeling_causal as causal
from ..config_values import check_choice, check_divides, check_not_negative, check_positive, check_probability
from ..configuration_utils import PreTrainedConfig
from ..errors import ConfigError
from ..rope import partial_rotation, rope_parameters
from ..tensor_match import TensorTable
from .bert import ACTIVATIONS, MAX_LAYERS, padding_row

__all__ = ["PhiConfig", "PhiForCausalLM", "PhiForSequenceClassification", "PhiModel"]


class PhiConfig(PreTrainedConfig):
    """The settings of a Phi model; names and defaults are those of transformers (phi-1)."""

    model_type = "phi"

    vocab_size: int = 51200
    hidden_size: int = 2048
    intermediate_size: int = 8192
    num_hidden_layers: int = 24
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    resid_pdrop: float = 0.0
    embd_pdrop: float = 0.0
    attention_dropout: float | None = 0.0
    hidden_act: str = "gelu_new"
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    use_cache: bool = True
    tie_word_embeddings: bool = False
    rope_parameters: dict[str, Any] | None = None
    qk_layernorm: bool = False
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    pad_token_id: int | None = None

    def __init__(self, **kwargs: Any) -> None:
        scaling, theta = kwargs.pop("rope_scaling", None), kwargs.pop("rope_theta", 10000.0)
        part = kwargs.pop("partial_rotary_factor", 0.5)
        super().__init__(**kwargs)
        self.rope_parameters = rope_parameters(self.rope_parameters, scaling, theta)
        self.rope_parameters.setdefault("partial_rotary_factor", part)
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads

    def validate(self) -> None:
        """Raise ConfigError, which names key, value and what is allowed, if no Phi can have these settings."""
        super().validate()
        check_positive(self, "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        check_positive(self, "max_position_embeddings")
        check_probability(self, "resid_pdrop", "embd_pdrop", "attention_dropout")
        check_not_negative(self, "layer_norm_eps", "initializer_range")
        check_choice("hidden_act", self.hidden_act, ACTIVATIONS)
        check_divides(self, "num_attention_heads", "hidden_size")
        if self.num_key_value_heads is not None:
            check_positive(self, "num_key_value_heads")
            check_divides(self, "num_key_value_heads", "num_attention_heads")
        if self.num_hidden_layers > MAX_LAYERS:
            raise ConfigError(f"num_hidden_layers={self.num_hidden_layers}: at most {MAX_LAYERS} are supported")


TENSORS: TensorTable = {
    "embeddings.word": ("embed_tokens", ("vocab_size", "hidden_size")),
    "layers.{i}.attention.query": ("layers.{i}.self_attn.q_proj", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.key": ("layers.{i}.self_attn.k_proj", ()),
    "layers.{i}.attention.value": ("layers.{i}.self_attn.v_proj", ()),
    "layers.{i}.attention.output": ("layers.{i}.self_attn.dense", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.norm": ("layers.{i}.input_layernorm", ("hidden_size",)),
    "layers.{i}.feed_forward.up": ("layers.{i}.mlp.fc1", ("intermediate_size", "hidden_size")),
    "layers.{i}.feed_forward.down": ("layers.{i}.mlp.fc2", ("hidden_size", "intermediate_size")),
    "final_norm": ("final_layernorm", ("hidden_size",)),
}


class PhiPreTrainedModel(causal.Decoder):
    """What all Phis share."""

    config_class = PhiConfig
    base_model_prefix = "model"
    base_table = TENSORS

    def check(self, config: Any) -> None:
        super().check(config)
        if config.qk_layernorm:
            raise ConfigError("qk_layernorm=true is not supported: queries and keys are used as they are made")

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        dim = config.hidden_size // config.num_attention_heads
        return {
            "hidden_size": config.hidden_size,
            "num_layers": config.num_hidden_layers,
            "embeddings": {"vocab_size": config.vocab_size, "padding": padding_row(config)},
            "attention": {
                "heads": config.num_attention_heads,
                "key_heads": config.num_key_value_heads,
                "head_dim": dim,
                "rotary": [partial_rotation(config.rope_parameters, dim)],
                "causal": True,
            },
            "feed_forward": {"size": config.intermediate_size, "activation": ACTIVATIONS[config.hidden_act]},
            "norm": {"kind": "layer_norm", "placement": "pre", "eps": config.layer_norm_eps},
            "parallel": "shared_norm",
            "layers": [{"rotary": 0}] * config.num_hidden_layers,
            "pooler": pooler,
            "head": head,
        }

    def dropout_rates(self) -> tuple[float, float, float, float]:
        return self.config.resid_pdrop, self.config.attention_dropout or 0.0, 0.0, 0.0

    def embedding_dropout(self) -> float:
        return float(self.config.embd_pdrop)


class PhiModel(causal.DecoderModel, PhiPreTrainedModel):
    """Phi without a head: token ids in, hidden states out, a BaseModelOutputWithPast."""


class PhiForCausalLM(causal.CausalLM, PhiPreTrainedModel):
    head_table = {
        "head": ("lm_head", ("vocab_size", "hidden_size")),
        "embeddings.word.bias": ("lm_head.bias", ()),
    }
    head_bias = True
    optional_slots = ("head.", "embeddings.word.bias")


class PhiForSequenceClassification(causal.SequenceClassification, PhiPreTrainedModel):
    head_table = {"head": ("score", ("num_labels", "hidden_size"))}
