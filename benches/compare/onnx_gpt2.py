"""GPT-2 with its keys and values as an ONNX graph, in the operators that onnxruntime has for it.

Inputs: input_ids (batch, length), int64; position_ids, alike; seqlens_k (batch,), int32: tokens of each row after this
call, less one; total_sequence_length, int32: tokens after this call; for each layer past_key and past_value (batch,
heads, room, depth).
Outputs: logits (batch, V) of the last token; for each layer present_key and present_value, which may be the memory of
the past ones: then nothing is copied.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from checkpoint import Checkpoint
from onnx_graph import Graph

_OPSET = 21
_DOMAIN = "com.microsoft"


def build(gpt2: Checkpoint) -> onnx.ModelProto:
    graph = Graph()
    word = graph.node("Gather", "word", graph.constant("word_table", gpt2.tensors["wte.weight"]), "input_ids")
    positions = graph.constant("position_table", gpt2.tensors["wpe.weight"])
    hidden = graph.node("Add", "embedded", word, graph.node("Gather", "position", positions, "position_ids"))
    for index in range(gpt2.config["n_layer"]):
        hidden = _layer(graph, gpt2, index, hidden)
    last = graph.node("Gather", "last", hidden, graph.constant("minus.one", -1, np.int64), axis=1)
    head = graph.constant("head", gpt2.tensors["wte.weight"].T)
    graph.node("MatMul", "logits", _norm(graph, gpt2, "ln_f", last), head)
    return _model(graph, gpt2)


def _layer(graph: Graph, gpt2: Checkpoint, index: int, hidden: str) -> str:
    name = f"h.{index}"
    context = _attention(graph, gpt2, index, _norm(graph, gpt2, f"{name}.ln_1", hidden))
    read = graph.node("Add", f"{name}.read", hidden, _dense(graph, gpt2, f"{name}.attn.c_proj", context))
    wide = _dense(graph, gpt2, f"{name}.mlp.c_fc", _norm(graph, gpt2, f"{name}.ln_2", read))
    wide = graph.node("FastGelu", f"{name}.gelu", wide, domain=_DOMAIN)
    return graph.node("Add", f"{name}.out", read, _dense(graph, gpt2, f"{name}.mlp.c_proj", wide))


def _attention(graph: Graph, gpt2: Checkpoint, index: int, x: str) -> str:
    """Queries, keys and values go in as one; the outputs of keys and values have names of their own."""
    name, heads = f"h.{index}.attn", gpt2.config["n_head"]
    whole = _dense(graph, gpt2, f"{name}.c_attn", x)
    past = [f"past_key.{index}", f"past_value.{index}"]
    present = [f"present_key.{index}", f"present_value.{index}"]
    inputs = [whole, "", "", *past, "seqlens_k", "total_sequence_length"]
    settings = {"num_heads": heads, "kv_num_heads": heads, "domain": _DOMAIN, "name": f"{name}.context"}
    graph.nodes.append(helper.make_node("GroupQueryAttention", inputs, [f"{name}.context", *present], **settings))
    return f"{name}.context"


def _dense(graph: Graph, gpt2: Checkpoint, name: str, x: str) -> str:
    """The checkpoint has weights as MatMul wants them."""
    weight, bias = (graph.constant(f"{name}.{part}", gpt2.tensors[f"{name}.{part}"]) for part in ("weight", "bias"))
    return graph.node("Add", f"{name}.out", graph.node("MatMul", f"{name}.product", x, weight), bias)


def _norm(graph: Graph, gpt2: Checkpoint, name: str, x: str) -> str:
    weight, bias = (graph.constant(f"{name}.{part}", gpt2.tensors[f"{name}.{part}"]) for part in ("weight", "bias"))
    epsilon = gpt2.config["layer_norm_epsilon"]
    return graph.node("LayerNormalization", f"{name}.out", x, weight, bias, axis=-1, epsilon=epsilon)


def _model(graph: Graph, gpt2: Checkpoint) -> onnx.ModelProto:
    width, heads, count = (gpt2.config[key] for key in ("n_embd", "n_head", "n_layer"))
    ids, room = ["batch", "length"], ["batch", heads, "room", width // heads]

    def caches(when: str) -> list[onnx.ValueInfoProto]:
        names = [f"{when}_{part}.{index}" for index in range(count) for part in ("key", "value")]
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, room) for name in names]

    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, ids),
        helper.make_tensor_value_info("position_ids", TensorProto.INT64, ids),
        helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, ["batch"]),
        helper.make_tensor_value_info("total_sequence_length", TensorProto.INT32, [1]),
        *caches("past"),
    ]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", gpt2.config["vocab_size"]])
    body = helper.make_graph(graph.nodes, "gpt2", inputs, [logits, *caches("present")], list(graph.constants.values()))
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_DOMAIN, 1)]
    model = helper.make_model(body, opset_imports=opsets)
    model.ir_version = 10
    return model
