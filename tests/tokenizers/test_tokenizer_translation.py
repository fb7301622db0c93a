"""Tokenizers of translation models: languages, targets, files, and what they refuse."""

import copy
import json
import pickle
import random
import shutil

import numpy as np
import pytest

from ferroformer import AddedToken, AutoTokenizer, M2M100Tokenizer, MarianTokenizer

from .conftest import DATA

# Those that transformers has in Python; it needs sentencepiece for them
PYTHON = ["tiny-m2m-100", "tiny-marian", "tiny-marian-separate"]
LANGUAGES = [("tiny-mbart", "fr_XX"), ("tiny-mbart-50", "gl_ES"), ("tiny-nllb", "zul_Latn"), ("tiny-m2m-100", "de")]
CHARACTERS = "abc the été ▁<>_ .,!\n\t中ﬁ½"
WORDS = ["the", "<unk>", "</s>", "<pad>", ">>fr<<", ">>xx<<", "__en__", "__fr__", "<left>", "<right>", "whole", "wholes", ""]
ADDED = [
    {"content": "<left>", "lstrip": True},
    {"content": "<right>", "rstrip": True, "special": True},
    {"content": "whole", "single_word": True},
]


def load(family, **options):
    return AutoTokenizer.from_pretrained(DATA / family, **options)


def answers(tokenizer):
    texts = ["the people <unk> été", ">>fr<<of a", "x</s>"]
    both = dict(tokenizer(texts, text_target=texts[::-1], padding=True))
    return both, tokenizer.batch_decode(both["input_ids"]), len(tokenizer), tokenizer.added_tokens_encoder


@pytest.mark.parametrize("family", [*PYTHON, "tiny-mbart", "tiny-mbart-50", "tiny-nllb", "tiny-nllb-legacy", "tiny-pegasus"])
def test_they_are_kept(family, tmp_path):
    tokenizer = load(family)
    tokenizer.add_tokens([AddedToken("<mine>", lstrip=True), "<special>"], special_tokens=family in PYTHON)
    expected = answers(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    shutil.copy(DATA / family / "config.json", tmp_path)
    for other in (AutoTokenizer.from_pretrained(tmp_path), pickle.loads(pickle.dumps(tokenizer)), copy.deepcopy(tokenizer)):
        assert type(other) is type(tokenizer)
        assert answers(other) == expected


@pytest.mark.parametrize(("family", "other"), LANGUAGES)
def test_the_language_is_the_callers(family, other):
    tokenizer = load(family)
    known = tokenizer("the people")["input_ids"]
    tokenizer.src_lang = other
    id = tokenizer.get_lang_id(other) if family == "tiny-m2m-100" else tokenizer.convert_tokens_to_ids(other)
    found = tokenizer("the people")["input_ids"]
    assert id in found and id not in known and len(found) == len(known)
    assert set(found) - {id} <= set(known)
    with pytest.raises(ValueError, match="language 'xx'"):
        tokenizer.src_lang = "xx"
    assert tokenizer.src_lang == other
    assert tokenizer("the people")["input_ids"] == found


def test_targets_need_a_language():
    tokenizer = load("tiny-m2m-100", tgt_lang=None)
    with pytest.raises(ValueError, match="tgt_lang is not set"):
        tokenizer(text_target="the")
    assert load("tiny-mbart", tgt_lang=None)(text_target="the") == load("tiny-mbart")("the")


@pytest.mark.parametrize("family", PYTHON)
def test_arrays_and_what_is_not_there(family):
    tokenizer = load(family)
    assert not tokenizer.is_fast
    assert tokenizer("the", return_tensors="np")["input_ids"].dtype == np.int64
    assert tokenizer(["the", "of a"], return_tensors="np", padding=True)["attention_mask"].shape[0] == 2
    with pytest.raises(NotImplementedError, match="no offsets"):
        tokenizer("the", return_offsets_mapping=True)
    with pytest.raises(ValueError, match="same length"):
        tokenizer(["the", "of a"], return_tensors="np")
    with pytest.raises(ValueError, match="longest_first"):
        tokenizer("the", "of", truncation=True, max_length=2, return_overflowing_tokens=True)
    with pytest.raises((TypeError, ValueError)):
        tokenizer([1])
    if family != "tiny-m2m-100":
        with pytest.raises(ValueError, match="not the id of a token"):
            tokenizer.decode([10**6])
    with pytest.raises(NotImplementedError, match="sp_model_kwargs"):
        load(family, sp_model_kwargs={"alpha": 0.1})


def test_windows():
    """What is cut off, and what lies beside it."""
    tokenizer = load("tiny-marian")
    ids = tokenizer("the people of the water", add_special_tokens=False)["input_ids"]
    found = tokenizer(
        "the people of the water", truncation=True, max_length=4, stride=1, return_overflowing_tokens=True
    )
    assert found["input_ids"] == [*ids[:3], tokenizer.eos_token_id]
    assert found["overflowing_tokens"] == ids[2:]
    assert found["num_truncated_tokens"] == len(ids) + 1 - 4


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"vocab.json": b"{"}, "vocab.json is not valid JSON"),
        ({"vocab.json": b'["a"]'}, "not an object of tokens"),
        ({"vocab.json": b'{"a": 0}'}, "the unk_token '<unk>' is not in the vocabulary"),
        ({"source.spm": b"\x08"}, "source.spm"),
        ({"target.spm": None}, "there is no target.spm"),
    ],
)
def test_damaged_files_are_named(damage, message, tmp_path):
    path = shutil.copytree(DATA / "tiny-marian", tmp_path / "marian")
    for name, content in damage.items():
        (path / name).unlink()
        if content is not None:
            (path / name).write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        AutoTokenizer.from_pretrained(path)


