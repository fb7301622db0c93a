"""Warpers: processors that reshape the distribution that is drawn from. They are used where `do_sample` is set.

What a warper removes gets `filter_value`; the `min_tokens_to_keep` likeliest tokens always stay.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .logits_process import LogitsProcessor, check_positive_float
from .numbers import Ids, Scores, kth_largest, log_softmax, softmax, top_k

__all__ = ["MinPLogitsWarper", "TemperatureLogitsWarper", "TopKLogitsWarper", "TopPLogitsWarper", "TypicalLogitsWarper"]


def _check_kept(min_tokens_to_keep: Any) -> None:
    if not isinstance(min_tokens_to_keep, int) or min_tokens_to_keep < 1:
        raise ValueError(f"`min_tokens_to_keep` has to be a positive integer, but is {min_tokens_to_keep}")


class TemperatureLogitsWarper(LogitsProcessor):
    """Scores divided by the temperature."""

    def __init__(self, temperature: float) -> None:
        if isinstance(temperature, float) and temperature == 0.0:
            raise ValueError(
                f"`temperature` (={temperature}) has to be a strictly positive float. If you're looking for greedy "
                "decoding strategies, set `do_sample=False`."
            )
        check_positive_float("temperature", temperature)
        self.temperature = temperature

    def apply(self, input_ids: Ids, scores: Scores) -> Scores:
        scores /= self.temperature
        return scores


class TopKLogitsWarper(LogitsProcessor):
    """The `top_k` likeliest tokens, and those as likely as the last of them."""

    def __init__(self, top_k: int, filter_value: float = -math.inf, min_tokens_to_keep: int = 1) -> None:
        if not isinstance(top_k, int) or top_k <= 0:
            raise ValueError(f"`top_k` has to be a strictly positive integer, but is {top_k}")
        self.top_k = max(top_k, min_tokens_to_keep)
        self.filter_value = filter_value

    def apply(self, input_ids: Ids, scores: Scores) -> Scores:
        scores[scores < kth_largest(scores, min(self.top_k, scores.shape[-1]))] = self.filter_value
        return scores


class TopPLogitsWarper(LogitsProcessor):
    """The fewest likeliest tokens whose probabilities sum to `top_p`. Of equal ones the later stay."""

    def __init__(self, top_p: float, filter_value: float = -math.inf, min_tokens_to_keep: int = 1) -> None:
        top_p = float(top_p)
        if not 0 <= top_p <= 1.0:
            raise ValueError(f"`top_p` has to be a float > 0 and < 1, but is {top_p}")
        _check_kept(min_tokens_to_keep)
        self.top_p = top_p
        self.filter_value = filter_value
        self.min_tokens_to_keep = min_tokens_to_keep

    def apply(self, input_ids: Ids, scores: Scores) -> Scores:
        ascending = np.sort(scores, axis=-1)
        below = softmax(ascending).cumsum(axis=-1, dtype=np.float64).astype(np.float32)
        remove = below <= np.float32(1 - self.top_p)
        remove[:, -self.min_tokens_to_keep :] = False
        for row, values, count in zip(scores, ascending, remove.sum(axis=-1).tolist()):
            least = values[count]  # of those that stay
            equal = np.flatnonzero(row == least)
            row[row < least] = self.filter_value
            row[equal[: count - np.searchsorted(values, least)]] = self.filter_value
        return scores


class MinPLogitsWarper(LogitsProcessor):
    """Tokens at least `min_p` times as likely as the likeliest."""

    def __init__(self, min_p: float, filter_value: float = -math.inf, min_tokens_to_keep: int = 1) -> None:
        if not 0 <= min_p <= 1.0:
            raise ValueError(f"`min_p` has to be a float in the [0, 1] interval, but is {min_p}")
        _check_kept(min_tokens_to_keep)
        self.min_p = min_p
        self.filter_value = filter_value
        self.min_tokens_to_keep = min_tokens_to_keep

    def apply(self, input_ids: Ids, scores: Scores) -> Scores:
        probabilities = softmax(scores)
        remove = probabilities < self.min_p * probabilities.max(axis=-1, keepdims=True)
        _, kept = top_k(probabilities, min(self.min_tokens_to_keep, scores.shape[-1]))
        np.put_along_axis(remove, kept, False, axis=-1)
        scores[remove] = self.filter_value
        return scores


class TypicalLogitsWarper(LogitsProcessor):
    """The tokens whose surprise is nearest to the expected one, to a probability of `mass` (arXiv:2202.00666)."""

    def __init__(self, mass: float = 0.9, filter_value: float = -math.inf, min_tokens_to_keep: int = 1) -> None:
        mass = float(mass)
        if not 0 < mass < 1:
            raise ValueError(f"`typical_p` has to be a float > 0 and < 1, but is {mass}")
        _check_kept(min_tokens_to_keep)
        self.mass = mass
        self.filter_value = filter_value
        self.min_tokens_to_keep = min_tokens_to_keep

    def apply(self, input_ids: Ids, scores: Scores) -> Scores:
        for row, logarithms in zip(scores, log_softmax(scores)):
            possible = np.flatnonzero(row > -math.inf)
            if len(possible):
                stays = np.zeros(len(row), np.bool_)
                stays[possible[self._typical(row[possible], logarithms[possible])]] = True
                row[~stays] = self.filter_value
        return scores

    def _typical(self, scores: NDArray[np.float32], logarithms: NDArray[np.float32]) -> Ids:
        entropy = -(logarithms * np.exp(logarithms)).sum()
        distances = np.abs(-logarithms - entropy)
        order = np.argsort(distances, kind="stable")
        reached = softmax(scores[None, order])[0].cumsum(dtype=np.float64).astype(np.float32)
        last = min(int((reached < self.mass).sum()), len(order) - 1)
        count = int(np.searchsorted(distances[order], distances[order[last]], side="right"))
        return order[: max(count, self.min_tokens_to_keep)]
