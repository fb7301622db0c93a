"""onnxruntime: GPT-2 with GroupQueryAttention, whose keys and values stay where they are from one word to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from greedy import GreedyEngine

VARIANTS = ("float32", "int8")
MODELS = ("gpt2",)
_FILES = {"float32": "decoder.onnx", "int8": "decoder_int8.onnx"}


class Engine(GreedyEngine):
    def __init__(self, checkpoint: Path, folder: Path, variant: str, threads: int) -> None:
        super().__init__(checkpoint)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.precision = f"{variant} products"
        self._session = onnxruntime.InferenceSession(str(folder / _FILES[variant]), options, ["CPUExecutionProvider"])

    def begin(self, rows: int, room: int) -> None:
        """Binds keys and values as past and present alike, and the logits."""
        self._binding = self._session.io_binding()
        heads = self.config["n_head"]
        empty = np.zeros((rows, heads, room, self.config["n_embd"] // heads), np.float32)
        for index in range(self.config["n_layer"]):
            for part in ("key", "value"):
                cache = onnxruntime.OrtValue.ortvalue_from_numpy(empty.copy())
                self._binding.bind_ortvalue_input(f"past_{part}.{index}", cache)
                self._binding.bind_ortvalue_output(f"present_{part}.{index}", cache)
        self._logits = np.empty((rows, self.config["vocab_size"]), np.float32)
        self._binding.bind_ortvalue_output("logits", onnxruntime.OrtValue.ortvalue_from_numpy(self._logits))

    def step(self, ids: Any, held: int) -> Any:
        total = held + ids.shape[1]
        inputs = {
            "input_ids": ids,
            "position_ids": np.broadcast_to(np.arange(held, total), ids.shape),
            "seqlens_k": np.full(len(ids), total - 1, np.int32),
            "total_sequence_length": np.array([total], np.int32),
        }
        for name, array in inputs.items():
            self._binding.bind_cpu_input(name, np.ascontiguousarray(array))
        self._session.run_with_iobinding(self._binding)
        return self._logits
