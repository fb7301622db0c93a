"""M2M100 (Fan et al. 2020, https://arxiv.org/abs/2010.11125), and NLLB: a BART that translates, with norms before attention and
feed-forward, without norms of embeddings, and with sines for positions, which are counted from padding.
"""

from __future__ import annotations

import math
from typing import Any

from .. import modeling_seq2seq as seq2seq
from ..errors import ConfigError
from .bart import OFFSET, POSITIONS, EncoderDecoder, EncoderDecoderConfig, Generation
from .bert import padding_row
from .marian import BASE

__all__ = ["M2M100Config", "M2M100ForConditionalGeneration", "M2M100Model"]


class M2M100Config(EncoderDecoderConfig):
    """The settings of an M2M100 model; names and defaults are those of transformers."""

    model_type = "m2m_100"

    vocab_size: int = 128112
    encoder_layerdrop: float = 0.05
    decoder_layerdrop: float = 0.05
    activation_function: str = "relu"
    attention_dropout: float = 0.1
    decoder_start_token_id: int | None = 2
    scale_embedding: bool = True
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2


class M2M100PreTrainedModel(EncoderDecoder):
    """What all M2M100s share."""

    config_class = M2M100Config
    buffer_slots = unsaved_slots = POSITIONS

    def check(self, config: Any) -> None:
        super().check(config)
        if padding_row(config) is None:
            raise ConfigError(f"pad_token_id={config.pad_token_id!r}: positions are counted from it")
        if config.d_model < 4:
            raise ConfigError(f"d_model={config.d_model}: positions take 4 channels at least")

    def positions(self, config: Any) -> dict[str, Any]:
        import numpy as np

        # tensor2tensor's: the last wavelength is exactly 10000; torch rounds each step to float32
        count = config.d_model // 2
        exponents = np.arange(count).astype(np.float32) * np.float32(-math.log(BASE) / (count - 1))
        frequencies = np.exp(exponents.astype(np.float64)).astype(np.float32)
        return {
            "positions": config.max_position_embeddings + OFFSET,
            "padding_position": padding_row(config),
            "sines": {"frequencies": frequencies.astype(np.float64).tolist(), "rounded": True},
        }


class M2M100Model(seq2seq.Seq2SeqModel, M2M100PreTrainedModel):
    """M2M100 without a head: token ids in, the decoder's hidden states out, a Seq2SeqModelOutput."""


class M2M100ForConditionalGeneration(Generation, M2M100PreTrainedModel):
    """M2M100 that translates: a Seq2SeqLMOutput."""

    head_bias = False
