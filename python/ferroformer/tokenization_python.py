"""Tokenizers whose pieces have ids of a `vocab.json`: transformers has these in Python, and what they do differs in places
from what `tokenizers` does (added tokens, truncation, windows), so it is done here as it is there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ._native import SentencePieceProcessor
from .added_token import AddedToken
from .batch_encoding import BatchEncoding
from .errors import InputError, TokenizerError
from .tokenization_call import _inputs, _Options
from .tokenization_files import TokenizerFiles
from .tokenization_options import PaddingStrategy, TruncationStrategy, resolve_strategies
from .tokenization_utils import PreTrainedTokenizerBase

if TYPE_CHECKING:
    from typing_extensions import Self


class Pieces:
    """A SentencePiece model by the content of its file."""

    def __init__(self, name: str, content: bytes | None) -> None:
        if content is None:
            raise FileNotFoundError(f"no tokenizer: there is no {name}")
        self.name = name
        self.content = content
        try:
            self._processor = SentencePieceProcessor(content)
        except TokenizerError as error:
            raise TokenizerError(f"{name}: {error}") from None

    def encode(self, text: str) -> list[str]:
        return self._processor.encode([text])[0]

    def decode(self, pieces: Sequence[str]) -> str:
        return self._processor.decode(pieces)

    def id_to_piece(self, id: int) -> str | None:
        return self._processor.id_to_piece(id)

    def __reduce__(self) -> Any:
        return type(self), (self.name, self.content)

    def __deepcopy__(self, memo: Any) -> Self:
        return self


class Words:
    """Tokens and their ids, and added tokens, which are matched first. Immutable; stands where others have the compiled
    tokenizer."""

    def __init__(self, ids: Mapping[str, int], added: Mapping[int, AddedToken]) -> None:
        self.ids = ids
        self.added = dict(sorted(added.items()))
        self.added_ids = {str(token): id for id, token in self.added.items()}

    @cached_property
    def tokens(self) -> dict[int, str]:
        return {id: token for token, id in self.ids.items()}

    def with_added_tokens(self, tokens: Sequence[Mapping[str, Any]]) -> tuple[Words, int]:
        """And how many of them are new to the vocabulary."""
        added, known = dict(self.added), self.vocabulary(True)
        before = len(known)
        for token in (AddedToken(**token) for token in tokens):
            if str(token) and token not in added.values():
                added[known.setdefault(str(token), len(known))] = token
        return Words(self.ids, added), len(known) - before

    def added_tokens(self) -> list[tuple[int, dict[str, Any]]]:
        return [(id, token.to_dict()) for id, token in self.added.items()]

    def vocabulary(self, with_added_tokens: bool) -> dict[str, int]:
        return {**self.ids, **self.added_ids} if with_added_tokens else dict(self.ids)

    def vocabulary_size(self, with_added_tokens: bool) -> int:
        return len(self.ids) + sum(with_added_tokens and token not in self.ids for token in self.added_ids)

    def split(self, text: str) -> list[str]:
        """Added tokens and what lies between them; of several that begin at one place the longest."""
        return [part for part in self._matcher.split(text) if part] if self.added else [text]

    @cached_property
    def _matcher(self) -> re.Pattern[str]:
        longest_first = sorted(filter(None, self.added_ids), key=len, reverse=True)
        return re.compile(f"({'|'.join(map(re.escape, longest_first))})")

    def __getstate__(self) -> Any:
        return {"ids": self.ids, "added": self.added, "added_ids": self.added_ids}


class PythonBackend(PreTrainedTokenizerBase):
    """What these tokenizers share. There are no offsets, and no `Encoding`s behind what a call returns.

    `vocab` are {token: id}, of a file or as they are. A class says how a text is cut (`_pieces`), which ids go around it
    (`_specials`), and how tokens become text (`_text`).
    """

    is_fast = False
    _tokenizer: Words  # type: ignore[assignment]

    def __init__(self, vocab: Mapping[str, int], **kwargs: Any) -> None:
        unk = str(kwargs.get("unk_token"))
        if unk not in vocab:
            raise TokenizerError(f"the unk_token {unk!r} is not in the vocabulary")
        super().__init__(Words(vocab, kwargs.get("added_tokens_decoder") or {}), **kwargs)  # type: ignore[arg-type]

    @classmethod
    def _from_files(cls, files: TokenizerFiles) -> Self:
        missing = [cls.vocab_files_names[key] for key, content in files.others.items() if content is None]
        required = [name for name in missing if name not in cls._optional_files]
        if required:
            where = files.arguments["name_or_path"]
            raise FileNotFoundError(f"no tokenizer in {where!r}: there is no {' and no '.join(required)}")
        arguments: dict[str, Any] = {**files.others, **files.arguments}
        return cls(**arguments)

    _optional_files: tuple[str, ...] = ()

    def _add_missing_tokens(self, declared: Any) -> None:
        missing = [token for token in self.all_special_tokens if token not in self._tokenizer.added_ids]
        self.add_tokens([AddedToken(token, normalized=False, special=True) for token in missing])

    def _put_around(self) -> None:
        """What goes around a text is the class's."""

    def add_tokens(self, new_tokens: Any, special_tokens: bool = False) -> int:
        count = super().add_tokens(new_tokens, special_tokens)
        listed = [new_tokens] if isinstance(new_tokens, (str, AddedToken)) else new_tokens
        known = self.all_special_tokens
        special = [t for t in listed if special_tokens or (isinstance(t, AddedToken) and t.special)]
        self._extra_special_tokens = [*self._extra_special_tokens, *(t for t in special if str(t) not in known)]
        return count

    # --- what a class says ---

    def _pieces(self, text: str, is_target: bool) -> list[str]:
        raise NotImplementedError

    def _piece_id(self, piece: str, is_target: bool) -> int:
        return self._tokenizer.ids.get(piece, self._tokenizer.ids[str(self.unk_token)])

    def _piece_of(self, id: int, use_source: bool | None) -> str | None:
        return self._tokenizer.tokens.get(id)

    def _specials(self, is_target: bool) -> tuple[list[int], list[int]]:
        raise NotImplementedError

    def _text(self, tokens: Sequence[str], use_source: bool | None) -> str:
        raise NotImplementedError

    # --- ids ---

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        return self._token_id(tokens, False)

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        if isinstance(ids, int):
            return self._token(ids, None)
        skip = set(self.all_special_ids) if skip_special_tokens else set()
        return [self._token(int(id), None) for id in ids if int(id) not in skip]

    def _token_id(self, token: str, is_target: bool) -> int:
        added = self._tokenizer.added_ids.get(token)
        return self._piece_id(token, is_target) if added is None else added

    def _token(self, id: int, use_source: bool | None) -> str:
        added = self._tokenizer.added.get(id)
        token = self._piece_of(id, use_source) if added is None else str(added)
        if token is None:
            raise InputError(f"{id} is not the id of a token")
        return token

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        return sum(map(len, self._specials(False)))

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """What goes around a text, or two texts end to end."""
        prefix, suffix = self._specials(False)
        return [*prefix, *token_ids_0, *(token_ids_1 or []), *suffix]

    def get_special_tokens_mask(
        self,
        token_ids_0: Sequence[int],
        token_ids_1: Sequence[int] | None = None,
        already_has_special_tokens: bool = False,
    ) -> list[int]:
        """1 for special tokens, 0 for the others, of ids that have them already or will get them."""
        if already_has_special_tokens:
            return super().get_special_tokens_mask(token_ids_0, token_ids_1, True)
        prefix, suffix = self._specials(False)
        return [*[1] * len(prefix), *[0] * (len(token_ids_0) + len(token_ids_1 or [])), *[1] * len(suffix)]

    # --- text to ids ---

    def tokenize(
        self, text: str, pair: str | None = None, add_special_tokens: bool = False, **kwargs: Any
    ) -> list[str]:
        """The tokens of a text as strings; never with special tokens around it."""
        return self._tokens(text, kwargs.get("split_special_tokens", self.split_special_tokens), False)

    def _tokens(self, text: str, split_special_tokens: bool, is_target: bool) -> list[str]:
        if not isinstance(text, str):
            raise TypeError(f"a text is needed, not {type(text).__name__}")
        if split_special_tokens:
            return self._pieces(text, is_target)
        added = self._tokenizer.added_ids
        parts = self._strip_beside_added(self._tokenizer.split(text))
        special = {*self.all_special_tokens, *added}
        tokens = ([part] if part in special else self._pieces(part, is_target) for part in parts if part)
        return [token for part in tokens for token in part]

    def _strip_beside_added(self, parts: list[str]) -> list[str]:
        """Added tokens take spaces beside them along, and those that must be words of their own join their neighbours."""
        for place, part in enumerate(parts):
            id = self._tokenizer.added_ids.get(part)
            if id is None:
                continue
            token = self._tokenizer.added[id]
            left = parts[place - 1] if place > 0 else ""
            right = parts[place + 1] if place + 1 < len(parts) else ""
            if token.rstrip and right:
                parts[place + 1] = right.lstrip()
            if token.lstrip and left:
                parts[place - 1] = left.rstrip()
            if token.single_word and left and left[-1] != " ":
                parts[place - 1] += part
                parts[place] = ""
            elif token.single_word and right and right[0] != " ":
                parts[place + 1] = part + parts[place + 1]
                parts[place] = ""
        return parts

    def _ids(self, text: Any, options: _Options, is_target: bool) -> list[int]:
        split = self.split_special_tokens if options.split_special_tokens is None else options.split_special_tokens
        words = text if options.is_split_into_words else [text]
        if not isinstance(words, (list, tuple)):
            raise TypeError(f"a list of words is needed, not {type(words).__name__}")
        return [self._token_id(token, is_target) for word in words for token in self._tokens(word, split, is_target)]

    def _encode(self, text: Any, text_pair: Any, options: _Options, is_target: bool = False) -> BatchEncoding:
        if options.return_offsets_mapping:
            raise NotImplementedError(f"return_offsets_mapping=True: {type(self).__name__} has no offsets")
        batched, inputs = _inputs(text, text_pair, options.is_split_into_words)
        padding, truncation, max_length = resolve_strategies(
            options.padding, options.truncation, options.max_length, self.model_max_length, options.verbose
        )
        cut = truncation is not TruncationStrategy.DO_NOT_TRUNCATE
        multiple = options.pad_to_multiple_of
        if padding is not PaddingStrategy.DO_NOT_PAD:
            self._padding_token()
            if cut and multiple and max_length is not None and max_length % multiple:
                raise ValueError(
                    f"Truncation and padding are both activated but truncation length ({max_length}) is not a multiple of "
                    f"pad_to_multiple_of ({multiple})."
                )
        rows = [self._row(item, options, truncation, max_length, is_target) for item in inputs]
        self._warn_too_long(max((len(row["input_ids"]) for row in rows), default=0), max_length, options.verbose)
        wants_mask = options.return_attention_mask
        how: dict[str, Any] = {
            "padding": padding.value,
            "max_length": max_length,
            "pad_to_multiple_of": multiple,
            "padding_side": options.padding_side,
            "return_attention_mask": "attention_mask" in self.model_input_names if wants_mask is None else wants_mask,
        }
        if not batched:
            length = rows[0].pop("length", None)
            columns = dict(self.pad(rows[0], **how))
            if length is not None:
                columns["length"] = len(columns["input_ids"])
            return BatchEncoding(columns, tensor_type=options.return_tensors, prepend_batch_axis=True)
        names = {name: None for row in rows for name in row} or {"input_ids": None}
        columns = {name: [row[name] for row in rows if name in row] for name in names}
        return BatchEncoding(dict(self.pad(columns, **how)), tensor_type=options.return_tensors)

    def _row(
        self, item: Any, options: _Options, truncation: TruncationStrategy, max_length: int | None, is_target: bool
    ) -> dict[str, Any]:
        """The columns of a text or a pair, not padded."""
        first, second = _pair(item, options.is_split_into_words)
        ids = self._ids(first, options, is_target)
        others = None if second is None else self._ids(second, options, is_target)
        windows = options.return_overflowing_tokens
        if windows and others is not None and truncation is TruncationStrategy.LONGEST_FIRST:
            raise ValueError(
                "Not possible to return overflowing tokens for pair of sequences with the `longest_first`. Please select "
                "another truncation strategy than `longest_first`, for instance `only_second` or `only_first`."
            )
        prefix, suffix = self._specials(is_target) if options.add_special_tokens else ([], [])
        total = len(ids) + len(others or []) + len(prefix) + len(suffix)
        removed: list[int] = []
        if truncation is not TruncationStrategy.DO_NOT_TRUNCATE and max_length and total > max_length:
            cut = _cut(ids, others, total - max_length, truncation, self.truncation_side)
            removed = _overflow(ids, others, total - max_length, truncation, self.truncation_side, options.stride)
            ids, others = cut
        row: dict[str, Any] = {"input_ids": [*prefix, *ids, *(others or []), *suffix]}
        length = len(row["input_ids"])
        wanted = options.return_token_type_ids
        if "token_type_ids" in self.model_input_names if wanted is None else wanted:
            row["token_type_ids"] = self._token_types(len(prefix) + len(ids) + len(suffix), length, others, options)
        if options.return_special_tokens_mask:
            mask = self.get_special_tokens_mask(ids, others) if options.add_special_tokens else [0] * length
            row["special_tokens_mask"] = mask
        if windows and removed and not options.return_tensors:
            row["overflowing_tokens"] = removed
            row["num_truncated_tokens"] = total - max_length if max_length else 0
        if options.return_length:
            row["length"] = length
        return row

    def _token_types(self, first: int, length: int, others: list[int] | None, options: _Options) -> list[int]:
        """1 for what a second text adds to the row of the first."""
        if others is None or not options.add_special_tokens:
            return [0] * length
        return [0] * first + [1] * (length - first)

    # --- ids to text ---

    def _decode(
        self, token_ids: list[int], skip_special_tokens: bool, clean_up: bool | None, use_source: bool | None
    ) -> str:
        skip = set(self.all_special_ids) if skip_special_tokens else set()
        text = self._text([self._token(int(id), use_source) for id in token_ids if int(id) not in skip], use_source)
        clean = self.clean_up_tokenization_spaces if clean_up is None else clean_up
        return self.clean_up_tokenization(text) if clean else text

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        return self._text(tokens, False)

    def _joined(self, tokens: Sequence[str], decode: Callable[[list[str]], str], behind_special: str) -> str:
        """Special tokens as they are, with a text behind each, and what is between them decoded."""
        special = set(self.all_special_tokens)
        text, waiting = "", list[str]()
        for token in tokens:
            if token in special:
                text += decode(waiting) + token + behind_special
                waiting = []
            else:
                waiting.append(token)
        return text + decode(waiting)

    # --- saving ---

    def _kept_tokens(self) -> dict[str, Any]:
        return {"added_tokens_decoder": {id: token.to_dict() for id, token in self.added_tokens_decoder.items()}}


