"""Losses as torch defines them, of arrays that are small beside a model's: summed in float64, returned as float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IGNORED = -100


def cross_entropy(logits: NDArray[np.float32], labels: Any) -> np.float32:
    """The mean of -log softmax(logits)[label] over the labels that are not -100; NaN if there is none.

    logits (.., C), labels (..) integers in 0..C-1 or -100. Raises InputError, TypeError.
    """
    import numpy as np

    classes = logits.shape[-1]
    wanted = _array(labels, logits.shape[:-1], "iu").astype(np.int64)
    wrong = (wanted != IGNORED) & ((wanted < 0) | (wanted >= classes))
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        found = f"labels[{', '.join(map(str, place))}] is {wanted[place]}"
        raise InputError(f"{found}: allowed are 0 to {classes - 1}, and {IGNORED} for what does not count")
    counted = wanted != IGNORED
    x, target = logits[counted].astype(np.float64), wanted[counted]
    if not len(target):
        return _float32(np.nan)
    x -= x.max(axis=-1, keepdims=True)
    return _float32(np.mean(np.log(np.exp(x).sum(axis=-1)) - x[np.arange(len(target)), target]))


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


def binary_cross_entropy(logits: NDArray[np.float32], labels: Any) -> np.float32:
    """The mean of -(y log p + (1 - y) log(1 - p)), p = sigmoid(logit); labels: floats of the shape of logits."""
    import numpy as np

    x, y = logits.astype(np.float64), _array(labels, logits.shape, "f").astype(np.float64)
    return _float32(np.mean(np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x)))))


def mean_squared_error(predictions: NDArray[np.float32], labels: Any) -> np.float32:
    """The mean of (prediction - label)^2; labels: numbers of the shape of predictions."""
    import numpy as np

    y = _array(labels, predictions.shape, "fiu").astype(np.float64)
    return _float32(np.mean((predictions.astype(np.float64) - y) ** 2))


def classification(config: Any, logits: NDArray[np.float32], labels: Any) -> np.float32:
    """Of logits (B, num_labels), by `config.problem_type` as transformers reads it: "regression" if it is None and there is one
    label, "single_label_classification" if the labels are integers, else "multi_label_classification"."""
    import numpy as np

    kind = config.problem_type
    if kind is None:
        integers = np.asarray(labels).dtype.kind in "iu"
        kind = "single_label_classification" if integers else "multi_label_classification"
        kind = "regression" if config.num_labels == 1 else kind
    if kind == "regression":
        one = config.num_labels == 1
        return mean_squared_error(logits[:, 0] if one else logits, np.reshape(labels, -1) if one else labels)
    if kind == "single_label_classification":
        return cross_entropy(logits, np.reshape(labels, -1))
    return binary_cross_entropy(logits, labels)


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
