"""checkpoint directory -> model.onnx, optimised.onnx and int8.onnx. Runs in the environment of the ONNX tools.

python export.py CHECKPOINT FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.optimizer import optimize_model

import checkpoint
import onnx_graph


def main() -> None:
    bert = checkpoint.read(Path(sys.argv[1]), checkpoint.Bert)
    folder = Path(sys.argv[2])
    onnx.save(onnx_graph.build(bert), folder / "model.onnx")
    optimised = optimize_model(
        str(folder / "model.onnx"), model_type="bert", num_heads=bert.heads, hidden_size=bert.width, opt_level=0
    )
    fusions = {name: count for name, count in optimised.get_fused_operator_statistics().items() if count}
    print(f"{folder.name}: {bert.layers} layers, fused by onnxruntime's optimiser: {fusions}", file=sys.stderr)
    optimised.save_model_to_file(str(folder / "optimised.onnx"))
    quantize_dynamic(
        folder / "optimised.onnx",
        folder / "int8.onnx",
        # Measured on Zen 4: unsigned weights take 1.5 times as long; a scale per channel costs nothing, and without it
        # vectors of random ids come out at a cosine of 0.93 instead of 0.99.
        weight_type=QuantType.QInt8,
        per_channel=True,
        # Shape inference does not know the fused operators.
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )


if __name__ == "__main__":
    main()
