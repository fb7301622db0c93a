"""The Dense module of sentence-transformers: a linear layer on the pooled vectors.

It is applied to one vector after the other: numpy's matrix product (BLAS) would give a vector other bits in other company. A
vector costs what reading the matrix once costs, a hundredth of what a transformer of that width does for a short text.
"""

from __future__ import annotations

import json
import os
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from .activation_functions import activation
from .config_files import read_config_file, write_text
from .errors import CorruptModelError, WeightMismatchError
from .hub import find_file
from .weight_files import WEIGHTS_NAME, open_checkpoint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .activation_functions import Function

    Floats = NDArray[np.float32]

__all__ = ["Dense", "read_dense", "write_dense"]


class Dense(NamedTuple):
    """vectors (N, in) -> activation(vectors W^T + b) (N, out), plus the vectors, as they are or multiplied by `residual`."""

    function: Function
    settings: dict[str, Any]
    weight: Floats
    bias: Floats | None = None
    residual: Floats | None = None

    @property
    def width(self) -> int:
        """Of what comes out."""
        return len(self.weight)

    def __call__(self, vectors: Floats) -> Floats:
        import numpy as np

        result = np.empty((len(vectors), self.width), np.float32)
        for out, vector in zip(result, vectors):
            out[:] = self._one(vector)
        return result

    def _one(self, vector: Floats) -> Floats:
        product = _product(self.weight, vector)
        out = self.function(product if self.bias is None else product + self.bias)
        if not self.settings.get("use_residual"):
            return out
        return out + (vector if self.residual is None else _product(self.residual, vector))


def _product(matrix: Floats, vector: Floats) -> Floats:
    """einsum's own loop, in one order whatever else is computed and however many threads BLAS has."""
    import numpy as np

    product: Floats = np.einsum("oi,i->o", matrix, vector)
    return product


def read_dense(name_or_path: str | os.PathLike[str], folder: str, width: int, **where: Any) -> Dense:
    """The module in a folder of a model, for vectors of `width` numbers; `where` as in `hub.find_file`.

    Raises CorruptModelError, WeightMismatchError, FileNotFoundError; NotImplementedError for what it cannot compute.
    """
    source = find_file(name_or_path, "config.json", required=True, subfolder=folder, **where)
    assert source is not None  # it is required
    settings = read_config_file(source)
    inputs, outputs = (_size(settings.get(key), key, source) for key in ("in_features", "out_features"))
    if inputs != width:
        raise CorruptModelError(f"{source}: in_features={inputs}, but what comes before gives vectors of {width} numbers")
    function = activation(str(settings.get("activation_function", "Tanh")), source)
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (outputs, inputs)}
    if settings.get("bias", True):
        shapes["linear.bias"] = (outputs,)
    if settings.get("use_residual") and inputs != outputs:
        shapes["residual.weight"] = (outputs, inputs)
    tensors = _read_tensors(name_or_path, shapes, subfolder=folder, **where)
    weight = tensors.pop("linear.weight")
    return Dense(function, settings, weight, tensors.get("linear.bias"), tensors.get("residual.weight"))


def write_dense(directory: str | os.PathLike[str], dense: Dense) -> None:
    """Write config.json and model.safetensors."""
    named = {"linear.weight": dense.weight, "linear.bias": dense.bias, "residual.weight": dense.residual}
    tensors = {name: array for name, array in named.items() if array is not None}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, array in tensors.items():
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    write_text(os.path.join(directory, "config.json"), json.dumps(dense.settings, indent=2) + "\n")
    with open(os.path.join(directory, WEIGHTS_NAME), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in tensors.values():
            file.write(array.astype("<f4").tobytes())


def _size(value: object, key: str, source: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 1 << 24:
        return value
    raise CorruptModelError(f"{source}: {key}={value!r:.200}: a positive integer is needed")


def _read_tensors(
    name_or_path: str | os.PathLike[str], shapes: dict[str, tuple[int, ...]], **where: Any
) -> dict[str, Floats]:
    """These tensors, and no others, of a checkpoint."""
    checkpoint = open_checkpoint(name_or_path, **where)
    found = {name: tuple(checkpoint.shape(name)) for name in checkpoint.names()}
    if found != shapes:
        place = f"the Dense module {where.get('subfolder')!r} of {str(name_or_path)!r}"
        raise WeightMismatchError(f"{place} holds tensors of the shapes {found!r:.500}; its config.json asks for {shapes}")
    return {name: checkpoint.read(name) for name in shapes}
