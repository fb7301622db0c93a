"""torch with transformers, where this Python has them: they are too large to be installed for a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from engine import PaddedEngine

VARIANTS = ("float32",)
TRAINING_VARIANTS = ("float32 training",)


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


class Trainer:
    """Drops nothing: the checkpoint's configuration says so."""

    def __init__(self, checkpoint: Path, folder: Path, variant: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._model = AutoModelForSequenceClassification.from_pretrained(checkpoint, dtype=torch.float32).train()
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=1e-5, weight_decay=0.01)

    def gradient(self, ids: Any, mask: Any, labels: Any) -> tuple[float, Any]:
        loss = self._backward(ids, mask, labels)
        return loss, {name: weight.grad.numpy() for name, weight in self._model.named_parameters()}

    def step(self, ids: Any, mask: Any, labels: Any) -> None:
        self._backward(ids, mask, labels)
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()

    def _backward(self, ids: Any, mask: Any, labels: Any) -> float:
        self._optimizer.zero_grad()
        batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        loss = self._model(**{name: torch.from_numpy(array) for name, array in batch.items()}).loss
        loss.backward()
        return float(loss.item())
