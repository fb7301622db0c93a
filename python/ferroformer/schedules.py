"""Learning rate schedules: step -> factor of the learning rate, the formulas of transformers' optimization.py.

`step` is the number of steps already taken, so the first step has step 0 (and, with a warmup, the learning rate 0).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from .words import Words

__all__ = [
    "SchedulerType",
    "constant",
    "constant_with_warmup",
    "cosine",
    "cosine_with_restarts",
    "get_schedule",
    "inverse_sqrt",
    "linear",
    "polynomial",
]

Schedule = Callable[[int], float]


class SchedulerType(Words):
    """The names of the schedules."""

    LINEAR = "linear"
    COSINE = "cosine"
    COSINE_WITH_RESTARTS = "cosine_with_restarts"
    POLYNOMIAL = "polynomial"
    CONSTANT = "constant"
    CONSTANT_WITH_WARMUP = "constant_with_warmup"
    INVERSE_SQRT = "inverse_sqrt"


def get_schedule(
    name: str, *, num_warmup_steps: int = 0, num_training_steps: int | None = None, lr: float | None = None, **options: Any
) -> Schedule:
    """The schedule `name` as a function of the step alone.

    options: what the schedule has besides (`num_cycles`, `power`, `lr_end`, `timescale`); lr: the learning rate, which "polynomial"
    needs. Raises ValueError for an unknown name, TypeError for an option that the schedule does not have or lacks.
    """
    function = _FUNCTIONS[SchedulerType(name)]
    takes = inspect.signature(function).parameters
    common = {"num_warmup_steps": num_warmup_steps, "num_training_steps": num_training_steps, "lr": lr}
    given = {key: value for key, value in common.items() if key in takes and value is not None} | options
    unknown, missing = set(options) - set(takes), [
        key for key, parameter in takes.items() if key != "step" and parameter.default is parameter.empty and key not in given
    ]
    if unknown or missing:
        problem = f"has no option {', '.join(sorted(unknown))}" if unknown else f"needs {', '.join(missing)}"
        raise TypeError(f"the schedule {function.__name__!r} {problem}; it takes {', '.join(list(takes)[1:]) or 'none'}")
    return lambda step: function(step, **given)


def constant(step: int) -> float:
    """1."""
    return 1.0


def constant_with_warmup(step: int, *, num_warmup_steps: int = 0) -> float:
    """From 0 to 1 during the warmup, then 1."""
    return _warmup(step, num_warmup_steps) if step < num_warmup_steps else 1.0


def linear(step: int, *, num_warmup_steps: int = 0, num_training_steps: int) -> float:
    """From 0 to 1 during the warmup, then down to 0 at `num_training_steps`."""
    if step < num_warmup_steps:
        return _warmup(step, num_warmup_steps)
    return max(0.0, (num_training_steps - step) / max(1, num_training_steps - num_warmup_steps))


def cosine(step: int, *, num_warmup_steps: int = 0, num_training_steps: int, num_cycles: float = 0.5) -> float:
    """After the warmup `num_cycles` waves of a cosine between 1 and 0; half a wave ends at 0."""
    if step < num_warmup_steps:
        return _warmup(step, num_warmup_steps)
    progress = _progress(step, num_warmup_steps, num_training_steps)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * num_cycles * 2.0 * progress)))


def cosine_with_restarts(step: int, *, num_warmup_steps: int = 0, num_training_steps: int, num_cycles: int = 1) -> float:
    """After the warmup `num_cycles` times from 1 down to 0 along half a cosine."""
    if step < num_warmup_steps:
        return _warmup(step, num_warmup_steps)
    progress = _progress(step, num_warmup_steps, num_training_steps)
    if progress >= 1.0:
        return 0.0
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * ((num_cycles * progress) % 1.0))))


def polynomial(
    step: int, *, num_warmup_steps: int = 0, num_training_steps: int, lr: float, lr_end: float = 1e-7, power: float = 1.0
) -> float:
    """After the warmup from the learning rate `lr` down to `lr_end`; ValueError unless `lr` is the larger."""
    if lr <= lr_end:
        raise ValueError(f"lr_end={lr_end}: must be below the learning rate, which is {lr}")
    if step < num_warmup_steps:
        return _warmup(step, num_warmup_steps)
    if step > num_training_steps or num_training_steps <= num_warmup_steps:
        return lr_end / lr
    left = 1 - (step - num_warmup_steps) / (num_training_steps - num_warmup_steps)
    return ((lr - lr_end) * math.pow(left, power) + lr_end) / lr


def inverse_sqrt(step: int, *, num_warmup_steps: int = 0, timescale: int | None = None) -> float:
    """After the warmup 1 / sqrt(steps since / timescale + 1); timescale: the warmup's steps, 10,000 without one."""
    if step < num_warmup_steps:
        return _warmup(step, num_warmup_steps)
    scale = timescale or num_warmup_steps or 10_000
    return 1.0 / math.sqrt((step + scale - num_warmup_steps) / scale)


_FUNCTIONS: dict[SchedulerType, Callable[..., float]] = {
    SchedulerType.LINEAR: linear,
    SchedulerType.COSINE: cosine,
    SchedulerType.COSINE_WITH_RESTARTS: cosine_with_restarts,
    SchedulerType.POLYNOMIAL: polynomial,
    SchedulerType.CONSTANT: constant,
    SchedulerType.CONSTANT_WITH_WARMUP: constant_with_warmup,
    SchedulerType.INVERSE_SQRT: inverse_sqrt,
}


def _warmup(step: int, num_warmup_steps: int) -> float:
    return step / max(1, num_warmup_steps)


def _progress(step: int, num_warmup_steps: int, num_training_steps: int) -> float:
    return (step - num_warmup_steps) / max(1, num_training_steps - num_warmup_steps)
