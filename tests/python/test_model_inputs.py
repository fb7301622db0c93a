"""Arguments of a call: everything that holds integers works alike, everything else says what is wrong."""

import numpy as np
import pytest

from ferroformer import BertConfig, BertModel
from ferroformer.errors import InputError, TokenIdError

from .conftest import TINY

IDS = np.array([[1, 2, 3], [4, 5, 6]])


@pytest.fixture(scope="module")
def model():
    return BertModel(BertConfig(**TINY))


@pytest.fixture(scope="module")
def expected(model):
    return model(IDS).last_hidden_state


class Tensor:
    """Stands for a torch tensor on the CPU."""

    def __array__(self, dtype=None, copy=None):
        return IDS


READ_ONLY = IDS.copy()
READ_ONLY.flags.writeable = False
FORMS = {
    "lists": IDS.tolist(),
    "tuples": tuple(map(tuple, IDS.tolist())),
    "rows": list(IDS),
    "int32": IDS.astype(np.int32),
    "uint8": IDS.astype(np.uint8),
    "big-endian": IDS.astype(">i8"),
    "fortran": np.asfortranarray(IDS),
    "strided": np.repeat(IDS, 2, axis=1)[:, ::2],
    "reversed": IDS[::-1, ::-1].copy()[::-1, ::-1],
    "unaligned": np.frombuffer(b"\0" + IDS.tobytes(), np.int64, offset=1).reshape(2, 3),
    "read-only": READ_ONLY,
    "__array__": Tensor(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_bits(model, expected, form):
    assert np.array_equal(model(FORMS[form]).last_hidden_state, expected)


@pytest.mark.parametrize("dtype", [bool, np.int64, np.float32, np.uint8])
def test_mask_of_any_dtype(model, dtype):
    mask = np.array([[1, 1, 0], [1, 1, 1]])
    assert np.array_equal(model(IDS, mask.astype(dtype)).last_hidden_state, model(IDS, mask).last_hidden_state)


def test_one_row_of_positions_serves_all(model, expected):
    assert np.array_equal(model(IDS, position_ids=[[0, 1, 2]], token_type_ids=[[0, 0, 0]]).last_hidden_state, expected)


def test_empty_batch(model):
    output = model(np.empty((0, 3), int), output_hidden_states=True, output_attentions=True)
    assert output.last_hidden_state.shape == (0, 3, 12) and output.pooler_output.shape == (0, 12)
    assert [a.shape for a in output.hidden_states] == [(0, 3, 12)] * 3
    assert [a.shape for a in output.attentions] == [(0, 3, 3, 3)] * 2


def test_inputs_embeds_stand_in_for_the_words(model, expected):
    words = model.state_dict()["embeddings.word_embeddings.weight"]
    assert np.allclose(model(inputs_embeds=words[IDS].astype(np.float64)).last_hidden_state, expected, atol=1e-6)


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ({}, ValueError, "exactly one of input_ids or inputs_embeds"),
        ({"input_ids": IDS, "inputs_embeds": np.zeros((2, 3, 12))}, ValueError, "exactly one"),
        ({"input_ids": [1, 2, 3]}, InputError, r"\(3,\); for one sequence pass \[input_ids\]"),
        ({"input_ids": 5}, InputError, "shape"),
        ({"input_ids": IDS[None]}, InputError, r"\(1, 2, 3\)"),
        ({"input_ids": []}, InputError, "shape"),
        ({"input_ids": [[]]}, InputError, "sequence length 0"),
        ({"input_ids": np.empty((2, 0), int)}, InputError, "sequence length 0"),
        ({"input_ids": [[1, 2], [3]]}, InputError, "row 1 has 1 tokens, row 0 has 2.*padding=True"),
        ({"input_ids": [[1, 2], 3]}, InputError, "row 1 has no length"),
        ({"input_ids": [[1.0, 2.0]]}, TypeError, "float64"),
        ({"input_ids": [[True]]}, TypeError, "bool"),
        ({"input_ids": [["a"]]}, TypeError, "<U1"),
        ({"input_ids": [[None]]}, TypeError, "object"),
        ({"input_ids": [[2**70]]}, TypeError, "object"),
        ({"input_ids": [[2**63]]}, TypeError, "9223372036854775808"),
        ({"input_ids": "a text"}, TypeError, "tokenizer"),
        ({"input_ids": IDS, "attention_mask": [[1, 1, 1]]}, InputError, r"\(1, 3\).*\(2, 3\)"),
        ({"input_ids": IDS, "attention_mask": [1, 1, 1]}, InputError, r"\(3,\)"),
        ({"input_ids": IDS, "attention_mask": IDS}, InputError, r"attention_mask\[0, 1\] is 2"),
        ({"input_ids": IDS, "attention_mask": np.full((2, 3), np.nan)}, InputError, "is nan"),
        ({"input_ids": IDS, "attention_mask": [["1"] * 3] * 2}, TypeError, "<U1"),
        ({"input_ids": IDS, "token_type_ids": [[0, 0]] * 2}, InputError, r"token_type_ids .*\(2, 2\).*\(2, 3\)"),
        ({"input_ids": IDS, "token_type_ids": np.zeros((2, 3))}, TypeError, "token_type_ids.*float64"),
        ({"inputs_embeds": np.zeros((2, 3, 11))}, InputError, r"12\), got \(2, 3, 11\)"),
        ({"inputs_embeds": np.zeros((2, 3, 12), int)}, TypeError, "int64"),
        ({"input_ids": [[50]]}, TokenIdError, "50"),
        ({"input_ids": [[-1]]}, TokenIdError, "-1"),
        ({"input_ids": IDS, "token_type_ids": [[0, 2, 0]]}, TokenIdError, "2"),
        ({"input_ids": IDS, "position_ids": [[0, 16, 0]]}, TokenIdError, "16"),
        ({"input_ids": np.ones((1, 17), int)}, InputError, "17"),
        ({"input_ids": IDS, "labels": IDS}, TypeError, "labels"),
    ],
)
def test_bad_arguments(model, arguments, error, text):
    with pytest.raises(error, match=text):
        model(**arguments)


def test_batch_encoding_of_lists(model, expected):
    from ferroformer import BatchEncoding

    encoding = BatchEncoding({"input_ids": IDS.tolist(), "attention_mask": np.ones_like(IDS).tolist()})
    assert np.array_equal(model(**encoding).last_hidden_state, expected)
