import logging

import numpy as np
import pytest


def test_key_order(shared):
    encoding = shared(
        "a b c",
        truncation=True,
        max_length=4,
        return_overflowing_tokens=True,
        return_special_tokens_mask=True,
        return_offsets_mapping=True,
        return_length=True,
    )
    assert list(encoding) == [
        "input_ids",
        "token_type_ids",
        "attention_mask",
        "special_tokens_mask",
        "offset_mapping",
        "length",
        "overflow_to_sample_mapping",
    ]


def test_arrays_are_int64_and_keep_the_batch_axis(shared):
    encoding = shared("hello world", return_tensors="np")
    assert encoding["input_ids"].dtype == np.int64
    assert encoding["input_ids"].shape == (1, 4)


def test_ragged_rows_make_no_array(shared):
    with pytest.raises(ValueError, match="activate truncation and/or padding"):
        shared(["a", "a b"], return_tensors="np")


def test_no_texts(shared):
    assert shared([])["input_ids"] == []
    assert shared([], return_tensors="np", padding=True)["input_ids"].dtype == np.int64


def test_forms_of_pairs(shared):
    expected = [[101, 1037, 102, 1038, 102]]
    assert shared([("a", "b")])["input_ids"] == expected
    assert shared([["a", "b"]])["input_ids"] == expected
    assert shared(["a"], ["b"])["input_ids"] == expected
    assert shared("a", "b")["input_ids"] == expected[0]
    assert shared("a", "")["input_ids"] == [101, 1037, 102]
    assert shared(["a"], [""])["input_ids"] == [[101, 1037, 102, 102]]
    assert shared(("a", "b"))["input_ids"] == [[101, 1037, 102], [101, 1038, 102]]


def test_forms_of_words(shared):
    split = {"is_split_into_words": True}
    assert shared(["a", "b"], **split)["input_ids"] == [101, 1037, 1038, 102]
    assert shared([["a", "b"], []], **split)["input_ids"] == [[101, 1037, 1038, 102], [101, 102]]
    assert shared(["a"], ["b"], **split)["input_ids"] == [101, 1037, 102, 1038, 102]
    assert shared([(["a"], ["b"])], **split)["input_ids"] == [[101, 1037, 102, 1038, 102]]
    assert shared(["hellos", "x"], **split).word_ids() == [None, 0, 0, 1, None]


def test_labels(shared):
    assert shared("a", text_target="b c")["labels"] == [101, 1038, 1039, 102]
    assert shared(text_target="b c")["input_ids"] == [101, 1038, 1039, 102]
    with pytest.raises(ValueError, match="either `text` or `text_target`"):
        shared()


def test_max_length_alone_truncates(shared):
    assert len(shared("a b c d", max_length=4)["input_ids"]) == 4


def test_max_length_is_ignored_without_truncation(shared):
    with pytest.warns(UserWarning, match="`max_length` is ignored"):
        assert len(shared("a b c d", max_length=4, padding=True)["input_ids"]) == 6


def test_truncation_side(tokenizer):
    tokenizer.truncation_side = "left"
    assert tokenizer("a b c", max_length=3)["input_ids"] == [101, 1039, 102]


def test_special_tokens_as_text(shared):
    assert shared("[SEP]")["input_ids"] == [101, 102, 102]
    assert 102 not in shared("[SEP]", split_special_tokens=True, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"padding": "no"}, "no is not a valid PaddingStrategy, please select one of"),
        ({"truncation": "no"}, "no is not a valid TruncationStrategy, please select one of"),
        ({"return_tensors": "no"}, "no is not a valid TensorType"),
        ({"padding": True, "padding_side": "no"}, "between 'right' and 'left', current value: no"),
        ({"max_length": -1}, "negative"),
        ({"max_length": 1}, "leaves no room"),
        ({"max_length": 6, "stride": 4}, "stride=4"),
        ({"max_length": 6, "stride": -1}, "negative"),
        ({"truncation": "only_second", "max_length": 3}, "Second sequence not provided"),
        ({"truncation": True, "padding": True, "max_length": 9, "pad_to_multiple_of": 8}, "is not a multiple"),
    ],
)
def test_bad_arguments(shared, kwargs, message):
    with pytest.raises(ValueError, match=message):
        shared("a b c d e f g", **kwargs)


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        (3.0, ValueError, "text input must be of type `str`"),
        ([None], ValueError, "text input must be of type `str`"),
        (["a", "b", "c", 1.5], TypeError, r"text\[3\] is float, expected str"),
        (["a", "\ud800"], ValueError, r"text\[1\] is not valid Unicode"),
        ([["a", "b", "c"]], TypeError, r"text\[0\] is list"),
    ],
)
def test_bad_texts(shared, texts, error, message):
    with pytest.raises(error, match=message):
        shared(texts)


def test_pairs_that_do_not_match(shared):
    with pytest.raises(TypeError, match="`text_pair` must be a list or tuple"):
        shared(["a"], "b")
    with pytest.raises(ValueError, match="does not match batch length"):
        shared(["a"], ["b", "c"])


def test_padding_needs_a_token(tokenizer):
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="does not have a padding token"):
        tokenizer(["a"], padding=True)


def test_unknown_arguments_are_mentioned_once(tokenizer, caplog):
    with caplog.at_level(logging.WARNING):
        tokenizer("a", nonsense=3)
        tokenizer("a", nonsense=3)
    assert [record.message for record in caplog.records] == ["Keyword arguments ['nonsense'] not recognized."]


def test_long_rows_are_mentioned_once(tokenizer, caplog):
    tokenizer.model_max_length = 4
    with caplog.at_level(logging.WARNING):
        tokenizer("a b c d")
        tokenizer("a b c d")
    assert len(caplog.records) == 1
    assert "(6 > 4)" in caplog.records[0].message


def test_a_model_without_limit_is_not_truncated(tokenizer):
    tokenizer.model_max_length = int(1e30)
    assert len(tokenizer("a b c", truncation=True, padding="max_length")["input_ids"]) == 5


def test_short_names(shared):
    assert shared.encode("a", "b") == [101, 1037, 102, 1038, 102]
    assert shared.tokenize("hello there") == ["hello", "there"]
    with pytest.warns(DeprecationWarning):
        assert shared.encode_plus("a")["input_ids"] == [101, 1037, 102]


def test_long_texts_take_linear_time(shared):
    assert shared("x" * 1_000_000, truncation=True)["input_ids"] == [101, 100, 102]
    assert len(shared("a\u0301" * 100_000)["input_ids"]) == 3
    assert len(shared("中" * 50_000, truncation=True, max_length=128)["input_ids"]) == 128
