"""What all engines share that give logits and leave it to others to choose: the loop from one word to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import checkpoint as checkpoints


class GreedyEngine:
    """A subclass adds `begin`, which forgets all, and `step`."""

    def __init__(self, checkpoint: Path) -> None:
        self.config = checkpoints.config(checkpoint)

    def begin(self, rows: int, room: int) -> None:
        """room: tokens of each row, the most that there will be."""
        raise NotImplementedError

    def step(self, ids: NDArray[np.int64], held: int) -> NDArray[np.float32]:
        """(B, k) tokens behind `held` others -> (B, V) logits of the last, in memory that may be written to."""
        raise NotImplementedError

    def write(self, ids: NDArray[np.int64], count: int, beams: int) -> Any:
        """(B, T) prompts -> (B, count) words, none of them the end."""
        self.begin(len(ids), ids.shape[1] + count)
        words: list[NDArray[np.int64]] = []
        held = 0
        for _ in range(count):
            logits = self.step(ids, held)
            logits[:, self.config["eos_token_id"]] = -np.inf
            held += ids.shape[1]
            ids = logits.argmax(axis=1)[:, None]
            words.append(ids)
        return np.concatenate(words, axis=1)

    def logits(self, ids: NDArray[np.int64]) -> Any:
        """(B, T) prompts -> (B, V)."""
        self.begin(*ids.shape)
        return self.step(ids, 0).copy()
