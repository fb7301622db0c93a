"""A compiled tokenizer whose texts are cut into words by somebody else, such as a dictionary of Chinese: they reach it with marks between
these words, and what it says of places is put right afterwards."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ._native import Encoding, Tokenizer
from .tokenization_sections import WHITESPACE_SPLIT, Section, pre_tokenizers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MARKED_WORDS", "SegmentedTokenizer"]

# Between two words where there is no space: letters that no text has in this order. Letters, so that an added token that must be a word of its
# own is none beside them.
_MARK = "\u3164\u115f\u3164"
# How the compiled tokenizer must cut
MARKED_WORDS: Section = pre_tokenizers(
    {"type": "Split", "pattern": {"String": _MARK}, "behavior": "Removed", "invert": False}, WHITESPACE_SPLIT
)


class SegmentedTokenizer:
    """Stands where others have the compiled tokenizer, whose pre-tokenizer must be `MARKED_WORDS`.

    cut: where the words of a normalized text without added tokens begin and end; what lies between them is left out. The normalizer is
    BERT's, here once more, for it has to say where in the text its characters come from.
    saved_pre_tokenizer: what files have in place of `cut`.
    """

    def __init__(
        self,
        inner: Tokenizer,
        cut: Callable[[str], Iterable[tuple[int, int]]],
        lowercase: bool,
        strip_accents: bool,
        saved_pre_tokenizer: Section,
    ) -> None:
        self._inner = inner
        self._how = (cut, lowercase, strip_accents, saved_pre_tokenizer)
        self._cut, self._lowercase, self._strip_accents, self._saved = self._how
        added = [token for _, token in inner.added_tokens()]
        raw = [token for token in added if not token["normalized"]]
        # [False]: where special tokens are matched; [True]: where they are texts like others
        self._raw = [_Matcher(raw), _Matcher(token for token in raw if not token["special"])]
        normalized = [{**token, "content": self._normalized(token["content"])[0]} for token in added if token["normalized"]]
        self._of_normalized = _Matcher(normalized)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __reduce__(self) -> Any:
        return type(self), (self._inner, *self._how)

    def __deepcopy__(self, memo: Any) -> SegmentedTokenizer:
        return self

    # --- as the compiled tokenizer has it -----------------------------------------------------
    def with_added_tokens(self, tokens: Any) -> tuple[SegmentedTokenizer, int]:
        inner, count = self._inner.with_added_tokens(tokens)
        return SegmentedTokenizer(inner, *self._how), count

    def with_post_processor(self, json: str) -> SegmentedTokenizer:
        return SegmentedTokenizer(self._inner.with_post_processor(json), *self._how)

    def to_json(self, pretty: bool = False) -> str:
        sections = json.loads(self._inner.to_json()) | {"pre_tokenizer": self._saved}
        return json.dumps(sections, ensure_ascii=False, indent=2 if pretty else None)

    def encode(
        self, inputs: list[Any], *, pre_split: bool, split_special_tokens: bool, **options: Any
    ) -> tuple[list[Encoding], list[int]]:
        marked = [self._marked_all(item, split_special_tokens) for item in inputs]
        encodings, samples = self._inner.encode(
            marked, pre_split=pre_split, split_special_tokens=split_special_tokens, **options
        )
        pairs = [_texts(marked[sample], pre_split) for sample in samples]
        return [_restored(encoding, pair) for encoding, pair in zip(encodings, pairs)], samples

    def encode_ids(
        self, texts: list[str], *args: Any, **kwargs: Any
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return self._inner.encode_ids([self._marked_all(text, False) for text in texts], *args, **kwargs)

    # --- marked text --------------------------------------------------------------------------
    def _marked_all(self, item: Any, split_special_tokens: bool) -> Any:
        """The texts of an item, whatever its form, each a `_Marked`; what is none is left for the compiled tokenizer to refuse."""
        if isinstance(item, (list, tuple)):
            return [self._marked_all(part, split_special_tokens) for part in item]
        return self._marked(item, split_special_tokens) if isinstance(item, str) and _is_unicode(item) else item

    def _marked(self, text: str, split_special_tokens: bool) -> _Marked:
        """Added tokens as they are, what lies between them normalized, its words marked."""
        parts, end = [], 0
        for start, after in self._raw[split_special_tokens].find(text):
            parts += [*self._of_part(text[end:start], end), (text[start:after], list(range(start, after)))]
            end = after
        return _joined([*parts, *self._of_part(text[end:], end)])

    def _of_part(self, text: str, first: int) -> list[tuple[str, list[int]]]:
        """(characters, place of each) of what begins at place `first`."""
        normalized, places = self._normalized(text)
        places = [first + place for place in places]
        parts, end = [], 0
        for start, after in self._of_normalized.find(normalized):
            between, own = slice(end, start), slice(start, after)
            parts += [*self._words(normalized[between], places[between]), (normalized[own], places[own])]
            end = after
        return [*parts, *self._words(normalized[end:], places[end:])]

    def _words(self, text: str, places: list[int]) -> list[tuple[str, list[int]]]:
        """White space stays, for added tokens beside it may take it along; all else between words goes."""
        parts, last = [], 0
        for start, end in self._cut(text):
            white, word = _white(text, places, last, start), (text[start:end], places[start:end])
            mark = [] if white[0] or not last else [(_MARK, places[start : start + 1] * len(_MARK))]
            parts += [white, *mark, word]
            last = end
        return [*parts, _white(text, places, last, len(text))]

    def _normalized(self, text: str) -> tuple[str, list[int]]:
        """And where each of its characters comes from."""
        normal = [self._normalized_char(char) for char in text]
        return "".join(normal), [place for place, chars in enumerate(normal) for _ in chars]

    def _normalized_char(self, char: str) -> str:
        if char in "\t\n\r":
            return " "
        if char == "\ufffd" or unicodedata.category(char) in ("Cc", "Cf", "Co"):
            return ""
        chars = " " if char.isspace() else char
        if self._strip_accents:
            chars = "".join(c for c in unicodedata.normalize("NFD", chars) if unicodedata.category(c) != "Mn")
        return chars.lower() if self._lowercase else chars


class _Marked(str):
    """A text that knows where each of its characters comes from."""

    places: list[int]


def _joined(parts: list[tuple[str, list[int]]]) -> _Marked:
    text = _Marked("".join(chars for chars, _ in parts))
    text.places = [place for _, places in parts for place in places]
    return text


def _white(text: str, places: list[int], start: int, end: int) -> tuple[str, list[int]]:
    kept = [i for i in range(start, end) if text[i] == " "]
    return " " * len(kept), [places[i] for i in kept]


class _Matcher:
    """Finds added tokens; of several that begin at one place the longest."""

    def __init__(self, tokens: Iterable[Any]) -> None:
        single_word = {token["content"]: token["single_word"] for token in tokens if token["content"]}
        self._single_word = single_word
        longest_first = sorted(single_word, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        for match in self._pattern.finditer(text):
            start, end = match.span()
            beside = text[start - 1 : start] + text[end : end + 1]
            if not (self._single_word[match[0]] and any(map(_is_of_word, beside))):
                yield start, end


def _is_of_word(char: str) -> bool:
    """As Unicode has it: letters, marks, digits, what connects them."""
    return char.isalnum() or unicodedata.category(char) in ("Mn", "Mc", "Me", "Nd", "Pc") or char in "\u200c\u200d"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _texts(item: Any, pre_split: bool) -> list[Any]:
    """The text of an item, or its two, as the compiled tokenizer takes them apart."""
    pair = isinstance(item, list) and len(item) == 2 and not (pre_split and isinstance(item[0], str))
    return item if pair else [item]


def _restored(encoding: Encoding, texts: list[Any]) -> Encoding:
    """With places in the texts as they were."""
    text = encoding.__reduce__()[1][0]  # its pickled form
    columns = json.loads(text)
    sources = zip(encoding.offsets, encoding.sequence_ids, encoding.word_ids)
    columns["offsets"] = [_offset(span, sequence, word, texts) for span, sequence, word in sources]
    return Encoding(json.dumps(columns))


def _offset(span: tuple[int, int], sequence: int | None, word: int | None, texts: list[Any]) -> tuple[int, int]:
    if sequence is None or span[0] == span[1]:
        return span
    text = texts[sequence] if isinstance(texts[sequence], str) else texts[sequence][word]
    return text.places[span[0]], text.places[span[1] - 1] + 1
