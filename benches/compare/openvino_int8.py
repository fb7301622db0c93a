"""model.onnx -> OpenVINO's two kinds of int8, by its own tool NNCF. Runs in the environment of the OpenVINO tools.

python openvino_int8.py CHECKPOINT FOLDER

openvino_int8: int8 weights; activations are quantised as they come, as in all other engines here.
openvino_calibrated: activations have scales too, from texts that it is shown: that takes data of the right kind.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino

import texts
from engine import PaddedEngine, padded

_SHOWN = 100


def main() -> None:
    checkpoint, folder = map(Path, sys.argv[1:])
    graph = folder / "model.onnx"
    weights = nncf.compress_weights(openvino.Core().read_model(graph), mode=nncf.CompressWeightsMode.INT8_SYM)
    openvino.save_model(weights, folder / "openvino_int8.xml", compress_to_fp16=False)
    shown = nncf.Dataset([_inputs(row) for row in _rows(checkpoint)])
    model = openvino.Core().read_model(graph)
    calibrated = nncf.quantize(model, shown, model_type=nncf.ModelType.TRANSFORMER, subset_size=_SHOWN)
    openvino.save_model(calibrated, folder / "openvino_calibrated.xml", compress_to_fp16=False)


def _rows(checkpoint: Path) -> list[list[int]]:
    """Ids of English sentences; where the weights are random and there is no tokenizer, random ids."""
    if (checkpoint / "tokenizer.json").exists():
        return PaddedEngine(checkpoint).tokenized(texts.read(None, _SHOWN))
    random = np.random.default_rng(1)
    return [random.integers(1000, 30000, length).tolist() for length in random.integers(8, 257, _SHOWN)]


def _inputs(row: list[int]) -> dict[str, Any]:
    ids, mask = padded([row])
    return {"input_ids": ids, "attention_mask": mask}


if __name__ == "__main__":
    main()
