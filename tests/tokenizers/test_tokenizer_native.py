import json

import numpy as np
import pytest

from ferroformer._native import Tokenizer
from ferroformer.tokenization_sections import bert_normalizer


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
    def assemble(vocab):
        sections = {"normalizer": bert_normalizer(True, None, True), "pre_tokenizer": {"type": "BertPreTokenizer"}}
        return Tokenizer.assemble(vocab, '{"type": "WordPiece", "unk_token": "?"}', json.dumps(sections))

    lines = assemble(b"?\nun\n##do\n")
    described = assemble('{"model": {"vocab": {"?": 0, "un": 1, "##do": 2}}}')
    for tokenizer in (lines, described):
        assert tokenizer.encode_ids(["Undo it"])[0].tolist() == [1, 2, 0]
    assert lines.to_json() == described.to_json()
    with pytest.raises(ValueError, match="no vocabulary of tokens and ids"):
        assemble('{"model": {"type": "Unigram", "vocab": [["a", 0.5]]}}')


def test_an_unknown_word_needs_an_unknown_token():
    vocab = {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "?"}, "version": "1.0"}
    with pytest.raises(ValueError, match=r"text\[1\] cannot be tokenized"):
        Tokenizer(json.dumps(vocab)).encode_ids(["a", "b"])
