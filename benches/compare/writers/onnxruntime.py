"""onnxruntime: GPT-2 with GroupQueryAttention, whose keys and values stay where they are from one word to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import checkpoint as checkpoints

VARIANTS = ("float32", "int8")
MODELS = ("gpt2",)
_FILES = {"float32": "decoder.onnx", "int8": "decoder_int8.onnx"}


class Engine:
    def __init__(self, checkpoint: Path, folder: Path, variant: str, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.precision = f"{variant} products"
        self._config = checkpoints.config(checkpoint)
        self._session = onnxruntime.InferenceSession(str(folder / _FILES[variant]), options, ["CPUExecutionProvider"])

    def write(self, ids: Any, count: int, beams: int) -> Any:
        state = _State(self._session, self._config, len(ids), ids.shape[1] + count)
        words = []
        for _ in range(count):
            logits = state.step(ids)
            logits[:, self._config["eos_token_id"]] = -np.inf
            ids = logits.argmax(axis=1)[:, None]
            words.append(ids)
        return np.concatenate(words, axis=1)

    def logits(self, ids: Any) -> Any:
        return _State(self._session, self._config, *ids.shape).step(ids).copy()


class _State:
    """Of rows of the same length: their keys and values, bound as past and present alike, and room for the logits."""

    def __init__(self, session: Any, config: dict[str, Any], rows: int, room: int) -> None:
        self._session, self._binding, self._rows, self._held = session, session.io_binding(), rows, 0
        shape = (rows, config["n_head"], room, config["n_embd"] // config["n_head"])
        for index in range(config["n_layer"]):
            for part in ("key", "value"):
                cache = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32))
                self._binding.bind_ortvalue_input(f"past_{part}.{index}", cache)
                self._binding.bind_ortvalue_output(f"present_{part}.{index}", cache)
        self._logits = np.empty((rows, config["vocab_size"]), np.float32)
        self._binding.bind_ortvalue_output("logits", onnxruntime.OrtValue.ortvalue_from_numpy(self._logits))

    def step(self, ids: Any) -> Any:
        """(B, k) tokens more -> (B, V) logits of the last."""
        total = self._held + ids.shape[1]
        positions = np.broadcast_to(np.arange(self._held, total), ids.shape)
        self._binding.bind_cpu_input("input_ids", np.ascontiguousarray(ids))
        self._binding.bind_cpu_input("position_ids", np.ascontiguousarray(positions))
        self._binding.bind_cpu_input("seqlens_k", np.full(self._rows, total - 1, np.int32))
        self._binding.bind_cpu_input("total_sequence_length", np.array([total], np.int32))
        self._session.run_with_iobinding(self._binding)
        self._held = total
        return self._logits
