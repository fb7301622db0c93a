"""Finding the files that hold a model's weights: model.safetensors or pytorch_model.bin, or the shards of an index; or a variant's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .config_files import read_config_file
from .errors import CorruptModelError, InputError
from .hub import find_file, plain_name

if TYPE_CHECKING:
    from ._native import Checkpoint

WEIGHTS_NAME = "model.safetensors"
PACKED_NAME = "model.packed.safetensors"
INDEX_NAME = "model.safetensors.index.json"
TORCH_NAME = "pytorch_model.bin"
# one file, or an index of several; the first that is there, in transformers' order
_CHECKPOINTS = ((WEIGHTS_NAME, INDEX_NAME), (TORCH_NAME, TORCH_NAME + ".index.json"))


def open_checkpoint(
    name_or_path: str | os.PathLike[str], variant: str | None = None, use_safetensors: bool | None = None, **where: Any
) -> Checkpoint:
    """The weights of a directory or hub repository, their headers read; `where` as in `hub.find_file`.

    variant: of "model.fp16.safetensors" it is "fp16". use_safetensors: True reads safetensors alone, False torch's files alone.
    Nothing in pytorch_model.bin is run: it is read as a dict of tensors, and refused if it holds anything else.

    Raises FileNotFoundError (nothing there, or a shard is missing), CorruptModelError (a malformed index or file), InputError.
    """
    from ._native import Checkpoint

    names = _names(variant, use_safetensors)
    for weights, index in names:
        single = find_file(name_or_path, weights, required=False, **where)
        if single is not None:
            return Checkpoint([single])
        several = find_file(name_or_path, index, required=False, **where)
        if several is not None:
            shards, weight_map = read_index(several)
            return Checkpoint([_shard(name_or_path, shard, several, **where) for shard in shards], weight_map)
    raise _nothing_found(name_or_path, names, variant, **where)


def _names(variant: str | None, use_safetensors: bool | None) -> tuple[tuple[str, str], ...]:
    """As `_CHECKPOINTS`, of this variant and format."""
    kinds = {None: _CHECKPOINTS, True: _CHECKPOINTS[:1], False: _CHECKPOINTS[1:]}
    if use_safetensors not in (None, True, False):
        raise InputError(f"use_safetensors={use_safetensors!r:.200}; expected None, True or False")
    if variant is None:
        return kinds[use_safetensors]
    if not isinstance(variant, str) or not variant or set(variant) & set("/\\:\0"):
        raise InputError(f"variant={variant!r:.200}; expected a part of a file's name: 'fp16' for model.fp16.safetensors")
    names = kinds[use_safetensors]
    return tuple((_of_variant(weights, variant), _of_variant(index, variant)) for weights, index in names)


def _of_variant(name: str, variant: str) -> str:
    """As transformers does it: "model.safetensors.index.json" -> "model.safetensors.index.fp16.json"."""
    stem, _, end = name.rpartition(".")
    return f"{stem}.{variant}.{end}"


def find_packed(name_or_path: str | os.PathLike[str], subfolder: str) -> str | None:
    """The packed file of a directory, if it has one. The hub is not asked: what fits one CPU is not for all."""
    return _local(name_or_path, PACKED_NAME, subfolder)


def has_checkpoint(name_or_path: str | os.PathLike[str], subfolder: str) -> bool:
    """Whether a directory holds a checkpoint."""
    return any(_local(name_or_path, name, subfolder) is not None for names in _CHECKPOINTS for name in names)


def _local(name_or_path: str | os.PathLike[str], filename: str, subfolder: str) -> str | None:
    if not os.path.isdir(os.path.expanduser(name_or_path)):
        return None
    return find_file(name_or_path, filename, required=False, subfolder=subfolder)


def read_index(index: str | os.PathLike[str]) -> tuple[list[str], dict[str, int]]:
    """(the shards' file names, tensor name -> position of its shard). CorruptModelError if malformed."""
    weight_map = read_config_file(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CorruptModelError(f"{index}: weight_map must be an object from tensor names to file names")
    shards = {plain_name(name, index): None for name in _strings(weight_map, index)}
    position = {shard: number for number, shard in enumerate(shards)}
    return list(shards), {tensor: position[shard] for tensor, shard in weight_map.items()}


def _strings(weight_map: dict[str, Any], index: str | os.PathLike[str]) -> list[str]:
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str):
            raise CorruptModelError(f"{index}: weight_map[{tensor!r:.200}] is {shard!r:.200}, not a file name")
    return list(weight_map.values())


def _shard(name_or_path: str | os.PathLike[str], shard: str, index: str | os.PathLike[str], **where: Any) -> str:
    try:
        return str(find_file(name_or_path, shard, required=True, **where))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{index} lists the shard {shard!r}, which is missing: {error}") from None


def _nothing_found(
    name_or_path: str | os.PathLike[str], names: tuple[tuple[str, str], ...], variant: str | None, **where: Any
) -> FileNotFoundError:
    subfolder = where.get("subfolder")
    place = f"{str(name_or_path)!r}" + (f", subfolder {subfolder!r}" if subfolder else "")
    *others, last = (name for pair in names for name in pair)
    hint = "" if variant is None else "; variant=None reads the weights that are no variant"
    return FileNotFoundError(f"no file named {', '.join(others)} or {last} found in {place}{hint}")
