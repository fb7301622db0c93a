"""Losses of sentence embeddings, with the names, defaults and formulas of sentence-transformers 5 (sentence_transformers/losses).

Each is a function of the embeddings of a batch, one array (B, H) for each text of an example, and its gradient by them; all in
float64. A loss of one's own needs the same two methods, `value_and_grad` and `check_labels`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import InputError
from .words import Words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]
    Vectors = NDArray[np.float64]
    # what a function of two arrays gives, and from its gradient those of the two
    Differentiable = tuple[Vectors, Callable[[Vectors], tuple[Vectors, Vectors]]]

__all__ = [
    "ContrastiveLoss",
    "CosineSimilarityLoss",
    "MultipleNegativesRankingLoss",
    "SentenceLoss",
    "SiameseDistanceMetric",
    "unit",
]


class SentenceLoss(NamedTuple):
    """A loss, and its gradients by the arrays of embeddings, of their shapes."""

    value: float
    gradients: list[Vectors]


class MultipleNegativesRankingLoss:
    """Cross-entropy of finding an anchor's positive among all positives and negatives of the batch; it takes no labels.

    -log softmax(scale * similarity(anchor i, candidates))[positive i], averaged over i (Henderson et al. 2017, section 4.4,
    https://arxiv.org/abs/1705.00652). Examples are (anchor, positive, negative, ..) with any number of negatives.
    similarity_fct: "cosine", or "dot" (then with scale=1). model is there as in sentence-transformers, and not used.
    """

    def __init__(self, model: Any = None, scale: float = 20.0, similarity_fct: str = "cosine") -> None:
        if similarity_fct not in ("cosine", "dot"):
            raise ValueError(f"similarity_fct={similarity_fct!r}: 'cosine' or 'dot'; there is no autograd for functions of one's own")
        self.model, self.scale, self.similarity_fct = model, scale, similarity_fct

    def check_labels(self, labels: Any) -> None:
        """None are needed."""

    def value_and_grad(self, embeddings: Sequence[Floats], labels: Any = None) -> SentenceLoss:
        """Of anchors, positives, and arrays of negatives."""
        import numpy as np

        if len(embeddings) < 2:
            raise InputError("MultipleNegativesRankingLoss needs an anchor and a positive; the examples have one text")
        anchors, candidates = embeddings[0].astype(np.float64), np.concatenate(embeddings[1:]).astype(np.float64)
        prepare = unit if self.similarity_fct == "cosine" else _as_it_is
        (a, back_a), (c, back_c) = prepare(anchors), prepare(candidates)
        scores = self.scale * (a @ c.T)
        scores -= scores.max(axis=1, keepdims=True)
        logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        positives = np.arange(len(anchors))
        value = -logs[positives, positives].mean()
        d_scores = np.exp(logs)
        d_scores[positives, positives] -= 1
        d_scores *= self.scale / len(anchors)
        d_candidates = np.split(back_c(d_scores.T @ a), len(embeddings) - 1)
        return SentenceLoss(float(value), [back_a(d_scores @ c), *d_candidates])


class CosineSimilarityLoss:
    """The mean of (label - cosine(u, v))^2 over pairs of texts; labels are floats, from -1 to 1 as cosines are."""

    def __init__(self, model: Any = None) -> None:
        self.model = model

    def check_labels(self, labels: Any) -> None:
        """InputError for what no cosine can be; TypeError for what is no number."""
        _numbers(labels, -1, "CosineSimilarityLoss compares them with cosines: scale them to 0..1 first")

    def value_and_grad(self, embeddings: Sequence[Floats], labels: Any) -> SentenceLoss:
        """Of two arrays (B, H), and labels (B,)."""
        u, v = _pair(embeddings, self)
        self.check_labels(labels)
        cosines, back = _cosine(u, v)
        error = cosines - _column(labels, len(u))
        return SentenceLoss(float((error**2).mean()), [*back(2 * error / len(u))])


class SiameseDistanceMetric(Words):
    """The distances of `ContrastiveLoss`."""

    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"
    COSINE_DISTANCE = "cosine_distance"


class ContrastiveLoss:
    """(label d^2 + (1 - label) max(0, margin - d)^2) / 2 for the distance d of pairs of texts (Hadsell et al. 2006,
    doi:10.1109/CVPR.2006.100); labels are 1 for what belongs together and 0 for what does not.

    size_average: the mean over the batch, else the sum.
    """

    def __init__(
        self,
        model: Any = None,
        distance_metric: SiameseDistanceMetric | str = SiameseDistanceMetric.COSINE_DISTANCE,
        margin: float = 0.5,
        size_average: bool = True,
    ) -> None:
        self.model, self.margin, self.size_average = model, margin, size_average
        self.distance_metric = SiameseDistanceMetric(distance_metric)

    def check_labels(self, labels: Any) -> None:
        """InputError for what is not from 0 to 1; TypeError for what is no number."""
        _numbers(labels, 0, "ContrastiveLoss takes 1 for pairs that belong together, 0 for others")

    def value_and_grad(self, embeddings: Sequence[Floats], labels: Any) -> SentenceLoss:
        """Of two arrays (B, H), and labels (B,)."""
        import numpy as np

        u, v = _pair(embeddings, self)
        self.check_labels(labels)
        y = _column(labels, len(u))
        distances, back = _DISTANCES[self.distance_metric](u, v)
        short = np.maximum(self.margin - distances, 0)
        losses = 0.5 * (y * distances**2 + (1 - y) * short**2)
        divisor = len(u) if self.size_average else 1
        return SentenceLoss(float(losses.sum() / divisor), [*back((y * distances - (1 - y) * short) / divisor)])


def _pair(embeddings: Sequence[Floats], loss: object) -> tuple[Vectors, Vectors]:
    import numpy as np

    if len(embeddings) != 2:
        raise InputError(f"{type(loss).__name__} needs examples of 2 texts; they have {len(embeddings)}")
    return embeddings[0].astype(np.float64), embeddings[1].astype(np.float64)


def _numbers(labels: Any, least: float, hint: str) -> None:
    import numpy as np

    if labels is None:
        raise InputError(f"labels are missing: {hint}")
    array = np.asarray(labels)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"labels must be numbers, got dtype {array.dtype}")
    wrong = ~((array >= least) & (array <= 1))
    if wrong.any():
        place = int(wrong.ravel().argmax())
        raise InputError(f"labels[{place}] is {array.flat[place]}; allowed are {least} to 1. {hint}")


def _column(labels: Any, count: int) -> Vectors:
    import numpy as np

    column = np.asarray(labels, np.float64).reshape(-1)
    if len(column) != count:
        raise InputError(f"there are {len(column)} labels for {count} examples")
    return column


# --- functions with their way back ----------------------------------------------------------------
def _as_it_is(x: Vectors) -> tuple[Vectors, Callable[[Vectors], Vectors]]:
    return x, lambda d: d


def unit(x: Vectors) -> tuple[Vectors, Callable[[Vectors], Vectors]]:
    """Rows of length 1, as torch's `normalize`: what is shorter than 1e-12 is divided by that instead."""
    import numpy as np

    lengths = np.sqrt((x**2).sum(axis=-1, keepdims=True))
    divisors = np.maximum(lengths, 1e-12)
    scaled = x / divisors

    def back(d: Vectors) -> Vectors:
        along = np.where(lengths > 1e-12, (d * scaled).sum(axis=-1, keepdims=True), 0)
        return np.asarray((d - along * scaled) / divisors)

    return scaled, back


def _cosine(x: Vectors, y: Vectors) -> Differentiable:
    """(B, H), (B, H) -> (B,)."""
    (u, back_u), (v, back_v) = unit(x), unit(y)
    return (u * v).sum(axis=-1), lambda d: (back_u(d[:, None] * v), back_v(d[:, None] * u))


def _cosine_distance(x: Vectors, y: Vectors) -> Differentiable:
    cosines, back = _cosine(x, y)
    return 1 - cosines, lambda d: back(-d)


# as torch's pairwise_distance, which keeps away from zero, where the length has no derivative
_OFFSET = 1e-6


def _euclidean(x: Vectors, y: Vectors) -> Differentiable:
    import numpy as np

    difference = x - y + _OFFSET
    lengths = np.sqrt((difference**2).sum(axis=-1))

    def back(d: Vectors) -> tuple[Vectors, Vectors]:
        gradient = (d / np.where(lengths > 0, lengths, 1))[:, None] * difference
        return gradient, -gradient

    return lengths, back


def _manhattan(x: Vectors, y: Vectors) -> Differentiable:
    import numpy as np

    difference = x - y + _OFFSET
    signs = np.sign(difference)
    return np.abs(difference).sum(axis=-1), lambda d: (d[:, None] * signs, -d[:, None] * signs)


_DISTANCES = {
    SiameseDistanceMetric.EUCLIDEAN: _euclidean,
    SiameseDistanceMetric.MANHATTAN: _manhattan,
    SiameseDistanceMetric.COSINE_DISTANCE: _cosine_distance,
}
