"""Answers to questions, as they stand in a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .answer_spans import best_spans, characters
from .base import Pipeline, Row, model_rows

__all__ = ["QuestionAnsweringPipeline", "SquadExample"]


class SquadExample:
    """A question, and the text that may answer it."""

    def __init__(self, question_text: str, context_text: str) -> None:
        self.question_text = question_text
        self.context_text = context_text


class _Window(NamedTuple):
    """Of a row: the text, where its tokens are in it, and which can be in an answer (T,)."""

    context: str
    encoding: Any
    allowed: Any


class QuestionAnsweringPipeline(Pipeline):
    """pipe(question="Who?", context="Ada did.") -> {"score", "start", "end", "answer"}, as transformers 4 has it.

    Question and context are named, or two str, or {"question", "context"}, or a list (or another iterable) of such dicts; lists of
    questions, with a context for each or with one for all.

    top_k: how many answers, 1 by default; for more than one the result is a list of those there are. Answers that read alike in
        several places count as one, with the sum of their scores.
    max_answer_len: tokens of an answer, 15.
    handle_impossible_answer: "" may be the answer too.
    align_to_words: answers are whole words, by default.
    max_seq_len, doc_stride: a text that is longer is read in windows of max_seq_len tokens (384, or what the tokenizer allows),
        the question included, that overlap by doc_stride (128, or half a window).
    padding: as the tokenizer has it. max_question_len: accepted; a question is never cut.
    """

    head = "QuestionAnswering"

    @staticmethod
    def create_sample(question: Any, context: Any) -> Any:
        """An example, or of two lists as many."""
        if isinstance(question, list):
            return [SquadExample(*pair) for pair in zip(question, context)]
        return SquadExample(question, context)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        inputs = _inputs(args, kwargs)
        if not isinstance(inputs, list):
            return super().__call__(inputs, **kwargs)
        examples = [_example(item) for item in inputs]
        return super().__call__(examples[0] if len(examples) == 1 else examples, **kwargs)

    def parameters(
        self,
        padding: Any = None,
        topk: int | None = None,
        top_k: int | None = None,
        doc_stride: int | None = None,
        max_answer_len: int | None = None,
        max_seq_len: int | None = None,
        max_question_len: int | None = None,
        handle_impossible_answer: bool | None = None,
        align_to_words: bool | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        top_k = topk if top_k is None else top_k
        for name, value in (("top_k", top_k), ("max_answer_len", max_answer_len)):
            if value is not None and value < 1:
                raise ValueError(f"{name} parameter should be >= 1 (got {value})")
        arguments = {"padding": padding, "doc_stride": doc_stride, "max_seq_len": max_seq_len}
        options = {
            "top_k": top_k,
            "max_answer_len": max_answer_len,
            "handle_impossible_answer": handle_impossible_answer,
            "align_to_words": align_to_words,
        }
        return _given(arguments), _given(options)

    def preprocess(
        self, item: Any, padding: Any = "do_not_pad", doc_stride: int | None = None, max_seq_len: int | None = None
    ) -> list[Row]:
        """A row for each window."""
        example = _example(item)
        if max_seq_len is None:
            max_seq_len = min(self.tokenizer.model_max_length, 384)
        if doc_stride is None:
            doc_stride = min(max_seq_len // 2, 128)
        if doc_stride > max_seq_len:
            raise ValueError(f"`doc_stride` ({doc_stride}) is larger than `max_seq_len` ({max_seq_len})")
        texts = [example.question_text, example.context_text]
        encoded = self.tokenizer(
            *(texts if self._question_first() else texts[::-1]),
            padding=padding,
            truncation="only_second" if self._question_first() else "only_first",
            max_length=max_seq_len,
            stride=doc_stride,
            return_overflowing_tokens=True,
        )
        inputs = model_rows(encoded, self.tokenizer.model_input_names)
        return [
            Row(row, _Window(example.context_text, encoding, self._allowed(encoding)))
            for row, encoding in zip(inputs, encoded.encodings)
        ]

    def _question_first(self) -> bool:
        return bool(self.tokenizer.padding_side == "right")

    def _allowed(self, encoding: Any) -> Any:
        """The tokens of the context, and those that stand for "no answer"."""
        import numpy as np

        context = 1 if self._question_first() else 0
        inside = np.array([sequence == context for sequence in encoding.sequence_ids])
        cls = self.tokenizer.cls_token_id
        answerless = False if cls is None else np.array(encoding.ids) == cls
        allowed: Any = (inside | answerless) & (np.array(encoding.attention_mask) == 1)
        return allowed

    def keep(self, outputs: Any, index: int, row: Row) -> Any:
        length = len(row.notes.allowed)
        return [outputs[name][index, :length].copy() for name in ("start_logits", "end_logits")]

    def postprocess(
        self,
        rows: list[Row],
        kept: list[Any],
        top_k: int = 1,
        handle_impossible_answer: bool = False,
        max_answer_len: int = 15,
        align_to_words: bool = True,
    ) -> Any:
        # spans that are aligned may become one
        count = top_k * 2 + 10 if align_to_words else top_k
        answers: dict[str, dict[str, Any]] = {}
        null_score = 1000000.0
        for row, (start, end) in zip(rows, kept):
            context, encoding, allowed = row.notes
            spans = best_spans(start, end, allowed, count, max_answer_len)
            null_score = min(null_score, spans.null_score)
            for first, last, score in zip(spans.starts.tolist(), spans.ends.tolist(), spans.scores.tolist()):
                begin, stop = characters(encoding, first, last, 1 if self._question_first() else 0, align_to_words)
                _add(answers, context[begin:stop], begin, stop, score)
        found = list(answers.values())
        if handle_impossible_answer or not found:
            score = null_score if handle_impossible_answer else 0.0
            found.append({"score": score, "start": 0, "end": 0, "answer": ""})
        found = sorted(found, key=lambda answer: -answer["score"])[:top_k]
        return found[0] if len(found) == 1 else found


def _add(answers: dict[str, dict[str, Any]], text: str, start: int, end: int, score: float) -> None:
    """Under its lower-case text."""
    known = answers.setdefault(text.lower(), {"score": 0.0, "start": start, "end": end, "answer": text})
    known["score"] += score


def _inputs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The examples of a call, out of its arguments: a list, or another iterable of them."""
    question, context = kwargs.pop("question", None), kwargs.pop("context", None)
    named = [kwargs.pop(name) for name in ("X", "data") if name in kwargs]
    if len(args) == 2 and all(isinstance(arg, str) for arg in args):
        question, context = args
    elif args or named:
        given = named[0] if not args else args[0] if len(args) == 1 else list(args)
        if isinstance(given, (Mapping, SquadExample)):
            return [given]
        return list(given) if isinstance(given, (list, tuple)) else given
    return _pairs(question, context)


