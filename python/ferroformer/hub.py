"""Where the files of a model are: in a local directory, or in the Hugging Face hub's cache.

A local directory never asks the hub anything. `huggingface_hub` (the optional extra `ferroformer[hub]`) is imported
when a name is not a directory, and not before.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from .errors import CorruptModelError

if TYPE_CHECKING:
    from pathlib import Path

CONFIG_NAME = "config.json"
_TRUE = {"1", "ON", "YES", "TRUE"}
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "revision", "token")


def find_file(
    name_or_path: str | os.PathLike[str],
    filename: str,
    *,
    required: bool,
    subfolder: str = "",
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> str | None:
    """The path of one file of a model; None if it is not there and not `required`.

    `name_or_path` is a directory or the name of a repository on the hub ("sentence-transformers/all-MiniLM-L6-v2").
    With `local_files_only`, `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE` nothing is asked over the network.

    Raises FileNotFoundError (missing file, path or repository), NotADirectoryError (the path is a file),
    PermissionError, ConnectionError (the hub does not answer, and the file is not in its cache), or ImportError when a
    hub name is given and huggingface_hub is not installed.
    """
    root = os.path.expanduser(name_or_path)
    mode = _mode(root)
    if stat.S_ISDIR(mode):
        return _local_file(os.path.join(root, subfolder) if subfolder else root, filename, required)
    if stat.S_ISREG(mode):
        raise NotADirectoryError(f"{root!r} is a file; a directory that holds {filename} is needed")
    if not _is_repository_name(str(name_or_path)):
        raise FileNotFoundError(f"no directory {str(name_or_path)!r} (looked there for {_inside(subfolder, filename)})")
    return _hub_file(
        str(name_or_path),
        filename,
        required,
        subfolder=subfolder or None,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only or is_offline(),
        force_download=force_download,
    )


def resolve_file(name_or_path: str | os.PathLike[str], filename: str, **how: Any) -> Path | None:
    """As `find_file`, which spares a program the 4 ms of importing pathlib."""
    from pathlib import Path

    found = find_file(name_or_path, filename, **how)
    return None if found is None else Path(found)


def plain_name(name: object, source: object) -> str:
    """`name`, which stands in the file `source`, if it names a file beside it; else CorruptModelError."""
    if isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\:\0"):
        return name
    raise CorruptModelError(f"{source}: {_shorten(name)} must be a plain file name, without a directory")


def is_offline() -> bool:
    """Whether the environment forbids the network."""
    return any(os.environ.get(name, "").upper() in _TRUE for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def _local_file(directory: str, filename: str, required: bool) -> str | None:
    path = os.path.join(directory, filename)
    mode = _mode(path)
    if mode and not stat.S_ISREG(mode):
        raise CorruptModelError(f"{path}: not a regular file")
    if not mode and required:
        raise FileNotFoundError(f"no {filename} in {directory!r} ({_listing(directory)})")
    return path if mode else None


def _mode(path: str) -> int:
    """What is there, 0 for nothing. A directory that may not be searched is a PermissionError and not "nothing"."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return 0


def _hub_file(repository: str, filename: str, required: bool, **arguments: Any) -> str | None:
    try:
        from huggingface_hub import errors, hf_hub_download
    except ImportError as error:
        raise ImportError(
            f"{repository!r} is not a directory, and loading from the Hugging Face hub needs huggingface_hub: "
            'pip install "ferroformer[hub]"'
        ) from error
    try:
        return str(hf_hub_download(repository, filename, **arguments))
    except errors.RepositoryNotFoundError as error:
        raise FileNotFoundError(f"{repository!r} is neither a directory nor a model on the hub: {error}") from error
    except (errors.EntryNotFoundError, errors.RevisionNotFoundError) as error:
        unanswered = isinstance(error, errors.LocalEntryNotFoundError) and not arguments["local_files_only"]
        if unanswered and not _known_to_be_missing(repository, filename, **arguments):
            raise ConnectionError(
                f"the hub cannot be reached, and {filename} of {repository!r} is not in the cache; "
                f"HF_HUB_OFFLINE=1 takes what is in the cache for all that there is: {error}"
            ) from error
        missing_file = isinstance(error, errors.EntryNotFoundError)
        if missing_file and not required:
            return None
        revision = arguments["revision"] or "main"
        raise FileNotFoundError(f"no {filename} in the hub's {repository!r}, revision {revision!r}: {error}") from error


def _known_to_be_missing(
    repository: str, filename: str, *, subfolder: str | None, revision: str | None, cache_dir: Any, **_: Any
) -> bool:
    """Whether the hub once said that there is no such file: the cache keeps that too."""
    from huggingface_hub import try_to_load_from_cache

    path = _inside(subfolder or "", filename)
    return try_to_load_from_cache(repository, path, cache_dir=cache_dir, revision=revision) is not None


def _is_repository_name(name: str) -> bool:
    parts = name.split("/")
    return len(parts) <= 2 and all(part.strip(".") and "\\" not in part and "\0" not in part for part in parts)


def _inside(subfolder: str, filename: str) -> str:
    return f"{subfolder}/{filename}" if subfolder else filename


def _listing(directory: str) -> str:
    if not os.path.isdir(directory):
        return "there is no such directory"
    names = sorted(os.listdir(directory))
    if not names:
        return "it is empty"
    return "it holds " + ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "…"
