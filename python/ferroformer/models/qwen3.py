"""Qwen 3 (Yang et al. 2025, https://arxiv.org/abs/2505.09388): Llama with norms of each head's queries and keys; upper layers may attend to
a window of the tokens behind.
"""

from __future__ import annotations

from typing import Any

from .. import modeling_causal as causal
from .llama import (
    CAUSAL_HEAD,
    SCORE,
    TENSORS,
    LlamaPreTrainedModel,
    QuestionAnswering,
    TokenClassification,
    layers,
    rotary_blueprint,
)
from .qwen2 import QwenConfig

__all__ = [
    "Qwen3Config",
    "Qwen3ForCausalLM",
    "Qwen3ForQuestionAnswering",
    "Qwen3ForSequenceClassification",
    "Qwen3ForTokenClassification",
    "Qwen3Model",
]


class Qwen3Config(QwenConfig):
    """The settings of a Qwen 3 model; names and defaults are those of transformers (Qwen3-8B)."""

    model_type = "qwen3"

    head_dim: int = 128
    attention_bias: bool = False


class Qwen3PreTrainedModel(LlamaPreTrainedModel):
    """What all Qwen 3 share."""

    config_class = Qwen3Config
    base_table = TENSORS | {
        "layers.{i}.attention.query_norm": ("layers.{i}.self_attn.q_norm", ("head_dim",)),
        "layers.{i}.attention.key_norm": ("layers.{i}.self_attn.k_norm", ("head_dim",)),
    }

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        norm = {"eps": config.rms_norm_eps}
        return rotary_blueprint(config, pooler, head, layers(config), causal=True, query_key_norm=norm)


class Qwen3Model(causal.DecoderModel, Qwen3PreTrainedModel):
    """Qwen 3 without a head: token ids in, hidden states out, a BaseModelOutputWithPast."""


class Qwen3ForCausalLM(causal.CausalLM, Qwen3PreTrainedModel):
    head_table = CAUSAL_HEAD


class Qwen3ForSequenceClassification(causal.SequenceClassification, Qwen3PreTrainedModel):
    head_table = SCORE


class Qwen3ForTokenClassification(TokenClassification, Qwen3PreTrainedModel):
    pass


class Qwen3ForQuestionAnswering(QuestionAnswering, Qwen3PreTrainedModel):
    base_model_prefix = "transformer"
