"""What an engine is, and what all padded engines share: tokenising, batches, pooling.

An engine is a file engines/NAME.py beside engines/NAME.txt, the pinned packages of its environment, with

    VARIANTS                          its ways to compute, "float32" first
    COLD_VARIANTS                     optional: more of them that differ in their start only, each where prepare has
                                      left a directory of its name in `folder`
    prepare(checkpoint, folder)       optional: converts the checkpoint into `folder`, once
    TRAINING_VARIANTS                 optional: its ways to train a classifier, those of `Trainer` in place of `Engine`
    Engine(checkpoint, folder, variant, threads)   with `forward`, `embed` and `precision`
    Trainer(checkpoint, folder, variant, threads)  with `gradient` and `step`, as in engines/ferroformer.py

An engine that writes is also a file writers/NAME.py, with VARIANTS, `prepare` and

    MODELS                            those of writing.py that it has
    Engine(checkpoint, folder, variant, threads)   with `write`, `precision` and, if it has one of "gpt2", `logits`, as
                                      in writers/ferroformer.py; optional: `held`

A variant begins with the precision in which it is compared: float32, bfloat16 or int8; "default" is what the engine
itself chooses, and counts as bfloat16. `precision` is the engine's own word for what it computes in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH = 32


class PaddedEngine:
    """An engine that computes padded batches; a subclass adds `forward`. Pooling: mean over tokens, then length 1."""

    def __init__(self, checkpoint: Path) -> None:
        self._checkpoint = checkpoint
        self._tokenizer: Any = None

    def forward(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, T) ids and mask -> last hidden state (B, T, H)."""
        raise NotImplementedError

    def embed(self, texts: list[str], by_length: bool) -> NDArray[np.float32]:
        """(N, H), in batches of 32 padded to their longest; by_length: similar lengths together, as one should."""
        rows = self.tokenized(texts)
        order = list(range(len(texts)))
        if by_length:
            order.sort(key=lambda row: -len(rows[row]))
        pooled = [self._pooled([rows[row] for row in order[i : i + BATCH]]) for i in range(0, len(order), BATCH)]
        result = np.empty((len(texts), pooled[0].shape[1]), np.float32)
        result[order] = np.concatenate(pooled)
        return result

    def tokenized(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokens().encode_batch_fast(texts)]

    def _pooled(self, rows: list[list[int]]) -> NDArray[np.float32]:
        ids, mask = padded(rows)
        weights = mask.astype(np.float32)
        sums = (weights[:, None, :] @ self.forward(ids, mask))[:, 0]
        means: NDArray[np.float32] = sums / weights.sum(axis=1, keepdims=True)
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        return means

    def _tokens(self) -> Any:
        if self._tokenizer is None:
            from tokenizers import Tokenizer

            self._tokenizer = Tokenizer.from_file(str(self._checkpoint / "tokenizer.json"))
            self._tokenizer.no_padding()
            self._tokenizer.enable_truncation(256)  # all-MiniLM-L6-v2's max_seq_length
        return self._tokenizer


def padded(rows: list[list[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of ids -> (B, T) ids and mask, zeros behind each row."""
    lengths = np.array([len(row) for row in rows])
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    ids = np.zeros_like(mask)
    ids[mask == 1] = np.concatenate([np.asarray(row) for row in rows])
    return ids, mask
