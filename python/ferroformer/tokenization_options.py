"""The words of a call (`padding=True`, `truncation="only_first"`, ...) and what they come to."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

from .words import Words

# model_max_length of a tokenizer that has no limit (transformers' number, which its config files hold)
VERY_LARGE_INTEGER = int(1e30)
# above this a model_max_length means "no limit"
LARGE_INTEGER = int(1e20)


class PaddingStrategy(Words):
    LONGEST = "longest"
    MAX_LENGTH = "max_length"
    DO_NOT_PAD = "do_not_pad"


class TruncationStrategy(Words):
    ONLY_FIRST = "only_first"
    ONLY_SECOND = "only_second"
    LONGEST_FIRST = "longest_first"
    DO_NOT_TRUNCATE = "do_not_truncate"


class TensorType(Words):
    PYTORCH = "pt"
    NUMPY = "np"


class Strategies(NamedTuple):
    padding: PaddingStrategy
    truncation: TruncationStrategy
    max_length: int | None


def resolve_strategies(
    padding: bool | str | PaddingStrategy,
    truncation: bool | str | TruncationStrategy | None,
    max_length: int | None,
    model_max_length: float,
    verbose: bool = True,
) -> Strategies:
    """What `padding`, `truncation` and `max_length` of a call mean together.

    `max_length` alone means truncation. Where it is missing it is the model's limit; a model without one is neither
    padded to it nor truncated at it.
    """
    if max_length is not None and max_length < 0:
        raise ValueError(f"max_length must not be negative, got {max_length}")
    if max_length is not None and padding is False and truncation is None:
        truncation = True
    pad, cut = _padding_strategy(padding), _truncation_strategy(truncation)
    if padding is True and cut is TruncationStrategy.DO_NOT_TRUNCATE and max_length is not None and verbose:
        warnings.warn(
            "`max_length` is ignored when `padding`=`True` and there is no truncation strategy. To pad to max length, "
            "use `padding='max_length'`.",
            stacklevel=4,
        )
    if max_length is None:
        if model_max_length > LARGE_INTEGER:
            pad = PaddingStrategy.DO_NOT_PAD if pad is PaddingStrategy.MAX_LENGTH else pad
            cut = TruncationStrategy.DO_NOT_TRUNCATE
        elif pad is PaddingStrategy.MAX_LENGTH or cut is not TruncationStrategy.DO_NOT_TRUNCATE:
            max_length = int(model_max_length)
    return Strategies(pad, cut, max_length)


def _padding_strategy(padding: bool | str | PaddingStrategy) -> PaddingStrategy:
    if isinstance(padding, bool):
        return PaddingStrategy.LONGEST if padding else PaddingStrategy.DO_NOT_PAD
    return PaddingStrategy(padding)


def _truncation_strategy(truncation: bool | str | TruncationStrategy | None) -> TruncationStrategy:
    if truncation is None or isinstance(truncation, bool):
        return TruncationStrategy.LONGEST_FIRST if truncation else TruncationStrategy.DO_NOT_TRUNCATE
    return TruncationStrategy(truncation)


def check_side(side: Any, name: str) -> str:
    if side not in ("left", "right"):
        raise ValueError(f"{name} side should be selected between 'right' and 'left', current value: {side}")
    return str(side)
