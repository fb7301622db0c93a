"""GPT-NeoX (Black et al. 2022, https://arxiv.org/abs/2204.06745; Pythia): a decoder with rotations of a part of each head's channels, whose
attention and feed-forward read the same hidden states, each through a norm of its own (`use_parallel_residual`). Its checkpoints hold
what makes queries, keys and values head by head.
"""

from __future__ import annotations

from typing import Any

from .. import modeling_causal as causal
from ..config_values import check_choice, check_divides, check_not_negative, check_positive, check_probability
from ..configuration_utils import PreTrainedConfig
from ..errors import ConfigError
from ..rope import partial_rotation, rope_parameters
from ..tensor_match import TensorTable
from .bert import ACTIVATIONS, MAX_LAYERS

__all__ = ["GPTNeoXConfig", "GPTNeoXForCausalLM", "GPTNeoXForSequenceClassification", "GPTNeoXModel"]


class GPTNeoXConfig(PreTrainedConfig):
    """The settings of a GPT-NeoX model; names and defaults are those of transformers (gpt-neox-20b)."""

    model_type = "gpt_neox"

    vocab_size: int = 50432
    hidden_size: int = 6144
    num_hidden_layers: int = 44
    num_attention_heads: int = 64
    intermediate_size: int = 24576
    hidden_act: str = "gelu"
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    classifier_dropout: float = 0.1
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    use_cache: bool = True
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    pad_token_id: int | None = None
    tie_word_embeddings: bool = False
    use_parallel_residual: bool = True
    rope_parameters: dict[str, Any] | None = None
    attention_bias: bool = True
    is_decoder: bool = False

    def __init__(self, **kwargs: Any) -> None:
        scaling = kwargs.pop("rope_scaling", None)
        theta, part = kwargs.pop("rotary_emb_base", 10000.0), kwargs.pop("rotary_pct", 0.25)
        super().__init__(**kwargs)
        self.rope_parameters = rope_parameters(self.rope_parameters, scaling, theta)
        self.rope_parameters.setdefault("partial_rotary_factor", part)

    def validate(self) -> None:
        """Raise ConfigError, which names key, value and what is allowed, if no GPT-NeoX can have these settings."""
        super().validate()
        check_positive(self, "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        check_positive(self, "max_position_embeddings")
        check_probability(self, "attention_dropout", "hidden_dropout", "classifier_dropout")
        check_not_negative(self, "layer_norm_eps", "initializer_range")
        check_choice("hidden_act", self.hidden_act, ACTIVATIONS)
        check_divides(self, "num_attention_heads", "hidden_size")
        if self.num_hidden_layers > MAX_LAYERS:
            raise ConfigError(f"num_hidden_layers={self.num_hidden_layers}: at most {MAX_LAYERS} are supported")


TENSORS: TensorTable = {
    "embeddings.word": ("embed_in", ("vocab_size", "hidden_size")),
    "layers.{i}.attention.qkv": ("layers.{i}.attention.query_key_value", ()),
    "layers.{i}.attention.output": ("layers.{i}.attention.dense", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.norm": ("layers.{i}.input_layernorm", ("hidden_size",)),
    "layers.{i}.feed_forward.up": ("layers.{i}.mlp.dense_h_to_4h", ("intermediate_size", "hidden_size")),
    "layers.{i}.feed_forward.down": ("layers.{i}.mlp.dense_4h_to_h", ("hidden_size", "intermediate_size")),
    "layers.{i}.feed_forward.norm": ("layers.{i}.post_attention_layernorm", ("hidden_size",)),
    "final_norm": ("final_layer_norm", ("hidden_size",)),
}


class GPTNeoXPreTrainedModel(causal.Decoder):
    """What all GPT-NeoXs share."""

    config_class = GPTNeoXConfig
    base_model_prefix = "gpt_neox"
    base_table = TENSORS

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        dim = config.hidden_size // config.num_attention_heads
        return {
            "hidden_size": config.hidden_size,
            "num_layers": config.num_hidden_layers,
            "embeddings": {"vocab_size": config.vocab_size},
            "attention": {
                "heads": config.num_attention_heads,
                "head_dim": dim,
                "bias": config.attention_bias,
                "output_bias": config.attention_bias,
                "fused": True,
                "by_head": True,
                "rotary": [partial_rotation(config.rope_parameters, dim)],
                "causal": True,
            },
            "feed_forward": {"size": config.intermediate_size, "activation": ACTIVATIONS[config.hidden_act]},
            "norm": {"kind": "layer_norm", "placement": "pre", "eps": config.layer_norm_eps},
            "parallel": "own_norm" if config.use_parallel_residual else None,
            "layers": [{"rotary": 0}] * config.num_hidden_layers,
            "pooler": pooler,
            "head": head,
        }

    def dropout_rates(self) -> tuple[float, float, float, float]:
        return self.config.hidden_dropout, self.config.attention_dropout, 0.0, 0.0


class GPTNeoXModel(causal.DecoderModel, GPTNeoXPreTrainedModel):
    """GPT-NeoX without a head: token ids in, hidden states out, a BaseModelOutputWithPast."""


class GPTNeoXForCausalLM(causal.CausalLM, GPTNeoXPreTrainedModel):
    head_table = {"head": ("lm_head", ("vocab_size", "hidden_size"))}
    names_in_files = {"lm_head.weight": "embed_out.weight"}


class GPTNeoXForSequenceClassification(causal.SequenceClassification, GPTNeoXPreTrainedModel):
    head_table = {"head": ("score", ("num_labels", "hidden_size"))}
