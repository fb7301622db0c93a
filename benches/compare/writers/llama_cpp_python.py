"""llama.cpp, compiled for this machine: rows are sequences of one batch, by its C interface.

It looks GELU up in a table of float16, in every variant: in float32 its logits are 0.003 beside the truth, though its
words are right.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from greedy import GreedyEngine

VARIANTS = ("float32", "bfloat16", "int8")
MODELS = ("gpt2",)
_MAX_ROWS = 8


class Engine(GreedyEngine):
    def __init__(self, checkpoint: Path, folder: Path, variant: str, threads: int) -> None:
        super().__init__(checkpoint)
        self.precision = "Q8_0" if variant == "int8" else variant
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

    def begin(self, rows: int, room: int) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), False)

    def step(self, ids: Any, held: int) -> Any:
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
        return np.ctypeslib.as_array(found, shape=(rows, self.config["vocab_size"]))


@llama_cpp.llama_log_callback
def _QUIET(level: int, text: bytes, data: Any) -> None:
    pass
