"""The angles of rotary position embeddings, from what a configuration says of them (`rope_parameters`)."""

from __future__ import annotations

import math
from typing import Any

from .errors import ConfigError

__all__ = ["rotation", "rope_parameters"]


def rope_parameters(given: dict[str, Any] | None, scaling: dict[str, Any] | None, theta: float) -> dict[str, Any]:
    """In today's form: what `given` says, or the older `rope_scaling` and `rope_theta`."""
    found = {"rope_type": "default", "rope_theta": theta} | (scaling or {}) | (given or {})
    if "type" in found:  # the name of rope_type until 2024
        found["rope_type"] = found.pop("type")
    return found


def rotation(parameters: dict[str, Any], head_dim: int) -> dict[str, Any]:
    """The rotation in the compiled core's words: for each pair of channels its angle at position 1, in float32 as torch has it.

    Raises ConfigError for kinds other than "default", "linear" and "llama3".
    """
    kind, theta = parameters["rope_type"], parameters["rope_theta"]
    if not (isinstance(theta, (int, float)) and 0 < theta < math.inf):
        raise ConfigError(f"rope_theta={theta!r:.200}: a number > 0 is needed")
    turned = int(head_dim * parameters.get("partial_rotary_factor", 1.0))
    frequencies = [_float32(1 / _float32(theta ** _float32(i / turned))) for i in range(0, turned, 2)]
    if kind == "linear":
        frequencies = [_float32(frequency / parameters["factor"]) for frequency in frequencies]
    elif kind == "llama3":
        frequencies = [_float32(_llama3(frequency, parameters)) for frequency in frequencies]
    elif kind != "default":
        raise ConfigError(f"rope_type={kind!r:.200} is not supported; supported: default, linear, llama3")
    return {"frequencies": frequencies, "rounded": True}


def _llama3(frequency: float, parameters: dict[str, Any]) -> float:
    """Slow rotations are slowed further, fast ones not, with a ramp between (Llama 3.1)."""
    low, high = float(parameters["low_freq_factor"]), float(parameters["high_freq_factor"])
    context, factor = int(parameters["original_max_position_embeddings"]), float(parameters["factor"])
    turns = context * frequency / (2 * math.pi)
    if turns < low:
        return frequency / factor
    if turns > high:
        return frequency
    share = (turns - low) / (high - low)
    return (1 - share) * frequency / factor + share * frequency


def _float32(x: float) -> float:
    import numpy as np

    return float(np.float32(x))