def _pairs(question: Any, context: Any) -> list[Any]:
    if question is None or context is None:
        raise ValueError("question and context are needed: pipe(question=..., context=...)")
    if isinstance(question, str) and isinstance(context, str):
        return [{"question": question, "context": context}]
    if not isinstance(question, list) or not isinstance(context, (str, list)):
        raise ValueError("Arguments can't be understood: question is a str or a list, and so is context")
    contexts = [context] * len(question) if isinstance(context, str) else context
    if len(question) != len(contexts):
        raise ValueError("Questions and contexts don't have the same lengths")
    return [{"question": q, "context": c} for q, c in zip(question, contexts)]


def _example(item: Any) -> Any:
    if hasattr(item, "question_text") and hasattr(item, "context_text"):
        return item
    if not isinstance(item, Mapping):
        raise ValueError(f"{item!r:.200} argument needs to be of type (SquadExample, dict)")
    for key in ("question", "context"):
        if key not in item:
            raise KeyError("You need to provide a dictionary with keys {question:..., context:...}")
        if item[key] is None:
            raise ValueError(f"`{key}` cannot be None")
        if not isinstance(item[key], str):
            raise ValueError(f"`{key}` must be a str, got {type(item[key]).__name__}")
        if not item[key]:
            raise ValueError(f"`{key}` cannot be empty")
    return SquadExample(item["question"], item["context"])


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}
