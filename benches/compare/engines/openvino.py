"""OpenVINO: its own format from the ONNX graph, in float32 and in the precision that it chooses for the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openvino

from engine import PaddedEngine

VARIANTS = ("float32", "default")


def prepare(checkpoint: Path, folder: Path) -> None:
    openvino.save_model(openvino.Core().read_model(folder / "model.onnx"), folder / "model.xml", compress_to_fp16=False)


class Engine(PaddedEngine):
    def __init__(self, checkpoint: Path, folder: Path, variant: str, threads: int) -> None:
        super().__init__(checkpoint)
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        if variant == "float32":
            options["INFERENCE_PRECISION_HINT"] = "f32"
        model = openvino.Core().compile_model(folder / "model.xml", "CPU", options)
        self._request = model.create_infer_request()

    def forward(self, ids: Any, mask: Any) -> Any:
        # The result is the request's own memory, good until its next call: nothing is copied that need not be.
        return self._request.infer({"input_ids": ids, "attention_mask": mask}, share_inputs=True, share_outputs=True)[0]
