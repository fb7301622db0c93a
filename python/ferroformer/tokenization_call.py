"""Calling a tokenizer: texts in their many forms -> a BatchEncoding."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ._native import Encoding, Tokenizer
from .batch_encoding import BatchEncoding
from .special_tokens import SpecialTokens
from .tokenization_options import (
    PaddingStrategy,
    Strategies,
    TensorType,
    TruncationStrategy,
    check_side,
    resolve_strategies,
)

if TYPE_CHECKING:
    from ._native import _Padding, _Truncation

# Texts in any of the forms that `__call__` takes
Texts = str | Sequence[str] | Sequence[Sequence[str]] | Sequence[Sequence[Sequence[str]]]

# A row longer than this is a slip in an argument, not a text: padding to it would take all memory.
_LONGEST_PADDING = 1 << 31


class _Options(NamedTuple):
    """Arguments of one call, apart from the texts."""

    add_special_tokens: bool = True
    padding: bool | str | PaddingStrategy = False
    truncation: bool | str | TruncationStrategy | None = None
    max_length: int | None = None
    stride: int = 0
    is_split_into_words: bool = False
    pad_to_multiple_of: int | None = None
    padding_side: str | None = None
    return_tensors: str | TensorType | None = None
    return_token_type_ids: bool | None = None
    return_attention_mask: bool | None = None
    return_overflowing_tokens: bool = False
    return_special_tokens_mask: bool = False
    return_offsets_mapping: bool = False
    return_length: bool = False
    split_special_tokens: bool | None = None
    verbose: bool = True


class CallableTokenizer(SpecialTokens):
    """`tokenizer(texts, ...)` and the methods that are short for it."""

    model_input_names: list[str] = ["input_ids", "attention_mask"]
    padding_side: str = "right"
    truncation_side: str = "right"
    pad_token_type_id = 0
    model_max_length: int
    split_special_tokens: bool
    _warned: set[str]

    def __call__(
        self,
        text: Texts | None = None,
        text_pair: Texts | None = None,
        text_target: Texts | None = None,
        text_pair_target: Texts | None = None,
        add_special_tokens: bool = True,
        padding: bool | str | PaddingStrategy = False,
        truncation: bool | str | TruncationStrategy | None = None,
        max_length: int | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | TensorType | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
        verbose: bool = True,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        *,
        split_special_tokens: bool | None = None,
        max_target_length: int | None = None,
        **kwargs: Any,
    ) -> BatchEncoding:
        """Tokenize a text, a pair of texts, or a batch of either.

        `text` is a str or a list of str; with `is_split_into_words` a list of words or a list of such lists.
        `text_pair` has the same form; a batch may also hold pairs itself. `text_target` alone is encoded likewise,
        beside `text` it becomes "labels".

        Returns lists of ints, or int64 arrays of shape (B, T) with `return_tensors="np"`: "input_ids",
        "token_type_ids", "attention_mask" and what the `return_*` arguments ask for. With
        `return_overflowing_tokens` what was cut off makes rows of its own, which overlap by `stride` tokens, and
        "overflow_to_sample_mapping" says whose they are.

        Raises ValueError for arguments that do not fit together and texts that cannot be encoded, TypeError for
        things in a batch that are not texts.
        """
        options = _Options(
            add_special_tokens=add_special_tokens,
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            stride=stride,
            is_split_into_words=is_split_into_words,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side,
            return_tensors=return_tensors,
            return_token_type_ids=return_token_type_ids,
            return_attention_mask=return_attention_mask,
            return_overflowing_tokens=return_overflowing_tokens,
            return_special_tokens_mask=return_special_tokens_mask,
            return_offsets_mapping=return_offsets_mapping,
            return_length=return_length,
            split_special_tokens=split_special_tokens,
            verbose=verbose,
        )
        if tokenizer_kwargs:
            options = _Options(**{**options._asdict(), **tokenizer_kwargs})
        self._warn_unknown(kwargs)
        if text is None and text_target is None:
            raise ValueError("You need to specify either `text` or `text_target`.")
        encoding = None if text is None else self._encode(text, text_pair, options)
        if text_target is None:
            return encoding  # type: ignore[return-value]
        target_options = options if max_target_length is None else options._replace(max_length=max_target_length)
        target = self._encode(text_target, text_pair_target, target_options, is_target=True)
        if encoding is None:
            return target
        encoding["labels"] = target["input_ids"]
        return encoding

    def encode(self, text: Texts, text_pair: Texts | None = None, **kwargs: Any) -> Any:
        """The "input_ids" of `__call__`, whose arguments it takes."""
        return self(text, text_pair, **kwargs)["input_ids"]

    def encode_plus(self, *args: Any, **kwargs: Any) -> BatchEncoding:
        warnings.warn("encode_plus is deprecated: call the tokenizer", DeprecationWarning, stacklevel=2)
        return self(*args, **kwargs)

    def batch_encode_plus(self, *args: Any, **kwargs: Any) -> BatchEncoding:
        warnings.warn("batch_encode_plus is deprecated: call the tokenizer", DeprecationWarning, stacklevel=2)
        return self(*args, **kwargs)

    def tokenize(
        self, text: str, pair: str | None = None, add_special_tokens: bool = False, **kwargs: Any
    ) -> list[str]:
        """The tokens of a text as strings."""
        return self(text, pair, add_special_tokens=add_special_tokens, **kwargs).tokens()

    def _backend(self, is_target: bool) -> Tokenizer:
        """What cuts texts, or those that the model is to answer with."""
        return self._tokenizer

    def _encode(self, text: Any, text_pair: Any, options: _Options, is_target: bool = False) -> BatchEncoding:
        batched, inputs = _inputs(text, text_pair, options.is_split_into_words)
        strategies = resolve_strategies(
            options.padding, options.truncation, options.max_length, self.model_max_length, options.verbose
        )
        split_special = options.split_special_tokens
        encodings, samples = self._backend(is_target).encode(
            inputs,
            pre_split=options.is_split_into_words,
            add_special_tokens=options.add_special_tokens,
            split_special_tokens=self.split_special_tokens if split_special is None else split_special,
            truncation=self._truncation(strategies, options),
            padding=self._padding(strategies, options),
        )
        self._warn_too_long(max(map(len, encodings), default=0), strategies.max_length, options.verbose)
        columns = self._columns(encodings, options)
        if options.return_overflowing_tokens:
            columns["overflow_to_sample_mapping"] = samples
        elif not batched and options.return_tensors is None:
            columns = {k: v[0] if isinstance(v[0], list) else v for k, v in columns.items()}
        return BatchEncoding(columns, encodings, tensor_type=options.return_tensors)

    def _columns(self, encodings: list[Encoding], options: _Options) -> dict[str, list[Any]]:
        def wanted(asked: bool | None, name: str) -> bool:
            return name in self.model_input_names if asked is None else asked

        columns: dict[str, list[Any]] = {"input_ids": [e.ids for e in encodings]}
        if wanted(options.return_token_type_ids, "token_type_ids"):
            columns["token_type_ids"] = [e.type_ids for e in encodings]
        if wanted(options.return_attention_mask, "attention_mask"):
            columns["attention_mask"] = [e.attention_mask for e in encodings]
        if options.return_special_tokens_mask:
            columns["special_tokens_mask"] = [e.special_tokens_mask for e in encodings]
        if options.return_offsets_mapping:
            columns["offset_mapping"] = [e.offsets for e in encodings]
        if options.return_length:
            columns["length"] = [len(e) for e in encodings]
        return columns

    def _truncation(self, strategies: Strategies, options: _Options) -> _Truncation | None:
        if strategies.truncation is TruncationStrategy.DO_NOT_TRUNCATE or strategies.max_length is None:
            return None
        if options.stride < 0:
            raise ValueError(f"stride must not be negative, got {options.stride}")
        return {
            "strategy": strategies.truncation.value,
            "max_length": min(strategies.max_length, _LONGEST_PADDING),
            "stride": options.stride,
            "side": self.truncation_side,
            "keep_overflow": options.return_overflowing_tokens,
        }

    def _padding(self, strategies: Strategies, options: _Options) -> _Padding | None:
        if strategies.padding is PaddingStrategy.DO_NOT_PAD:
            return None
        pad_token, pad_id = self._padding_token()
        multiple, length = options.pad_to_multiple_of, strategies.max_length
        cut = strategies.truncation is not TruncationStrategy.DO_NOT_TRUNCATE
        if cut and multiple and length is not None and length % multiple:
            raise ValueError(
                f"Truncation and padding are both activated but truncation length ({length}) is not a multiple of "
                f"pad_to_multiple_of ({multiple})."
            )
        if strategies.padding is PaddingStrategy.LONGEST:
            length = None
        elif length is not None and length > _LONGEST_PADDING:
            raise ValueError(f"max_length={length} is too long to pad to")
        return {
            "length": length,
            "multiple_of": multiple or None,
            "side": check_side(options.padding_side or self.padding_side, "Padding"),
            "id": pad_id,
            "type_id": self.pad_token_type_id,
            "token": pad_token,
        }

    def _padding_token(self) -> tuple[str, int]:
        pad_token, pad_id = self.pad_token, self.pad_token_id
        if pad_token is None or pad_id is None:
            raise ValueError(
                "Asking to pad but the tokenizer does not have a padding token. Please select a token to use as "
                "`pad_token` `(tokenizer.pad_token = tokenizer.eos_token e.g.)` or add a new pad token via "
                "`tokenizer.add_special_tokens({'pad_token': '[PAD]'})`."
            )
        return pad_token, pad_id

    def _warn_too_long(self, longest: int, max_length: int | None, verbose: bool) -> None:
        limit = self.model_max_length
        if max_length is None and verbose and 0 < limit < longest and self._first_time("too long"):
            _logger().warning(
                "Token indices sequence length is longer than the specified maximum sequence length for this model "
                "(%d > %d). Running this sequence through the model will result in indexing errors",
                longest,
                limit,
            )

    def _warn_unknown(self, kwargs: Mapping[str, Any]) -> None:
        unknown = [name for name in kwargs if self._first_time(f"keyword {name}")]
        if unknown:
            _logger().warning("Keyword arguments %s not recognized.", unknown)

    def _first_time(self, warning: str) -> bool:
        first = warning not in self._warned
        self._warned.add(warning)
        return first


def _logger() -> Any:
    import logging

    return logging.getLogger(__name__)


_BAD_TEXT = (
    "text input must be of type `str` (single example), `list[str]` (batch or single pretokenized example) or "
    "`list[list[str]]` (batch of pretokenized examples) or `list[tuple[list[str], list[str]]]` (batch of pretokenized "
    "sequence pairs)."
)


def _inputs(text: Any, text_pair: Any, words: bool) -> tuple[bool, list[Any]]:
    """Whether the call is a batch, and its texts or (text, pair) tuples. Items are checked when they are converted."""
    if not _is_text(text, 3) or not (text_pair is None or _is_text(text_pair, 3)):
        raise ValueError(_BAD_TEXT)
    batched = not isinstance(text, str) and (not words or bool(text and isinstance(text[0], (list, tuple))))
    if not batched:
        return False, [(text, text_pair)] if text_pair else [text]
    if text_pair is None:
        return True, list(text)
    if isinstance(text_pair, str):
        raise TypeError(
            "when tokenizing batches of text, `text_pair` must be a list or tuple with the same length as `text`."
        )
    if len(text) != len(text_pair):
        raise ValueError(
            f"batch length of `text`: {len(text)} does not match batch length of `text_pair`: {len(text_pair)}."
        )
    return True, list(zip(text, text_pair))


def _is_text(value: Any, depth: int) -> bool:
    """A str, or a list whose first item is one, down to `depth` lists deep."""
    if isinstance(value, str):
        return True
    return depth > 0 and isinstance(value, (list, tuple)) and (len(value) == 0 or _is_text(value[0], depth - 1))
