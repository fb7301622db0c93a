"""Reading and writing the files of a tokenizer."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from ._native import Tokenizer
from .added_token import AddedToken
from .config_files import read_config_file, write_text
from .errors import TokenizerError
from .hub import find_file
from .special_tokens import SpecialTokens

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_MAP_FILE = "special_tokens_map.json"
ADDED_TOKENS_FILE = "added_tokens.json"
CHAT_TEMPLATE_FILE = "chat_template.jinja"
CHAT_TEMPLATE_DIR = "additional_chat_templates"

# A config file may not choose the files that are read, and what names its former place is not kept.
_NOT_ARGUMENTS = {
    "tokenizer_class", "init_inputs", "name_or_path", "vocab", "merges", "vocab_file", "merges_file", "tokenizer_file",
    "tokenizer_object",
}  # fmt: skip
_NOT_SAVED = ("added_tokens_decoder", "additional_special_tokens", "is_local", "local_files_only", "name_or_path")


class TokenizerFiles(NamedTuple):
    """What was found of a tokenizer: at least one of the first two."""

    vocab: bytes | None
    description: Description | None
    arguments: dict[str, Any]


def read_tokenizer_files(
    name_or_path: str | os.PathLike[str], vocab_name: str | None, overrides: dict[str, Any], **hub: Any
) -> TokenizerFiles:
    """Everything a tokenizer's constructor needs, from a directory, a hub name, or one vocabulary file.

    `tokenizer.json` comes before the vocabulary (`vocab_name`, where the class reads one), `overrides` before
    `tokenizer_config.json`. Raises FileNotFoundError, or TokenizerError for a file that is damaged.
    """
    vocab_file: str | os.PathLike[str] | None
    json_file: str | os.PathLike[str] | None
    if os.path.isfile(name_or_path):
        is_json = os.path.splitext(name_or_path)[1] == ".json"
        vocab_file, json_file = (None, name_or_path) if is_json else (name_or_path, None)
        arguments, added = dict(overrides), dict[str, Any]()
    else:
        json_file = find_file(name_or_path, TOKENIZER_FILE, required=False, **hub)
        need_vocab = vocab_name is not None and json_file is None
        vocab_file = (
            find_file(name_or_path, vocab_name, required=False, **hub) if vocab_name and need_vocab else None
        )
        if json_file is None and vocab_file is None:
            tried = " or ".join(filter(None, [TOKENIZER_FILE, vocab_name]))
            raise FileNotFoundError(f"no tokenizer in {str(name_or_path)!r}: there is no {tried}")
        arguments, added = _read_arguments(name_or_path, overrides, hub)
    # JSON does not care how its lines end, and looking for their ends takes a millisecond
    description = Description(_read_text(json_file, newline="")) if json_file else None
    if description is not None:
        added = added or description.added_tokens
    for name in SpecialTokens.SPECIAL_TOKENS_ATTRIBUTES:
        token = arguments.get(name)
        arguments[name] = added.get(str(token), token)
        if token is None and name not in overrides:
            del arguments[name]
    arguments["added_tokens_decoder"] = added
    arguments["name_or_path"] = str(name_or_path)
    return TokenizerFiles(read_bytes(vocab_file) if vocab_file else None, description, arguments)


class Description:
    """A `tokenizer.json`: its text, and what it says besides the model, which only the compiled core reads."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sections: dict[str, Any] = json.loads(Tokenizer.outline(text))

    @property
    def added_tokens(self) -> dict[str, AddedToken]:
        """By content."""
        tokens = [_added_token(token) for token in self.sections["added_tokens"] or []]
        return {str(token): token for token in tokens}

    @property
    def defaults(self) -> dict[str, Any]:
        """Attributes that the padding and truncation sections stand for; the rest of them is ignored, since a call
        says how it wants to pad and truncate."""
        padding, truncation = self.sections["padding"] or {}, self.sections["truncation"] or {}
        defaults = {
            "pad_token": padding.get("pad_token"),
            "padding_side": padding.get("direction", "").lower(),
            "truncation_side": truncation.get("direction", "").lower(),
        }
        return {name: value for name, value in defaults.items() if value}


def template(start: str, end: str, ids: Mapping[str, int | None] | None = None) -> str:
    """A post-processor: `start` A `end`, or `start` A `end` B `end` where B and what follows it are of type 1.

    An empty string stands for no token; `ids` are those of the others."""

    def special(token: str, type_id: int) -> list[dict[str, Any]]:
        return [{"SpecialToken": {"id": token, "type_id": type_id}}] if token else []

    def text(name: str, type_id: int) -> list[dict[str, Any]]:
        return [{"Sequence": {"id": name, "type_id": type_id}}]

    single = special(start, 0) + text("A", 0) + special(end, 0)
    return json.dumps(
        {
            "type": "TemplateProcessing",
            "single": single,
            "pair": single + text("B", 1) + special(end, 1),
            "special_tokens": {t: {"id": t, "ids": [i], "tokens": [t]} for t, i in (ids or {}).items()},
        }
    )


