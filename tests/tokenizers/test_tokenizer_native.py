import numpy as np
import pytest

from ferroformer._native import Tokenizer


def test_ids_alone(shared):
    texts = ["hello world", "", "unaffable things"]
    ids, lengths = shared.backend_tokenizer.encode_ids(texts)
    expected = shared(texts)["input_ids"]
    assert ids.dtype == lengths.dtype == np.int64
    assert ids.tolist() == sum(expected, [])
    assert lengths.tolist() == [len(row) for row in expected]


def test_ids_alone_truncated(shared):
    for side in ("left", "right"):
        ids, lengths = shared.backend_tokenizer.encode_ids(["a b c d"], max_length=4, truncation_side=side)
        assert lengths.tolist() == [4]
        assert ids.tolist() == {"right": [101, 1037, 1038, 102], "left": [101, 1039, 1040, 102]}[side]


def test_errors(shared):
    backend = shared.backend_tokenizer
    with pytest.raises(TypeError, match=r"text\[1\] is NoneType, expected str"):
        backend.encode_ids(["a", None])
    with pytest.raises(ValueError, match="a side is"):
        backend.encode_ids(["a"], truncation_side="up")
    with pytest.raises(ValueError, match="leaves no room"):
        backend.encode_ids(["a"], max_length=1)
    with pytest.raises(ValueError, match="description"):
        Tokenizer("{}")
    with pytest.raises(ValueError, match="description"):
        backend.with_post_processor("{}")


def test_a_vocabulary_may_be_lines_or_a_description():
    options = {"unk_token": "?", "lowercase": True, "strip_accents": None, "handle_chinese_chars": True}
    lines = Tokenizer.word_piece(b"?\nun\n##do\n", **options)
    described = Tokenizer.word_piece('{"model": {"vocab": {"?": 0, "un": 1, "##do": 2}}}', **options)
    for tokenizer in (lines, described):
        assert tokenizer.encode_ids(["Undo it"])[0].tolist() == [1, 2, 0]
    assert lines.to_json() == described.to_json()
    with pytest.raises(ValueError, match="no vocabulary of tokens and ids"):
        Tokenizer.word_piece('{"model": {"type": "Unigram", "vocab": [["a", 0.5]]}}', **options)


def test_an_unknown_word_needs_an_unknown_token():
    vocab = {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "?"}, "version": "1.0"}
    import json

    with pytest.raises(ValueError, match=r"text\[1\] cannot be tokenized"):
        Tokenizer(json.dumps(vocab)).encode_ids(["a", "b"])
