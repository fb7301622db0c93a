"""Processors and whole calls of `generate`, as transformers 5.23 answered them (tests/data/generation)."""

import json
from pathlib import Path

import numpy as np
import pytest

import ferroformer.generation as generation
from ferroformer import AutoTokenizer
from ferroformer.generation import StopStringCriteria

from .toy_generation import ToyModel

DATA = Path(__file__).parents[1] / "data"
RECORDED = DATA / "generation"
PROCESSORS = json.loads((RECORDED / "processors.json").read_text())
CALLS = json.loads((RECORDED / "generate.json").read_text())
WARPED = json.loads((RECORDED / "warped.json").read_text())
STOPS = json.loads((RECORDED / "stop_strings.json").read_text())


@pytest.fixture(scope="module")
def processed():
    return np.load(RECORDED / "processors.npz")


@pytest.fixture(scope="module")
def called():
    return np.load(RECORDED / "generate.npz")


def close(ours, theirs):
    return np.array_equal(np.isneginf(ours), np.isneginf(theirs)) and np.allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("number", range(len(PROCESSORS)), ids=lambda number: PROCESSORS[number]["processor"])
def test_processor(processed, number):
    case = PROCESSORS[number]
    arguments = case["arguments"] | {name: processed[f"{number}/{name}"] for name in case["arrays"]}
    processor = getattr(generation, case["processor"])(**arguments)
    ids, scores = processed[f"{number}/input_ids"].astype(np.int64), processed[f"{number}/scores"]
    kept = scores.copy()
    found = processor(ids, scores)
    assert np.array_equal(scores, kept) and found.dtype == np.float32
    assert close(found, processed[f"{number}/out"])


def allowed_after(vocabulary):
    return lambda prompt, ids: [(int(ids[-1]) * 3 + step * (prompt + 1)) % vocabulary for step in range(12)]


def model_of(called, case, **options):
    tables = {key.partition("/")[2]: called[key] for key in called.files if key.startswith(f"model{case['model']}/")}
    return ToyModel(tables["table"], tables["head"], tables.get("encoder"), **options, **case["settings"])


@pytest.mark.filterwarnings("ignore:Using the model-agnostic", "ignore:Unfeasible length")
@pytest.mark.parametrize("number", range(len(CALLS)))
def test_call(called, number):
    case = CALLS[number]
    model = model_of(called, case, copied_logits=bool(number % 2))
    inputs = {
        key.rpartition("/")[2]: called[key].astype(np.int64) for key in called.files if key.startswith(f"{number}/in/")
    }
    kwargs = case["kwargs"] | inputs
    if case["prefix"]:
        kwargs["prefix_allowed_tokens_fn"] = allowed_after(len(model.table))
    found = model.generate(**kwargs, return_dict_in_generate=True, output_scores=True, output_logits=True)
    for name in ("sequences", "beam_indices"):
        if f"{number}/out/{name}" in called.files:
            assert np.array_equal(found[name], called[f"{number}/out/{name}"])
    assert found.sequences.dtype == np.int64
    if f"{number}/out/sequences_scores" in called.files:
        assert np.allclose(found.sequences_scores, called[f"{number}/out/sequences_scores"], atol=1e-4)
    for name in ("scores", "logits"):
        if f"{number}/out/{name}" in called.files:
            assert close(np.stack(found[name]), called[f"{number}/out/{name}"])
    # finished sequences are dropped where nobody sees their scores
    assert np.array_equal(model.generate(**kwargs), found.sequences)


def test_calls_are_of_every_kind():
    settings = {name for case in CALLS for name in case["kwargs"]}
    assert {"num_beams", "early_stopping", "length_penalty", "num_return_sequences", "min_length"} <= settings
    assert {"repetition_penalty", "no_repeat_ngram_size", "bad_words_ids", "forced_eos_token_id"} <= settings


@pytest.mark.parametrize("number", range(len(WARPED)))
def test_distribution_that_is_drawn_from(number):
    case, arrays = WARPED[number], np.load(RECORDED / "warped.npz")
    model = ToyModel(arrays[f"{number}/table"], arrays[f"{number}/head"], **case["settings"])
    how = case["kwargs"] | {"return_dict_in_generate": True, "output_scores": True}
    found = model.generate(arrays[f"{number}/ids"], seed=1, **how).scores[0]
    assert close(found, arrays[f"{number}/scores"])


@pytest.mark.parametrize("case", STOPS, ids=lambda case: case["tokenizer"])
def test_stop_strings(case):
    tokenizer = AutoTokenizer.from_pretrained(DATA / "tokenizers" / case["tokenizer"])
    for text, answers in case["answers"].items():
        criterion = StopStringCriteria(tokenizer, [text])
        found = [int(criterion(np.array([row]), None)[0]) for row in case["rows"]]
        assert found == answers, text
    assert any(sum(answers) for answers in case["answers"].values())
    both = StopStringCriteria(tokenizer, ["stop", "op"])
    assert [int(both(np.array([row]), None)[0]) for row in case["rows"]] == case["answers"]["op"]


@pytest.mark.parametrize("name", ["t5-spm", "tiny-byte-fallback-bpe", "tiny-xlm-roberta", "gpt2-vocab"])
def test_stop_strings_end_in_the_last_token(name):
    """What the criterion says of a text's beginnings, and what the texts themselves say."""
    tokenizer = AutoTokenizer.from_pretrained(DATA / "tokenizers" / name)
    ids = tokenizer("The stop sign, stopper opera. stop stop the operation", add_special_tokens=False)["input_ids"]
    texts = ["", *(tokenizer.decode(ids[:count]) for count in range(1, len(ids) + 1))]
    for stop in ("stop", "op", "p", ". ", "pera"):
        criterion = StopStringCriteria(tokenizer, stop)
        for count in range(1, len(ids) + 1):
            before, text = texts[count - 1], texts[count]
            expected = text.find(stop, max(len(before) - len(stop) + 1, 0)) >= 0
            assert bool(criterion(np.array([ids[:count]]), None)[0]) == expected, (stop, text)


@pytest.mark.parametrize("name", ["tiny-byte-fallback-bpe", "gpt2-vocab"])
def test_stop_strings_of_several_bytes(name):
    tokenizer = AutoTokenizer.from_pretrained(DATA / "tokenizers" / name)
    ids = tokenizer("so 🙂", add_special_tokens=False)["input_ids"]
    criterion = StopStringCriteria(tokenizer, "🙂")
    found = [bool(criterion(np.array([ids[:count]]), None)[0]) for count in range(1, len(ids) + 1)]
    assert found == [False] * (len(ids) - 1) + [True]
