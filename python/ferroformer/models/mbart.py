"""mBART (Liu et al. 2020, https://arxiv.org/abs/2001.08210): a BART with norms before attention and feed-forward, whose texts end with
their language, which is what the decoder begins with.
"""

from __future__ import annotations

from typing import Any

from .. import losses
from .. import modeling_seq2seq as seq2seq
from ..errors import InputError
from ..model_inputs import integer_array
from .bart import (
    BartForQuestionAnswering,
    BartForSequenceClassification,
    BartPreTrainedModel,
    EncoderDecoderConfig,
    Generation,
)

__all__ = [
    "MBartConfig",
    "MBartForConditionalGeneration",
    "MBartForQuestionAnswering",
    "MBartForSequenceClassification",
    "MBartModel",
]


class MBartConfig(EncoderDecoderConfig):
    """The settings of an mBART model; names and defaults are those of transformers."""

    model_type = "mbart"

    classifier_dropout: float = 0.0
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | None = None
    forced_eos_token_id: int | list[int] | None = 2
    is_decoder: bool = False


class MBartPreTrainedModel(BartPreTrainedModel):
    """What all mBARTs share."""

    config_class = MBartConfig
    placement = "pre"

    def prepare_decoder_input_ids_from_labels(self, labels: Any) -> Any:
        """Labels (B, T) moved one place to the right behind the last of each row that is not padding: its language."""
        import numpy as np

        ids, padding = integer_array("labels", labels), self.config.pad_token_id
        if padding is None:
            raise InputError("config.pad_token_id is None: it says where a row ends")
        ids = np.where(ids == losses.IGNORED, padding, ids)
        last = (ids != padding).sum(1) - 1
        return np.concatenate((ids[np.arange(len(ids)), last][:, None], ids[:, :-1]), axis=1)


class MBartModel(seq2seq.Seq2SeqModel, MBartPreTrainedModel):
    """mBART without a head: token ids in, the decoder's hidden states out, a Seq2SeqModelOutput.

    Without decoder_input_ids these are input_ids, moved one place to the right behind their last.
    """


class MBartForConditionalGeneration(Generation, MBartPreTrainedModel):
    """mBART that writes: a Seq2SeqLMOutput."""


class MBartForSequenceClassification(BartForSequenceClassification, MBartPreTrainedModel):
    """mBART that labels a row: a Seq2SeqSequenceClassifierOutput."""


class MBartForQuestionAnswering(BartForQuestionAnswering, MBartPreTrainedModel):
    """mBART that finds an answer: a Seq2SeqQuestionAnsweringModelOutput."""
