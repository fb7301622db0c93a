"""Columns of a dataset as inputs of a pipeline, under the name that they are imported by from transformers."""

from __future__ import annotations

from typing import Any


class KeyDataset:
    """`dataset[i][key]` for each i: `pipe(KeyDataset(dataset, "text"))`."""

    def __init__(self, dataset: Any, key: str) -> None:
        self.dataset = dataset
        self.key = key

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} of a dataset of {len(self)}")
        return self.dataset[index][self.key]

    def __iter__(self) -> Any:
        return (self[index] for index in range(len(self)))


class KeyPairDataset(KeyDataset):
    """Pairs of texts: {"text": ..., "text_pair": ...}."""

    def __init__(self, dataset: Any, key1: str, key2: str) -> None:
        super().__init__(dataset, key1)
        self.key2 = key2

    def __getitem__(self, index: int) -> Any:
        return {"text": super().__getitem__(index), "text_pair": self.dataset[index][self.key2]}
