"""The passes over whole vocabularies.

All work row by row on float32 (N, V): a row's answer does not depend on its company. Nothing is changed in place but by `out`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import _native

Scores = NDArray[np.float32]
Ids = NDArray[np.int64]


def softmax(scores: Scores) -> Scores:
    """Probabilities (N, V); NaN for a row without a finite score."""
    with np.errstate(invalid="ignore"):
        weights: Scores = scores - scores.max(axis=-1, keepdims=True)
        np.exp(weights, out=weights)
        weights /= weights.sum(axis=-1, keepdims=True)
    return weights


def log_softmax(scores: Scores, out: Scores | None = None) -> Scores:
    """Logarithms of probabilities (N, V), in `out` if there is one; NaN for a row without a finite score."""
    _, _, log_sums = _native.top_k(np.ascontiguousarray(scores), 1)
    with np.errstate(invalid="ignore"):
        logarithms: Scores = np.subtract(scores, log_sums[:, None].astype(np.float32), out=out)
    return logarithms


def top_k(scores: Scores, k: int) -> tuple[Scores, Ids]:
    """The k largest of each row, largest first, and where they are, (N, k) each; of equal ones the first first."""
    values, ids, _ = _native.top_k(np.ascontiguousarray(scores), k)
    return values, ids


def log_softmax_top_k(scores: Scores, k: int) -> tuple[Scores, Ids]:
    """`top_k` of `log_softmax`, (N, k) twice, without writing (N, V) logarithms."""
    values, ids, log_sums = _native.top_k(np.ascontiguousarray(scores), k)
    with np.errstate(invalid="ignore"):
        return (values - log_sums[:, None]).astype(np.float32), ids


def kth_largest(scores: Scores, k: int) -> Scores:
    """The k-th largest of each row, (N, 1)."""
    return top_k(scores, k)[0][:, -1:]
