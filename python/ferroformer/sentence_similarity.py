"""Similarity of embeddings, of all pairs or row by row; larger is more similar, so distances are negative.

Names and meanings are those of sentence_transformers.util. Embeddings are arrays or lists; float64 arrays are computed as such, all
else, integers too, in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

__all__ = [
    "all_pairs",
    "as_rows",
    "cos_sim",
    "dot_score",
    "euclidean_sim",
    "manhattan_sim",
    "normalize_embeddings",
    "pairwise_cos_sim",
    "pairwise_dot_score",
    "pairwise_euclidean_sim",
    "pairwise_manhattan_sim",
    "row_by_row",
    "truncate_embeddings",
]


# --- one set of embeddings ------------------------------------------------------------------------
def normalize_embeddings(embeddings: Any) -> Floats:
    """(.., H) -> (.., H): vectors of length 1; zeros stay as they are."""
    import numpy as np

    vectors = _floats(embeddings)
    norms = np.sqrt(np.square(vectors).sum(axis=-1, keepdims=True))
    scaled: Floats = vectors / np.maximum(norms, vectors.dtype.type(1e-12))
    return scaled


def truncate_embeddings(embeddings: NDArray[Any], truncate_dim: int | None) -> NDArray[Any]:
    """(.., H) -> (.., truncate_dim): the first numbers of each vector; all of them for None."""
    return embeddings[..., :truncate_dim]


def as_rows(embeddings: Any) -> Floats:
    """(N, H), of one embedding (H,) or several."""
    import numpy as np

    return np.atleast_2d(_floats(embeddings))


# --- all pairs: (N, H), (M, H) -> (N, M); one embedding (H,) is a row -------------------------------
def cos_sim(a: Any, b: Any) -> Floats:
    """Cosines."""
    return dot_score(normalize_embeddings(a), normalize_embeddings(b))


def dot_score(a: Any, b: Any) -> Floats:
    """Dot products."""
    x, y = _same_width(as_rows(a), as_rows(b))
    scores: Floats = x @ y.T
    return scores


def euclidean_sim(a: Any, b: Any) -> Floats:
    """Euclidean distances, negative."""
    return _negative_distances(_lengths, a, b)


def manhattan_sim(a: Any, b: Any) -> Floats:
    """Sums of absolute differences, negative."""
    return _negative_distances(_absolute_sums, a, b)


def _negative_distances(measure: Callable[[Floats], Floats], a: Any, b: Any) -> Floats:
    """Row by row: the differences of all pairs at once would take N * M * H numbers."""
    import numpy as np

    x, y = _same_width(as_rows(a), as_rows(b))
    result = np.empty((len(x), len(y)), np.result_type(x, y))
    for distances, row in zip(result, x):
        np.negative(measure(row - y), out=distances)
    return result


# --- row by row: (N, H), (N, H) -> (N,) -------------------------------------------------------------
def pairwise_cos_sim(a: Any, b: Any) -> Floats:
    """The cosine of a[i] and b[i]."""
    return pairwise_dot_score(normalize_embeddings(a), normalize_embeddings(b))


def pairwise_dot_score(a: Any, b: Any) -> Floats:
    """The dot product of a[i] and b[i]."""
    x, y = _same_width(_floats(a), _floats(b))
    scores: Floats = (x * y).sum(axis=-1)
    return scores


def pairwise_euclidean_sim(a: Any, b: Any) -> Floats:
    """The Euclidean distance of a[i] and b[i], negative."""
    x, y = _same_width(_floats(a), _floats(b))
    return -_lengths(x - y)


def pairwise_manhattan_sim(a: Any, b: Any) -> Floats:
    """The sum of absolute differences of a[i] and b[i], negative."""
    x, y = _same_width(_floats(a), _floats(b))
    return -_absolute_sums(x - y)


# --- by name ----------------------------------------------------------------------------------------
_BY_NAME = {
    "cosine": (cos_sim, pairwise_cos_sim),
    "dot": (dot_score, pairwise_dot_score),
    "euclidean": (euclidean_sim, pairwise_euclidean_sim),
    "manhattan": (manhattan_sim, pairwise_manhattan_sim),
}
SIMILARITIES = tuple(_BY_NAME)


def all_pairs(name: str) -> Callable[[Any, Any], Floats]:
    """The function of all pairs that a similarity's name means."""
    return _BY_NAME[name][0]


def row_by_row(name: str) -> Callable[[Any, Any], Floats]:
    """The function of pairs row by row that a similarity's name means."""
    return _BY_NAME[name][1]


# --- helpers ----------------------------------------------------------------------------------------
def _floats(embeddings: Any) -> Floats:
    import numpy as np

    double = getattr(embeddings, "dtype", None) == np.float64
    return np.asarray(embeddings, np.float64 if double else np.float32)


def _same_width(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    if a.shape[-1:] != b.shape[-1:]:
        raise InputError(f"embeddings of the shapes {a.shape} and {b.shape} differ in their last axis")
    return a, b


def _lengths(differences: Floats) -> Floats:
    import numpy as np

    lengths: Floats = np.sqrt(np.square(differences).sum(axis=-1))
    return lengths


def _absolute_sums(differences: Floats) -> Floats:
    import numpy as np

    sums: Floats = np.abs(differences).sum(axis=-1)
    return sums
