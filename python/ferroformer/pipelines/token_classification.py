"""Labels of tokens, and the entities that they make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .base import Pipeline, Row, model_rows
from .entities import BY_WORDS, AggregationStrategy, Token, entities_of, without_overlaps
from .scores import softmax

__all__ = ["AggregationStrategy", "NerPipeline", "TokenClassificationPipeline"]


class _Text:
    """A text, or its words, with the caller's own offsets."""

    def __init__(self, text: Any, offsets: Any) -> None:
        self.text = text
        self.offsets = offsets


class _Window(NamedTuple):
    """Where the tokens of a row are in the text, and which are special."""

    text: str
    offsets: list[tuple[int, int]]
    special: list[int]


class TokenClassificationPipeline(Pipeline):
    """pipe("Ada lives in London") -> [{"entity", "score", "index", "word", "start", "end"}], one for each token that has a label.

    aggregation_strategy: "none" for tokens; "simple", "first", "average" and "max" for entities (`AggregationStrategy`), which
        have "entity_group" in place of "entity" and no "index".
    ignore_labels: those that are left out, ["O"] by default.
    stride: read the whole of a text that is longer than the model can take, in windows that overlap by so many tokens; of
        entities that overlap one stays. Without it such texts are cut.
    is_split_into_words, delimiter: a text is a list of words; it is these with `delimiter` (" ") between them.
    offset_mapping: your own (start, end) of each token of a text, one list for each text, in place of the tokenizer's.
    grouped_entities, ignore_subwords: version 4's names of "simple" and, both together, "first".
    """

    head = "TokenClassification"

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        if inputs is None or (isinstance(inputs, (list, tuple, dict)) and len(inputs) == 0):
            raise ValueError("At least one input is required.")
        words = kwargs.get("is_split_into_words", self._defaults[0].get("is_split_into_words", False))
        if words and isinstance(inputs, (list, tuple)) and not all(isinstance(text, list) for text in inputs):
            inputs = [list(inputs)]
        offsets = kwargs.pop("offset_mapping", None)
        return super().__call__(inputs if offsets is None else _with_offsets(inputs, offsets), **kwargs)

    def parameters(
        self,
        ignore_labels: Sequence[str] | None = None,
        aggregation_strategy: str | AggregationStrategy | None = None,
        is_split_into_words: bool | None = None,
        stride: int | None = None,
        delimiter: str | None = None,
        grouped_entities: bool | None = None,
        ignore_subwords: bool | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        if grouped_entities is not None or ignore_subwords is not None:
            aggregation_strategy = ("first" if ignore_subwords else "simple") if grouped_entities else "none"
        options: dict[str, Any] = {}
        if aggregation_strategy is not None:
            options["aggregation_strategy"] = AggregationStrategy(str.lower(aggregation_strategy))
        if ignore_labels is not None:
            options["ignore_labels"] = list(ignore_labels)
        arguments = {"is_split_into_words": is_split_into_words, "stride": stride, "delimiter": delimiter}
        if stride is not None:
            self._check_stride(stride, options.get("aggregation_strategy"))
        return {name: value for name, value in arguments.items() if value is not None}, options

    def _check_stride(self, stride: int, strategy: AggregationStrategy | None) -> None:
        if stride >= self.tokenizer.model_max_length:
            raise ValueError(
                "`stride` must be less than `tokenizer.model_max_length` (or even lower if the tokenizer adds special "
                "tokens)"
            )
        if strategy is AggregationStrategy.NONE:
            raise ValueError(
                '`stride` was provided to process all the text but `aggregation_strategy="none"`, please select '
                "another one instead."
            )

    def preprocess(
        self, item: Any, is_split_into_words: bool = False, stride: int | None = None, delimiter: str = " "
    ) -> list[Row]:
        """A row for each window."""
        given, own_offsets = _unpacked(item)
        _check_text(given, is_split_into_words)
        encoded = self.tokenizer(
            given,
            truncation=self.tokenizer.model_max_length > 0,
            is_split_into_words=is_split_into_words,
            return_overflowing_tokens=stride is not None,
            stride=stride or 0,
        )
        if own_offsets is not None and len(encoded.encodings) > 1:
            raise ValueError("offset_mapping is of one row of tokens: stride makes several of this text")
        text = delimiter.join(given) if is_split_into_words else given
        starts = _starts(given, len(delimiter)) if is_split_into_words else None
        return [
            Row(inputs, _window(text, encoding, starts, own_offsets))
            for inputs, encoding in zip(model_rows(encoded), encoded.encodings)
        ]

    def keep(self, outputs: Any, index: int, row: Row) -> Any:
        return outputs["logits"][index, : len(row.notes.special)].copy()

    def postprocess(
        self,
        rows: list[Row],
        kept: list[Any],
        aggregation_strategy: AggregationStrategy = AggregationStrategy.NONE,
        ignore_labels: Sequence[str] = ("O",),
    ) -> Any:
        labels, join = self.model.config.id2label, self.tokenizer.convert_tokens_to_string
        found = []
        for row, logits in zip(rows, kept):
            tokens = self._tokens(row, softmax(logits), aggregation_strategy in BY_WORDS)
            entities = entities_of(tokens, aggregation_strategy, labels, join)
            found += [e for e in entities if e.get("entity", e.get("entity_group")) not in ignore_labels]
        return without_overlaps(found) if len(rows) > 1 else found

    def _tokens(self, row: Row, scores: Any, by_words: bool) -> list[Token]:
        """The tokens that are not special; which continue a word is found out for those that ask `by_words`."""
        text, offsets, special = row.notes
        ids = row.inputs["input_ids"]
        names = self.tokenizer.convert_ids_to_tokens(ids)
        continues = self._continues_word() if by_words else lambda name, text, start, end: False
        tokens = []
        for index, (name, (start, end)) in enumerate(zip(names, offsets)):
            if special[index]:
                continue
            subword = continues(name, text, start, end)
            if ids[index] == self.tokenizer.unk_token_id:
                name, subword = text[start:end], False
            tokens.append(Token(name, scores[index], start, end, index, subword))
        return tokens

    def _continues_word(self) -> Any:
        """(token, text, start, end) -> whether it goes on with the word of the token before."""
        if self._marks_subwords():
            # a prefix such as ## makes it longer than its text
            return lambda name, text, start, end: len(name) != len(text[start:end])
        import warnings

        warnings.warn("Tokenizer does not support real words, using fallback heuristic", UserWarning, stacklevel=2)
        return lambda name, text, start, end: start > 0 and " " not in text[start - 1 : start + 1]

    def _marks_subwords(self) -> bool:
        """Whether tokens that go on with a word have a prefix of their own."""
        backend = self.tokenizer.backend_tokenizer
        if backend.model_kind not in ("WordPiece", "BPE"):
            return False
        # the vocabulary comes with it, so it is asked for once
        if self._prefix_of is not backend:
            import json

            self._prefix = bool(json.loads(backend.to_json())["model"].get("continuing_subword_prefix"))
            self._prefix_of = backend
        return self._prefix

    _prefix_of: Any = None
    _prefix = False


NerPipeline = TokenClassificationPipeline


def _with_offsets(inputs: Any, offsets: Any) -> Any:
    """Each text with its own list of offsets."""
    offsets = [offsets] if len(offsets) and isinstance(offsets[0], tuple) else offsets
    texts = [inputs] if isinstance(inputs, str) else inputs
    if not isinstance(texts, (list, tuple)) or len(offsets) != len(texts):
        raise ValueError("offset_mapping should have the same batch size as the input")
    pairs = [_Text(text, own) for text, own in zip(texts, offsets)]
    return pairs[0] if isinstance(inputs, str) else pairs


def _check_text(given: Any, words: bool) -> None:
    if not isinstance(given, list if words else str):
        needed = "a list of tokens" if words else "an untokenized string"
        raise ValueError(f"When `is_split_into_words={words}`, `sentence` must be {needed}.")


def _unpacked(item: Any) -> tuple[Any, Any]:
    return (item.text, item.offsets) if isinstance(item, _Text) else (item, None)


def _starts(words: list[str], gap: int) -> list[int]:
    """Where each word begins in the text that they make."""
    starts, place = [], 0
    for word in words:
        starts.append(place)
        place += len(word) + gap
    return starts


def _window(text: str, encoding: Any, starts: list[int] | None, own_offsets: Any) -> _Window:
    offsets = encoding.offsets if own_offsets is None else [(int(start), int(end)) for start, end in own_offsets]
    if len(offsets) < len(encoding):
        raise ValueError(f"offset_mapping has {len(offsets)} places for {len(encoding)} tokens")
    if starts is not None:
        shifts = [0 if word is None else starts[word] for word in encoding.word_ids]
        offsets = [(start + shift, end + shift) for (start, end), shift in zip(offsets, shifts)]
    return _Window(text, offsets, encoding.special_tokens_mask)
