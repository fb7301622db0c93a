import numpy as np
import pytest

from ferroformer import BertTokenizer
from ferroformer.added_token import AddedToken


def test_conversions(shared):
    assert shared.convert_tokens_to_ids(["[CLS]", "no such token"]) == [101, 100]
    assert shared.convert_tokens_to_ids("hello") == 7592
    assert shared.convert_ids_to_tokens(7592) == "hello"
    assert shared.convert_ids_to_tokens([101, 7592, 99999]) == ["[CLS]", "hello", None]
    assert shared.convert_ids_to_tokens(np.array([101, 7592]), skip_special_tokens=True) == ["hello"]
    assert shared.convert_tokens_to_string(["he", "##llo", "there", "."]) == "hello there."


def test_decode(shared):
    assert shared.decode([101, 7592, 99999, 102]) == "[CLS] hello [SEP]"
    assert shared.decode([101, 7592, 102], skip_special_tokens=True) == "hello"
    assert shared.decode(7592) == "hello"
    assert shared.decode(np.array([[7592], [2088]])) == ["hello", "world"]
    assert shared.decode(shared("hello")) == "[CLS] hello [SEP]"
    assert shared.decode([]) == ""
    assert shared.batch_decode([101, 102]) == ["[CLS] [SEP]"]
    assert shared.batch_decode([[7592], []]) == ["hello", ""]
    with pytest.raises(ValueError, match=r"ids\[1\] is -100"):
        shared.decode([101, -100])


def test_clean_up(shared):
    ids = [shared.convert_tokens_to_ids(t) for t in ["do", "n", "'", "t", "we", "'", "re", "?"]]
    assert shared.decode(ids, clean_up_tokenization_spaces=True) == shared.clean_up_tokenization(shared.decode(ids))
    assert shared.clean_up_tokenization("do n't , we 're .") == "don't, we're."


def test_attributes(shared):
    assert (shared.cls_token, shared.cls_token_id) == ("[CLS]", 101)
    assert shared.bos_token is None
    assert shared.bos_token_id is None
    assert shared.all_special_tokens == ["[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"]
    assert shared.all_special_ids == [100, 102, 0, 101, 103]
    assert shared.extra_special_tokens == []
    assert shared.get_special_tokens_mask([101, 5, 102], already_has_special_tokens=True) == [1, 0, 1]
    assert (shared.vocab_size, len(shared), shared.max_len_single_sentence) == (30522, 30522, 510)
    assert shared.get_vocab()["hello"] == 7592
    with pytest.raises(AttributeError, match="BertTokenizer has no attribute nothing"):
        shared.nothing


def test_assigning_tokens(tokenizer):
    tokenizer.pad_token_id = 7592
    assert tokenizer.pad_token == "hello"
    tokenizer.pad_token = None
    assert tokenizer.pad_token_id is None
    with pytest.raises(ValueError, match="non-string"):
        tokenizer.pad_token = 3


def test_adding_tokens(tokenizer):
    before = tokenizer.backend_tokenizer
    assert tokenizer.add_tokens(["newtok", "hello"]) == 2
    assert tokenizer.add_tokens("newtok") == 0
    assert tokenizer.add_special_tokens({"bos_token": "<s>", "extra_special_tokens": ["<X>"]}) == 2
    assert (len(tokenizer), tokenizer.vocab_size, tokenizer.bos_token_id) == (30525, 30522, 30523)
    assert tokenizer("NEWTOK <s> <X>")["input_ids"] == [101, 30522, 30523, 30524, 102]
    assert tokenizer.decode([30522, 30523, 30524], skip_special_tokens=True) == "newtok"
    assert tokenizer.extra_special_tokens_ids == [30524]
    assert before.vocabulary_size(True) == 30522


def test_adding_tokens_says_what_is_wrong(tokenizer):
    with pytest.raises(ValueError, match="Key foo is not a valid special token"):
        tokenizer.add_special_tokens({"foo": "x"})
    with pytest.raises(ValueError, match="should be a str or an AddedToken"):
        tokenizer.add_special_tokens({"bos_token": 3})


def test_how_added_tokens_match(tokenizer):
    tokenizer.add_tokens(
        [AddedToken("<l>", lstrip=True), AddedToken("<r>", rstrip=True), AddedToken("w", single_word=True)]
    )
    offsets = tokenizer("a <l> <r> b wow w", return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
    assert offsets == [(0, 1), (1, 5), (6, 10), (10, 11), (12, 15), (16, 17)]


def test_added_token_values():
    token = AddedToken("x")
    assert token == "x" and str(token) == "x" and token.normalized
    assert token.as_special() == AddedToken("x", special=True, normalized=False)
    assert repr(token) == (
        'AddedToken("x", rstrip=False, lstrip=False, single_word=False, normalized=True, special=False)'
    )


def test_from_a_vocabulary(tmp_path):
    tokenizer = BertTokenizer(
        {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "É": 5}, do_lower_case=False
    )
    assert tokenizer("É é")["input_ids"] == [2, 5, 1, 3]
    tokenizer.save_vocabulary(tmp_path)
    again = BertTokenizer(vocab_file=tmp_path / "vocab.txt", do_lower_case=False)
    assert again.get_vocab() == tokenizer.get_vocab()
