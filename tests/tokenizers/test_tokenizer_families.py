"""Vocabularies in all their files: which class reads them, what it makes of them, and what it refuses."""

import json
import shutil

import pytest

from ferroformer import (
    AddedToken,
    AutoTokenizer,
    GPT2Tokenizer,
    MPNetTokenizer,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    T5Tokenizer,
    XLMRobertaTokenizer,
)

from .conftest import DATA


@pytest.fixture
def copy(tmp_path):
    """A directory of recorded files that a test may change; `config` is written over its two configurations."""

    def make(family, config=None, **tokenizer_config):
        path = tmp_path / family
        shutil.copytree(DATA / family, path)
        for name, content in (("config", config), ("tokenizer_config", tokenizer_config)):
            if content is not None:
                (path / f"{name}.json").write_text(json.dumps(content))
        return path

    return make


@pytest.mark.parametrize("model_type", ["rembert", "whisper", "esm"])
def test_a_class_that_is_not_there_is_named(copy, model_type):
    with pytest.raises(NotImplementedError, match=f"Tokenizer of the model type {model_type} is not there yet"):
        AutoTokenizer.from_pretrained(copy("minilm", {"model_type": model_type}))


def test_code_from_the_hub_is_refused(copy):
    path = copy("minilm", {"model_type": "unheard-of"}, auto_map={"AutoTokenizer": ["x.Slow", "x.Fast"]})
    with pytest.raises(ValueError, match="such code is never run"):
        AutoTokenizer.from_pretrained(path)


