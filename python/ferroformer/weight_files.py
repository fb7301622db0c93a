"""Finding the files that hold a model's weights: model.safetensors, or the shards that an index lists."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .config_files import read_config_file
from .errors import CorruptModelError
from .hub import find_file, plain_name

if TYPE_CHECKING:
    from ._native import Checkpoint

WEIGHTS_NAME = "model.safetensors"
PACKED_NAME = "model.packed.safetensors"
INDEX_NAME = "model.safetensors.index.json"
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def open_checkpoint(name_or_path: str | os.PathLike[str], **where: Any) -> Checkpoint:
    """The weights of a directory or hub repository, their headers read; `where` as in `hub.find_file`.

    Raises FileNotFoundError (nothing there, or a shard is missing), OSError (only a pickle is there),
    CorruptModelError (a malformed index or file).
    """
    from ._native import Checkpoint

    single = find_file(name_or_path, WEIGHTS_NAME, required=False, **where)
    if single is not None:
        return Checkpoint([single])
    index = find_file(name_or_path, INDEX_NAME, required=False, **where)
    if index is None:
        _refuse_pickle(name_or_path, **where)
        raise _nothing_found(name_or_path, **where)
    shards, weight_map = read_index(index)
    files = [_shard(name_or_path, shard, index, **where) for shard in shards]
    return Checkpoint(files, weight_map)


def find_packed(name_or_path: str | os.PathLike[str], subfolder: str) -> str | None:
    """The packed file of a directory, if it has one. The hub is not asked: what fits one CPU is not for all."""
    return _local(name_or_path, PACKED_NAME, subfolder)


def has_checkpoint(name_or_path: str | os.PathLike[str], subfolder: str) -> bool:
    """Whether a directory holds a checkpoint."""
    return any(_local(name_or_path, name, subfolder) is not None for name in (WEIGHTS_NAME, INDEX_NAME))


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


def _refuse_pickle(name_or_path: str | os.PathLike[str], **where: Any) -> None:
    for name in _PICKLES:
        if find_file(name_or_path, name, required=False, **where) is not None:
            raise OSError(
                f"{str(name_or_path)!r} holds {name} and no {WEIGHTS_NAME}. A pickle can run code when it is read, "
                "so it is never opened here; convert it once where torch is installed, "
                "with transformers: AutoModel.from_pretrained(path).save_pretrained(new_path)"
            )


def _nothing_found(name_or_path: str | os.PathLike[str], **where: Any) -> FileNotFoundError:
    subfolder = where.get("subfolder")
    place = f"{str(name_or_path)!r}" + (f", subfolder {subfolder!r}" if subfolder else "")
    return FileNotFoundError(f"no file named {WEIGHTS_NAME} or {INDEX_NAME} found in {place}")
