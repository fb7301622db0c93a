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
# A post-processor that was saved says these; it was made from them.
_IN_POST_PROCESSOR = ("add_bos_token", "add_eos_token")
_NOT_SAVED = (*_IN_POST_PROCESSOR, "additional_special_tokens", "is_local", "local_files_only", "name_or_path")


class TokenizerFiles(NamedTuple):
    """What was found of a tokenizer: a `tokenizer.json`, or else a vocabulary, and for some classes merges; for those that
    never have a `tokenizer.json` each file that they name."""

    vocab: bytes | None
    merges: bytes | None
    description: Description | None
    arguments: dict[str, Any]
    others: dict[str, bytes | None] = {}


def read_tokenizer_files(
    name_or_path: str | os.PathLike[str], names: Mapping[str, str], overrides: dict[str, Any], **hub: Any
) -> TokenizerFiles:
    """Everything a tokenizer's constructor needs, from a directory, a hub name, or one vocabulary file.

    `tokenizer.json` comes before the vocabulary (`names` has the files that the class reads), `overrides` before
    `tokenizer_config.json`. Raises FileNotFoundError, or TokenizerError for a file that is damaged.
    """
    vocab_file: str | os.PathLike[str] | None
    json_file: str | os.PathLike[str] | None
    merges_file: str | None = None
    arguments, saved = dict(overrides), None
    others = {}
    if "tokenizer_file" not in names:
        others = _read_files(name_or_path, names, hub)
        vocab_file = json_file = None
        arguments, saved = _read_arguments(name_or_path, overrides, False, hub)
    elif os.path.isfile(name_or_path):
        is_json = os.path.splitext(name_or_path)[1] == ".json"
        vocab_file, json_file = (None, name_or_path) if is_json else (name_or_path, None)
    else:
        json_file = find_file(name_or_path, TOKENIZER_FILE, required=False, **hub)
        vocab_file = None if json_file else _find_vocabulary(name_or_path, names, hub)
        if vocab_file and "merges_file" in names:
            merges_file = find_file(name_or_path, names["merges_file"], required=True, **hub)
        arguments, saved = _read_arguments(name_or_path, overrides, json_file is not None, hub)
    # JSON does not care how its lines end, and looking for their ends takes a millisecond
    description = Description(_read_text(json_file, newline="")) if json_file else None
    added = saved if saved is not None else arguments.pop(ADDED_TOKENS_FILE, {})
    if description is not None and saved is None:
        added.update(description.added_tokens)
    by_content = {str(token): token for token in added.values()}
    _check_special(name_or_path, {k: v for k, v in arguments.items() if k not in overrides})
    for name in SpecialTokens.SPECIAL_TOKENS_ATTRIBUTES:
        token = arguments.get(name)
        arguments[name] = by_content.get(str(token), token)
        if token is None and name not in overrides:
            del arguments[name]
    arguments["added_tokens_decoder"] = added
    arguments["name_or_path"] = str(name_or_path)
    vocab, merges = (read_bytes(file) if file else None for file in (vocab_file, merges_file))
    return TokenizerFiles(vocab, merges, description, arguments, others)


def _read_files(
    name_or_path: str | os.PathLike[str], names: Mapping[str, str], hub: dict[str, Any]
) -> dict[str, bytes | None]:
    """What each file holds, by what the class calls it; None where there is none."""
    if os.path.isfile(name_or_path):
        raise TokenizerError(f"{str(name_or_path)!r} is one file, but a directory with {', '.join(names.values())} is needed")
    found = {key: find_file(name_or_path, name, required=False, **hub) for key, name in names.items()}
    return {key: read_bytes(file) if file else None for key, file in found.items()}


def _check_special(name_or_path: object, arguments: Mapping[str, Any]) -> None:
    """What files say of special tokens is a token, or for `extra_special_tokens` a list of tokens or a dict of them."""
    extra = arguments.get("extra_special_tokens") or []
    several = list(extra.values()) if isinstance(extra, dict) else extra
    if not isinstance(several, list):
        raise TokenizerError(f"{str(name_or_path)!r}: extra_special_tokens is {extra!r}, not a list or a dict of tokens")
    named = {name: arguments.get(name) for name in SpecialTokens.SPECIAL_TOKENS_ATTRIBUTES}
    for name, token in [*named.items(), *(("extra_special_tokens", token) for token in several)]:
        if not (token is None or isinstance(token, (str, AddedToken))):
            raise TokenizerError(f"{str(name_or_path)!r}: {name} has {token!r}, which is no token")


def _find_vocabulary(name_or_path: str | os.PathLike[str], names: Mapping[str, str], hub: dict[str, Any]) -> str:
    name = names.get("vocab_file")
    found = find_file(name_or_path, name, required=False, **hub) if name else None
    if found is None:
        tried = " or ".join(filter(None, [TOKENIZER_FILE, name]))
        raise FileNotFoundError(f"no tokenizer in {str(name_or_path)!r}: there is no {tried}")
    return found


