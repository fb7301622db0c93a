"""onnxruntime: the graph after its transformer optimiser, in float32 and with dynamically quantised products."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime

from engine import PaddedEngine

VARIANTS = ("float32", "int8")
_FILES = {"float32": "optimised.onnx", "int8": "int8.onnx"}


class Engine(PaddedEngine):
    def __init__(self, checkpoint: Path, folder: Path, variant: str, threads: int) -> None:
        super().__init__(checkpoint)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.precision = f"{variant} products"
        self._session = onnxruntime.InferenceSession(str(folder / _FILES[variant]), options, ["CPUExecutionProvider"])

    def forward(self, ids: Any, mask: Any) -> Any:
        return self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
