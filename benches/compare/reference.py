"""The truth: BERT in float64 with numpy, one sequence at a time, as plainly as it can be written."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from checkpoint import Bert

Array = NDArray[np.float64]
_erf = np.frompyfunc(math.erf, 1, 1)


def hidden_states(bert: Bert, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Array:
    """(B, T) -> (B, T, H), zeros where the mask is zero."""
    result = np.zeros((*ids.shape, bert.width))
    for row, (tokens, kept) in enumerate(zip(ids, mask == 1)):
        result[row, kept] = _sequence(bert, tokens[kept])
    return result


def embeddings(bert: Bert, rows: list[list[int]]) -> Array:
    """Mean over a row's tokens, then length 1."""
    means = np.stack([_sequence(bert, np.array(row)).mean(axis=0) for row in rows])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def classifier_loss(bert: Bert, ids: NDArray[np.int64], mask: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """(B, T), (B, T), (B,) -> mean cross-entropy of what a layer makes of the pooled first tokens."""
    firsts = np.stack([_sequence(bert, row[kept])[0] for row, kept in zip(ids, mask == 1)])
    logits = _dense(bert, "classifier", np.tanh(_dense(bert, "pooler.dense", firsts)))
    logits -= logits.max(axis=-1, keepdims=True)
    losses = np.log(np.exp(logits).sum(axis=-1)) - logits[np.arange(len(labels)), labels]
    return float(losses.mean())


def _sequence(bert: Bert, ids: NDArray[np.int64]) -> Array:
    words, positions = bert.first_embeddings()
    x = _norm(bert, "embeddings.LayerNorm", words[ids].astype(np.float64) + positions[: len(ids)])
    for index in range(bert.layers):
        x = _layer(bert, f"encoder.layer.{index}", x)
    return x


def _layer(bert: Bert, name: str, x: Array) -> Array:
    attended = _dense(bert, f"{name}.attention.output.dense", _attention(bert, f"{name}.attention.self", x))
    x = _norm(bert, f"{name}.attention.output.LayerNorm", x + attended)
    wide = _dense(bert, f"{name}.intermediate.dense", x)
    wide = wide * 0.5 * (1 + _erf(wide / math.sqrt(2)).astype(np.float64))
    return _norm(bert, f"{name}.output.LayerNorm", x + _dense(bert, f"{name}.output.dense", wide))


def _attention(bert: Bert, name: str, x: Array) -> Array:
    def heads(part: str) -> Array:
        return _dense(bert, f"{name}.{part}", x).reshape(len(x), bert.heads, -1).transpose(1, 0, 2)

    return attend(heads("query"), heads("key"), heads("value"), bert.width**-0.5 * bert.heads**0.5)


def attend(query: Array, key: Array, value: Array, scale: float, bias: Array | float = 0.0) -> Array:
    """(heads, T, D), (heads, S, D) twice, what is added to the scores (heads, T, S) -> (T, heads * D)."""
    scores = scale * query @ key.transpose(0, 2, 1) + bias
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    return (shares @ value).transpose(1, 0, 2).reshape(query.shape[1], -1)


def _dense(bert: Bert, name: str, x: Array) -> Array:
    return x @ bert.tensors[f"{name}.weight"].T.astype(np.float64) + bert.tensors[f"{name}.bias"]


def _norm(bert: Bert, name: str, x: Array) -> Array:
    return layer_norm(x, bert.tensors[f"{name}.weight"], bert.tensors[f"{name}.bias"], bert.epsilon)


def layer_norm(x: Array, weight: NDArray[Any], bias: NDArray[Any], epsilon: float) -> Array:
    x = x - x.mean(axis=-1, keepdims=True)
    return rms_norm(x, weight, epsilon) + bias


def rms_norm(x: Array, weight: NDArray[Any], epsilon: float) -> Array:
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + epsilon) * weight
