"""What every process of an engine does. Imports next to nothing: a cold start is charged for it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any


def kind(name: str, variant: str) -> Any:
    """name: of a module, engines.NAME or writers.NAME."""
    module = importlib.import_module(name)
    return module.Trainer if variant in getattr(module, "TRAINING_VARIANTS", ()) else module.Engine


def load(name: str, variant: str, checkpoint: str, folder: str, threads: str) -> Any:
    return kind(name, variant)(Path(checkpoint), Path(folder), variant, int(threads))


def peak_memory() -> float:
    """The most MB that this process had resident."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
