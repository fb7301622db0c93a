"""Whether a gradient is that of the loss: by differences of the loss in float64, without another engine's help.

For a unit direction u, (L(w + h u) - L(w - h u)) / 2h must be <g, u>: along u = g / |g|, where that is |g|, and along
a random direction, which also finds what g lacks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import reference
from checkpoint import Bert
from crew import Rival, Worker
from workloads import Model

_H = 1e-4
_MAX_LOSS_ERROR = 1e-5
_MAX_ERROR = 1e-3

Direction = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class GradientProof:
    loss_error: float
    error: float  # relative, the larger one of the two directions'

    @property
    def holds(self) -> bool:
        return self.loss_error <= _MAX_LOSS_ERROR and self.error <= _MAX_ERROR


def prove(rival: Rival, model: Model, inputs: Path, threads: int) -> GradientProof:
    """In a process of its own: a copy of the gradient would count as memory of the steps."""
    output = model.folder / "gradient.npz"
    worker = Worker(rival, model.checkpoint, model.folder, threads)
    loss = worker.ask(do="gradient", inputs=str(inputs), output=str(output))
    worker.dismiss()
    with np.load(output) as found:
        gradient = {name.removeprefix("bert."): found[name] for name in found}
    output.unlink()
    batch = dict(np.load(inputs))
    errors = [_error(model.bert, batch, gradient, direction) for direction in (gradient, _random(model.bert))]
    return GradientProof(abs(loss - reference.classifier_loss(model.bert, **batch)), max(errors))


def _error(bert: Bert, batch: dict[str, Any], gradient: Direction, direction: Direction) -> float:
    length = math.sqrt(_dot(direction, direction))
    there, back = (reference.classifier_loss(_moved(bert, direction, h / length), **batch) for h in (_H, -_H))
    slope = (there - back) / (2 * _H)
    return abs(_dot(gradient, direction) / length - slope) / abs(slope)


def _random(bert: Bert) -> Direction:
    random = np.random.default_rng(1)
    return {name: random.standard_normal(weight.shape, np.float32) for name, weight in bert.tensors.items()}


def _moved(bert: Bert, direction: Direction, factor: float) -> Bert:
    moved = {name: weight + factor * direction[name].astype(np.float64) for name, weight in bert.tensors.items()}
    return Bert(bert.config, moved)


def _dot(a: Direction, b: Direction) -> float:
    return math.fsum(float(np.vdot(a[name].astype(np.float64), b[name].astype(np.float64))) for name in a)
