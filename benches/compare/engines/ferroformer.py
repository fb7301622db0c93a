"""ferroformer: the wheel as users install it, the checkpoint as it lies on disk or packed for the next start."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from ferroformer import AutoModel, SentenceTransformer, set_num_threads

VARIANTS = ("float32", "bfloat16", "int8")
TRAINING_VARIANTS = ("float32 training",)
COLD_VARIANTS = ("float32 packed", "int8 packed")


def prepare(checkpoint: Path, folder: Path) -> None:
    for variant in COLD_VARIANTS if _has_sentences(checkpoint) and _packs() else ():
        model: Any = SentenceTransformer(checkpoint, model_kwargs={"dtype": variant.split()[0]})
        model.save_pretrained(folder / variant, packed=True)


class Engine:
    def __init__(self, checkpoint: Path, folder: Path, variant: str, threads: int) -> None:
        set_num_threads(threads)
        dtype, *packed = variant.split()
        directory = folder / variant if packed else checkpoint
        if _has_sentences(checkpoint):
            self._sentences = SentenceTransformer(directory, model_kwargs={"dtype": dtype})
            self._model = self._sentences[0].auto_model
        else:
            self._model = AutoModel.from_pretrained(directory, dtype=dtype, add_pooling_layer=False)

    @property
    def precision(self) -> str:
        return str(self._model.dtype)

    def forward(self, ids: Any, mask: Any) -> Any:
        return self._model(input_ids=ids, attention_mask=mask).last_hidden_state

    def embed(self, texts: list[str], by_length: bool) -> Any:
        """`encode` never pads, so the order of the texts is all the same to it."""
        return self._sentences.encode(texts, batch_size=32, show_progress_bar=False, normalize_embeddings=True)


class Trainer:
    def __init__(self, checkpoint: Path, folder: Path, variant: str, threads: int) -> None:
        from ferroformer import BertForSequenceClassification, training

        set_num_threads(threads)
        self._value_and_grad = training.value_and_grad
        self._model = BertForSequenceClassification.from_pretrained(checkpoint)
        self._optimizer = training.AdamW(self._model, lr=1e-5, weight_decay=0.01)
        # The same memory in each step, as ferroformer's own Trainer has it.
        self._gradients = training.Gradients(self._model)

    def gradient(self, ids: Any, mask: Any, labels: Any) -> tuple[float, Any]:
        """(B, T), (B, T), (B,) -> mean cross-entropy, and its gradient: an array for each name in the checkpoint."""
        self._gradients.zero()
        batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        outputs, gradients = self._value_and_grad(self._model, **batch, gradients=self._gradients)
        return float(outputs.loss), gradients

    def step(self, ids: Any, mask: Any, labels: Any) -> None:
        """One of AdamW, with decay, of the gradient clipped to a norm of 1."""
        _, gradients = self.gradient(ids, mask, labels)
        gradients.clip(1.0)
        self._optimizer.step(gradients)


def _packs() -> bool:
    """Versions that do not pack yet are compared all the same."""
    save = getattr(SentenceTransformer, "save_pretrained", None)
    return save is not None and "packed" in inspect.signature(save).parameters


def _has_sentences(checkpoint: Path) -> bool:
    return (checkpoint / "modules.json").exists()
