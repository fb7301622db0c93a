"""UMT5 (Chung et al. 2023, https://arxiv.org/abs/2304.09151): T5 1.1 for a hundred languages, with biases of distances of its own in
each layer.
"""

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
    "UMT5Config",
    "UMT5EncoderModel",
    "UMT5ForConditionalGeneration",
    "UMT5ForQuestionAnswering",
    "UMT5ForSequenceClassification",
    "UMT5ForTokenClassification",
    "UMT5Model",
]


class UMT5Config(T5Config):
    """The settings of a UMT5; names and defaults are those of transformers (umt5-small)."""

    model_type = "umt5"

    vocab_size: int = 250112
    d_ff: int = 1024
    num_layers: int = 8
    num_heads: int = 6
    feed_forward_proj: str = "gated-gelu"
    decoder_start_token_id: int | None = 0

    def implied(self, given: dict[str, Any]) -> dict[str, Any]:
        implied = super().implied(given)
        implied.pop("scale_decoder_outputs")
        return implied


class UMT5PreTrainedModel(T5PreTrainedModel):
    """What all UMT5s share."""

    config_class = UMT5Config
    bias_by_layer = True


class UMT5Model(T5Model, UMT5PreTrainedModel):
    """UMT5 without a head: the decoder's hidden states out, a Seq2SeqModelOutput."""


class UMT5ForConditionalGeneration(T5ForConditionalGeneration, UMT5PreTrainedModel):
    """UMT5 that writes; as T5ForConditionalGeneration."""

    def scaled(self, config: Any) -> bool:
        return bool(config.tie_word_embeddings)


class UMT5ForSequenceClassification(T5ForSequenceClassification, UMT5PreTrainedModel):
    """UMT5 that labels a row; as T5ForSequenceClassification."""


class UMT5ForQuestionAnswering(T5ForQuestionAnswering, UMT5PreTrainedModel):
    """UMT5 that finds an answer; as T5ForQuestionAnswering."""


class UMT5ForTokenClassification(T5ForTokenClassification, UMT5PreTrainedModel):
    """The encoder of a UMT5, which labels tokens; as T5ForTokenClassification."""


class UMT5EncoderModel(T5EncoderModel, UMT5PreTrainedModel):
    """The encoder of a UMT5 alone, a BaseModelOutput."""
