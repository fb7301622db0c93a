"""DeBERTa, the first (He et al. 2020, https://arxiv.org/abs/2006.03654): as the second, but that distances are in no buckets, that keys
have no bias, and that a checkpoint holds what makes queries, keys and values as one tensor, head by head.
"""

from __future__ import annotations

from typing import Any

from .. import modeling_heads as heads
from ..errors import ConfigError
from ..tensor_match import TensorTable
from .bert import ANSWERS, EMBEDDINGS, LAYERS
from .deberta_v2 import (
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    DebertaV2ForSequenceClassification,
    DebertaV2ForTokenClassification,
    DebertaV2PreTrainedModel,
    distances,
)

__all__ = [
    "DebertaConfig",
    "DebertaForMaskedLM",
    "DebertaForQuestionAnswering",
    "DebertaForSequenceClassification",
    "DebertaForTokenClassification",
    "DebertaModel",
]


class DebertaConfig(DebertaV2Config):
    """The settings of a DeBERTa model; names and defaults are those of transformers."""

    model_type = "deberta"

    vocab_size: int = 50265
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072


ATTENTION = "encoder.layer.{i}.attention.self"
TENSORS: TensorTable = EMBEDDINGS | LAYERS | {
    "relative": ("encoder.rel_embeddings", ()),
    "layers.{i}.attention.qkv": (f"{ATTENTION}.in_proj", ()),
    "layers.{i}.attention.query.bias": (f"{ATTENTION}.q_bias", ()),
    "layers.{i}.attention.value.bias": (f"{ATTENTION}.v_bias", ()),
    "layers.{i}.attention.position_key": (f"{ATTENTION}.pos_proj", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.position_query": (f"{ATTENTION}.pos_q_proj", ("hidden_size", "hidden_size")),
}


class DebertaPreTrainedModel(DebertaV2PreTrainedModel):
    """What all DeBERTas of the first kind share."""

    config_class = DebertaConfig
    base_table = TENSORS

    def check(self, config: Any) -> None:
        super().check(config)
        if getattr(config, "talking_head", False):
            raise ConfigError("talking_head=true is not supported: only heads that do not hear each other")

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        parts = super().blueprint(config, pooler, head)
        return parts | {"attention": parts["attention"] | {"fused": True, "by_head": True, "key_bias": False}}

    def distances(self, config: Any) -> dict[str, Any] | None:
        return distances(config)


class DebertaModel(heads.WithoutPooler, DebertaPreTrainedModel):
    """DeBERTa without a head: token ids in, hidden states out, a BaseModelOutput."""


class DebertaForSequenceClassification(DebertaPreTrainedModel, DebertaV2ForSequenceClassification):
    """As DebertaV2ForSequenceClassification."""


class DebertaForTokenClassification(DebertaPreTrainedModel, DebertaV2ForTokenClassification):
    """As DebertaV2ForTokenClassification."""


class DebertaForQuestionAnswering(heads.QuestionAnswering, DebertaPreTrainedModel):
    head_table = ANSWERS


class DebertaForMaskedLM(DebertaPreTrainedModel, DebertaV2ForMaskedLM):
    """As DebertaV2ForMaskedLM."""
