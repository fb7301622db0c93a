"""ferroformer: the wheel as users install it, the checkpoint as it lies on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ferroformer import AutoModel, SentenceTransformer, set_num_threads

VARIANTS = ("float32",)


class Engine:
    def __init__(self, checkpoint: Path, folder: Path, variant: str, threads: int) -> None:
        set_num_threads(threads)
        if (checkpoint / "modules.json").exists():
            self._sentences = SentenceTransformer(checkpoint)
            self._model = self._sentences[0].auto_model
        else:
            self._model = AutoModel.from_pretrained(checkpoint, add_pooling_layer=False)

    def forward(self, ids: Any, mask: Any) -> Any:
        return self._model(input_ids=ids, attention_mask=mask).last_hidden_state

    def embed(self, texts: list[str], by_length: bool) -> Any:
        """`encode` never pads, so the order of the texts is all the same to it."""
        return self._sentences.encode(texts, batch_size=32, show_progress_bar=False, normalize_embeddings=True)
