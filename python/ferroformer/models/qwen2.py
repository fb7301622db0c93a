"""Qwen 2 (Yang et al. 2024, https://arxiv.org/abs/2407.10671): Llama with biases of queries, keys and values; upper layers may attend to
a window of the tokens behind.
"""

from __future__ import annotations

from typing import Any

from .. import modeling_causal as causal
from .llama import (
    CAUSAL_HEAD,
    FULL,
    SCORE,
    WINDOW,
    LayeredConfig,
    LlamaPreTrainedModel,
    QuestionAnswering,
    TokenClassification,
    layers,
    rotary_blueprint,
)

__all__ = [
    "Qwen2Config",
    "Qwen2ForCausalLM",
    "Qwen2ForQuestionAnswering",
    "Qwen2ForSequenceClassification",
    "Qwen2ForTokenClassification",
    "Qwen2Model",
]


class QwenConfig(LayeredConfig):
    """What Qwen 2 and 3 have in common."""

    vocab_size: int = 151936
    intermediate_size: int = 22016
    num_key_value_heads: int | None = 32
    hidden_act: str = "silu"
    max_position_embeddings: int = 32768
    use_sliding_window: bool = False
    max_window_layers: int = 28

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not self.use_sliding_window:
            self.sliding_window = None
        if self.layer_types is None:
            first = self.num_hidden_layers if self.sliding_window is None else self.max_window_layers
            self.layer_types = [WINDOW if i >= first else FULL for i in range(self.num_hidden_layers)]


class Qwen2Config(QwenConfig):
    """The settings of a Qwen 2 or 2.5 model; names and defaults are those of transformers (Qwen2-7B)."""

    model_type = "qwen2"


class Qwen2PreTrainedModel(LlamaPreTrainedModel):
    """What all Qwen 2 share."""

    config_class = Qwen2Config

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        return rotary_blueprint(config, pooler, head, layers(config), causal=True, bias=True)


class Qwen2Model(causal.DecoderModel, Qwen2PreTrainedModel):
    """Qwen 2 without a head: token ids in, hidden states out, a BaseModelOutputWithPast."""


class Qwen2ForCausalLM(causal.CausalLM, Qwen2PreTrainedModel):
    head_table = CAUSAL_HEAD


class Qwen2ForSequenceClassification(causal.SequenceClassification, Qwen2PreTrainedModel):
    head_table = SCORE


class Qwen2ForTokenClassification(TokenClassification, Qwen2PreTrainedModel):
    pass


class Qwen2ForQuestionAnswering(QuestionAnswering, Qwen2PreTrainedModel):
    base_model_prefix = "transformer"
