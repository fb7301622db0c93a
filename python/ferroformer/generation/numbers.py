"""The passes over whole vocabularies: the one place where a compiled kernel could stand in for numpy.

All work row by row on float32 (N, V): a row's answer does not depend on its company. Nothing is changed in place.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
Ids = NDArray[np.int64]

# How many numbers stand together where the largest are looked for.
_GROUP = 64


def softmax(scores: Scores) -> Scores:
    """Probabilities (N, V); NaN for a row without a finite score."""
    with np.errstate(invalid="ignore"):
        weights: Scores = scores - scores.max(axis=-1, keepdims=True)
        np.exp(weights, out=weights)
        weights /= weights.sum(axis=-1, keepdims=True)
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
    values, ids = top_k(scores, k)
    with np.errstate(invalid="ignore"):
        weights: Scores = scores - values[:, :1]
        np.exp(weights, out=weights)
        return values - values[:, :1] - np.log(weights.sum(axis=-1, keepdims=True)), ids


def kth_largest(scores: Scores, k: int) -> Scores:
    """The k-th largest of each row, (N, 1)."""
    rows = [row[_candidates(row, k)] for row in scores]
    return np.array([[np.partition(row, len(row) - k)[len(row) - k]] for row in rows], np.float32)


def _largest(row: NDArray[np.float32], k: int) -> Ids:
    places = _candidates(row, k)
    # many equal ones are most likely such as have no chance at all
    possible = places[row[places] != -np.inf] if len(places) > 2 * k else places
    best = possible[np.argsort(-row[possible], kind="stable")[:k]]
    if len(best) == k:
        return best
    return np.concatenate((best, np.flatnonzero(row == -np.inf)[: k - len(best)]))


def _candidates(row: NDArray[np.float32], k: int) -> Ids:
    """Where the k largest are, and a few more: all that is not below the k-th largest of the maxima of groups."""
    count = len(row) // _GROUP
    if count < k:
        return np.arange(len(row))
    # each group's numbers stand `count` apart, so that maxima are of whole vectors
    maxima = row[: count * _GROUP].reshape(_GROUP, count).max(axis=0)
    if np.isnan(maxima.max()):
        return np.arange(len(row))
    return np.flatnonzero(row >= np.partition(maxima, count - k)[count - k])
