"""Is the value of a configuration key of the kind that its annotation says?"""

from __future__ import annotations

import inspect
from typing import Any

from .errors import ConfigError

# An annotation as it stands in the source: "int", "float | None", ... Kinds that are not told apart below fit anything.
Kind = str

_CLASSES: dict[str, Any] = {"bool": bool, "str": str, "dict": dict, "list": (list, tuple), "None": type(None)}


def listed_keys(cls: type) -> dict[str, Kind]:
    """The keys that a configuration class lists itself, each with the kind of its values."""
    kinds = {
        key: kind.__name__ if isinstance(kind, type) else str(kind)
        for key, kind in inspect.get_annotations(cls).items()
    }
    return {key: kind for key, kind in kinds.items() if "ClassVar" not in kind}


def check_kind(key: str, value: Any, kind: Kind) -> Any:
    """`value`, a whole float turned into the int that is wanted; ConfigError if it is of another kind.

    bool is not a number here, and a number is not the text "12".
    """
    kinds = kind.split(" | ")
    if any(_is_a(value, name) for name in kinds):
        return value
    if "int" in kinds and isinstance(value, float) and value.is_integer():
        return int(value)
    raise ConfigError(f"{key}={value!r:.200}: expected {' or '.join(kinds)}, got {type(value).__name__}")


def _is_a(value: Any, name: str) -> bool:
    if name == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    if name == "float":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, _CLASSES.get(name.partition("[")[0], object))


def dtype_name(dtype: Any) -> Any:
    """"float32" for numpy.float32, numpy.dtype("float32"), torch.float32 and "float32"."""
    if dtype is None or isinstance(dtype, (dict, int)):
        return dtype
    return getattr(dtype, "__name__", str(dtype)).rpartition(".")[2]


def check_positive(config: Any, *keys: str) -> None:
    """ConfigError unless every key holds an integer of at least 1."""
    for key in keys:
        if getattr(config, key) < 1:
            raise ConfigError(f"{key}={getattr(config, key)}: at least 1 is needed")


def check_probability(config: Any, *keys: str) -> None:
    """ConfigError unless every key holds a number in [0, 1), or None."""
    for key in keys:
        value = getattr(config, key)
        if value is not None and not 0 <= value < 1:
            raise ConfigError(f"{key}={value}: a number in [0, 1) is needed")


def check_not_negative(config: Any, *keys: str) -> None:
    """ConfigError unless every key holds a finite number >= 0."""
    for key in keys:
        if not 0 <= getattr(config, key) < float("inf"):
            raise ConfigError(f"{key}={getattr(config, key)}: a finite number >= 0 is needed")


def check_divides(config: Any, count: str, size: str) -> None:
    """ConfigError unless the one key's number divides the other's."""
    if getattr(config, size) % getattr(config, count):
        raise ConfigError(f"{size}={getattr(config, size)} is not a multiple of {count}={getattr(config, count)}")


def check_choice(key: str, value: Any, allowed: Any) -> None:
    """ConfigError, with the closest match, unless `value` is one of `allowed`."""
    if value in allowed:
        return
    import difflib

    close = difflib.get_close_matches(str(value), allowed, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ConfigError(f"{key}={value!r:.200} is not supported; supported: {', '.join(sorted(allowed))}{hint}")
