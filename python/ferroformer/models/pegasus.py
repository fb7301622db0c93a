"""Pegasus (Zhang et al. 2019, https://arxiv.org/abs/1912.08777): a BART with norms before attention and feed-forward, without norms of
embeddings, and with sines for positions.
"""

from __future__ import annotations

from typing import Any

from .. import modeling_seq2seq as seq2seq
from .bart import EncoderDecoder, EncoderDecoderConfig, Generation
from .marian import sines

__all__ = ["PegasusConfig", "PegasusForConditionalGeneration", "PegasusModel"]


class PegasusConfig(EncoderDecoderConfig):
    """The settings of a Pegasus model; names and defaults are those of transformers."""

    model_type = "pegasus"

    decoder_start_token_id: int | None = 0
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1
    forced_eos_token_id: int | list[int] | None = 1
    is_decoder: bool = False


class PegasusPreTrainedModel(EncoderDecoder):
    """What all Pegasuses share."""

    config_class = PegasusConfig

    def positions(self, config: Any) -> dict[str, Any]:
        return sines(config)


class PegasusModel(seq2seq.Seq2SeqModel, PegasusPreTrainedModel):
    """Pegasus without a head: token ids in, the decoder's hidden states out, a Seq2SeqModelOutput."""


class PegasusForConditionalGeneration(Generation, PegasusPreTrainedModel):
    """Pegasus that writes: a Seq2SeqLMOutput."""
