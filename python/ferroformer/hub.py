"""Where the files of a model are: in a local directory, or in the Hugging Face hub's cache.

A local directory never asks the hub anything. `huggingface_hub` (the optional extra `ferroformer[hub]`) is imported
when a name is not a directory, and not before.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .errors import CorruptModelError

CONFIG_NAME = "config.json"
_TRUE = {"1", "ON", "YES", "TRUE"}
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "revision", "token")


def resolve_file(
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
) -> Path | None:
    """The path of one file of a model; None if it is not there and not `required`.

    `name_or_path` is a directory or the name of a repository on the hub ("sentence-transformers/all-MiniLM-L6-v2").
    With `local_files_only`, `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE` nothing is asked over the network.

    Raises FileNotFoundError (missing file, path or repository), NotADirectoryError (the path is a file),
    PermissionError, or ImportError when a hub name is given and huggingface_hub is not installed.
    """
    root = Path(name_or_path).expanduser()
    # Path("") would be the current directory
    if name_or_path != "" and root.is_dir():
        return _local_file(root / subfolder, filename, required)
    if root.is_file():
        raise NotADirectoryError(f"{str(root)!r} is a file; a directory that holds {filename} is needed")
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


def plain_name(name: object, source: object) -> str:
    """`name`, which stands in the file `source`, if it names a file beside it; else CorruptModelError."""
    if isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\:\0"):
        return name
    raise CorruptModelError(f"{source}: {_shorten(name)} must be a plain file name, without a directory")


def is_offline() -> bool:
    """Whether the environment forbids the network."""
    return any(os.environ.get(name, "").upper() in _TRUE for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def _local_file(directory: Path, filename: str, required: bool) -> Path | None:
    path = directory / filename
    # stat, not is_file(): a directory that may not be searched is a PermissionError and not "no such file"
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if required:
            raise FileNotFoundError(f"no {filename} in {str(directory)!r} ({_listing(directory)})") from None
        return None
    if not path.is_file():
        raise CorruptModelError(f"{path}: not a regular file")
    return path


def _hub_file(repository: str, filename: str, required: bool, **arguments: Any) -> Path | None:
    try:
        from huggingface_hub import errors, hf_hub_download
    except ImportError as error:
        raise ImportError(
            f"{repository!r} is not a directory, and loading from the Hugging Face hub needs huggingface_hub: "
            'pip install "ferroformer[hub]"'
        ) from error
    try:
        return Path(hf_hub_download(repository, filename, **arguments))
    except errors.RepositoryNotFoundError as error:
        raise FileNotFoundError(f"{repository!r} is neither a directory nor a model on the hub: {error}") from error
    except (errors.EntryNotFoundError, errors.RevisionNotFoundError) as error:
        missing_file = isinstance(error, errors.EntryNotFoundError)
        if missing_file and not required:
            return None
        revision = arguments["revision"] or "main"
        raise FileNotFoundError(f"no {filename} in the hub's {repository!r}, revision {revision!r}: {error}") from error


def _is_repository_name(name: str) -> bool:
    parts = name.split("/")
    return len(parts) <= 2 and all(part.strip(".") and "\\" not in part and "\0" not in part for part in parts)


def _inside(subfolder: str, filename: str) -> str:
    return f"{subfolder}/{filename}" if subfolder else filename


def _listing(directory: Path) -> str:
    if not directory.is_dir():
        return "there is no such directory"
    names = sorted(entry.name for entry in directory.iterdir())
    if not names:
        return "it is empty"
    return "it holds " + ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "…"
