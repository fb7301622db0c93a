"""From the arguments of `generate` to prompts that a model can take."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError
from ..model_inputs import integer_array
from .decoding_state import GenerativeModel
from .numbers import Ids
from .special_tokens import SpecialTokens
from .warnings_once import warn


class Prompts(NamedTuple):
    """B prompts of T tokens.

    ids (B, T): what the sequences begin with; mask (B, T) or None: 0 where ids are padding.
    model_ids, model_mask: what the model reads first; of a decoder these are ids and all of its mask.
    inputs: other arrays of the model.
    """

    ids: Ids
    mask: Ids | None
    model_ids: Ids
    model_mask: Ids
    inputs: dict[str, Any]

    @property
    def lengths(self) -> Ids:
        """(B,): tokens of each prompt, without padding."""
        mask = np.ones_like(self.ids) if self.mask is None else self.mask
        lengths: Ids = mask.sum(axis=-1)
        return lengths


def given_ids(model: GenerativeModel, inputs: Any, given: dict[str, Any], bos: Any) -> Ids:
    """The ids (B, T) that were given as `inputs` or under their own name, which is taken out of `given`; else bos."""
    name = model.main_input_name
    by_name = given.pop(name, None)
    if inputs is not None and by_name is not None:
        raise ValueError(f"`inputs` were passed alongside `{name}` which is not allowed: pass one of the two.")
    ids = by_name if inputs is None else inputs
    if ids is None:
        if bos is None:
            raise ValueError("`bos_token_id` has to be defined when no `input_ids` are provided.")
        batch = next((len(value) for value in given.values() if np.ndim(value) > 0), 1)
        return np.full((batch, 1), bos, np.int64)
    array = integer_array(name, ids)
    if 0 in array.shape:
        raise InputError(f"{name} has the shape {array.shape}: a token at least is needed")
    return array


def decoder_prompts(ids: Ids, given: dict[str, Any], tokens: SpecialTokens) -> Prompts:
    """Of a model that is a decoder alone."""
    mask = given.pop("attention_mask", None)
    mask = _inferred_mask(ids, tokens) if mask is None else _mask("attention_mask", mask, ids.shape)
    if tokens.pad is not None and len(ids) > 1 and (mask[:, -1] == 0).any():
        warn(
            "A decoder-only architecture is being used, but right-padding was detected! For correct generation "
            "results, please set `padding_side='left'` when initializing the tokenizer."
        )
    return Prompts(ids, None if mask.all() else mask, ids, mask, given)


def encoder_decoder_prompts(ids: Ids, given: dict[str, Any], tokens: SpecialTokens) -> Prompts:
    """Of a model with an encoder, which reads `ids`; the decoder's start, or what is given, begins the sequences."""
    mask = given.pop("attention_mask", None)
    mask = np.ones_like(ids) if mask is None else _mask("attention_mask", mask, ids.shape)
    start = _decoder_start(tokens.decoder_start, len(ids))
    prompt, prompt_mask = given.pop("decoder_input_ids", None), given.pop("decoder_attention_mask", None)
    if prompt is None:
        prompt = start
    else:
        prompt = integer_array("decoder_input_ids", prompt)
        if len(prompt) != len(ids) or prompt.shape[1] == 0:
            raise InputError(f"decoder_input_ids has the shape {prompt.shape}, the input {ids.shape}")
        if prompt_mask is not None:
            prompt_mask = _mask("decoder_attention_mask", prompt_mask, prompt.shape)
        if (prompt[:, 0] != start[:, 0]).all():
            prompt = np.concatenate((start, prompt), axis=1)
            if prompt_mask is not None:
                prompt_mask = np.concatenate((np.ones_like(start), prompt_mask), axis=1)
    inputs = given | {"decoder_input_ids": prompt}
    if prompt_mask is not None:
        inputs["decoder_attention_mask"] = prompt_mask = _mask("decoder_attention_mask", prompt_mask, prompt.shape)
    return Prompts(prompt, prompt_mask, ids, mask, inputs)


def _decoder_start(start: Any, batch: int) -> Ids:
    if start.ndim == 1 and len(start) != batch:
        raise ValueError(f"`decoder_start_token_id` expected to have length {batch} but got {len(start)}")
    column: Ids = np.reshape(start, (-1, 1))
    starts: Ids = np.repeat(column, batch // len(column), axis=0)
    return starts


def _inferred_mask(ids: Ids, tokens: SpecialTokens) -> Ids:
    """0 where padding stands, if that is told from an end."""
    if tokens.pad is None or (tokens.eos is not None and tokens.pad in tokens.eos):
        return np.ones_like(ids)
    mask: Ids = (ids != tokens.pad).astype(np.int64)
    return mask


def _mask(name: str, value: Any, shape: tuple[int, ...]) -> Ids:
    if np.ndim(value) > 2:
        raise ValueError(f"`{name}` passed to `generate` must be 2D.")
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold zeros and ones, got dtype {array.dtype}")
    if array.shape != shape:
        raise InputError(f"{name} has the shape {array.shape}, the input {shape}")
    if not np.isin(array, (0, 1)).all():
        raise InputError(f"{name}: only 0 and 1 are allowed")
    return array.astype(np.int64)
