"""The angles of rotary position embeddings, from what a configuration says of them (`rope_parameters`)."""

from __future__ import annotations

import math
from typing import Any

from .errors import ConfigError

__all__ = ["partial_rotation", "rotation", "rope_parameters"]

# A bound that keeps a damaged config.json from asking for a billion angles; published models have heads of up to 512 channels.
MAX_HEAD_DIM = 65536


def rope_parameters(given: dict[str, Any] | None, scaling: dict[str, Any] | None, theta: float) -> dict[str, Any]:
    """In today's form: what `given` says, or the older `rope_scaling` and `rope_theta`."""
    for key, value in (("rope_parameters", given), ("rope_scaling", scaling)):
        if not isinstance(value, (dict, type(None))):
            raise ConfigError(f"{key}={value!r:.200}: expected a dict or None, got {type(value).__name__}")
    found = {"rope_type": "default", "rope_theta": theta} | (scaling or {}) | (given or {})
    if "type" in found:  # the name of rope_type until 2024
        found["rope_type"] = found.pop("type")
    return found


def rotation(parameters: dict[str, Any], head_dim: int) -> dict[str, Any]:
    """The rotation in the compiled core's words: for each pair of channels its angle at position 1, in float32 as torch has it.

    Raises ConfigError for kinds other than "default", "linear" and "llama3", and for numbers that are missing or no numbers.
    """
    if not 2 <= head_dim <= MAX_HEAD_DIM or head_dim % 2:
        raise ConfigError(f"a head of {head_dim} channels cannot be turned: an even number up to {MAX_HEAD_DIM} is needed")
    if parameters.get("partial_rotary_factor", 1.0) != 1.0:
        found = parameters["partial_rotary_factor"]
        raise ConfigError(f"partial_rotary_factor={found!r:.200} is not supported: all channels of a head are turned")
    kind, theta = parameters["rope_type"], _positive(parameters, "rope_theta")
    frequencies = [_float32(1 / _float32(theta ** _float32(i / head_dim))) for i in range(0, head_dim, 2)]
    if kind == "linear":
        factor = _positive(parameters, "factor")
        frequencies = [_float32(frequency / factor) for frequency in frequencies]
    elif kind == "llama3":
        frequencies = [_float32(_llama3(frequency, parameters)) for frequency in frequencies]
    elif kind != "default":
        raise ConfigError(f"rope_type={kind!r:.200} is not supported; supported: default, linear, llama3")
    return {"frequencies": frequencies, "rounded": True}


def partial_rotation(parameters: dict[str, Any], head_dim: int) -> dict[str, Any]:
    """`rotation` of the first channels of a head alone, as many as `partial_rotary_factor` says. ConfigError as there."""
    part = _positive({"partial_rotary_factor": 1.0} | parameters, "partial_rotary_factor")
    if part > 1:
        raise ConfigError(f"rope_parameters: partial_rotary_factor={part}: at most 1 is possible")
    whole = {key: value for key, value in parameters.items() if key != "partial_rotary_factor"}
    return rotation(whole, int(head_dim * part))


def _llama3(frequency: float, parameters: dict[str, Any]) -> float:
    """Slow rotations are slowed further, fast ones not, with a ramp between (Llama 3.1)."""
    low, high = _positive(parameters, "low_freq_factor"), _positive(parameters, "high_freq_factor")
    context, factor = _positive(parameters, "original_max_position_embeddings"), _positive(parameters, "factor")
    turns = context * frequency / (2 * math.pi)
    if turns < low:
        return frequency / factor
    if turns > high:
        return frequency
    if low == high:
        raise ConfigError(f"low_freq_factor and high_freq_factor are both {low}: they must differ")
    share = (turns - low) / (high - low)
    return (1 - share) * frequency / factor + share * frequency


def _positive(parameters: dict[str, Any], key: str) -> float:
    value = parameters.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ConfigError(f"rope_parameters: {key}={value!r:.200}: a finite number > 0 is needed")
    return float(value)


def _float32(x: float) -> float:
    import numpy as np

    return float(np.float32(x))
