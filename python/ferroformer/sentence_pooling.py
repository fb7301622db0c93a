"""From the hidden states of tokens to one vector for a text, and the gradient back; the modes are those of rust/model/src/pooling.rs.

All but "max" are sums of the tokens with weights that do not depend on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]
    Places = NDArray[np.bool_]

__all__ = ["pool", "pool_backward"]


def pool(states: Floats, places: Places, modes: tuple[str, ...]) -> Floats:
    """states (B, T, H); places (B, T): the tokens that count, those of a row side by side -> (B, H * number of modes).

    Zeros for a row where no token counts.
    """
    import numpy as np

    return np.concatenate([_pool(states, places, mode) for mode in modes], axis=-1)


def pool_backward(gradient: Floats, states: Floats, places: Places, modes: tuple[str, ...]) -> Floats:
    """The gradient by `states`, of their shape, from the one by what `pool` gave."""
    import numpy as np

    result = np.zeros_like(states)
    for mode, d in zip(modes, np.split(gradient, len(modes), axis=-1)):
        if mode == "max":
            largest = _largest(states, places)
            counted = np.where(places.any(axis=1, keepdims=True), d, 0)
            added = np.take_along_axis(result, largest, axis=1) + counted[:, None, :]
            np.put_along_axis(result, largest, added, axis=1)
        else:
            result += _weights(places, mode).astype(states.dtype)[:, :, None] * d[:, None, :]
    return result


def _pool(states: Floats, places: Places, mode: str) -> Floats:
    import numpy as np

    if mode == "max":
        values = np.take_along_axis(states, _largest(states, places), axis=1)[:, 0]
        return np.where(places.any(axis=1, keepdims=True), values, 0)
    pooled: Floats = (_weights(places, mode).astype(states.dtype)[:, None, :] @ states)[:, 0]
    return pooled


def _largest(states: Floats, places: Places) -> NDArray[np.intp]:
    """(B, 1, H): which of the tokens that count is largest."""
    import numpy as np

    return np.asarray(np.where(places[:, :, None], states, -np.inf).argmax(axis=1)[:, None])


def _weights(places: Places, mode: str) -> NDArray[np.float64]:
    """(B, T), float64."""
    import numpy as np

    order = places.cumsum(axis=1)
    count = np.maximum(order[:, -1:], 1)
    if mode == "cls":
        return np.asarray(places & (order == 1), np.float64)
    if mode == "lasttoken":
        return np.asarray(places & (order == count), np.float64)
    if mode == "weightedmean":
        weights = places * np.arange(1.0, places.shape[1] + 1)
        return np.asarray(weights / np.maximum(weights.sum(axis=1, keepdims=True), 1))
    return np.asarray(places / (count if mode == "mean" else np.sqrt(count)))
