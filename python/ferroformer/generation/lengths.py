"""How long sequences may and must become."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

from .configuration import GenerationConfig
from .warnings_once import warn


class Defaulted(NamedTuple):
    """Whether neither the caller nor the model says how long sequences may be, and how long they must."""

    max_length: bool
    min_length: bool


def defaulted(given: dict[str, Any], config: GenerationConfig | None, models: GenerationConfig) -> Defaulted:
    """From the arguments of a call, the configuration passed with it, and the model's."""

    def unsaid(name: str) -> bool:
        return all(value is None for value in (given.get(name), getattr(config, name, None), getattr(models, name)))

    return Defaulted(unsaid("max_length"), unsaid("min_length"))


def settle_lengths(config: GenerationConfig, model_config: Any, prompt_length: int, default: Defaulted) -> None:
    """Set max_length and min_length, the prompt included. ValueError if the prompt is as long as that already."""
    if config.max_new_tokens is not None:
        if not default.max_length and config.max_length is not None:
            _both("max", config)
        config.max_length = config.max_new_tokens + prompt_length
    elif default.max_length:
        config.max_length += prompt_length
        positions = getattr(model_config, "max_position_embeddings", None)
        if positions is not None:
            config.max_length = min(config.max_length, positions)
    if config.min_new_tokens is not None:
        if not default.min_length:
            _both("min", config)
        config.min_length = config.min_new_tokens + prompt_length
    _check(config, model_config, prompt_length, default.max_length)


def _both(which: str, config: GenerationConfig) -> None:
    new, total = f"{which}_new_tokens", f"{which}_length"
    warn(
        f"Both `{new}` (={getattr(config, new)}) and `{total}`(={getattr(config, total)}) seem to have been set. "
        f"`{new}` will take precedence."
    )


def _check(config: GenerationConfig, model_config: Any, prompt_length: int, default_max: bool) -> None:
    if default_max and config.max_new_tokens is None:
        _user_warning(
            f"Using the model-agnostic default `max_length` (={config.max_length}) to control the generation length. "
            "We recommend setting `max_new_tokens` to control the maximum length of the generation."
        )
    if prompt_length >= config.max_length:
        name = "decoder_input_ids" if model_config.is_encoder_decoder else "input_ids"
        raise ValueError(
            f"Input length of {name} is {prompt_length}, but `max_length` is set to {config.max_length}. This can lead "
            "to unexpected behavior. You should consider increasing `max_length` or, better yet, setting "
            "`max_new_tokens`."
        )
    if config.min_length is not None and config.min_length > config.max_length:
        _user_warning(
            f"Unfeasible length constraints: `min_length` ({config.min_length}) is larger than the maximum possible "
            f"length ({config.max_length}). Generation will stop at the defined maximum length. You should decrease "
            "the minimum length and/or increase the maximum length."
        )


def _user_warning(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=5)
