"""Blenderbot (Roller et al. 2020, https://arxiv.org/abs/2004.13637): a BART with norms before attention and feed-forward, without norms of
embeddings, and with learned positions from the first row of their table on.
"""

from __future__ import annotations

from .. import modeling_seq2seq as seq2seq
from .bart import EncoderDecoder, EncoderDecoderConfig, Generation

__all__ = ["BlenderbotConfig", "BlenderbotForConditionalGeneration", "BlenderbotModel"]


class BlenderbotConfig(EncoderDecoderConfig):
    """The settings of a Blenderbot model; names and defaults are those of transformers (blenderbot-3B)."""

    model_type = "blenderbot"

    vocab_size: int = 8008
    max_position_embeddings: int = 128
    encoder_layers: int = 2
    encoder_ffn_dim: int = 10240
    encoder_attention_heads: int = 32
    decoder_layers: int = 24
    decoder_ffn_dim: int = 10240
    decoder_attention_heads: int = 32
    d_model: int = 2560
    decoder_start_token_id: int = 1
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    encoder_no_repeat_ngram_size: int = 3
    forced_eos_token_id: int | list[int] | None = 2
    is_decoder: bool = False


class BlenderbotPreTrainedModel(EncoderDecoder):
    """What all Blenderbots share."""

    config_class = BlenderbotConfig


class BlenderbotModel(seq2seq.Seq2SeqModel, BlenderbotPreTrainedModel):
    """Blenderbot without a head: token ids in, the decoder's hidden states out, a Seq2SeqModelOutput."""


class BlenderbotForConditionalGeneration(Generation, BlenderbotPreTrainedModel):
    """Blenderbot that answers: a Seq2SeqLMOutput."""
