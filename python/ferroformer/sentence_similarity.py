"""Similarity of embeddings, of all pairs or row by row; larger is more similar."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Similarity = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]


def normalize(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; a row of zeros stays as it is."""
    import numpy as np

    norms = np.sqrt(np.square(embeddings).sum(axis=-1, keepdims=True))
    scaled: NDArray[np.float32] = embeddings / np.maximum(norms, np.float32(1e-12))
    return scaled


def as_rows(embeddings: Any) -> NDArray[np.float32]:
    """A 2-D float32 array of one embedding or several."""
    import numpy as np

    return np.atleast_2d(np.asarray(embeddings, dtype=np.float32))


def all_pairs(name: str) -> Similarity:
    """(N, H), (M, H) -> (N, M)."""
    import numpy as np

    def by_row(distances: Callable[[Any], Any]) -> Similarity:
        # row by row: the differences of all pairs at once would take N * M * H numbers
        return lambda a, b: -np.stack([distances(row - b) for row in a])

    table: dict[str, Similarity] = {
        "cosine": lambda a, b: normalize(a) @ normalize(b).T,
        "dot": lambda a, b: a @ b.T,
        "euclidean": by_row(_lengths),
        "manhattan": by_row(lambda differences: np.abs(differences).sum(axis=-1)),
    }
    return table[name]


def row_by_row(name: str) -> Similarity:
    """(N, H), (N, H) -> (N,)."""
    import numpy as np

    table: dict[str, Similarity] = {
        "cosine": lambda a, b: (normalize(a) * normalize(b)).sum(axis=-1),
        "dot": lambda a, b: (a * b).sum(axis=-1),
        "euclidean": lambda a, b: -_lengths(a - b),
        "manhattan": lambda a, b: -np.abs(a - b).sum(axis=-1),
    }
    return table[name]


def _lengths(differences: NDArray[np.float32]) -> Any:
    import numpy as np

    return np.sqrt(np.square(differences).sum(axis=-1))