def test_a_byte_level_description_that_says_llama_is_taken_as_it_stands(copy):
    path = copy("minilm", {"model_type": "llama"}, tokenizer_class="LlamaTokenizer")
    GPT2Tokenizer.from_pretrained(DATA / "gpt2-vocab").save_pretrained(path)
    (path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    assert type(AutoTokenizer.from_pretrained(path)) is PreTrainedTokenizerFast


@pytest.mark.parametrize("family", ["roberta-vocab", "gpt2-vocab"])
def test_byte_level_files_go_round(family, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(DATA / family)
    names = tokenizer.save_vocabulary(tmp_path)
    assert [name.rsplit("/")[-1] for name in names] == ["vocab.json", "merges.txt"]
    again = type(tokenizer).from_pretrained(tmp_path)
    assert again.get_vocab() == tokenizer.get_vocab()
    text = "Hello wörld, isn't it? 😀\n\n  x"
    assert again(text) == tokenizer(text)
    assert again.decode(again(text)["input_ids"], skip_special_tokens=True) == text


def test_merges_must_be_there(copy):
    path = copy("roberta-vocab")
    (path / "merges.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"merges\.txt"):
        AutoTokenizer.from_pretrained(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.json", b'{"a": 0', "EOF"),
        ("vocab.json", b'{"a": -1}', "-1"),
        ("merges.txt", b"a\xff b\n", "line 1 of merges.txt is not UTF-8"),
        ("merges.txt", b"#version: 0.2\nh e\nh\n", "merge 1 is \"h\", not two tokens"),
        ("merges.txt", "h ☃\n".encode(), "is not in the vocabulary"),
    ],
)
def test_damaged_byte_level_files(copy, name, content, message):
    path = copy("gpt2-vocab")
    (path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        AutoTokenizer.from_pretrained(path)


def test_damaged_sentence_piece_models(copy):
    path = copy("tiny-albert")
    model = (path / "spiece.model").read_bytes()
    damaged = {
        b"": "it has no pieces",
        b"\x0a": "it ends too early",
        model[:-1]: "not a SentencePiece model",
        b"\xff" * 20: "not a SentencePiece model",
        b'{"a": 1}': "not a SentencePiece model",
    }
    for content, message in damaged.items():
        (path / "spiece.model").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            AutoTokenizer.from_pretrained(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask_token": ["<mask>"]}, r"mask_token has \['<mask>'\], which is no token"),
        ({"mask_token": {"content": "<mask>"}}, "mask_token has .*, which is no token"),
        ({"mask_token": {"__type": "AddedToken", "content": True}}, "not the description of an added token"),
        ({"extra_special_tokens": "<x>"}, "extra_special_tokens is '<x>', not a list"),
        ({"extra_special_tokens": [1]}, "extra_special_tokens has 1, which is no token"),
        ({"added_tokens_decoder": {"x": {"content": "<x>"}}}, "not the id of an added token: 'x'"),
    ],
)
def test_damaged_special_tokens(copy, options, message):
    with pytest.raises(ValueError, match=message):
        AutoTokenizer.from_pretrained(copy("tiny-xlm-roberta", {"model_type": "xlm-roberta"}, **options))


@pytest.mark.parametrize("charsmap", [None, 1, "", "AAAA", "CAAAAAAAAAA=", "?"])
def test_damaged_maps_of_characters(charsmap, tmp_path):
    AutoTokenizer.from_pretrained(DATA / "tiny-xlm-roberta").save_pretrained(tmp_path / "saved")
    description = json.loads((tmp_path / "saved" / "tokenizer.json").read_text(encoding="utf-8"))
    assert description["normalizer"]["type"] == "Precompiled"
    description["normalizer"]["precompiled_charsmap"] = charsmap
    (tmp_path / "tokenizer.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match="precompiled_charsmap"):
        PreTrainedTokenizerFast.from_pretrained(tmp_path)


def test_what_is_put_around_a_text_may_be_set():
    tokenizer = GPT2Tokenizer.from_pretrained(DATA / "gpt2-vocab", add_bos_token=True, bos_token="<b>")
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    inner = tokenizer("hello", add_special_tokens=False)["input_ids"]
    assert tokenizer("hello")["input_ids"] == [bos, *inner]
    tokenizer.add_eos_token = True
    assert tokenizer("hello", "hello")["input_ids"] == [bos, *inner, eos, bos, *inner, eos]
    assert tokenizer("hello", "hello", return_token_type_ids=True)["token_type_ids"][len(inner) + 2] == 1
    tokenizer.add_bos_token = False
    assert tokenizer("hello")["input_ids"] == [*inner, eos]
    tokenizer.eos_token = None
    tokenizer.add_eos_token = True
    assert (tokenizer("hello")["input_ids"], tokenizer.add_eos_token) == (inner, False)


def test_a_saved_post_processor_wins_over_the_flags_it_was_made_from(tmp_path):
    tokenizer = GPT2Tokenizer.from_pretrained(DATA / "gpt2-vocab", add_bos_token=True)
    tokenizer.save_pretrained(tmp_path)
    assert "add_bos_token" not in json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert AutoTokenizer.from_pretrained(tmp_path)("hello") == tokenizer("hello")


def test_vocabularies_may_be_given_in_memory():
    roberta = RobertaTokenizer({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4, "b": 5, "ab": 6}, [("a", "b")])
    assert roberta("abb<mask>")["input_ids"] == [0, 6, 5, roberta.mask_token_id, 2]
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("▁a", -1.0), ("b", -3.0)]
    xlm = XLMRobertaTokenizer(pieces)
    assert xlm.tokenize("ab xb") == ["▁a", "b", "▁", "x", "b"]
    assert xlm("ab x", "b")["input_ids"] == [0, 5, 6, 4, 3, 2, 2, 4, 6, 2]
    assert len(T5Tokenizer(extra_ids=3)) == 7
    assert T5Tokenizer(extra_ids=3).get_sentinel_tokens() == ["<extra_id_0>", "<extra_id_1>", "<extra_id_2>"]
    with pytest.raises(ValueError, match="Both extra_ids"):
        T5Tokenizer(extra_ids=3, additional_special_tokens=["<extra_id_0>"])
    with pytest.raises(TypeError, match="takes no vocab_file"):
        T5Tokenizer(vocab_file="spiece.model")


def test_a_mask_may_take_its_space_along():
    tokenizer = MPNetTokenizer({"<s>": 0, "<pad>": 1, "</s>": 2, "[UNK]": 3, "a": 4, "<mask>": 5})
    assert tokenizer.convert_ids_to_tokens(tokenizer("a  <mask> a")["input_ids"]) == ["<s>", "a", "<mask>", "a", "</s>"]
    assert tokenizer("a", "a")["input_ids"] == [0, 4, 2, 2, 4, 2]


@pytest.mark.parametrize("family", ["roberta-vocab", "tiny-xlm-roberta", "tiny-deberta-v2", "tiny-byte-fallback-bpe"])
def test_tokens_of_every_kind_can_be_added(family, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(DATA / family)
    before = len(tokenizer)
    new = [
        AddedToken("<left>", lstrip=True, normalized=False),
        AddedToken("<right>", rstrip=True, normalized=False),
        AddedToken("zzwhole", single_word=True),
        "zzplain",
    ]
    assert tokenizer.add_tokens(new) == 4
    assert tokenizer.add_special_tokens({"extra_special_tokens": ["<special>"]}) == 1
    assert len(tokenizer) == before + 5
    text = "a <left> b<right> c zzwholes zzwhole zzplain<special>"
    ids = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = {text[slice(*span)].strip() for id, span in zip(ids["input_ids"], ids["offset_mapping"]) if id >= before}
    assert spans == {"<left>", "<right>", "zzwhole", "zzplain", "<special>"}
    assert "<special>" not in tokenizer.decode(ids["input_ids"], skip_special_tokens=True)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again(text) == tokenizer(text)
    assert again.added_tokens_decoder == tokenizer.added_tokens_decoder


def test_bytes_stand_for_what_a_sentence_piece_model_does_not_know():
    tokenizer = AutoTokenizer.from_pretrained(DATA / "tiny-byte-fallback-bpe")
    text = "a\u2603b\U0001f9ff"
    ids = tokenizer(text)["input_ids"]
    assert "<0xE2>" in tokenizer.convert_ids_to_tokens(ids)
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_pieces_are_not_renamed(copy):
    token = {"content": "<new>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    path = copy("tiny-byte-fallback-bpe", {"model_type": "umt5"}, added_tokens_decoder={"300": token})
    with pytest.raises(NotImplementedError, match="renaming pieces is not there yet"):
        AutoTokenizer.from_pretrained(path)
