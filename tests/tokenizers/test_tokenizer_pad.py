import numpy as np
import pytest


def test_columns_and_rows_alike(shared):
    columns = {"input_ids": [[5, 6], [7]], "token_type_ids": [[0, 1], [1]], "labels": [[1, 2], [3]]}
    rows = [{name: column[i] for name, column in columns.items()} for i in range(2)]
    for batch in (columns, rows):
        assert shared.pad(batch).data == {
            "input_ids": [[5, 6], [7, 0]],
            "token_type_ids": [[0, 1], [1, 0]],
            "labels": [[1, 2], [3]],
            "attention_mask": [[1, 1], [1, 0]],
        }


def test_one_row(shared):
    assert shared.pad({"input_ids": [5, 6]}, padding="max_length", max_length=4).input_ids == [5, 6, 0, 0]


def test_sides_and_multiples(shared):
    padded = shared.pad(
        {"input_ids": [[5, 6, 7], [8]], "special_tokens_mask": [[0] * 3, [0]]},
        pad_to_multiple_of=4,
        padding_side="left",
    )
    assert padded.input_ids == [[0, 5, 6, 7], [0, 0, 0, 8]]
    assert padded.special_tokens_mask == [[1, 0, 0, 0], [1, 1, 1, 0]]


def test_rows_longer_than_max_length_stay(shared):
    assert shared.pad({"input_ids": [[1, 2, 3], [1]]}, "max_length", max_length=2).input_ids == [[1, 2, 3], [1, 0]]


def test_arrays_come_back_as_arrays(shared):
    padded = shared.pad([{"input_ids": np.array([5, 6])}, {"input_ids": np.array([7])}])
    assert padded["input_ids"].tolist() == [[5, 6], [7, 0]]
    assert padded["attention_mask"].dtype == np.int64


def test_the_batch_given_is_not_changed(shared):
    batch = {"input_ids": [[5, 6], [7]]}
    shared.pad(batch)
    assert batch == {"input_ids": [[5, 6], [7]]}


def test_errors(shared):
    with pytest.raises(ValueError, match="includes input_ids, but you provided"):
        shared.pad({"labels": [1]})
    with pytest.raises(ValueError, match="do not have 2 rows"):
        shared.pad({"input_ids": [[1], [2]], "labels": [1]})
    with pytest.raises(ValueError, match="list of such mappings"):
        shared.pad([[1, 2]])
    with pytest.raises(ValueError, match="unknown"):
        shared.pad({"input_ids": ["a"]})
