"""CTranslate2: a model specification filled from the checkpoint, as its own converter from transformers fills it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from ctranslate2.converters import utils
from ctranslate2.specs import common_spec, transformer_spec

import checkpoint as checkpoints
from checkpoint import Bert
from engine import PaddedEngine

VARIANTS = ("float32", "int8")


def prepare(checkpoint: Path, folder: Path) -> None:
    bert = checkpoints.read(checkpoint, Bert)
    model = _specification(bert)
    model.validate()
    target = folder / "ctranslate2"
    target.mkdir(exist_ok=True)
    model.save(str(target))


class Engine(PaddedEngine):
    def __init__(self, checkpoint: Path, folder: Path, variant: str, threads: int) -> None:
        super().__init__(checkpoint)
        # It takes oneDNN's products on AMD by itself, MKL's on Intel. On Zen 4 MKL's take two to ten times as long.
        self._encoder = ctranslate2.Encoder(
            str(folder / "ctranslate2"), "cpu", compute_type=variant, inter_threads=1, intra_threads=threads
        )

    @property
    def precision(self) -> str:
        return str(self._encoder.compute_type)

    def forward(self, ids: Any, mask: Any) -> Any:
        tokens = ctranslate2.StorageView.from_array(ids.astype(np.int32))
        lengths = ctranslate2.StorageView.from_array(mask.sum(axis=1, dtype=np.int32))
        return np.asarray(self._encoder.forward_batch(tokens, lengths).last_hidden_state)


def _specification(bert: Bert) -> Any:
    encoder = transformer_spec.TransformerEncoderSpec(
        bert.layers,
        bert.heads,
        pre_norm=False,
        activation=common_spec.Activation.GELU,
        layernorm_embedding=True,
    )
    encoder.scale_embeddings = False
    words, positions = bert.first_embeddings()
    encoder.embeddings[0].weight = words
    encoder.position_encodings.encodings = positions
    _norm(bert, encoder.layernorm_embedding, "embeddings.LayerNorm")
    for index, layer in enumerate(encoder.layer):
        _layer(bert, layer, f"encoder.layer.{index}")
    model = transformer_spec.TransformerEncoderModelSpec(encoder)
    # Ids go in, so the names of the tokens are never asked for; their number is.
    model.register_vocabulary([str(token) for token in range(len(words))])
    model.config.unk_token = "0"
    model.config.layer_norm_epsilon = bert.epsilon
    return model


def _layer(bert: Bert, layer: Any, name: str) -> None:
    parts = [common_spec.LinearSpec() for _ in range(3)]
    for part, its_name in zip(parts, ("query", "key", "value")):
        _dense(bert, part, f"{name}.attention.self.{its_name}")
    utils.fuse_linear(layer.self_attention.linear[0], parts)
    _dense(bert, layer.self_attention.linear[1], f"{name}.attention.output.dense")
    _norm(bert, layer.self_attention.layer_norm, f"{name}.attention.output.LayerNorm")
    _dense(bert, layer.ffn.linear_0, f"{name}.intermediate.dense")
    _dense(bert, layer.ffn.linear_1, f"{name}.output.dense")
    _norm(bert, layer.ffn.layer_norm, f"{name}.output.LayerNorm")


def _dense(bert: Bert, spec: Any, name: str) -> None:
    spec.weight, spec.bias = bert.tensors[f"{name}.weight"], bert.tensors[f"{name}.bias"]


def _norm(bert: Bert, spec: Any, name: str) -> None:
    spec.gamma, spec.beta = bert.tensors[f"{name}.weight"], bert.tensors[f"{name}.bias"]
