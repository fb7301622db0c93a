"""The passes over whole vocabularies: the one place where a compiled kernel could stand in for numpy.

All work row by row on float32 (N, V): a row's answer does not depend on its company. Nothing is changed in place.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
Ids = NDArray[np.int64]


def softmax(scores: Scores) -> Scores:
    """Probabilities (N, V); NaN for a row without a finite score."""
    weights, totals = _exponentials(scores)
    with np.errstate(invalid="ignore"):
        weights /= totals
    return weights


def log_softmax(scores: Scores) -> Scores:
    """Logarithms of probabilities (N, V); NaN for a row without a finite score."""
    with np.errstate(invalid="ignore"):
        shifted: Scores = scores - scores.max(axis=-1, keepdims=True)
        shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def top_k(scores: Scores, k: int) -> tuple[Scores, Ids]:
    """The k largest of each row, largest first, and where they are, (N, k) each; of equal ones the first first."""
    ids = np.empty((len(scores), k), np.int64)
    for row, found in zip(scores, ids):
        found[:] = _largest(row, k)
    return np.take_along_axis(scores, ids, axis=-1), ids


def log_softmax_top_k(scores: Scores, k: int) -> tuple[Scores, Ids]:
    """`top_k` of `log_softmax`, (N, k) twice, without writing (N, V) logarithms."""
    largest, ids = top_k(scores, k)
    _, totals = _exponentials(scores)
    with np.errstate(invalid="ignore"):
        return largest - scores.max(axis=-1, keepdims=True) - np.log(totals), ids


def kth_largest(scores: Scores, k: int) -> Scores:
    """The k-th largest of each row, (N, 1)."""
    place = scores.shape[-1] - k
    return np.partition(scores, place, axis=-1)[:, place : place + 1]


def _exponentials(scores: Scores) -> tuple[Scores, Scores]:
    """e to the distance from each row's largest, and the sum of each row (N, 1)."""
    with np.errstate(invalid="ignore"):
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights, weights.sum(axis=-1, keepdims=True)


def _largest(row: NDArray[np.float32], k: int) -> Ids:
    least = np.partition(row, len(row) - k)[len(row) - k]
    if np.isnan(least):  # NaN counts as the largest, as for torch
        return np.argsort(-np.nan_to_num(row, nan=np.inf, neginf=-np.inf), kind="stable")[:k]
    above = np.flatnonzero(~(row <= least))
    above = above[np.argsort(-row[above], kind="stable")]
    return np.concatenate((above, np.flatnonzero(row == least)[: k - len(above)]))
