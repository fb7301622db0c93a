"""question-answering against what transformers 4.57 made of the same logits."""

import json
from functools import cache

import numpy as np
import pytest

from ferroformer import AutoTokenizer, QuestionAnsweringPipeline, pipeline
from ferroformer.pipelines.answer_spans import best_spans

from .conftest import DATA
from .given_logits import GivenForQuestionAnswering

RECORDED = json.loads((DATA / "pipelines" / "question-answering.json").read_text(encoding="utf-8"))
CASES = RECORDED["cases"]
QUESTION, CONTEXT = "Who was born?", RECORDED["contexts"][0]


@cache
def tokenizer(name):
    return AutoTokenizer.from_pretrained(DATA / "tokenizers" / name)


@pytest.fixture
def answer():
    return pipeline("question-answering", GivenForQuestionAnswering(), tokenizer=tokenizer("minilm"))


@pytest.mark.parametrize("name", sorted({case["tokenizer"] for case in CASES}))
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_recorded(name, batch_size):
    cases = [case for case in CASES if case["tokenizer"] == name]
    assert len(cases) > 40
    for case in cases:
        model = GivenForQuestionAnswering()
        answer = QuestionAnsweringPipeline(model, tokenizer(name), batch_size=batch_size)
        found = answer(
            question=case["question"], context=RECORDED["contexts"][case["context"]], **case["arguments"]
        )
        assert found == case["answer"], case
        assert sum(model.calls) == case["windows"]


def test_spans_are_the_best_of_all():
    dice = np.random.default_rng(0)
    for length, longest, count in [(2, 1, 5), (9, 3, 4), (30, 15, 12), (30, 40, 1000)]:
        logits = dice.normal(size=(2, length)).astype(np.float32) * 3
        allowed = dice.random(length) < 0.7
        allowed[0] = True
        spans = best_spans(*logits, allowed, count, longest)
        start, end = (np.exp(row) * allowed / (np.exp(row) * allowed).sum() for row in logits)
        every = {
            (s, e): start[s] * end[e]
            for s in range(1, length)
            for e in range(s, min(length, s + longest))
            if allowed[s] and allowed[e]
        }
        assert len(spans.scores) == min(count, len(every))
        assert (np.diff(spans.scores) <= 0).all()
        best = sorted(every.values(), reverse=True)[: len(spans.scores)]
        np.testing.assert_allclose(spans.scores, best, rtol=1e-4, atol=1e-12)
        found = [every[s, e] for s, e in zip(spans.starts, spans.ends)]
        np.testing.assert_allclose(spans.scores, found, rtol=1e-4, atol=1e-12)
        np.testing.assert_allclose(spans.null_score, start[0] * end[0], rtol=1e-4)


def test_no_span_has_a_score(answer, monkeypatch):
    """All that is likely is that there is no answer; of the others, not even float32 can say how unlikely they are."""

    def sure(padded):
        padded[:] = -200
        padded[:, 0] = 200
        return {"start_logits": padded[..., 0], "end_logits": padded[..., 1]}

    monkeypatch.setattr(answer.model, "answer", sure)
    nothing = {"score": 0.0, "start": 0, "end": 0, "answer": ""}
    assert answer(QUESTION, CONTEXT) == answer(QUESTION, CONTEXT, top_k=3) == nothing
    assert answer(QUESTION, CONTEXT, handle_impossible_answer=True) == nothing | {"score": 1.0}


def test_no_token_is_allowed():
    spans = best_spans(np.zeros(5, np.float32), np.zeros(5, np.float32), np.zeros(5, bool), 3, 3)
    assert spans.starts.size == spans.ends.size == spans.scores.size == 0


def test_forms_of_a_call(answer):
    one = answer(question=QUESTION, context=CONTEXT)
    example = {"question": QUESTION, "context": CONTEXT}
    other = answer(question="Where?", context=CONTEXT)
    assert one != other and one.keys() == {"score", "start", "end", "answer"}
    assert one == answer(QUESTION, CONTEXT) == answer(example) == answer([example]) == answer(data=example)
    assert one == answer(answer.create_sample(QUESTION, CONTEXT)) == answer(X=[example])
    assert [one, one] == answer(answer.create_sample([QUESTION, QUESTION], [CONTEXT, CONTEXT]))
    assert [one, other] == answer(question=[QUESTION, "Where?"], context=CONTEXT)
    assert [one, other] == answer(question=[QUESTION, "Where?"], context=[CONTEXT, CONTEXT])
    assert [one, one] == answer([example, example]) == answer(example, example)
    assert [one, one] == list(answer(dict(example, id=i) for i in range(2)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "question and context are needed"),
        ({"question": "a"}, ValueError, "question and context are needed"),
        ({"question": ["a"], "context": ["b", "c"]}, ValueError, "don't have the same lengths"),
        ({"question": "a", "context": ["b"]}, ValueError, "can't be understood"),
        ({"question": "", "context": "b"}, ValueError, "`question` cannot be empty"),
        ({"data": {"question": "a", "context": None}}, ValueError, "`context` cannot be None"),
        ({"data": {"question": "a", "context": 3}}, ValueError, "`context` must be a str, got int"),
        ({"data": {"question": "a"}}, KeyError, "keys {question:..., context:...}"),
        ({"data": ["a"]}, ValueError, "needs to be of type"),
        ({"question": "a", "context": "b", "top_k": 0}, ValueError, r"top_k parameter should be >= 1 \(got 0\)"),
        ({"question": "a", "context": "b", "max_answer_len": 0}, ValueError, "max_answer_len parameter"),
        ({"question": "a", "context": "b", "doc_stride": 9, "max_seq_len": 8}, ValueError, "is larger than"),
        ({"question": "a", "context": "b", "nonsense": 1}, TypeError, "nonsense"),
    ],
)
def test_errors(answer, arguments, error, message):
    with pytest.raises(error, match=message):
        answer(**arguments)


def test_the_text_may_come_first(answer):
    """With padding on the left, as transformers has it; the answer is in the text all the same."""
    side = AutoTokenizer.from_pretrained(DATA / "tokenizers" / "minilm", padding_side="left")
    first = pipeline("question-answering", GivenForQuestionAnswering(), tokenizer=side)
    found = first(question=QUESTION, context=CONTEXT, top_k=5)
    assert len(found) == 5 and all(CONTEXT[a["start"] : a["end"]] == a["answer"] for a in found)
    assert found != answer(question=QUESTION, context=CONTEXT, top_k=5)
