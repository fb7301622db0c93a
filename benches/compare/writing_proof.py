"""Whether an engine's words are right, by the probabilities that float64 gives them.

Of greedy words each is judged by itself, given those before it, so that one step aside does not condemn the rest: how
much less likely than the likeliest was it? The words of a beam search are judged as a whole: how much less likely are
they than those that float64's own search finds? Both in nats a token; a wrong engine is 3 and more behind.
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

_MAX_LOSS = {"float32": 1e-3, "bfloat16": 0.3, "int8": 0.3}


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
    chosen, best = (np.stack(part) for part in zip(*(_judged(work.model.reference, *p) for p in zip(work.prompts, rows))))
    if work.beams == 1:
        return WritingProof(_worst(best - chosen), float((best == chosen).mean()))
    truth = work.expected.astype(np.int64)
    likely = [_judged(work.model.reference, *p)[0] for p in zip(work.prompts, map(tuple, truth.tolist()))]
    return WritingProof(_worst(np.stack(likely) - chosen), float((truth == found).mean()))


@cache
def _judged(reference: Reference, prompt: Ids, written: Ids) -> tuple[NDArray[Any], NDArray[Any]]:
    """Log-probabilities of the words written, and of the likeliest in their places: (len(written),) twice."""
    found = reference.log_probabilities(prompt, written[:-1])
    return found[np.arange(len(written)), list(written)], found.max(axis=-1)


def _worst(losses: NDArray[Any]) -> float:
    return float(losses.mean(axis=1).max())
