"""Marian (Junczys-Dowmunt et al. 2018, https://arxiv.org/abs/1804.00344), as OPUS-MT has it: a BART that translates, without norms of
embeddings and with sines for positions. Encoder and decoder may have words of their own.
"""

from __future__ import annotations

from typing import Any

from .. import modeling_seq2seq as seq2seq
from ..errors import ConfigError
from .bart import POSITIONS, EncoderDecoder, EncoderDecoderConfig, Generation

__all__ = ["MarianConfig", "MarianMTModel", "MarianModel"]

BASE = 10000.0  # of the positions' wavelengths


class MarianConfig(EncoderDecoderConfig):
    """The settings of a Marian model; names and defaults are those of transformers."""

    model_type = "marian"

    vocab_size: int = 58101
    decoder_vocab_size: int | None = None
    decoder_start_token_id: int = 58100
    pad_token_id: int | None = 58100
    eos_token_id: int | list[int] | None = 0
    bos_token_id: int | None = None
    forced_eos_token_id: int | list[int] | None = 0
    share_encoder_decoder_embeddings: bool = True
    is_decoder: bool = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.decoder_vocab_size = self.decoder_vocab_size or self.vocab_size


def sines(config: Any) -> dict[str, Any]:
    """Positions as in Vaswani et al. 2017, all sines before all cosines."""
    size = config.d_model
    frequencies = [BASE ** (-2 * i / size) for i in range((size + 1) // 2)]
    return {"positions": config.max_position_embeddings, "sines": {"frequencies": frequencies}}


class MarianPreTrainedModel(EncoderDecoder):
    """What all Marians share."""

    config_class = MarianConfig
    placement = "post"

    def check(self, config: Any) -> None:
        super().check(config)
        if config.share_encoder_decoder_embeddings and config.decoder_vocab_size != config.vocab_size:
            sizes = f"vocab_size={config.vocab_size} and decoder_vocab_size={config.decoder_vocab_size}"
            raise ConfigError(f"{sizes} cannot share embeddings: share_encoder_decoder_embeddings must be false")

    def shares_words(self, config: Any) -> bool:
        return super().shares_words(config) and bool(config.share_encoder_decoder_embeddings)

    def positions(self, config: Any) -> dict[str, Any]:
        return sines(config)

    def side(self, config: Any, name: str, embeddings: dict[str, Any], attention: dict[str, Any]) -> dict[str, Any]:
        words = {"vocab_size": config.decoder_vocab_size} if name == "decoder" else {}
        return super().side(config, name, words | embeddings, attention)

    def set_vocab_size(self, config: Any, size: int) -> None:
        if not config.share_encoder_decoder_embeddings:
            raise NotImplementedError("share_encoder_decoder_embeddings=false: two vocabularies are not resized")
        config.vocab_size = config.decoder_vocab_size = size


class MarianModel(seq2seq.Seq2SeqModel, MarianPreTrainedModel):
    """Marian without a head: token ids in, the decoder's hidden states out, a Seq2SeqModelOutput."""


class MarianMTModel(Generation, MarianPreTrainedModel):
    """Marian that translates: a Seq2SeqLMOutput."""

    # a file that has them is read, none is written: sines are sines
    unsaved_slots = POSITIONS

    def num_outputs(self, config: Any) -> int:
        return int(config.decoder_vocab_size)