def test_one_file_is_not_enough():
    with pytest.raises(ValueError, match="a directory with source.spm"):
        MarianTokenizer.from_pretrained(DATA / "tiny-marian" / "source.spm")
    with pytest.raises(ValueError, match="language_codes='x'"):
        M2M100Tokenizer.from_pretrained(DATA / "tiny-m2m-100", language_codes="x")


def test_code_ends_where_it_is_asked_to():
    from ferroformer import CodeGenTokenizer

    tokenizer = CodeGenTokenizer.from_pretrained(DATA / "gpt2-vocab", return_token_type_ids=True)
    assert "token_type_ids" in tokenizer("a")
    ids = tokenizer("def f():\n    pass\n# end\ndef g():\n    pass")["input_ids"]
    assert tokenizer.decode(ids, truncate_before_pattern=["^#"]) == "def f():\n    pass\n"
    assert tokenizer.decode(ids, truncate_before_pattern=["^x"]) == "def f():\n    pass\n# end\n"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("family", PYTHON)
def test_random_calls(family, added):
    """Beside transformers, where sentencepiece is installed too."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("sentencepiece")
    ours, theirs = load(family), transformers.AutoTokenizer.from_pretrained(DATA / family)
    if added:
        assert ours.add_tokens([AddedToken(**token) for token in ADDED]) == theirs.add_tokens(
            [transformers.AddedToken(**token) for token in ADDED]
        )
        assert ours.added_tokens_encoder == theirs.added_tokens_encoder
        assert ours.all_special_tokens == theirs.all_special_tokens
    rng = random.Random(family)

    def text():
        return "".join(rng.choices(CHARACTERS, k=rng.randrange(20))) + rng.choice(["", " "]).join(rng.choices(WORDS, k=4))

    choices = {
        "padding": [True, "max_length", False], "truncation": [True, "only_first", "only_second", False],
        "max_length": [5, 8, 16], "stride": [0, 2], "padding_side": ["left", "right"], "add_special_tokens": [False],
        "split_special_tokens": [True], "return_special_tokens_mask": [True], "return_length": [True],
        "return_token_type_ids": [True], "return_attention_mask": [False],
    }  # fmt: skip
    for _ in range(200):
        kwargs = {name: rng.choice(values) for name, values in choices.items() if rng.random() < 0.3}
        texts = [text() for _ in range(3)]
        pairs = [text() for _ in range(3)] if rng.random() < 0.4 else None
        if rng.random() < 0.4:
            texts, pairs = texts[0], pairs and pairs[0]
        kwargs |= {"text_target": text()} if rng.random() < 0.3 else {}
        expected, found = theirs(texts, pairs, **kwargs), ours(texts, pairs, **kwargs)
        assert json.loads(json.dumps(dict(found))) == json.loads(json.dumps(dict(expected))), (texts, pairs, kwargs)
        ids = [rng.randrange(len(ours)) for _ in range(6)]
        for how in ({}, {"skip_special_tokens": True}, {"use_source_tokenizer": True}, {"use_source_tokenizer": False}):
            assert ours.decode(ids, **how) == theirs.decode(ids, **how)
