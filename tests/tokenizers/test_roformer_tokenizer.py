"""RoFormer's tokenizer, whose words are those of jieba, beside transformers'."""

import copy
import json
import pickle
import random
import sys

import pytest

from ferroformer import AddedToken, AutoTokenizer, RoFormerTokenizer

from .conftest import DATA
from .test_tokenizer_reference import ADDED, compare_random_calls, outcome

rjieba = pytest.importorskip("rjieba")
transformers = pytest.importorskip("transformers")

TEXTS = [
    "今天天气非常好。",
    "我来到北京清华大学，研究生命的起源。",
    "他说：“Hello World! It's 50% off”，然后走了。",
    "中华人民共和国成立于1949年10月1日",
    "Héllo Ünïcode 今天\tİstanbul ﬁne  C++和C#语言, a.b_c-d@e.com",  # noqa: RUF001
    "한국어 今天 です 乒乓球拍卖完了😀👍🏽 𠀀𪜶 豈",
    "[MASK]是中国的首都 [SEP] x",
    "\u200bzero width\u3000全角空格ＡＢＣ１２３\r\n",  # noqa: RUF001
    "",
]
# jieba finds more words than these
WORDS = ["今天", "非常", "天气", "北京", "清华大学", "研究", "共和国", "中国", "语言"]


@pytest.fixture(scope="module")
def vocabulary():
    lines = (DATA / "bert-chinese-vocab" / "vocab.txt").read_text(encoding="utf-8").split("\n")
    return {token: id for id, token in enumerate([*filter(None, lines), *WORDS])}


@pytest.fixture
def path(vocabulary, tmp_path):
    (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "roformer"}))
    return tmp_path


def random_text(rng):
    parts = [*WORDS, *"".join(TEXTS), *(token["content"] for token in ADDED), "  ", "[MASK]", "e\u0301", "don't", "9.5%"]
    return "".join(rng.choices(parts, k=rng.randrange(14)))


@pytest.mark.parametrize("options", [{}, {"do_lower_case": False}, {"strip_accents": False}], ids=str)
@pytest.mark.parametrize("added", [False, True])
def test_as_transformers_has_it(vocabulary, options, added):
    """Of a vocabulary: of a vocab.txt, transformers 5.23 takes the path for the words, and finds none."""
    ours, theirs = (cls(vocab=vocabulary, **options) for cls in (RoFormerTokenizer, transformers.RoFormerTokenizer))
    if added:
        ours.add_tokens([AddedToken(**token) for token in ADDED])
        theirs.add_tokens([transformers.AddedToken(**token) for token in ADDED])
    rng = random.Random(str(options))
    calls = [({}, text, None) for text in TEXTS]
    cut = {"truncation": True, "max_length": 12, "stride": 2, "return_overflowing_tokens": True}
    for _ in range(60):
        one, other = random_text(rng), random_text(rng)
        calls += [({}, one, None), (cut, one, other), ({"is_split_into_words": True}, [[one, other], [other]], None)]
    for kwargs, text, pair in calls:
        call = (text, pair, kwargs | {"return_offsets_mapping": True})
        assert outcome(ours, *call) == outcome(theirs, *call), call
    compare_random_calls(ours, theirs, str(options), 40)


def test_words_and_where_they_are(path):
    tokenizer = AutoTokenizer.from_pretrained(path)
    assert type(tokenizer) is RoFormerTokenizer and tokenizer.is_fast
    assert tokenizer.tokenize("我非常喜欢北京。") == ["我", "非常", "喜", "欢", "北京", "。"]
    encoding = tokenizer("é 我非常喜欢北京。", add_special_tokens=False, return_offsets_mapping=True)
    assert encoding["offset_mapping"] == [(0, 1), (2, 3), (3, 5), (5, 6), (6, 7), (7, 9), (9, 10)]
    assert encoding.char_to_token(8) == 5 and encoding.word_to_chars(2) == (3, 5)


def test_copies(path, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.add_tokens(["中国的首都"])
    expected = tokenizer(TEXTS)["input_ids"]
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    for other in (again, copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        assert other(TEXTS)["input_ids"] == expected
    saved = json.loads((tmp_path / "saved" / "tokenizer.json").read_text(encoding="utf-8"))
    assert saved["pre_tokenizer"] == {"type": "BertPreTokenizer"} and saved["normalizer"]["handle_chinese_chars"] is False
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")(TEXTS)["input_ids"] == expected


def test_ids_alone(path):
    """What sentence embeddings ask for."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    ids, lengths = tokenizer.backend_tokenizer.encode_ids(TEXTS, True, 9)
    expected = tokenizer(TEXTS, truncation=True, max_length=9)["input_ids"]
    assert ids.tolist() == sum(expected, []) and lengths.tolist() == list(map(len, expected))


def test_what_is_no_text(path):
    tokenizer = AutoTokenizer.from_pretrained(path)
    with pytest.raises(ValueError, match="lone surrogate"):
        tokenizer("今天\ud800")
    with pytest.raises(TypeError, match=r"text\[1\] is int"):
        tokenizer(["今天", 1])


def test_without_rjieba(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rjieba", None)
    with pytest.raises(ImportError, match=r"rjieba: pip install ferroformer\[roformer\]"):
        AutoTokenizer.from_pretrained(path)
