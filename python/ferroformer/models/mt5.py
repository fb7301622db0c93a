"""mT5 (Xue et al. 2020, https://arxiv.org/abs/2010.11934): T5 1.1 for a hundred languages; what the head reads is not scaled."""

from __future__ import annotations

from typing import Any

from .t5 import (
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
    T5ForQuestionAnswering,
    T5ForSequenceClassification,
    T5ForTokenClassification,
    T5Model,
    T5PreTrainedModel,
)

__all__ = [
    "MT5Config",
    "MT5EncoderModel",
    "MT5ForConditionalGeneration",
    "MT5ForQuestionAnswering",
    "MT5ForSequenceClassification",
    "MT5ForTokenClassification",
    "MT5Model",
]


class MT5Config(T5Config):
    """The settings of an mT5; names and defaults are those of transformers (mt5-small)."""

    model_type = "mt5"

    vocab_size: int = 250112
    d_ff: int = 1024
    num_layers: int = 8
    num_heads: int = 6
    feed_forward_proj: str = "gated-gelu"
    bos_token_id: int | None = None
    decoder_start_token_id: int | None = 0
    tie_word_embeddings: bool = True

    def implied(self, given: dict[str, Any]) -> dict[str, Any]:
        implied = super().implied(given)
        implied.pop("scale_decoder_outputs")
        return implied


class MT5PreTrainedModel(T5PreTrainedModel):
    """What all mT5s share."""

    config_class = MT5Config


class MT5Model(T5Model, MT5PreTrainedModel):
    """mT5 without a head: the decoder's hidden states out, a Seq2SeqModelOutput."""


class MT5ForConditionalGeneration(T5ForConditionalGeneration, MT5PreTrainedModel):
    """mT5 that writes; as T5ForConditionalGeneration."""

    def scaled(self, config: Any) -> bool:
        return False


class MT5ForSequenceClassification(T5ForSequenceClassification, MT5PreTrainedModel):
    """mT5 that labels a row; as T5ForSequenceClassification."""


class MT5ForQuestionAnswering(T5ForQuestionAnswering, MT5PreTrainedModel):
    """mT5 that finds an answer; as T5ForQuestionAnswering."""


class MT5ForTokenClassification(T5ForTokenClassification, MT5PreTrainedModel):
    """The encoder of an mT5, which labels tokens; as T5ForTokenClassification."""


class MT5EncoderModel(T5EncoderModel, MT5PreTrainedModel):
    """The encoder of an mT5 alone, a BaseModelOutput."""
