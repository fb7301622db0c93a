"""The angles of rotary position embeddings, from what a configuration says of them (`rope_parameters`)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["partial_rotation", "rotation", "rope_parameters"]

# A bound that keeps a damaged config.json from asking for a billion angles; published models have heads of up to 512 channels.
MAX_HEAD_DIM = 65536
# Kinds that count from the length of the texts that a model was made for.
_STRETCHED = ("llama3", "longrope", "yarn")


def rope_parameters(
    given: dict[str, Any] | None, scaling: dict[str, Any] | None, theta: float, positions: int | None = None
) -> dict[str, Any]:
    """In today's form: what `given` says, or the older `rope_scaling` and `rope_theta`; `positions` are the model's own."""
    for key, value in (("rope_parameters", given), ("rope_scaling", scaling)):
        if not isinstance(value, (dict, type(None))):
            raise ConfigError(f"{key}={value!r:.200}: expected a dict or None, got {type(value).__name__}")
    found = dict(scaling or given or {})
    found.setdefault("rope_type", found.get("type", "default"))  # "type" is its name until 2024
    found.setdefault("rope_theta", theta)
    if positions is not None and found["rope_type"] in _STRETCHED:
        found.setdefault("original_max_position_embeddings", positions)
    return found


def rotation(parameters: dict[str, Any], head_dim: int, positions: int | None = None) -> dict[str, Any]:
    """The rotation in the compiled core's words: for each pair of channels its angle at position 1, in float32 as torch has it.

    positions: `max_position_embeddings`, from which "yarn" takes a factor that is None.

    Raises ConfigError for kinds other than "default", "linear", "llama3", "proportional" and "yarn", and for numbers that are missing
    or no numbers.
    """
    import numpy as np

    if not 2 <= head_dim <= MAX_HEAD_DIM or head_dim % 2:
        raise ConfigError(f"a head of {head_dim} channels cannot be turned: an even number up to {MAX_HEAD_DIM} is needed")
    for key, value in parameters.items():
        if isinstance(value, dict):
            raise ConfigError(f"rope_parameters: {key}={value!r:.200}: a rotation for each kind of layer is not supported")
    kind, part = parameters["rope_type"], parameters.get("partial_rotary_factor", 1.0)
    if part != 1.0 and kind != "proportional":
        raise ConfigError(f"partial_rotary_factor={part!r:.200} is not supported: all channels of a head are turned")
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    wavelengths = np.array([_positive(parameters, "rope_theta") ** float(e) for e in exponents], np.float32)
    frequencies: NDArray[np.float32] = np.float32(1) / wavelengths
    factor = 1.0
    if kind == "linear":
        frequencies = frequencies / np.float32(_positive(parameters, "factor"))
    elif kind == "llama3":
        frequencies = np.array([_llama3(float(frequency), parameters) for frequency in frequencies], np.float32)
    elif kind == "proportional":
        frequencies = _proportional(frequencies, parameters)
    elif kind == "yarn":
        frequencies, factor = _yarn(wavelengths, parameters, positions)
    elif kind != "default":
        supported = "default, linear, llama3, proportional, yarn"
        why = "; the others depend on the longest text of a batch" if kind in ("dynamic", "longrope") else ""
        raise ConfigError(f"rope_type={kind!r:.200} is not supported; supported: {supported}{why}")
    return {"frequencies": frequencies.tolist(), "rounded": True, "factor": factor}


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


def _proportional(frequencies: NDArray[np.float32], parameters: dict[str, Any]) -> NDArray[np.float32]:
    """The first pairs of channels are turned, as far as `partial_rotary_factor` goes, all others stand still."""
    import numpy as np

    part = _positive(parameters, "partial_rotary_factor", 1.0)
    turned = np.arange(len(frequencies)) < int(part * 2 * len(frequencies) // 2)
    slowed: NDArray[np.float32] = frequencies / np.float32(_positive(parameters, "factor", 1.0))
    return np.where(turned, slowed, np.float32(0))


def _yarn(
    wavelengths: NDArray[np.float32], parameters: dict[str, Any], positions: int | None
) -> tuple[NDArray[np.float32], float]:
    """Slow rotations are slowed, fast ones not, with a ramp over the channels between; sines and cosines are multiplied (Peng et al.
    2023, https://arxiv.org/abs/2309.00071)."""
    import numpy as np

    theta, context = _positive(parameters, "rope_theta"), _positive(parameters, "original_max_position_embeddings")
    given = {key: value for key, value in parameters.items() if value is not None}
    factor = _positive(given, "factor", None if positions is None else positions / context)
    dim, one = 2 * len(wavelengths), np.float32(1)
    if theta == 1:
        raise ConfigError('rope_parameters: rope_theta=1: another number is needed where rope_type is "yarn"')
    # the channel that turns so often in the original context
    fast, slow = (
        dim * math.log(context / (_positive({key: given.get(key) or turns}, key) * 2 * math.pi)) / (2 * math.log(theta))
        for key, turns in (("beta_fast", 32), ("beta_slow", 1))
    )
    if given.get("truncate", True):
        fast, slow = math.floor(fast), math.ceil(slow)
    fast, slow = max(fast, 0), min(slow, dim - 1)
    ramp = (np.arange(len(wavelengths), dtype=np.float32) - np.float32(fast)) / np.float32((slow - fast) or 0.001)
    kept = one - np.clip(ramp, 0, 1)
    frequencies = one / (np.float32(factor) * wavelengths) * (one - kept) + one / wavelengths * kept
    return frequencies, _yarn_scale(factor, given)


def _yarn_scale(factor: float, given: dict[str, Any]) -> float:
    """What sines and cosines are multiplied by."""
    if "attention_factor" in given:
        return _positive(given, "attention_factor")

    def scale(weight: float = 1.0) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    if given.get("mscale") and given.get("mscale_all_dim"):
        return scale(_positive(given, "mscale")) / scale(_positive(given, "mscale_all_dim"))
    return scale()


def _positive(parameters: dict[str, Any], key: str, default: float | None = None) -> float:
    value = parameters.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ConfigError(f"rope_parameters: {key}={value!r:.200}: a finite number > 0 is needed")
    return float(value)
