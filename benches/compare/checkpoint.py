"""A checkpoint directory as numpy arrays: what the exporters and the reference read."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Checkpoint:
    """A model's settings and its weights by the names of transformers, without what a head puts before them."""

    config: dict[str, Any]
    tensors: dict[str, NDArray[Any]]


class Bert(Checkpoint):
    @property
    def layers(self) -> int:
        return int(self.config["num_hidden_layers"])

    @property
    def heads(self) -> int:
        return int(self.config["num_attention_heads"])

    @property
    def width(self) -> int:
        return int(self.config["hidden_size"])

    @property
    def epsilon(self) -> float:
        return float(self.config["layer_norm_eps"])

    def first_embeddings(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Word vectors, and position vectors with token type 0 added: all inputs here are of that type."""
        name = "embeddings.{}_embeddings.weight".format
        return self.tensors[name("word")], self.tensors[name("position")] + self.tensors[name("token_type")][0]


_Kind = TypeVar("_Kind", bound=Checkpoint)


def read(directory: Path, kind: type[_Kind]) -> _Kind:
    return kind(config(directory), _safetensors(directory / "model.safetensors"))


def config(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return found


def _safetensors(path: Path) -> dict[str, NDArray[np.float32]]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        body = file.read()
    return {
        re.sub(r"^(bert|transformer|model)\.", "", name): np.frombuffer(
            body[slice(*entry["data_offsets"])], np.float32
        ).reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__" and entry["dtype"] == "F32"
    }
