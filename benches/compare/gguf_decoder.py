"""checkpoint directory of a GPT-2 -> float32.gguf, bfloat16.gguf and int8.gguf, which is Q8_0. Runs in the environment
of llama.cpp's tools.

python gguf_decoder.py CHECKPOINT FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
import numpy as np

import checkpoint
from checkpoint import Checkpoint

_TYPES = {
    "float32": gguf.GGMLQuantizationType.F32,
    "bfloat16": gguf.GGMLQuantizationType.BF16,
    "int8": gguf.GGMLQuantizationType.Q8_0,
}
_NAMES = {"ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output"}
_NAMES |= {"ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}


def main() -> None:
    gpt2 = checkpoint.read(Path(sys.argv[1]), Checkpoint)
    for name in _TYPES:
        _write(gpt2, Path(sys.argv[2]) / f"{name}.gguf", _TYPES[name])


def _write(gpt2: Checkpoint, path: Path, kind: gguf.GGMLQuantizationType) -> None:
    config = gpt2.config
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(4 * config["n_embd"])
    writer.add_block_count(config["n_layer"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_vocab_size(config["vocab_size"])
    # Ids go in and out: no words.
    writer.add_tokenizer_model("no_vocab")
    for name, tensor in _tensors(gpt2):
        # Vectors and positions, which are added, stay as they are.
        narrow = tensor.ndim == 2 and name != "position_embd.weight"
        found = kind if narrow else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(tensor, found), raw_dtype=found)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(gpt2: Checkpoint) -> list[tuple[str, np.ndarray]]:
    """llama.cpp has weights as (outputs, inputs), and takes the words for the head where there is none."""
    tensors = [
        ("token_embd.weight", gpt2.tensors["wte.weight"]),
        ("position_embd.weight", gpt2.tensors["wpe.weight"]),
        ("output_norm.weight", gpt2.tensors["ln_f.weight"]),
        ("output_norm.bias", gpt2.tensors["ln_f.bias"]),
    ]
    for index in range(gpt2.config["n_layer"]):
        for ours, theirs in _NAMES.items():
            for part in ("weight", "bias"):
                tensor = gpt2.tensors[f"h.{index}.{ours}.{part}"]
                tensors.append((f"blk.{index}.{theirs}.{part}", np.ascontiguousarray(tensor.T)))
    return tensors


if __name__ == "__main__":
    main()
