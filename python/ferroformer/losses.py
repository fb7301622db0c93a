"""Losses as torch defines them, and their gradients. Sums are taken in float64 and returned as float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IGNORED = -100


class Loss(NamedTuple):
    """A loss, and its gradient by the logits, of their shape."""

    value: np.float32
    gradient: NDArray[np.float32]


class LossOptions(NamedTuple):
    """What a trainer says of a loss; each model takes what fits it.

    num_items: what a sum over labels is divided by, where it is not the number (or the weight) of the batch's own labels.
    label_smoothing, class_weights: of cross-entropy, as torch has them.
    """

    num_items: float | None = None
    label_smoothing: float = 0.0
    class_weights: Any = None


def cross_entropy(
    logits: NDArray[np.float32], labels: Any, options: LossOptions = LossOptions(), ignored: int = IGNORED
) -> Loss:
    """The mean of -log softmax(logits)[label] over the labels that are not `ignored`; NaN if there is none.

    logits (.., C), labels (..) integers in 0..C-1 or `ignored`. Class weights (C,) weight each label's share of the mean.
    With label smoothing e the target is (1 - e) of the label and e / C of every class (Szegedy et al. 2016).
    Raises InputError, TypeError.
    """
    import numpy as np

    classes = logits.shape[-1]
    wanted = _array(labels, logits.shape[:-1], "iu").astype(np.int64)
    _check_range(wanted, classes, ignored)
    counted = wanted != ignored
    target = wanted[counted]
    weights = _class_weights(options.class_weights, classes)
    from ._native import cross_entropy as native

    if not 0 <= options.label_smoothing <= 1:
        raise InputError(f"label_smoothing is {options.label_smoothing}; expected a number from 0 to 1")
    losses, rows = native(np.ascontiguousarray(logits[counted]), target, weights, options.label_smoothing)
    total = options.num_items
    if total is None:
        total = float(len(target) if weights is None else weights[target].sum())
    gradient = np.zeros(logits.shape, np.float32)
    if not total:
        return Loss(_float32(np.nan), gradient)
    rows *= np.float32(1 / total)
    gradient[counted] = rows
    return Loss(_float32(losses.sum() / total), gradient)


def _check_range(labels: NDArray[np.int64], classes: int, ignored: int) -> None:
    import numpy as np

    wrong = (labels != ignored) & ((labels < 0) | (labels >= classes))
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        found = f"labels[{', '.join(map(str, place))}] is {labels[place]}"
        raise InputError(f"{found}: allowed are 0 to {classes - 1}, and {ignored} for what does not count")


def _class_weights(weights: Any, classes: int) -> NDArray[np.float32] | None:
    import numpy as np

    if weights is None:
        return None
    array = np.ascontiguousarray(weights, np.float32)
    if array.shape != (classes,) or not (array >= 0).all():
        raise InputError(f"class_weights must be {classes} numbers >= 0, got the shape {array.shape}: {weights!r:.100}")
    return array


def count_labels(labels: Any) -> int:
    """Labels that are not -100."""
    import numpy as np

    return int((np.asarray(labels) != IGNORED).sum())


def shifted(labels: Any) -> NDArray[Any]:
    """Labels (B, T) where they are predicted: each at the token before its own. None is predicted at the last."""
    import numpy as np

    array = np.asarray(labels)
    return np.concatenate([array[..., 1:], np.full_like(array[..., :1], IGNORED)], axis=-1)


def labelled(labels: Any) -> Any:
    """Where a label is not -100, as 1 and 0."""
    import numpy as np

    return (np.asarray(labels) != IGNORED).astype(np.int64)


def counted(labels: Any) -> NDArray[Any]:
    """The labels that are not -100, in their order."""
    import numpy as np

    array = np.asarray(labels)
    found: NDArray[Any] = array[array != IGNORED]
    return found


def span(
    start_logits: NDArray[np.float32], end_logits: NDArray[np.float32], labels: dict[str, Any], options: LossOptions
) -> Loss:
    """The mean of the cross-entropies of start and end, both logits (B, T).

    labels: start_positions and end_positions, (B,) integers, of which those outside of 0..T-1 do not count.

    The gradient is (B, T, 2).
    """
    import numpy as np

    length = start_logits.shape[1]
    parts = []
    for logits, positions in zip((start_logits, end_logits), labels.values()):
        clamped = np.clip(_array(np.reshape(positions, -1), logits.shape[:1], "iu"), 0, length)
        parts.append(cross_entropy(logits, clamped, options, ignored=length))
    value = (parts[0].value + parts[1].value) / np.float32(2)
    return Loss(_float32(value), np.stack([part.gradient / 2 for part in parts], axis=-1))


def check_masked(labels: Any, attention_mask: Any) -> None:
    """InputError if a token that is masked has a label: nothing is computed there that a loss could be of."""
    import numpy as np

    array = np.asarray(labels)
    if attention_mask is None or array.shape != np.shape(attention_mask):
        return  # shapes are checked with the logits
    wrong = (np.asarray(attention_mask) == 0) & (array != IGNORED)
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise InputError(
            f"labels[{row}, {column}] is {array[row, column]}, where attention_mask is 0: expected {IGNORED} there"
        )


def binary_cross_entropy(logits: NDArray[np.float32], labels: Any, options: LossOptions = LossOptions()) -> Loss:
    """The mean of -(y log p + (1 - y) log(1 - p)), p = sigmoid(logit); labels: floats of the shape of logits."""
    import numpy as np

    x, y = logits.astype(np.float64), _array(labels, logits.shape, "f").astype(np.float64)
    terms = np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x)))
    return _mean(terms, np.where(x >= 0, 1, np.exp(-np.abs(x))) / (1 + np.exp(-np.abs(x))) - y, options)


def replaced(
    logits: NDArray[np.float32], labels: Any, attention_mask: Any, options: LossOptions = LossOptions()
) -> Loss:
    """Binary cross-entropy of logits (B, T), over the tokens whose mask is not zero."""
    import numpy as np

    labels = _array(labels, logits.shape, "iufb")
    counts = np.ones(logits.shape, bool) if attention_mask is None else np.asarray(attention_mask) != 0
    value, part = binary_cross_entropy(logits[counts], labels[counts].astype(np.float64), options)
    gradient = np.zeros_like(logits)
    gradient[counts] = part
    return Loss(value, gradient)


def mean_squared_error(predictions: NDArray[np.float32], labels: Any, options: LossOptions = LossOptions()) -> Loss:
    """The mean of (prediction - label)^2; labels: numbers of the shape of predictions."""
    import numpy as np

    y = _array(labels, predictions.shape, "fiu").astype(np.float64)
    error = predictions.astype(np.float64) - y
    return _mean(error**2, 2 * error, options)


def _mean(terms: NDArray[np.float64], gradients: NDArray[np.float64], options: LossOptions) -> Loss:
    """Over all terms; `num_items` counts rows."""
    import numpy as np

    count = terms.size if options.num_items is None else options.num_items * (terms.size / max(len(terms), 1))
    if not count:
        return Loss(_float32(np.nan), np.zeros(terms.shape, np.float32))
    return Loss(_float32(terms.sum() / count), (gradients / count).astype(np.float32))


def problem_type(config: Any, labels: Any) -> str:
    """As transformers reads `config.problem_type`: where it is None, "regression" if there is one label,
    "single_label_classification" if the labels are integers, else "multi_label_classification"."""
    import numpy as np

    if config.problem_type is not None:
        return str(config.problem_type)
    if config.num_labels == 1:
        return "regression"
    integers = np.asarray(labels).dtype.kind in "iu"
    return "single_label_classification" if integers else "multi_label_classification"


def classification(
    config: Any, logits: NDArray[np.float32], labels: Any, options: LossOptions = LossOptions()
) -> Loss:
    """Of logits (B, num_labels), by `problem_type`. Raises InputError for options that its loss does not have."""
    import numpy as np

    kind = problem_type(config, labels)
    if kind == "single_label_classification":
        return cross_entropy(logits, np.reshape(labels, -1), options)
    if options.label_smoothing or options.class_weights is not None:
        raise InputError(f"label_smoothing and class_weights are for cross-entropy, not for the loss of {kind}")
    if kind == "multi_label_classification":
        return binary_cross_entropy(logits, labels, options)
    if config.num_labels > 1:
        return mean_squared_error(logits, labels, options)
    loss = mean_squared_error(logits[:, 0], np.reshape(labels, -1), options)
    return loss._replace(gradient=loss.gradient[:, None])


def labels_or_shares(logits: NDArray[np.float32], labels: Any, options: LossOptions = LossOptions()) -> Loss:
    """Cross-entropy of logits (B, C), as DeBERTa has it: labels are integers (B,) or (B, 1), of which those below 0 do not count, and where
    none counts the loss is 0; or numbers (B, C), the shares of each class. Raises InputError for options that shares do not have.
    """
    import numpy as np

    array = np.asarray(labels)
    if array.ndim < 2 or array.shape[-1] == 1:
        rows = _array(array.reshape(-1), logits.shape[:1], "iu")
        if not (rows >= 0).any():
            return Loss(_float32(0), np.zeros(logits.shape, np.float32))
        return cross_entropy(logits, np.where(rows < 0, IGNORED, rows), options)
    if options.label_smoothing or options.class_weights is not None:
        raise InputError("label_smoothing and class_weights are for labels (B,), not for shares of each class")
    shares, x = _array(array, logits.shape, "fiub").astype(np.float64), logits.astype(np.float64)
    x -= x.max(-1, keepdims=True)
    logs = x - np.log(np.exp(x).sum(-1, keepdims=True))
    count = len(x) if options.num_items is None else options.num_items
    gradient = np.exp(logs) * shares.sum(-1, keepdims=True) - shares
    return Loss(_float32(-(logs * shares).sum() / count), (gradient / count).astype(np.float32))


def count_rows(labels: Any) -> int:
    """The rows that `labels_or_shares` takes the mean of."""
    import numpy as np

    array = np.asarray(labels)
    return int((array >= 0).sum()) if array.ndim < 2 or array.shape[-1] == 1 else len(array)


def _float32(value: Any) -> np.float32:
    import numpy as np

    rounded: np.float32 = np.float32(value)
    return rounded


def _array(labels: Any, shape: tuple[int, ...], kinds: str) -> NDArray[Any]:
    import numpy as np

    array = np.asarray(labels)
    if array.dtype.kind not in kinds:
        expected = "integers" if kinds == "iu" else "floats"
        raise TypeError(f"labels must hold {expected}, got dtype {array.dtype}")
    if array.shape != shape:
        raise InputError(f"labels have the shape {array.shape}; expected {shape}")
    return array
