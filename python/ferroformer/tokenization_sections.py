"""The sections of a `tokenizer.json`, as the tokenizer classes fill them in."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .errors import TokenizerError

Section = dict[str, Any]

# A token with its type, or of type 0. "$A" and "$B" stand for the texts.
TemplateItem = str | tuple[str, int]

WORD_PIECE_DECODER: Section = {"type": "WordPiece", "prefix": "##", "cleanup": True}
BERT_PRE_TOKENIZER: Section = {"type": "BertPreTokenizer"}
WHITESPACE_SPLIT: Section = {"type": "WhitespaceSplit"}


def normalizers(*parts: Section) -> Section:
    return {"type": "Sequence", "normalizers": list(parts)}


def pre_tokenizers(*parts: Section) -> Section:
    return {"type": "Sequence", "pretokenizers": list(parts)}


def decoders(*parts: Section) -> Section:
    return {"type": "Sequence", "decoders": list(parts)}


def bert_normalizer(lowercase: bool, strip_accents: bool | None, handle_chinese_chars: bool) -> Section:
    return {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": handle_chinese_chars,
        "strip_accents": strip_accents,
        "lowercase": lowercase,
    }


def replace(pattern: str, content: str, *, regex: bool = False) -> Section:
    return {"type": "Replace", "pattern": {"Regex" if regex else "String": pattern}, "content": content}


def precompiled(charsmap: str | None) -> list[Section]:
    """The map of characters of a SentencePiece model, in base64, if it has one."""
    return [{"type": "Precompiled", "precompiled_charsmap": charsmap}] if charsmap else []


def byte_level(add_prefix_space: bool = True, trim_offsets: bool = True, use_regex: bool = True) -> Section:
    """A pre-tokenizer and a decoder."""
    options = {"add_prefix_space": add_prefix_space, "trim_offsets": trim_offsets, "use_regex": use_regex}
    return {"type": "ByteLevel", **options}


def metaspace(prepend_scheme: str, split: bool = True) -> Section:
    """A pre-tokenizer and a decoder. `prepend_scheme` is "always", "first" or "never"."""
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": prepend_scheme, "split": split}


def unmark_spaces(byte_fallback: bool) -> list[Section]:
    """The decoders of pieces in which "▁" is a space, and "<0x0A>" may be a byte."""
    bytes = [{"type": "ByteFallback"}, {"type": "Fuse"}] if byte_fallback else []
    return [replace("▁", " "), *bytes]


def roberta_processing(
    sep: tuple[str, int | None], cls: tuple[str, int | None], trim_offsets: bool, add_prefix_space: bool
) -> str:
    """The post-processor `cls` A `sep`, or `cls` A `sep` `sep` B `sep`."""
    _check_ids({sep[0]: sep[1], cls[0]: cls[1]})
    section = {"sep": sep, "cls": cls, "trim_offsets": trim_offsets, "add_prefix_space": add_prefix_space}
    return json.dumps({"type": "RobertaProcessing", **section})


def template(
    single: Sequence[TemplateItem], pair: Sequence[TemplateItem], token_to_id: Callable[[str], int | None]
) -> str:
    """A post-processor that puts tokens around a text and around a pair of texts."""
    names = [item if isinstance(item, str) else item[0] for item in (*single, *pair)]
    ids = {name: token_to_id(name) for name in names if name not in ("$A", "$B")}
    _check_ids(ids)
    tokens = {token: {"id": token, "ids": [id], "tokens": [token]} for token, id in ids.items()}
    return json.dumps(
        {
            "type": "TemplateProcessing",
            "single": [_piece(item) for item in single],
            "pair": [_piece(item) for item in pair],
            "special_tokens": tokens,
        }
    )


def _piece(item: TemplateItem) -> Section:
    name, type_id = (item, 0) if isinstance(item, str) else item
    if name in ("$A", "$B"):
        return {"Sequence": {"id": name[1:], "type_id": type_id}}
    return {"SpecialToken": {"id": name, "type_id": type_id}}


def _check_ids(ids: Mapping[str, int | None]) -> None:
    missing = [token for token, id in ids.items() if id is None]
    if missing:
        raise TokenizerError(f"the tokens {missing} that belong around a text are not in the vocabulary")
