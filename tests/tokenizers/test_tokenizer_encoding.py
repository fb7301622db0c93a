import copy
import pickle

import numpy as np
import pytest

from ferroformer.batch_encoding import BatchEncoding, CharSpan, TokenSpan


@pytest.fixture
def pairs(shared):
    return shared(["a b", "b c hellos"], ["x", "y z"], padding=True)


def test_columns_and_rows(pairs):
    assert pairs.input_ids == pairs["input_ids"]
    assert pairs[0].ids == pairs["input_ids"][0]
    assert [row.ids for row in pairs[0:2]] == pairs["input_ids"]
    assert pairs.n_sequences == 2
    assert pairs.is_fast
    assert {**pairs}.keys() == {"input_ids", "token_type_ids", "attention_mask"}
    with pytest.raises(AttributeError, match="nothing"):
        pairs.nothing
    with pytest.raises(KeyError):
        pairs["nothing"]


def test_from_tokens(pairs):
    assert pairs.tokens(1) == ["[CLS]", "b", "c", "hello", "##s", "[SEP]", "y", "z", "[SEP]"]
    assert pairs.word_ids(1) == [None, 0, 1, 2, 2, None, 0, 1, None]
    assert pairs.sequence_ids(1) == [None, 0, 0, 0, 0, None, 1, 1, None]
    assert pairs.token_to_word(1, 4) == 2
    assert pairs.token_to_word(-1, -2) == 1
    assert pairs.token_to_sequence(1, 6) == 1
    assert pairs.token_to_sequence(1, 0) is None
    assert pairs.token_to_chars(1, 4) == CharSpan(9, 10)
    assert pairs.token_to_chars(0) is None


def test_from_words_and_characters(pairs):
    assert pairs.word_to_tokens(1, 2) == TokenSpan(3, 5)
    assert pairs.word_to_tokens(1, 1, 1) == TokenSpan(7, 8)
    assert pairs.word_to_chars(1, 2) == CharSpan(4, 10)
    assert pairs.word_to_chars(1, 9) is None
    assert pairs.char_to_token(1, 9) == 4
    assert pairs.char_to_token(1, 0, 1) == 6
    assert pairs.char_to_word(2) == 1
    assert pairs.char_to_word(1, 1) is None


def test_without_encodings():
    encoding = BatchEncoding({"input_ids": [[1, 2], [3, 4]]})
    assert encoding[1:] == {"input_ids": [[3, 4]]}
    assert not encoding.is_fast
    with pytest.raises(ValueError, match="not available"):
        encoding.word_ids()
    with pytest.raises(KeyError, match="Invalid key"):
        encoding[0]


def test_arrays(pairs):
    assert pairs.convert_to_tensors("np") is pairs
    assert pairs["input_ids"].shape == (2, 9)
    assert pairs.to("cpu") is pairs
    with pytest.raises(ValueError, match="cuda"):
        pairs.to("cuda")
    single = BatchEncoding({"input_ids": [1, 2]}, tensor_type="np", prepend_batch_axis=True)
    assert single["input_ids"].tolist() == [[1, 2]]
    assert single["input_ids"].dtype == np.int64


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies(pairs, duplicate):
    other = duplicate(pairs)
    assert other.data == pairs.data
    assert other.encodings == pairs.encodings
    assert other.n_sequences == 2
    assert other.word_ids(1) == pairs.word_ids(1)


def test_a_damaged_pickle_is_refused(pairs):
    kind, (text,) = pairs[0].__reduce__()
    for damaged in (text[:-1], text.replace('"tokens":["[CLS]",', '"tokens":[')):
        with pytest.raises(ValueError, match="not the text of an encoding"):
            kind(damaged)
