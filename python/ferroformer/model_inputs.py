"""Preparing the arrays of a call: whatever holds integers becomes C-contiguous int64 (B, T), or a clear error.

Only shapes and kinds are checked here; that ids lie inside their tables is checked where they are looked up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "inputs_embeds")


def encoder_inputs(inputs: dict[str, Any], embedding_size: int) -> dict[str, NDArray[Any] | None]:
    """The arrays of an encoder's call, ready for the compiled core; absent ones are None.

    Raises ValueError unless exactly one of input_ids and inputs_embeds is there, TypeError for a dtype that is not
    of integers (of floats for inputs_embeds), InputError for shapes and for mask values other than 0 and 1.
    """
    if (inputs["input_ids"] is None) == (inputs.get("inputs_embeds") is None):
        raise InputError("You must specify exactly one of input_ids or inputs_embeds")
    if inputs["input_ids"] is not None:
        main: NDArray[Any] = integer_array("input_ids", inputs["input_ids"])
        arrays: dict[str, Any] = {"input_ids": main, "inputs_embeds": None}
    else:
        main = _embeddings(inputs["inputs_embeds"], embedding_size)
        arrays = {"input_ids": None, "inputs_embeds": main}
    batch, length = main.shape[:2]
    if length == 0:
        raise InputError(f"sequence length 0: the input has the shape {main.shape}")
    for name in ("token_type_ids", "task_type_ids", "position_ids"):
        value = inputs.get(name)
        arrays[name] = None if value is None else _like(name, integer_array(name, value), batch, length)
    mask = inputs.get("attention_mask")
    arrays["attention_mask"] = None if mask is None else _mask(mask, batch, length)
    return arrays


def merge_choices(inputs: dict[str, Any]) -> dict[str, Any]:
    """Arrays (B, choices, T, ..) as (B * choices, T, ..)."""
    import numpy as np

    arrays = {name: None if value is None else np.asarray(value) for name, value in inputs.items()}
    for name, array in arrays.items():
        rank = 4 if name == "inputs_embeds" else 3
        if array is not None and array.ndim != rank:
            raise InputError(f"{name} must have {rank} axes (batch, choices, length, ..), got the shape {array.shape}")
    return {name: None if a is None else a.reshape(-1, *a.shape[2:]) for name, a in arrays.items()}


def integer_array(name: str, value: Any) -> NDArray[np.int64]:
    """A (B, T) array of integers from lists, numpy arrays of any integer dtype and layout, or CPU tensors."""
    return _as_int64(name, _rank2(name, _to_array(name, value)))


def _to_array(name: str, value: Any) -> NDArray[Any]:
    import numpy as np

    if isinstance(value, str):
        raise TypeError(f"{name} is a str: call a tokenizer first, model(**tokenizer(text, return_tensors='np'))")
    if isinstance(value, (list, tuple)):
        _check_not_ragged(name, value)
    array = np.asarray(value)
    # numpy takes a list without numbers for floats
    return array.astype(np.int64) if array.size == 0 and isinstance(value, (list, tuple)) else array


def _check_not_ragged(name: str, rows: Any) -> None:
    lengths = [len(row) if hasattr(row, "__len__") and not isinstance(row, str) else None for row in rows]
    for number, length in enumerate(lengths):
        if length != lengths[0]:
            raise InputError(
                f"{name}: row {number} has {_items(length)}, row 0 has {_items(lengths[0])}; rows of a batch must be "
                "of one length: call the tokenizer with padding=True"
            )


def _items(length: int | None) -> str:
    return "no length" if length is None else f"{length} tokens"


def _rank2(name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim == 2:
        return array
    hint = f"; for one sequence pass [{name}]" if array.ndim == 1 else ""
    raise InputError(f"{name} must have the shape (batch, length), got {array.shape}{hint}")


def _as_int64(name: str, array: NDArray[Any]) -> NDArray[np.int64]:
    import numpy as np

    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold integers, got dtype {array.dtype}")
    if array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
        raise TypeError(f"{name} holds {array.max()}, which no int64 can hold (dtype {array.dtype})")
    return np.require(array, np.int64, ["C", "ALIGNED", "ENSUREARRAY"])


def _like(name: str, array: NDArray[np.int64], batch: int, length: int) -> NDArray[np.int64]:
    import numpy as np

    if array.shape == (1, length):
        return np.ascontiguousarray(np.broadcast_to(array, (batch, length)))
    if array.shape != (batch, length):
        raise InputError(f"{name} has the shape {array.shape}, the input ({batch}, {length})")
    return array


def _mask(value: Any, batch: int, length: int) -> NDArray[np.int64]:
    import numpy as np

    name = "attention_mask"
    array = _rank2(name, _to_array(name, value))
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold zeros and ones, got dtype {array.dtype}")
    if array.shape != (batch, length):
        raise InputError(f"{name} has the shape {array.shape}, the input ({batch}, {length})")
    wrong = (array != 0) & (array != 1)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise InputError(f"{name}[{row}, {column}] is {array[row, column]}: only 0 and 1 are allowed")
    return np.require(array, np.int64, ["C", "ALIGNED", "ENSUREARRAY"])


def _embeddings(value: Any, embedding_size: int) -> NDArray[np.float32]:
    import numpy as np

    array = np.asarray(value)
    if array.dtype.kind != "f":
        raise TypeError(f"inputs_embeds must hold floats, got dtype {array.dtype}")
    if array.ndim != 3 or array.shape[2] != embedding_size:
        raise InputError(f"inputs_embeds must have the shape (batch, length, {embedding_size}), got {array.shape}")
    return np.require(array, np.float32, ["C", "ALIGNED", "ENSUREARRAY"])
