import copy
import json
import pickle

import pytest

from ferroformer import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast
from ferroformer.added_token import AddedToken

TEXTS = ["Hello, wörld! [MASK] <X> unaffable", "", "中文 foo"]


def same(one, other):
    assert type(one) is type(other)
    assert one(TEXTS).data == other(TEXTS).data
    assert one.special_tokens_map == other.special_tokens_map
    assert one.added_tokens_decoder == other.added_tokens_decoder
    assert one.get_vocab() == other.get_vocab()
    assert (one.padding_side, one.model_max_length) == (other.padding_side, other.model_max_length)


def test_round_trip(tokenizer, tmp_path):
    tokenizer.add_tokens([AddedToken("<X>", lstrip=True, special=True), "foo"])
    tokenizer.padding_side = "left"
    paths = tokenizer.save_pretrained(tmp_path)
    assert [path.rsplit("/")[-1] for path in paths] == ["tokenizer_config.json", "tokenizer.json"]
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again("<X>")["input_ids"] == [101, 30522, 102]
    assert again.get_vocab() == tokenizer.get_vocab()
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "BertTokenizer"
    assert "name_or_path" not in config


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies(tokenizer, duplicate):
    tokenizer.add_tokens("newtok")
    other = duplicate(tokenizer)
    same(tokenizer, other)
    other.add_tokens("othertok")
    assert len(other) == len(tokenizer) + 1


def test_arguments_win_over_the_normalizer(data):
    cased = AutoTokenizer.from_pretrained(data / "minilm", do_lower_case=False)
    assert cased.tokenize("Hello hello") == ["[UNK]", "hello"]


def test_what_is_baked_in_is_left_to_the_call(data, tmp_path):
    description = json.loads((data / "minilm" / "tokenizer.json").read_text(encoding="utf-8"))
    description["truncation"] = {"direction": "Left", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    description["padding"] = {
        "strategy": {"Fixed": 9}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "[PAD]",
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(description), encoding="utf-8")
    for tokenizer in (BertTokenizer.from_pretrained(tmp_path), PreTrainedTokenizerFast.from_pretrained(tmp_path)):
        assert tokenizer("a b c")["input_ids"] == [101, 1037, 1038, 1039, 102]
        assert (tokenizer.padding_side, tokenizer.truncation_side) == ("left", "left")


def test_declared_tokens(tiny):
    token = {
        "content": "<X>",
        "lstrip": True,
        "rstrip": False,
        "normalized": False,
        "single_word": False,
        "special": True,
    }
    path = tiny(
        tokenizer_config={"added_tokens_decoder": {"10": token}, "extra_special_tokens": ["<Y>"], "pad_token": "<X>"}
    )
    tokenizer = AutoTokenizer.from_pretrained(path)
    assert tokenizer.added_tokens_decoder[10] == AddedToken(**token)
    assert (tokenizer.pad_token_id, tokenizer.extra_special_tokens_ids) == (10, [11])


def test_files_of_version_4(tiny):
    path = tiny(
        tokenizer_config={"do_lower_case": False},
        special_tokens_map={"sep_token": {"content": "<s>", "lstrip": True}, "additional_special_tokens": ["<Y>"]},
        added_tokens={"new": 11, "<s>": 10},
    )
    tokenizer = AutoTokenizer.from_pretrained(path)
    assert tokenizer("new hello")["input_ids"] == [2, 11, 5, 10]
    assert tokenizer.extra_special_tokens == ["<Y>"]


def test_class_choice(tiny, data):
    names = {"DistilBertTokenizerFast": "DistilBertTokenizer", "ElectraTokenizer": "BertTokenizer"}
    for name, expected in names.items():
        loaded = AutoTokenizer.from_pretrained(tiny(tokenizer_config={"tokenizer_class": name}))
        assert type(loaded).__name__ == expected
    generic = AutoTokenizer.from_pretrained(data / "minilm", config={"model_type": "bert"})
    assert type(generic) is BertTokenizer


def test_an_unknown_family_needs_a_tokenizer_json(tiny, data):
    path = tiny(tokenizer_config={"tokenizer_class": "UnheardOfTokenizer"})
    with pytest.raises(ValueError, match="'UnheardOfTokenizer' .* cannot be read without a tokenizer.json"):
        AutoTokenizer.from_pretrained(path)
    (path / "tokenizer.json").write_bytes((data / "minilm" / "tokenizer.json").read_bytes())
    loaded = AutoTokenizer.from_pretrained(path)
    assert type(loaded) is PreTrainedTokenizerFast
    assert loaded("Hello")["input_ids"] == [101, 7592, 102]
    assert list(loaded("Hello")) == ["input_ids", "attention_mask"]


def test_one_file(data, tmp_path):
    assert BertTokenizer.from_pretrained(data / "bert-uncased-vocab" / "vocab.txt")("hello")["input_ids"] == [
        101,
        7592,
        102,
    ]
    assert BertTokenizer.from_pretrained(data / "minilm" / "tokenizer.json")("hello")["input_ids"] == [101, 7592, 102]


def test_chat_templates(tokenizer, tmp_path):
    tokenizer.chat_template = {"default": "{{ a }}", "tools": "{{ b }}"}
    tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template == tokenizer.chat_template


def test_a_config_file_chooses_no_other_files(tiny):
    tokenizer = AutoTokenizer.from_pretrained(tiny(tokenizer_config={"vocab_file": "/etc/passwd", "vocab": {"x": 0}}))
    assert len(tokenizer) == 10


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", b"{", "not valid JSON"),
        ("tokenizer.json", b"[]", "must hold an object"),
        ("tokenizer.json", b'{"model": {"vocab": {"a": -1}}}', "not valid"),
        ("tokenizer.json", b"\xff", "not UTF-8"),
        ("vocab.txt", b"a\nb\n\xff\n", "line 3"),
        ("tokenizer_config.json", b"{", "not a valid JSON file"),
        ("tokenizer_config.json", b'{"pad_token": 3}', "pad_token has 3, which is no token"),
    ],
)
def test_damaged_files(tiny, name, content, message):
    path = tiny()
    (path / name).write_bytes(content)
    with pytest.raises((ValueError, TypeError), match=message):
        AutoTokenizer.from_pretrained(path)


def test_no_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer.json or vocab.txt"):
        BertTokenizer.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError):
        AutoTokenizer.from_pretrained(tmp_path)
