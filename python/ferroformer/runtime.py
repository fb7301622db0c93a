"""The process-wide settings of the compiled core: threads, and what it runs on."""

from __future__ import annotations

from typing import Any

__all__ = ["get_num_threads", "set_num_threads", "show_config"]


def get_num_threads() -> int:
    """How many threads a call may use."""
    from . import _native

    return _native.get_num_threads()


def set_num_threads(num_threads: int) -> None:
    """Let calls use this many threads, at least 1. The results do not depend on it."""
    from . import _native

    _native.set_num_threads(num_threads)


def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """Print the version, the instruction set, the threads and why so many, and the memory in use.

    `mode="dicts"` returns them as a dict and prints nothing, as in `numpy.show_config`.
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"mode={mode!r}: 'stdout' or 'dicts'")
    facts = _facts()
    if mode == "dicts":
        return facts
    print("\n".join(f"{name}: {value}" for name, value in facts.items()))
    return None


def _facts() -> dict[str, Any]:
    import platform

    import numpy as np

    from . import _native

    return {
        "ferroformer": _native.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "isa": _native.isa(),
        "available_isas": _native.available_isas(),
        "num_threads": _native.get_num_threads(),
        "num_threads_reason": _native.num_threads_reason(),
        "peak_memory_mib": _peak_memory_mib(),
    }


def _peak_memory_mib() -> int | None:
    import sys

    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1 << 20 if sys.platform == "darwin" else 1 << 10)
