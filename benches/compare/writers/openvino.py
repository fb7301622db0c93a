"""OpenVINO: GPT-2 with keys and values as state, in float32, in the precision that it chooses, with int8 weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino

from greedy import GreedyEngine

VARIANTS = ("float32", "default", "int8")
MODELS = ("gpt2",)


class Engine(GreedyEngine):
    def __init__(self, checkpoint: Path, folder: Path, variant: str, threads: int) -> None:
        super().__init__(checkpoint)
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        if variant == "float32":
            # Keys and values would be of 8 bits otherwise.
            options |= {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
        if variant == "int8":
            options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 128  # as in engines/openvino.py
        file = "openvino_decoder_int8.xml" if variant == "int8" else "openvino_decoder.xml"
        model = openvino.Core().compile_model(folder / file, "CPU", options)
        computed = model.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.precision = f"int8 weights in {computed}" if variant == "int8" else computed
        self._request = model.create_infer_request()

    def begin(self, rows: int, room: int) -> None:
        self._request.reset_state()

    def step(self, ids: Any, held: int) -> Any:
        positions = np.broadcast_to(np.arange(held, held + ids.shape[1]), ids.shape).copy()
        inputs = {"input_ids": ids, "position_ids": positions, "beam_idx": np.arange(len(ids), dtype=np.int32)}
        return self._request.infer(inputs, share_inputs=True, share_outputs=True)[0]
