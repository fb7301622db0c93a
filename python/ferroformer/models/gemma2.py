"""Gemma 2 (Gemma Team 2024, https://arxiv.org/abs/2408.00118): Llama with a norm on either side of attention and feed-forward, every second
layer attending to a window of the tokens behind, and soft caps on scores and logits. Weights of norms are what they differ from 1 by.
"""

from __future__ import annotations

from typing import Any

from .. import modeling_causal as causal
from ..config_values import check_divides, check_positive
from ..errors import ConfigError
from .llama import (
    CAUSAL_HEAD,
    FULL,
    SCORE,
    TENSORS,
    WINDOW,
    LayeredConfig,
    LlamaPreTrainedModel,
    TokenClassification,
    layers,
    rotary_blueprint,
)

__all__ = [
    "Gemma2Config",
    "Gemma2ForCausalLM",
    "Gemma2ForSequenceClassification",
    "Gemma2ForTokenClassification",
    "Gemma2Model",
]


class Gemma2Config(LayeredConfig):
    """The settings of a Gemma 2 model; names and defaults are those of transformers (Gemma 2 2B)."""

    model_type = "gemma2"
    activation = "hidden_activation"

    vocab_size: int = 256000
    hidden_size: int = 2304
    intermediate_size: int = 9216
    num_hidden_layers: int = 26
    num_attention_heads: int = 8
    num_key_value_heads: int | None = 4
    head_dim: int = 256
    hidden_activation: str = "gelu_pytorch_tanh"
    max_position_embeddings: int = 8192
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1
    bos_token_id: int | None = 2
    tie_word_embeddings: bool = True
    attention_bias: bool = False
    query_pre_attn_scalar: int = 256
    final_logit_softcapping: float | None = 30.0
    attn_logit_softcapping: float | None = 50.0
    use_bidirectional_attention: bool | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.layer_types is None:
            self.layer_types = [FULL if i % 2 else WINDOW for i in range(self.num_hidden_layers)]

    def validate(self) -> None:
        super().validate()
        check_positive(self, "query_pre_attn_scalar")
        check_divides(self, "num_attention_heads", "hidden_size")
        for key in ("final_logit_softcapping", "attn_logit_softcapping"):
            value = getattr(self, key)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"{key}={value}: a finite number > 0, or None, is needed")
        if self.use_bidirectional_attention:
            raise ConfigError("use_bidirectional_attention=true is not supported: tokens attend to those before them")


class Gemma2PreTrainedModel(LlamaPreTrainedModel):
    """What all Gemma 2 share."""

    config_class = Gemma2Config
    base_table = TENSORS | {
        "layers.{i}.attention.branch_norm": ("layers.{i}.post_attention_layernorm", ("hidden_size",)),
        "layers.{i}.feed_forward.norm": ("layers.{i}.pre_feedforward_layernorm", ("hidden_size",)),
        "layers.{i}.feed_forward.branch_norm": ("layers.{i}.post_feedforward_layernorm", ("hidden_size",)),
    }

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        scaled = [layer | {"scale": config.query_pre_attn_scalar**-0.5} for layer in layers(config)]
        cap = config.attn_logit_softcapping
        parts = rotary_blueprint(config, pooler, head, scaled, causal=True, soft_cap=cap)
        parts["embeddings"]["factor"] = {"value": config.hidden_size**0.5, "rounded": True}
        parts["norm"] |= {"offset": 1.0, "placement": "sandwich"}
        return parts


class Gemma2Model(causal.DecoderModel, Gemma2PreTrainedModel):
    """Gemma 2 without a head: token ids in, hidden states out, a BaseModelOutputWithPast."""


class Gemma2ForCausalLM(causal.CausalLM, Gemma2PreTrainedModel):
    head_table = CAUSAL_HEAD

    def head(self, config: Any) -> dict[str, Any]:
        return super().head(config) | {"soft_cap": config.final_logit_softcapping}


class Gemma2ForSequenceClassification(causal.SequenceClassification, Gemma2PreTrainedModel):
    head_table = SCORE


class Gemma2ForTokenClassification(TokenClassification, Gemma2PreTrainedModel):
    pass
