"""What training code shares: the words of its arguments, its results, seeds, and where checkpoints lie."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from .words import Words

__all__ = [
    "EvalLoopOutput",
    "EvalPrediction",
    "IntervalStrategy",
    "PredictionOutput",
    "SaveStrategy",
    "TrainOutput",
    "get_last_checkpoint",
    "set_seed",
]

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


class IntervalStrategy(Words):
    NO = "no"
    STEPS = "steps"
    EPOCH = "epoch"


class SaveStrategy(Words):
    NO = "no"
    STEPS = "steps"
    EPOCH = "epoch"
    BEST = "best"


class EvalPrediction:
    """What `compute_metrics` gets; unpacks as (predictions, label_ids), and then inputs and losses if they were asked for.

    predictions, label_ids: arrays with a row an example, or tuples of such.
    """

    def __init__(self, predictions: Any, label_ids: Any, inputs: Any = None, losses: Any = None) -> None:
        self.predictions = predictions
        self.label_ids = label_ids
        self.inputs = inputs
        self.losses = losses

    def __iter__(self) -> Iterator[Any]:
        yield self.predictions
        yield self.label_ids
        yield from (extra for extra in (self.inputs, self.losses) if extra is not None)

    def __getitem__(self, index: int) -> Any:
        return tuple(self)[index]


class EvalLoopOutput(NamedTuple):
    predictions: Any
    label_ids: Any
    metrics: dict[str, Any]
    num_samples: int


class PredictionOutput(NamedTuple):
    predictions: Any
    label_ids: Any
    metrics: dict[str, Any]


class TrainOutput(NamedTuple):
    global_step: int
    training_loss: float
    metrics: dict[str, float]


def set_seed(seed: int) -> None:
    """Seed Python's and numpy's global generators."""
    import random

    import numpy as np

    random.seed(seed)
    np.random.seed(seed % 2**32)


def mix_seeds(*numbers: int) -> int:
    """One number of 64 bits that depends on all `numbers` and their order.

    Each number is added to the state, which then makes one step of SplitMix64 (Steele, Lea, Flood 2014,
    doi:10.1145/2660193.2660195).
    """
    state, bits = 0, (1 << 64) - 1
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & bits
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & bits
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & bits
        state ^= state >> 31
    return state


def checkpoint_step(name: str) -> int | None:
    """12 for "checkpoint-12", None for what is no checkpoint's name."""
    found = _CHECKPOINT.fullmatch(name)
    return int(found[1]) if found else None


def get_checkpoints(folder: str | os.PathLike[str]) -> list[str]:
    """The checkpoint directories in `folder`, by step."""
    with os.scandir(folder) as entries:
        steps = {entry.path: checkpoint_step(entry.name) for entry in entries if entry.is_dir()}
    return sorted((path for path, step in steps.items() if step is not None), key=lambda path: steps[path] or 0)


def get_last_checkpoint(folder: str | os.PathLike[str]) -> str | None:
    """The checkpoint-N in `folder` with the largest N; None if there is none."""
    return next(reversed(get_checkpoints(folder)), None)


def speed_metrics(split: str, seconds: float, num_samples: float, num_steps: int) -> dict[str, float]:
    """{split}_runtime, {split}_samples_per_second, {split}_steps_per_second."""
    return {
        f"{split}_runtime": round(seconds, 4),
        f"{split}_samples_per_second": round(num_samples / max(seconds, 1e-9), 3),
        f"{split}_steps_per_second": round(num_steps / max(seconds, 1e-9), 3),
    }
