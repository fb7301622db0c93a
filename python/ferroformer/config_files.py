"""Reading and writing the JSON files of a model directory."""

from __future__ import annotations

import json
import math
import os
from typing import Any

from .errors import ConfigFileError

# Config files are a few kilobytes; a damaged or hostile one must not cost minutes.
MAX_BYTES = 32 << 20

# JSON has no infinities; transformers writes {"__float__": "Infinity"}.
_SPECIAL_FLOATS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}


def read_json(path: str | os.PathLike[str]) -> Any:
    """The content of a JSON file; a byte order mark is allowed. ConfigFileError says the line and column."""
    if os.stat(path).st_size > MAX_BYTES:
        raise ConfigFileError(f"'{path}' is larger than {MAX_BYTES >> 20} MiB, which no JSON file of a model is")
    complaint = f"It looks like the config file at '{path}' is not a valid JSON file"
    try:
        with open(path, encoding="utf-8-sig") as file:
            return json.load(file, object_hook=_decode_float)
    except json.JSONDecodeError as error:
        raise ConfigFileError(f"{complaint}: line {error.lineno} column {error.colno}: {error.msg}.") from None
    except UnicodeDecodeError as error:
        raise ConfigFileError(f"{complaint}: not UTF-8 at byte {error.start}.") from None
    except RecursionError:
        raise ConfigFileError(f"{complaint}: nested too deeply.") from None


def read_config_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """As `read_json`, for a file that must hold a JSON object."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise ConfigFileError(f"'{path}' must hold a JSON object, not {type(content).__name__}")
    return content


def dump_config(settings: dict[str, Any]) -> str:
    """The JSON text of settings, byte for byte as transformers writes it."""
    return json.dumps(_encode_floats(settings), indent=2, sort_keys=True) + "\n"


def write_text(path: str | os.PathLike[str], text: str | bytes) -> None:
    """Write a file, a text as UTF-8, beside its place and rename it, so that a reader finds the old file or the new one, whole."""
    import threading

    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(text.encode("utf-8") if isinstance(text, str) else text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def _decode_float(node: dict[str, Any]) -> Any:
    tag = node.get("__float__")
    if len(node) == 1 and isinstance(tag, str):
        return _SPECIAL_FLOATS.get(tag, node)
    return node


def _encode_floats(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"__float__": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    if isinstance(value, dict):
        return {key: _encode_floats(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encode_floats(item) for item in value]
    return value
