"""EuroBERT (Boizard et al. 2025, https://arxiv.org/abs/2503.05500): Llama's layers (RMSNorm before attention and feed-forward, rotary
positions, grouped heads, gated feed-forward, no biases) attending to both sides.
"""

from __future__ import annotations

from typing import Any

from .. import modeling_heads as heads
from ..config_values import check_choice, check_not_negative, check_positive, check_probability
from ..configuration_utils import PreTrainedConfig
from ..errors import ConfigError
from ..modeling_utils import PreTrainedModel
from ..rope import rope_parameters, rotation
from ..tensor_match import TensorTable
from .bert import ACTIVATIONS, CLASSIFIER, MAX_LAYERS, padding_row

__all__ = [
    "EuroBertConfig",
    "EuroBertForMaskedLM",
    "EuroBertForSequenceClassification",
    "EuroBertForTokenClassification",
    "EuroBertModel",
]


class EuroBertConfig(PreTrainedConfig):
    """The settings of a EuroBERT model; names and defaults are those of transformers."""

    model_type = "eurobert"
    code_is_known = True

    vocab_size: int = 128256
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_key_value_heads: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 8192
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-5
    use_cache: bool = True
    pad_token_id: int | None = 128001
    bos_token_id: int | None = 128000
    eos_token_id: int | list[int] | None = 128001
    pretraining_tp: int = 1
    tie_word_embeddings: bool = False
    rope_parameters: dict[str, Any] | None = None
    attention_bias: bool = False
    attention_dropout: float = 0.0
    mlp_bias: bool = False
    head_dim: int | None = None
    mask_token_id: int = 128002
    classifier_pooling: str = "late"

    def __init__(self, **kwargs: Any) -> None:
        scaling, theta = kwargs.pop("rope_scaling", None), kwargs.pop("rope_theta", 10000.0)
        super().__init__(**kwargs)
        self.rope_parameters = rope_parameters(self.rope_parameters, scaling, theta)
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        if self.head_dim is None:
            self.head_dim = self.hidden_size // self.num_attention_heads

    def validate(self) -> None:
        """Raise ConfigError, which names key, value and what is allowed, if no EuroBERT can have these settings."""
        super().validate()
        check_positive(self, "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        check_probability(self, "attention_dropout")
        check_not_negative(self, "rms_norm_eps", "initializer_range")
        check_choice("hidden_act", self.hidden_act, ACTIVATIONS)
        check_choice("classifier_pooling", self.classifier_pooling, ("bos", "late", "mean"))
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"The hidden size ({self.hidden_size}) is not a multiple of the number of attention heads "
                f"({self.num_attention_heads})"
            )
        if self.num_hidden_layers > MAX_LAYERS:
            raise ConfigError(f"num_hidden_layers={self.num_hidden_layers}: at most {MAX_LAYERS} are supported")
        groups = self.num_key_value_heads
        if groups is not None and (groups < 1 or self.num_attention_heads % groups):
            raise ConfigError(f"num_key_value_heads={groups} is no divisor of num_attention_heads={self.num_attention_heads}")


TENSORS: TensorTable = {
    "embeddings.word": ("embed_tokens", ("vocab_size", "hidden_size")),
    "layers.{i}.attention.query": ("layers.{i}.self_attn.q_proj", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.key": ("layers.{i}.self_attn.k_proj", ()),
    "layers.{i}.attention.value": ("layers.{i}.self_attn.v_proj", ()),
    "layers.{i}.attention.output": ("layers.{i}.self_attn.o_proj", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.norm": ("layers.{i}.input_layernorm", ("hidden_size",)),
    "layers.{i}.feed_forward.gate": ("layers.{i}.mlp.gate_proj", ("intermediate_size", "hidden_size")),
    "layers.{i}.feed_forward.up": ("layers.{i}.mlp.up_proj", ("intermediate_size", "hidden_size")),
    "layers.{i}.feed_forward.down": ("layers.{i}.mlp.down_proj", ("hidden_size", "intermediate_size")),
    "layers.{i}.feed_forward.norm": ("layers.{i}.post_attention_layernorm", ("hidden_size",)),
    "final_norm": ("norm", ("hidden_size",)),
}


class EuroBertPreTrainedModel(PreTrainedModel):
    """What all EuroBERTs share."""

    config_class = EuroBertConfig
    base_model_prefix = "model"
    base_table = TENSORS
    input_names = ("input_ids", "attention_mask", "position_ids", "inputs_embeds")

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "hidden_size": config.hidden_size,
            "num_layers": config.num_hidden_layers,
            "embeddings": {"vocab_size": config.vocab_size, "padding": padding_row(config)},
            "attention": {
                "heads": config.num_attention_heads,
                "key_heads": config.num_key_value_heads,
                "head_dim": config.head_dim,
                "bias": config.attention_bias,
                "output_bias": config.attention_bias,
                "rotary": [rotation(config.rope_parameters, config.head_dim)],
            },
            "feed_forward": {
                "size": config.intermediate_size,
                "activation": ACTIVATIONS[config.hidden_act],
                "gated": True,
                "bias": config.mlp_bias,
            },
            "norm": {"kind": "rms_norm", "placement": "pre", "eps": config.rms_norm_eps},
            "layers": [{"rotary": 0}] * config.num_hidden_layers,
            "pooler": pooler,
            "head": head,
        }

    def dropout_rates(self) -> tuple[float, float, float, float]:
        return 0.0, self.config.attention_dropout, 0.0, 0.0


class EuroBertModel(heads.WithoutPooler, EuroBertPreTrainedModel):
    """EuroBERT without a head: token ids in, hidden states out, a BaseModelOutput."""


class EuroBertForSequenceClassification(heads.SequenceClassification, EuroBertPreTrainedModel):
    head_table = CLASSIFIER | {
        "pooler": ("dense", ("hidden_size", "hidden_size")),
        "head.transform": ("dense", ("hidden_size", "hidden_size")),
    }

    def __init__(self, config: Any, **kwargs: Any) -> None:
        # "late": each token is judged, and the mean of that taken
        self.reads = "mean" if config.classifier_pooling == "late" else "pooled"  # type: ignore[misc]
        super().__init__(config, **kwargs)

    def pooler_spec(self, config: Any) -> dict[str, Any]:
        return {"activation": "gelu", "reads": "first" if config.classifier_pooling == "bos" else "mean"}

    def transform_spec(self, config: Any) -> dict[str, Any] | None:
        return {"activation": "gelu"} if config.classifier_pooling == "late" else None


class EuroBertForTokenClassification(heads.TokenClassification, EuroBertPreTrainedModel):
    head_table = CLASSIFIER


class EuroBertForMaskedLM(heads.MaskedLM, EuroBertPreTrainedModel):
    head_table = {"head": ("lm_head", ("vocab_size", "hidden_size")), "embeddings.word.bias": ("lm_head.bias", ())}
    tied_tensors = ("lm_head.weight",)

    def head(self, config: Any) -> dict[str, Any]:
        return super().head(config) | {"bias": config.mlp_bias}
