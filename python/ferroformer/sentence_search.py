"""Search among embeddings, in memory that does not grow with their number: nearest neighbours, near duplicates, clusters.

Exhaustive, as in sentence_transformers.util: every query is compared with the whole corpus, a piece of which is scored at a
time. The pieces are at most as large as the `chunk_size`s say, and small enough for their numbers and their scores to take
16 MB each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .sentence_base import progress
from .sentence_similarity import as_rows, cos_sim, dot_score, normalize_embeddings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Scores = NDArray[np.floating[Any]]
    Ids = NDArray[np.int64]
    ScoreFunction = Callable[[Any, Any], Any]

__all__ = ["community_detection", "paraphrase_mining", "paraphrase_mining_embeddings", "semantic_search"]

# numbers in a piece: of scores, and of a corpus
_PIECE = 1 << 22


# --- nearest neighbours ---------------------------------------------------------------------------
def semantic_search(
    query_embeddings: Any,
    corpus_embeddings: Any,
    query_chunk_size: int = 100,
    corpus_chunk_size: int = 500000,
    top_k: int = 10,
    score_function: ScoreFunction = cos_sim,
) -> list[list[dict[str, Any]]]:
    """For each query (N, H) the `top_k` nearest of the corpus (M, H): dicts of "corpus_id" and "score", the best first.

    score_function: of (Q, H), (C, H) -> (Q, C), larger is nearer; it sees pieces of both, of whatever dtype they are. Of equal
    scores at the end of a list, any may be in it; inside, the lower id comes first. A memory-mapped corpus is read piece by
    piece.
    """
    queries, corpus = _matrix(query_embeddings), _matrix(corpus_embeddings)
    results: list[list[dict[str, Any]]] = []
    for _, scores, ids in _nearest(queries, corpus, top_k, query_chunk_size, corpus_chunk_size, score_function):
        for row_ids, row_scores in zip(ids.tolist(), scores.tolist()):
            results.append([{"corpus_id": i, "score": score} for i, score in zip(row_ids, row_scores)])
    return results


def _nearest(
    queries: Any, corpus: Any, top_k: int, query_chunk: int, corpus_chunk: int, score_function: ScoreFunction
) -> Iterator[tuple[int, Scores, Ids]]:
    """Yield, for pieces of the queries, the number of the first, and the best scores and their ids (Q, min(top_k, M)), falling."""
    for name, size in (("query_chunk_size", query_chunk), ("corpus_chunk_size", corpus_chunk), ("top_k", top_k)):
        if size < 1:
            raise InputError(f"{name}={size}: at least 1 is needed")
    cosine = score_function is cos_sim
    for start in range(0, len(queries), min(query_chunk, _PIECE)):
        piece = queries[start : start + min(query_chunk, _PIECE)]
        if cosine:
            piece = normalize_embeddings(piece)
        best = _Best(len(piece), top_k)
        step = max(1, min(corpus_chunk, _PIECE // max(len(piece), corpus.shape[-1])))
        for first in range(0, len(corpus), step):
            part = corpus[first : first + step]
            best.add(_cosines(piece, part) if cosine else score_function(piece, part), first)
        yield start, *best.sorted()


def _cosines(unit: Any, part: Any) -> Scores:
    """(Q, C), of vectors of length 1 and others, without a copy of these."""
    import numpy as np

    rows = as_rows(part)
    norms = np.sqrt(np.einsum("ch,ch->c", rows, rows))
    scores = dot_score(unit, rows)
    scores /= np.maximum(norms, rows.dtype.type(1e-12))
    return scores


class _Best:
    """The `count` largest scores of each row so far, and the ids of what has them."""

    def __init__(self, rows: int, count: int) -> None:
        import numpy as np

        self._count = count
        self._scores: Scores = np.empty((rows, 0), np.float32)
        self._ids: Ids = np.empty((rows, 0), np.int64)

    def add(self, scores: Any, first: int) -> None:
        """scores (rows, n): of what is numbered from `first` on."""
        import numpy as np

        scores = np.asarray(scores)
        if self._scores.shape[1] < self._count:
            rows: Any = slice(None)
        else:  # most rows of most pieces have nothing better
            rows = np.flatnonzero(~(scores.max(axis=1) <= self._scores.min(axis=1)))
            if not len(rows):
                return
        columns, values = _largest(scores[rows], self._count)
        both = np.concatenate([self._scores[rows], values], axis=1)
        ids = np.concatenate([self._ids[rows], columns + first], axis=1)
        kept, both = _largest(both, self._count)
        ids = np.take_along_axis(ids, kept, axis=1)
        if isinstance(rows, slice):
            self._scores, self._ids = both, ids
        else:
            self._scores[rows], self._ids[rows] = both, ids

    def sorted(self) -> tuple[Scores, Ids]:
        """(rows, at most count) each: by falling score, then rising id."""
        import numpy as np

        order = np.lexsort((self._ids, -self._scores), axis=-1)
        return np.take_along_axis(self._scores, order, axis=1), np.take_along_axis(self._ids, order, axis=1)


def _largest(scores: Scores, count: int) -> tuple[NDArray[np.intp], Scores]:
    """The columns and values of the `count` largest of each row, in no order."""
    import numpy as np

    width = scores.shape[1]
    if width <= count:
        return np.broadcast_to(np.arange(width), scores.shape), scores
    # Groups of columns G apart: the largest are in the groups with the largest maxima, which a pass at the speed of memory finds.
    size = math.isqrt(width // count)
    if size < 2:
        columns = np.argpartition(scores, -count, axis=1)[:, -count:]
        return columns, np.take_along_axis(scores, columns, axis=1)
    groups = width // size
    maxima = scores[:, : size * groups].reshape(len(scores), size, groups).max(axis=1)
    best = np.argpartition(maxima, -count, axis=1)[:, -count:]
    inside = (best[:, None] + groups * np.arange(size)[:, None]).reshape(len(scores), size * count)
    rest = np.broadcast_to(np.arange(size * groups, width), (len(scores), width - size * groups))
    candidates = np.concatenate([inside, rest], axis=1)
    values = np.take_along_axis(scores, candidates, axis=1)
    kept = np.argpartition(values, -count, axis=1)[:, -count:]
    return np.take_along_axis(candidates, kept, axis=1), np.take_along_axis(values, kept, axis=1)


# --- near duplicates ------------------------------------------------------------------------------
def paraphrase_mining(
    model: Any,
    sentences: list[str],
    show_progress_bar: bool = False,
    batch_size: int = 32,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100000,
    max_pairs: int = 500000,
    top_k: int = 100,
    score_function: ScoreFunction = cos_sim,
    truncate_dim: int | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
) -> list[list[Any]]:
    """The pairs of sentences that are nearest to each other: see `paraphrase_mining_embeddings`; the model embeds them."""
    embeddings = model.encode(
        sentences,
        prompt_name,
        prompt,
        batch_size=batch_size,
        show_progress_bar=show_progress_bar,
        truncate_dim=truncate_dim,
    )
    return paraphrase_mining_embeddings(embeddings, query_chunk_size, corpus_chunk_size, max_pairs, top_k, score_function)


def paraphrase_mining_embeddings(
    embeddings: Any,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100000,
    max_pairs: int = 500000,
    top_k: int = 100,
    score_function: ScoreFunction = cos_sim,
) -> list[list[Any]]:
    """[score, i, j] with i < j, by falling score, at most max_pairs, of embeddings (N, H).

    Pairs are those of each one and its `top_k` nearest others; score_function as in `semantic_search`, and symmetric.
    """
    import numpy as np

    vectors = _matrix(embeddings)
    if max_pairs < 1:
        raise InputError(f"max_pairs={max_pairs}: at least 1 is needed")
    best, first, second = np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64)
    # a thousand queries at a time: the neighbours of more would take more memory than the pieces of scores
    chunk = min(query_chunk_size, 1000)
    for start, scores, ids in _nearest(vectors, vectors, top_k + 1, chunk, corpus_chunk_size, score_function):
        own = np.arange(start, start + len(ids))[:, None]
        others = ids != own
        others &= others.cumsum(axis=1) <= top_k
        if len(best) == max_pairs:
            others &= scores > best[-1]
        one, other = np.broadcast_to(own, ids.shape)[others], ids[others]
        best = np.concatenate([best, scores[others]])
        first = np.concatenate([first, np.minimum(one, other)])
        second = np.concatenate([second, np.maximum(one, other)])
        best, first, second = _best_pairs(best, first, second, max_pairs, len(vectors))
    return [[score, i, j] for score, i, j in zip(best.tolist(), first.tolist(), second.tolist())]


def _best_pairs(scores: Scores, i: Ids, j: Ids, count: int, total: int) -> tuple[Scores, Ids, Ids]:
    """Each pair once, with the score that it had first; by falling score."""
    import numpy as np

    _, once = np.unique(i * total + j, return_index=True)
    order = once[np.argsort(-scores[once], kind="stable")][:count]
    return scores[order], i[order], j[order]


# --- clusters -------------------------------------------------------------------------------------
def community_detection(
    embeddings: Any,
    threshold: float = 0.75,
    min_community_size: int = 10,
    batch_size: int = 1024,
    show_progress_bar: bool = False,
) -> list[list[int]]:
    """Groups of embeddings (N, H) that have a cosine of at least `threshold` to one of them, the largest group first.

    Each group is a list of at least `min_community_size` ids: the central one, then the others by falling cosine. The central
    one with most neighbours takes them all, the next one takes those that are left, and so on; no id is in two groups.
    """
    import numpy as np

    vectors = normalize_embeddings(_matrix(embeddings))
    if len(vectors) < max(min_community_size, 1):
        return []
    step = max(1, min(batch_size, _PIECE // len(vectors)))
    counts = np.empty(len(vectors), np.int64)
    for start in progress(range(0, len(vectors), step), show_progress_bar):
        counts[start : start + step] = (vectors[start : start + step] @ vectors.T >= threshold).sum(axis=1)
    centers = np.argsort(-counts, kind="stable")
    centers = centers[counts[centers] >= min_community_size]
    free = np.ones(len(vectors), bool)
    communities: list[list[int]] = []
    while len(centers := centers[free[centers]]):
        now, centers = centers[:step], centers[step:]
        for center, cosines in zip(now, vectors[now] @ vectors.T):
            if free[center]:
                members = np.flatnonzero((cosines >= threshold) & free)
                if len(members) >= min_community_size:
                    members = members[np.argsort(-cosines[members], kind="stable")]
                    communities.append([int(center), *members[members != center].tolist()])
                    free[members] = free[center] = False
    return sorted(communities, key=len, reverse=True)


def _matrix(embeddings: Any) -> Any:
    """(N, H) as it is, of one embedding or several; a list becomes an array."""
    import numpy as np

    array = embeddings if isinstance(embeddings, np.ndarray) else as_rows(embeddings)
    if array.ndim == 1 and array.size:
        array = array[None]
    if array.ndim != 2 and array.size:
        raise InputError(f"embeddings of the shape {array.shape}: (N, H) is needed")
    return array.reshape(0, 0) if not array.size else array