class Description:
    """A `tokenizer.json`: its text, and what it says besides the model, which only the compiled core reads."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sections: dict[str, Any] = json.loads(Tokenizer.outline(text))

    @property
    def added_tokens(self) -> dict[int, AddedToken]:
        """By id."""
        tokens = self.sections["added_tokens"] or []
        return {_id(token.get("id") if isinstance(token, dict) else None): _added_token(token) for token in tokens}

    @property
    def pad_token(self) -> str | None:
        return (self.sections["padding"] or {}).get("pad_token")

    @property
    def charsmap(self) -> str | None:
        """The first compiled map of characters of the normalizer, in base64."""
        normalizer = self.sections["normalizer"] or {}
        parts = normalizer.get("normalizers") if isinstance(normalizer, dict) else None
        maps = [
            part["precompiled_charsmap"]
            for part in (parts if isinstance(parts, list) else [normalizer])
            if isinstance(part, dict) and part.get("type") == "Precompiled" and "precompiled_charsmap" in part
        ]
        return maps[0] if maps else None

    @property
    def sides(self) -> dict[str, str]:
        """The ends at which the padding and truncation sections work; the rest of them is ignored, since a call says
        how it wants to pad and truncate."""
        padding, truncation = self.sections["padding"] or {}, self.sections["truncation"] or {}
        sides = {
            "padding_side": padding.get("direction", "").lower(),
            "truncation_side": truncation.get("direction", "").lower(),
        }
        return {name: value for name, value in sides.items() if value}


def _read_arguments(
    name_or_path: str | os.PathLike[str], overrides: dict[str, Any], has_description: bool, hub: dict[str, Any]
) -> tuple[dict[str, Any], dict[int, AddedToken] | None]:
    """The arguments in the config files, and the added tokens by id. Where `tokenizer_config.json` has none (None),
    those of `added_tokens.json` are in the arguments, under its name."""

    def read(filename: str) -> dict[str, Any]:
        path = find_file(name_or_path, filename, required=False, **hub)
        return read_config_file(path) if path else {}

    arguments = {k: v for k, v in read(TOKENIZER_CONFIG_FILE).items() if k not in _NOT_ARGUMENTS}
    if has_description:
        for name in _IN_POST_PROCESSOR:
            arguments.pop(name, None)
    templates = _read_chat_templates(name_or_path, hub)
    if templates:
        arguments["chat_template"] = templates["default"] if list(templates) == ["default"] else templates
    arguments.update(overrides)
    _rename_extra(arguments)
    if "added_tokens_decoder" in arguments:
        decoder = arguments.pop("added_tokens_decoder") or {}
        added = {_id(key): _added_token(token) for key, token in decoder.items()}
        return _revive_added_tokens(arguments), added
    _merge_special_tokens_map(arguments, read(SPECIAL_TOKENS_MAP_FILE), overrides)
    special = {str(arguments[k]) for k in SpecialTokens.SPECIAL_TOKENS_ATTRIBUTES if arguments.get(k)}
    special.update(str(token) for token in arguments.get("extra_special_tokens") or [])
    found = read(ADDED_TOKENS_FILE)
    arguments = _revive_added_tokens(arguments)
    arguments[ADDED_TOKENS_FILE] = {
        _id(id): AddedToken(token, normalized=token not in special, special=token in special)
        for token, id in found.items()
    }
    return arguments, None


def _id(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise TokenizerError(f"not the id of an added token: {value!r}") from None


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
        token = AddedToken(**{k: v for k, v in value.items() if k not in ("__type", "id")})
    except (AttributeError, TypeError):
        token = None
    if token is None or [type(v) for v in token.to_dict().values()] != [str, bool, bool, bool, bool, bool]:
        raise TokenizerError(f"not the description of an added token: {value!r}")
    return token


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
    others: Mapping[str, str | bytes],
    chat_template: str | dict[str, str] | None,
) -> tuple[str, ...]:
    """Write `tokenizer_config.json`, the chat templates and other files, by name; returns the paths."""
    if os.path.isfile(directory):
        raise NotADirectoryError(f"Provided path ({directory}) should be a directory, not a file")
    os.makedirs(directory, exist_ok=True)
    start = f"{prefix}-" if prefix else ""
    config = {k: _plain(v) for k, v in config.items() if k not in _NOT_SAVED}
    contents: dict[str, str | bytes] = {
        f"{start}{TOKENIZER_CONFIG_FILE}": json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    }
    templates = {"default": chat_template} if isinstance(chat_template, str) else chat_template or {}
    for name, template in templates.items():
        if os.path.basename(name) != name:
            raise ValueError(f"Invalid chat template name: {name!r}")
        file = CHAT_TEMPLATE_FILE if name == "default" else f"{CHAT_TEMPLATE_DIR}/{name}.jinja"
        contents[start + file] = template
    contents.update({start + file: content for file, content in others.items()})
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
