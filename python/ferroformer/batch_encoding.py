"""What a tokenizer returns: a dict of lists or arrays that also knows where each token comes from."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ._native import Encoding
from .tokenization_options import TensorType

if TYPE_CHECKING:
    from typing_extensions import Self


class CharSpan(NamedTuple):
    """Characters start .. end - 1 of the text."""

    start: int
    end: int


class TokenSpan(NamedTuple):
    """Tokens start .. end - 1 of the row."""

    start: int
    end: int


class BatchEncoding(UserDict[str, Any]):
    """The columns of some rows ("input_ids", "attention_mask", ...) and the `Encoding` behind each row.

    `batch["input_ids"]` and `batch.input_ids` are a column; `batch[0]` is the Encoding of row 0.
    """

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        encoding: Encoding | Sequence[Encoding] | None = None,
        tensor_type: str | TensorType | None = None,
        prepend_batch_axis: bool = False,
        n_sequences: int | None = None,
    ) -> None:
        super().__init__(data)
        rows = [encoding] if isinstance(encoding, Encoding) else encoding
        self._encodings: list[Encoding] | None = None if rows is None else list(rows)
        if n_sequences is None and self._encodings:
            n_sequences = self._encodings[0].n_sequences
        self._n_sequences = n_sequences
        self.convert_to_tensors(tensor_type, prepend_batch_axis)

    @property
    def n_sequences(self) -> int | None:
        """Texts in a row: 1, 2 for pairs, None if it is not known."""
        return self._n_sequences

    @property
    def is_fast(self) -> bool:
        return self._encodings is not None

    @property
    def encodings(self) -> list[Encoding] | None:
        return self._encodings

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, str):
            return self.data[item]
        if self._encodings is not None:
            return self._encodings[item]
        if isinstance(item, slice):
            return {key: value[item] for key, value in self.data.items()}
        raise KeyError(
            "Invalid key. Only three types of key are available: (1) string, (2) integers for backend Encoding, and "
            "(3) slices for data subsetting."
        )

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["data"][name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__!r} has no attribute or column {name!r}") from None

    # --- where tokens come from: each method takes (row, index), or (index) for row 0; negative counts from the end ---

    def tokens(self, batch_index: int = 0) -> list[str]:
        return self._row(batch_index, "tokens").tokens

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """The word that each token is part of; None for special tokens."""
        return self._row(batch_index, "word_ids").word_ids

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """0 for tokens of the first text, 1 for the second, None for special tokens."""
        return self._row(batch_index, "sequence_ids").sequence_ids

    def token_to_sequence(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        row, token = self._token(batch_or_token_index, token_index, "token_to_sequence")
        return row.token_to_sequence(token)

    def token_to_word(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        row, token = self._token(batch_or_token_index, token_index, "token_to_word")
        return row.token_to_word(token)

    def token_to_chars(self, batch_or_token_index: int, token_index: int | None = None) -> CharSpan | None:
        row, token = self._token(batch_or_token_index, token_index, "token_to_chars")
        span = row.token_to_chars(token)
        return CharSpan(*span) if span else None

    def word_to_tokens(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> TokenSpan | None:
        row, word = self._word(batch_or_word_index, word_index, "word_to_tokens")
        span = row.word_to_tokens(word, sequence_index)
        return TokenSpan(*span) if span else None

    def word_to_chars(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> CharSpan | None:
        row, word = self._word(batch_or_word_index, word_index, "word_to_chars")
        span = row.word_to_chars(word, sequence_index)
        return CharSpan(*span) if span else None

    def char_to_token(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        row, char = self._locate(batch_or_char_index, char_index, "char_to_token")
        return row.char_to_token(char, sequence_index)

    def char_to_word(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        row, char = self._locate(batch_or_char_index, char_index, "char_to_word")
        return row.char_to_word(char, sequence_index)

    def _row(self, index: int, method: str) -> Encoding:
        if not self._encodings:
            raise ValueError(f"{method}() is not available when using Python based tokenizers")
        return self._encodings[index]

    def _locate(self, first: int, second: int | None, method: str) -> tuple[Encoding, int]:
        return (self._row(0, method), first) if second is None else (self._row(first, method), second)

    def _token(self, first: int, second: int | None, method: str) -> tuple[Encoding, int]:
        row, token = self._locate(first, second, method)
        return row, token if token >= 0 else len(row) + token

    def _word(self, first: int, second: int | None, method: str) -> tuple[Encoding, int]:
        row, word = self._locate(first, second, method)
        words = [w for w in row.word_ids if w is not None] if word < 0 else []
        return row, word if word >= 0 else max(words, default=0) + 1 + word

    # --- arrays ---

    def convert_to_tensors(self, tensor_type: str | TensorType | None = None, prepend_batch_axis: bool = False) -> Self:
        """Turn every column into an int64 array ("np") or tensor ("pt", if torch is installed), in place.

        Raises ValueError if the rows differ in length.
        """
        if tensor_type is None:
            return self
        convert = _CONVERTERS[TensorType(tensor_type)]
        for key, value in self.items():
            try:
                self[key] = convert([value] if prepend_batch_axis else value)
            except ValueError as error:
                raise ValueError(
                    "Unable to create tensor, you should probably activate truncation and/or padding with "
                    "'padding=True' 'truncation=True' to have batched tensors with the same length. Perhaps your "
                    f"features (`{key}` in this case) have excessive nesting (inputs type `list` where type `int` is "
                    "expected)."
                ) from error
        return self

    def to(self, device: Any, *, non_blocking: bool = False) -> Self:
        """Return self for "cpu", the only device there is; ValueError for any other."""
        if str(device).split(":")[0] != "cpu":
            raise ValueError(f"ferroformer computes on the CPU: there is no device {device!r}")
        return self


def _to_numpy(value: Any) -> Any:
    import numpy as np

    if isinstance(value, np.ndarray):
        return value
    array = np.asarray(value)
    if array.dtype == object:  # what numpy before 1.24 makes of ragged rows
        raise ValueError("the rows differ in length")
    return array.astype(np.int64, copy=False) if array.size == 0 or array.dtype.kind == "i" else array


def _to_torch(value: Any) -> Any:
    try:
        import torch
    except ImportError:
        raise ImportError("Unable to convert output to PyTorch tensors format, PyTorch is not installed.") from None
    return value if torch.is_tensor(value) else torch.from_numpy(_to_numpy(value))


_CONVERTERS = {TensorType.NUMPY: _to_numpy, TensorType.PYTORCH: _to_torch}
