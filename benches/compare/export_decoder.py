"""checkpoint directory of a GPT-2 -> decoder.onnx, decoder_int8.onnx. Runs in the environment of the ONNX tools.

python export_decoder.py CHECKPOINT FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

import checkpoint
import onnx_gpt2


def main() -> None:
    gpt2 = checkpoint.read(Path(sys.argv[1]), checkpoint.Checkpoint)
    folder = Path(sys.argv[2])
    onnx.save(onnx_gpt2.build(gpt2), folder / "decoder.onnx")
    quantize_dynamic(
        folder / "decoder.onnx",
        folder / "decoder_int8.onnx",
        # Measured: MatMulNBits of 8 bits reads prompts at half the speed of this, and is not faster word by word.
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["MatMul"],
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )


if __name__ == "__main__":
    main()