def read_ids(name: str, content: Any) -> dict[str, int]:
    """{token: id} of a `vocab.json`, or as it is given. Raises TokenizerError if it is none."""
    if isinstance(content, bytes):
        try:
            content = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise TokenizerError(f"{name} is not valid JSON: {error}") from None
    if not isinstance(content, dict) or not all(type(id) is int for id in content.values()):
        raise TokenizerError(f"{name} is not an object of tokens and their ids")
    return content


def dump_ids(ids: Mapping[str, int]) -> str:
    return json.dumps(dict(ids), indent=2)


def _pair(item: Any, words: bool) -> tuple[Any, Any]:
    """A text and what it is paired with. A list of words is one text; a tuple of two is a pair."""
    if isinstance(item, str) or (words and not isinstance(item, tuple)):
        return item, None
    if not isinstance(item, (list, tuple)) or not 1 <= len(item) <= 2:
        raise TypeError(f"a text or a pair of texts is needed, not {item!r}")
    return item[0], item[1] if len(item) == 2 else None


def _cut(
    ids: list[int], others: list[int] | None, count: int, truncation: TruncationStrategy, side: str
) -> tuple[list[int], list[int] | None]:
    """Both texts without `count` of their tokens."""

    def shorter(ids: list[int], count: int) -> list[int]:
        if not count:
            return ids
        return ids[count:] if side == "left" else ids[:-count]

    if truncation is TruncationStrategy.ONLY_SECOND:
        return ids, shorter(others, count) if others else others
    if truncation is TruncationStrategy.ONLY_FIRST or others is None:
        return shorter(ids, count), others
    # the longer gives what it is longer by, then both the same
    longer = min(abs(len(ids) - len(others)), count)
    half = (count - longer) // 2
    first = longer + half if len(ids) > len(others) else half
    return shorter(ids, first), shorter(others, count - first)


def _overflow(
    ids: list[int], others: list[int] | None, count: int, truncation: TruncationStrategy, side: str, stride: int
) -> list[int]:
    """What is cut off, and `stride` tokens beside it."""
    if truncation is TruncationStrategy.LONGEST_FIRST and others is not None:
        return []
    whole = (others or []) if truncation is TruncationStrategy.ONLY_SECOND else ids
    length = min(len(whole), stride + count)
    return whole[:length] if side == "left" else whole[len(whole) - length :]
