"""The special tokens of a call, as arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .configuration import GenerationConfig
from .logits_process import token_ids
from .numbers import Ids
from .warnings_once import warn, warn_once


class SpecialTokens(NamedTuple):
    """bos and pad: one id; eos: (n,) ids that end a sequence; decoder_start: one id, or (B,) ids."""

    bos: int | None
    eos: Ids | None
    pad: int | None
    decoder_start: Ids | None


def special_tokens(config: GenerationConfig, encoder_decoder: bool, masked: bool, batch: int) -> SpecialTokens:
    """What the settings say, pad_token_id from eos_token_id if it is missing. `masked`: whether a mask was given."""
    bos, pad = _one("bos_token_id", config.bos_token_id), _one("pad_token_id", config.pad_token_id)
    eos = None if config.eos_token_id is None else token_ids(config.eos_token_id)
    start = config.decoder_start_token_id
    start = config.bos_token_id if start is None and encoder_decoder else start
    if encoder_decoder and start is None:
        raise ValueError("`decoder_start_token_id` or `bos_token_id` has to be defined for encoder-decoder generation.")
    if eos is not None:
        unmasked = batch > 1 and not masked
        if pad is None and unmasked:
            warn(
                "The attention mask and the pad token id were not set, with a batched input. As a consequence, you may "
                "observe unexpected behavior. Please pass your input's `attention_mask` to obtain reliable results."
            )
        pad = int(eos[0]) if pad is None else pad
        if unmasked and pad in eos:
            warn_once(
                "The attention mask is not set with a batched input, and cannot be inferred from input because pad "
                "token is same as eos token. As a consequence, you may observe unexpected behavior. Please pass your "
                "input's `attention_mask` to obtain reliable results."
            )
        if (eos < 0).any():
            warn(
                f"`eos_token_id` should consist of positive integers, but is {eos.tolist()}. Your generation will not "
                "stop until the maximum length is reached."
            )
    return SpecialTokens(bos, eos, pad, None if start is None else np.asarray(start, np.int64))


def _one(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if np.size(value) != 1:
        raise ValueError(f"`{name}` has to be one token id, but is {value}")
    return int(np.reshape(value, -1)[0])
