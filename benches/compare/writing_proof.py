"""Whether an engine's words are right, by the probabilities that float64 gives them.

Of greedy words each is judged by itself, given those before it, so that one step aside does not condemn the rest: how
much less likely than the likeliest was it? The words of a beam search are judged as a whole: how much less likely are
they than those that float64's own search finds? Both in nats a token. Words of a model that is not this one are 4 to 10
behind; int8's are 0.1 behind, and 0.6 where a search has taken another way.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

import measure
from crew import Rival, Worker
from writing import Writing
from writing_reference import Ids, Reference

_MAX_LOSS = {"float32": 1e-3, "bfloat16": 1.0, "int8": 1.0}


@dataclass(frozen=True)
class WritingProof:
    loss: float  # nats a token, of the worst row
    same: float  # share of the tokens that float64 chooses

    def holds(self, rival: Rival) -> bool:
        return self.loss <= _MAX_LOSS[rival.precision]

    def __str__(self) -> str:
        return f"{100 * self.same:.0f} % the same, {self.loss:.0e} nats"


def prove(worker: Worker, work: Writing) -> measure.Proof | WritingProof:
    if work.how == "logits":
        return measure.prove(worker, work, work.model.folder)
    output = work.model.folder / "answer.npy"
    worker.ask(do="prove", how=work.how, inputs=str(work.inputs), output=str(output))
    found = np.load(output).astype(np.int64)
    if found.shape != (work.rows, work.count):
        raise RuntimeError(f"{worker.rival.label}: {found.shape} tokens, {(work.rows, work.count)} were asked for")
    rows = [tuple(row) for row in found.tolist()]
    chosen, best = _judged(work, rows)
    if work.beams == 1:
        return WritingProof(_worst(best - chosen), float((best == chosen).mean()))
    truth = work.expected.astype(np.int64)
    likely, _ = _judged(work, [tuple(row) for row in truth.tolist()])
    return WritingProof(_worst(likely - chosen), float((truth == found).mean()))


def _judged(work: Writing, rows: list[Ids]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Log-probabilities of the words written, and of the likeliest in their places: (B, count) twice."""
    chosen, best = zip(*(_row(work.model.reference, *pair) for pair in zip(work.prompts, rows)))
    return np.stack(chosen), np.stack(best)


@cache
def _row(reference: Reference, prompt: Ids, written: Ids) -> tuple[NDArray[Any], NDArray[Any]]:
    """`_judged` of one row. Engines that write the same are judged once."""
    found = reference.log_probabilities(prompt, written[:-1])
    return found[np.arange(len(written)), list(written)], found.max(axis=-1)


def _worst(losses: NDArray[Any]) -> float:
    return float(losses.mean(axis=1).max())