def _read_arguments(
    name_or_path: str | os.PathLike[str], overrides: dict[str, Any], hub: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, AddedToken]]:
    """The arguments in the config files, and the added tokens by content in the order of their ids."""

    def read(filename: str) -> dict[str, Any]:
        path = find_file(name_or_path, filename, required=False, **hub)
        return read_config_file(path) if path else {}

    arguments = {k: v for k, v in read(TOKENIZER_CONFIG_FILE).items() if k not in _NOT_ARGUMENTS}
    templates = _read_chat_templates(name_or_path, hub)
    if templates:
        arguments["chat_template"] = templates["default"] if list(templates) == ["default"] else templates
    arguments.update(overrides)
    _rename_extra(arguments)
    added: dict[str, AddedToken] = {}
    if "added_tokens_decoder" in arguments:
        decoder = arguments.pop("added_tokens_decoder")
        tokens = [_added_token(decoder[key]) for key in sorted(decoder, key=int)]
        added = {str(token): token for token in tokens}
    else:
        _merge_special_tokens_map(arguments, read(SPECIAL_TOKENS_MAP_FILE), overrides)
        special = {str(arguments[k]) for k in SpecialTokens.SPECIAL_TOKENS_ATTRIBUTES if arguments.get(k)}
        special.update(str(token) for token in arguments.get("extra_special_tokens") or [])
        for content, _ in sorted(read(ADDED_TOKENS_FILE).items(), key=lambda item: item[1]):
            added[content] = AddedToken(content, special=content in special)
        _rename_extra(arguments)
    return _revive_added_tokens(arguments), added


def _rename_extra(arguments: dict[str, Any]) -> None:
    """Version 4 called `extra_special_tokens` `additional_special_tokens`."""
    old = arguments.pop("additional_special_tokens", None)
    if old and not arguments.get("extra_special_tokens"):
        arguments["extra_special_tokens"] = old


def _merge_special_tokens_map(arguments: dict[str, Any], found: dict[str, Any], overrides: dict[str, Any]) -> None:
    for name, value in found.items():
        if overrides.get(name):
            continue
        if isinstance(value, dict) and name != "extra_special_tokens":
            value = _added_token(value).as_special()
        elif isinstance(value, list):
            known = arguments.get(name) or []
            new = [_added_token(v).as_special() if isinstance(v, dict) else v for v in value]
            value = [*known, *(token for token in new if str(token) not in map(str, known))]
        arguments[name] = value


def _added_token(value: Any) -> AddedToken:
    if isinstance(value, AddedToken):
        return value
    try:
        return AddedToken(**{k: v for k, v in value.items() if k not in ("__type", "id")})
    except (AttributeError, TypeError):
        raise TokenizerError(f"not the description of an added token: {value!r}") from None


def _revive_added_tokens(value: Any) -> Any:
    """AddedTokens where a config file has their serialised form."""
    if isinstance(value, dict):
        if value.get("__type") == "AddedToken":
            return _added_token(value)
        return {k: _revive_added_tokens(v) for k, v in value.items()}
    return [_revive_added_tokens(v) for v in value] if isinstance(value, list) else value


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _read_text(path: str | os.PathLike[str], newline: str | None = None) -> str:
    try:
        with open(path, encoding="utf-8-sig", newline=newline) as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise TokenizerError(f"'{path}' is not UTF-8 at byte {error.start}") from None


def _read_chat_templates(name_or_path: str | os.PathLike[str], hub: dict[str, Any]) -> dict[str, str]:
    templates = {}
    main = find_file(name_or_path, CHAT_TEMPLATE_FILE, required=False, **hub)
    if main:
        templates["default"] = _read_text(main)
    folder = os.path.join(name_or_path, hub.get("subfolder") or "", CHAT_TEMPLATE_DIR)
    for file in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        name, suffix = os.path.splitext(file)
        if suffix == ".jinja":
            templates[name] = _read_text(os.path.join(folder, file))
    return templates


def write_tokenizer_files(
    directory: str | os.PathLike[str],
    prefix: str | None,
    config: dict[str, Any],
    description: str,
    chat_template: str | dict[str, str] | None,
) -> tuple[str, ...]:
    """Write `tokenizer_config.json`, the chat templates and `tokenizer.json`; returns the paths."""
    if os.path.isfile(directory):
        raise NotADirectoryError(f"Provided path ({directory}) should be a directory, not a file")
    os.makedirs(directory, exist_ok=True)
    start = f"{prefix}-" if prefix else ""
    config = {k: _plain(v) for k, v in config.items() if k not in _NOT_SAVED}
    contents = {
        f"{start}{TOKENIZER_CONFIG_FILE}": json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    }
    templates = {"default": chat_template} if isinstance(chat_template, str) else chat_template or {}
    for name, template in templates.items():
        if os.path.basename(name) != name:
            raise ValueError(f"Invalid chat template name: {name!r}")
        file = CHAT_TEMPLATE_FILE if name == "default" else f"{CHAT_TEMPLATE_DIR}/{name}.jinja"
        contents[start + file] = template
    contents[f"{start}{TOKENIZER_FILE}"] = description
    paths = {os.path.join(directory, file): content for file, content in contents.items()}
    for path, content in paths.items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_text(path, content)
    return tuple(paths)


def _plain(value: Any) -> Any:
    if isinstance(value, AddedToken):
        return {"__type": "AddedToken", **value.to_dict()}
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
