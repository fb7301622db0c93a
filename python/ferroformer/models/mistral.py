"""Mistral (Jiang et al. 2023, https://arxiv.org/abs/2310.06825): Llama, attending to a window of the tokens behind."""

from __future__ import annotations

from typing import Any

from .. import modeling_causal as causal
from .llama import (
    CAUSAL_HEAD,
    SCORE,
    LlamaPreTrainedModel,
    QuestionAnswering,
    RotaryConfig,
    TokenClassification,
    rotary_blueprint,
    window_behind,
)

__all__ = [
    "MistralConfig",
    "MistralForCausalLM",
    "MistralForQuestionAnswering",
    "MistralForSequenceClassification",
    "MistralForTokenClassification",
    "MistralModel",
]


class MistralConfig(RotaryConfig):
    """The settings of a Mistral model; names and defaults are those of transformers (Mistral 7B)."""

    model_type = "mistral"

    intermediate_size: int = 14336
    num_key_value_heads: int | None = 8
    head_dim: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 131072
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    sliding_window: int | None = 4096

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.head_dim = self.head_channels


class MistralPreTrainedModel(LlamaPreTrainedModel):
    """What all Mistrals share."""

    config_class = MistralConfig

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        window = None if config.sliding_window is None else window_behind(config)
        layers = [{"rotary": 0, "window": window}] * config.num_hidden_layers
        return rotary_blueprint(config, pooler, head, layers, causal=True)


class MistralModel(causal.DecoderModel, MistralPreTrainedModel):
    """Mistral without a head: token ids in, hidden states out, a BaseModelOutputWithPast."""


class MistralForCausalLM(causal.CausalLM, MistralPreTrainedModel):
    head_table = CAUSAL_HEAD


class MistralForSequenceClassification(causal.SequenceClassification, MistralPreTrainedModel):
    head_table = SCORE


class MistralForTokenClassification(TokenClassification, MistralPreTrainedModel):
    pass


class MistralForQuestionAnswering(QuestionAnswering, MistralPreTrainedModel):
    pass
