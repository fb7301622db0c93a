"""checkpoint directory of a GPT-2 -> openvino_decoder.xml and openvino_decoder_int8.xml, whose keys and values are a
state of the model, as OpenVINO wants them. Runs in the environment of the OpenVINO tools.

python openvino_decoder.py CHECKPOINT FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino
from openvino import opset13 as ops

import checkpoint
from checkpoint import Checkpoint


def main() -> None:
    gpt2, folder = checkpoint.read(Path(sys.argv[1]), Checkpoint), Path(sys.argv[2])
    openvino.save_model(_Graph(gpt2).model(), folder / "openvino_decoder.xml", compress_to_fp16=False)
    narrow = nncf.compress_weights(_Graph(gpt2).model(), mode=nncf.CompressWeightsMode.INT8_SYM)
    openvino.save_model(narrow, folder / "openvino_decoder_int8.xml", compress_to_fp16=False)


class _Graph:
    """Inputs: input_ids and position_ids (batch, length), int64; beam_idx (batch,), int32: whose state a row goes on
    from. Output: logits (batch, V) of the last token.
    """

    def __init__(self, gpt2: Checkpoint) -> None:
        self._gpt2, self._heads = gpt2, gpt2.config["n_head"]
        self._ids = ops.parameter([-1, -1], np.int64, name="input_ids")
        self._positions = ops.parameter([-1, -1], np.int64, name="position_ids")
        self._rows = ops.parameter([-1], np.int32, name="beam_idx")
        self._sinks: list[Any] = []
        self._mask = self._reach()

    def model(self) -> Any:
        word, position = self._tensor("wte.weight"), self._tensor("wpe.weight")
        hidden = ops.add(ops.gather(word, self._ids, 0), ops.gather(position, self._positions, 0))
        for index in range(self._gpt2.config["n_layer"]):
            hidden = self._layer(f"h.{index}", hidden)
        last = ops.gather(self._norm("ln_f", hidden), np.int64(-1), 1)
        logits = ops.matmul(last, word, False, True)
        logits.output(0).set_names({"logits"})
        parameters = [self._ids, self._positions, self._rows]
        for parameter in parameters:
            parameter.output(0).set_names({parameter.friendly_name})
        return openvino.Model([ops.result(logits)], self._sinks, parameters, "gpt2")

    def _reach(self) -> Any:
        """(batch, 1, length, total): keys up to a token's own position."""
        total = ops.add(ops.reduce_max(self._positions, np.array([0, 1]), False), np.int64(1))
        keys = ops.range(np.int64(0), total, np.int64(1), "i64")
        queries = ops.unsqueeze(self._positions, np.array([1, 3]))
        return ops.select(ops.less_equal(keys, queries), np.float32(0), np.float32(-np.inf))

    def _layer(self, name: str, x: Any) -> Any:
        context = self._attention(f"{name}.attn", self._norm(f"{name}.ln_1", x))
        x = ops.add(x, self._dense(f"{name}.attn.c_proj", context))
        wide = ops.gelu(self._dense(f"{name}.mlp.c_fc", self._norm(f"{name}.ln_2", x)), "tanh")
        return ops.add(x, self._dense(f"{name}.mlp.c_proj", wide))

    def _attention(self, name: str, x: Any) -> Any:
        parts = ops.split(self._dense(f"{name}.c_attn", x), np.int64(2), 3).outputs()
        split = np.array([0, 0, self._heads, -1])
        query, key, value = (
            ops.transpose(ops.reshape(part, split, True), np.array([0, 2, 1, 3])) for part in parts
        )
        key, value = self._remembered(f"{name}.key", key), self._remembered(f"{name}.value", value)
        context = ops.scaled_dot_product_attention(query, key, value, self._mask)
        return ops.reshape(ops.transpose(context, np.array([0, 2, 1, 3])), np.array([0, 0, -1]), True)

    def _remembered(self, name: str, new: Any) -> Any:
        """What the state has, and what is new behind it."""
        depth = self._gpt2.config["n_embd"] // self._heads
        rows = ops.gather(ops.shape_of(self._ids), np.array([0]), 0)
        shape = ops.concat([rows, np.array([self._heads, 0, depth])], 0)
        empty = ops.broadcast(np.float32(0), shape)
        past = ops.read_value(empty, name, np.float32, openvino.PartialShape([-1, self._heads, -1, depth]))
        whole = ops.concat([ops.gather(past, self._rows, 0), new], 2)
        self._sinks.append(ops.assign(whole, name))
        return whole

    def _dense(self, name: str, x: Any) -> Any:
        # Weights as (outputs, inputs), which is how NNCF and the plugin look for them.
        weight = ops.constant(np.ascontiguousarray(self._gpt2.tensors[f"{name}.weight"].T))
        return ops.add(ops.matmul(x, weight, False, True), self._tensor(f"{name}.bias"))

    def _norm(self, name: str, x: Any) -> Any:
        even = ops.mvn(x, np.array([-1]), True, self._gpt2.config["layer_norm_epsilon"], "INSIDE_SQRT")
        return ops.add(ops.multiply(even, self._tensor(f"{name}.weight")), self._tensor(f"{name}.bias"))

    def _tensor(self, name: str) -> Any:
        return ops.constant(self._gpt2.tensors[name])


if __name__ == "__main__":
    main()
