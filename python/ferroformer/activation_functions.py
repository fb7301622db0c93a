"""Activations that files name by torch's classes, as functions of float32 arrays: of vectors, and of logits.

Softmax is not among them: it is an argument of its own where it is wanted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]
    Function = Callable[[Floats], Floats]

__all__ = ["activation", "torch_name"]


def activation(name: str, source: object) -> Function:
    """The function that "torch.nn.modules.activation.Tanh" names, or "Tanh" or "tanh" for short.

    Raises NotImplementedError, with `source`, for others; nothing is imported by such a name.
    """
    place, _, word = name.rpartition(".")
    found = _FUNCTIONS.get(word.lower())
    if found is None or not (place == "" or place == "torch" or place.startswith("torch.")):
        known = ", ".join(kind for kind, _ in _FUNCTIONS.values())
        raise NotImplementedError(f"{source}: the activation {name!r:.200} is not supported; supported are {known}, of torch.nn")
    return found[1]


def torch_name(function: Any) -> str | None:
    """The full name of the torch class that `activation` reads as this function; None for a function of another's."""
    for kind, known in _FUNCTIONS.values():
        if known is function:
            return f"torch.nn.modules.{'linear' if kind == 'Identity' else 'activation'}.{kind}"
    return None


def softmax(x: Floats) -> Floats:
    """Over the last axis."""
    import numpy as np

    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def _identity(x: Floats) -> Floats:
    return x


def _tanh(x: Floats) -> Floats:
    import numpy as np

    return np.asarray(np.tanh(x))


def _sigmoid(x: Floats) -> Floats:
    import numpy as np

    power = np.exp(-np.abs(x))  # never too large
    return np.asarray(np.where(x >= 0, 1, power) / (1 + power), x.dtype)


def _relu(x: Floats) -> Floats:
    import numpy as np

    return np.maximum(x, 0)


def _silu(x: Floats) -> Floats:
    product: Floats = x * _sigmoid(x)
    return product


def _gelu(x: Floats) -> Floats:
    import numpy as np

    erf = np.array([math.erf(value) for value in (x.astype(np.float64) / math.sqrt(2)).flat]).reshape(x.shape)
    return np.asarray(x * 0.5 * (1 + erf), x.dtype)


# lower case -> torch's class, function
_FUNCTIONS: dict[str, tuple[str, Function]] = {
    kind.lower(): (kind, function)
    for kind, function in (
        ("Identity", _identity),
        ("Tanh", _tanh),
        ("Sigmoid", _sigmoid),
        ("ReLU", _relu),
        ("SiLU", _silu),
        ("GELU", _gelu),
    )
}
