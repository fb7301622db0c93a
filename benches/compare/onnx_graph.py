"""A BERT encoder as an ONNX graph, in the patterns that onnxruntime's optimiser looks for.

Inputs: input_ids and attention_mask, int64 (batch, length), both free.
Output: last_hidden_state (batch, length, width).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from checkpoint import Bert

_OPSET = 17


class Graph:
    """Nodes and constants in the order in which they are made; every node is named after its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def node(self, op: str, name: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        array = np.ascontiguousarray(value, dtype).reshape(np.shape(value))
        self.constants[name] = numpy_helper.from_array(array, name)
        return name


def build(bert: Bert) -> onnx.ModelProto:
    graph = Graph()
    hidden = _embeddings(graph, bert)
    mask = _mask(graph)
    for index in range(bert.layers):
        hidden = _layer(graph, bert, f"encoder.layer.{index}", hidden, mask)
    graph.node("Identity", "last_hidden_state", hidden)
    return _model(graph, bert)


def _embeddings(graph: Graph, bert: Bert) -> str:
    words, positions = bert.first_embeddings()
    shape = graph.node("Shape", "shape", "input_ids")
    length = graph.node("Gather", "length", shape, graph.constant("one", 1, np.int64))
    steps = graph.node("Range", "steps", graph.constant("zero", 0, np.int64), length, "one")
    word = graph.node("Gather", "word", graph.constant("word_table", words), "input_ids")
    position = graph.node("Gather", "position", graph.constant("position_table", positions), steps)
    return _norm(graph, bert, "embeddings.LayerNorm", graph.node("Add", "embeddings.sum", word, position))


def _mask(graph: Graph) -> str:
    """(batch, length) of ones and zeros -> (batch, 1, 1, length) of 0 and the lowest float32."""
    rows = graph.node("Unsqueeze", "mask.rows", "attention_mask", graph.constant("axis1", [1], np.int64))
    heads = graph.node("Unsqueeze", "mask.heads", rows, graph.constant("axis2", [2], np.int64))
    kept = graph.node("Cast", "mask.kept", heads, to=TensorProto.FLOAT)
    masked = graph.node("Sub", "mask.masked", graph.constant("one.f", 1.0), kept)
    return graph.node("Mul", "mask", masked, graph.constant("lowest", np.finfo(np.float32).min))


def _layer(graph: Graph, bert: Bert, name: str, hidden: str, mask: str) -> str:
    context = _attention(graph, bert, f"{name}.attention.self", hidden, mask)
    projected = _dense(graph, bert, f"{name}.attention.output.dense", context)
    added = graph.node("Add", f"{name}.attention.sum", projected, hidden)
    middle = _norm(graph, bert, f"{name}.attention.output.LayerNorm", added)
    wide = _gelu(graph, f"{name}.gelu", _dense(graph, bert, f"{name}.intermediate.dense", middle))
    added = graph.node("Add", f"{name}.sum", _dense(graph, bert, f"{name}.output.dense", wide), middle)
    return _norm(graph, bert, f"{name}.output.LayerNorm", added)


def _attention(graph: Graph, bert: Bert, name: str, hidden: str, mask: str) -> str:
    depth = bert.width // bert.heads
    split = graph.constant("split", [0, 0, bert.heads, depth], np.int64)

    def heads(part: str, order: list[int]) -> str:
        rows = graph.node("Reshape", f"{name}.{part}.split", _dense(graph, bert, f"{name}.{part}", hidden), split)
        return graph.node("Transpose", f"{name}.{part}.heads", rows, perm=order)

    query, key, value = heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1]), heads("value", [0, 2, 1, 3])
    root = graph.constant("root", math.sqrt(depth))
    scores = graph.node("Div", f"{name}.scaled", graph.node("MatMul", f"{name}.scores", query, key), root)
    shares = graph.node("Softmax", f"{name}.softmax", graph.node("Add", f"{name}.masked", scores, mask), axis=-1)
    context = graph.node("MatMul", f"{name}.context", shares, value)
    rows = graph.node("Transpose", f"{name}.context.rows", context, perm=[0, 2, 1, 3])
    return graph.node("Reshape", f"{name}.joined", rows, graph.constant("join", [0, 0, bert.width], np.int64))


def _dense(graph: Graph, bert: Bert, name: str, x: str) -> str:
    weight = graph.constant(f"{name}.weight", bert.tensors[f"{name}.weight"].T)
    bias = graph.constant(f"{name}.bias", bert.tensors[f"{name}.bias"])
    return graph.node("Add", f"{name}.out", graph.node("MatMul", f"{name}.product", x, weight), bias)


def _norm(graph: Graph, bert: Bert, name: str, x: str) -> str:
    scale, shift = (graph.constant(f"{name}.{part}", bert.tensors[f"{name}.{part}"]) for part in ("weight", "bias"))
    return graph.node("LayerNormalization", f"{name}.out", x, scale, shift, axis=-1, epsilon=bert.epsilon)


def _gelu(graph: Graph, name: str, x: str) -> str:
    scaled = graph.node("Div", f"{name}.scaled", x, graph.constant("root.two", math.sqrt(2.0)))
    raised = graph.node("Add", f"{name}.raised", graph.node("Erf", f"{name}.erf", scaled), graph.constant("one.f", 1.0))
    return graph.node("Mul", name, graph.node("Mul", f"{name}.double", x, raised), graph.constant("half", 0.5))


def _model(graph: Graph, bert: Bert) -> onnx.ModelProto:
    shape = ["batch", "length"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in ("input_ids", "attention_mask")]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*shape, bert.width])
    body = helper.make_graph(graph.nodes, "bert", inputs, [output], list(graph.constants.values()))
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", _OPSET)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model
