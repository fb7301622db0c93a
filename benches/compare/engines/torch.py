"""torch with transformers, where this Python has them: they are too large to be installed for a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel

from engine import PaddedEngine

VARIANTS = ("float32",)


class Engine(PaddedEngine):
    def __init__(self, checkpoint: Path, folder: Path, variant: str, threads: int) -> None:
        super().__init__(checkpoint)
        torch.set_num_threads(threads)
        self._model = AutoModel.from_pretrained(checkpoint, dtype=torch.float32, add_pooling_layer=False).eval()

    @property
    def precision(self) -> str:
        return str(self._model.dtype)

    @torch.inference_mode()
    def forward(self, ids: Any, mask: Any) -> Any:
        inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        return self._model(**inputs).last_hidden_state.numpy()
