"""llama.cpp, compiled for this machine: rows are sequences of one batch, by its C interface."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

import checkpoint as checkpoints

VARIANTS = ("float32", "bfloat16", "int8")
MODELS = ("gpt2",)
_MAX_ROWS = 8


class Engine:
    def __init__(self, checkpoint: Path, folder: Path, variant: str, threads: int) -> None:
        self.precision = "Q8_0" if variant == "int8" else variant
        self._config = checkpoints.config(checkpoint)
        self._words, self._end = self._config["vocab_size"], self._config["eos_token_id"]
        llama_cpp.llama_log_set(_QUIET, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        model = llama_cpp.llama_model_load_from_file(
            str(folder / f"{variant}.gguf").encode(), llama_cpp.llama_model_default_params()
        )
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx, settings.n_seq_max, settings.kv_unified = 1024, _MAX_ROWS, True
        settings.n_batch = settings.n_ubatch = 512
        settings.n_threads = settings.n_threads_batch = threads
        if variant == "float32":
            settings.type_k = settings.type_v = llama_cpp.GGML_TYPE_F32  # float16 otherwise
        self._context = llama_cpp.llama_init_from_model(model, settings)
        if not self._context:
            raise RuntimeError(f"llama.cpp does not read {variant}.gguf")
        self._batch = llama_cpp.llama_batch_init(settings.n_batch, 0, 1)

    def write(self, ids: Any, count: int, beams: int) -> Any:
        self._forget()
        words = []
        held = 0
        for _ in range(count):
            logits = self._step(ids, held)
            logits[:, self._end] = -np.inf
            held += ids.shape[1]
            ids = logits.argmax(axis=1)[:, None]
            words.append(ids)
        return np.concatenate(words, axis=1)

    def logits(self, ids: Any) -> Any:
        self._forget()
        return self._step(ids, 0).copy()

    def _forget(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), False)

    def _step(self, ids: Any, held: int) -> Any:
        """(B, k) tokens behind `held` others -> (B, V) logits of the last."""
        rows, width = ids.shape
        batch = self._batch
        for place, word in enumerate(ids.reshape(-1).tolist()):
            row, column = divmod(place, width)
            batch.token[place], batch.pos[place] = word, held + column
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, row
            batch.logits[place] = column == width - 1
        batch.n_tokens = rows * width
        status = llama_cpp.llama_decode(self._context, batch)
        if status:
            raise RuntimeError(f"llama_decode: {status}")
        found = llama_cpp.llama_get_logits(self._context)
        return np.ctypeslib.as_array(found, shape=(rows, self._words))


@llama_cpp.llama_log_callback
def _QUIET(level: int, text: bytes, data: Any) -> None:
    pass
