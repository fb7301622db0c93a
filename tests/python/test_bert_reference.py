"""BertModel against what transformers and torch recorded: every output of every case."""

import json

import numpy as np
import pytest

from ferroformer import BertModel

from .conftest import DATA, read_safetensors

pytestmark = pytest.mark.numbers

MODELS = ["bert", "bert-relu", "bert-gelu_new"]
TOLERANCE = 2e-5
CASES = [
    pytest.param(model, case, id=f"{model}-{case['case']}")
    for model in MODELS
    for case in json.loads((DATA / "models" / model / "cases.json").read_text())
]


def recorded(model, case):
    tensors = read_safetensors(DATA / "models" / model / "cases.safetensors")
    part = {kind: f"{case['case']}/{kind}/" for kind in ("in", "out")}
    return [
        {name.removeprefix(start): array for name, array in tensors.items() if name.startswith(start)}
        for start in part.values()
    ]


def difference(ours, theirs, where):
    return np.abs(np.where(where, ours - theirs, 0)).max()


def flat(output):
    """The fields with lists spread out: "hidden_states.0", as they are recorded."""
    spread = {}
    for name, value in output.items():
        spread |= {f"{name}.{i}": array for i, array in enumerate(value)} if isinstance(value, tuple) else {name: value}
    return spread


@pytest.mark.parametrize("model, case", CASES)
def test_recorded_case(model, case):
    inputs, expected = recorded(model, case)
    output = flat(BertModel.from_pretrained(DATA / "models" / model)(**inputs, **case["flags"]))
    assert output.keys() == expected.keys()
    tokens = np.asarray(inputs.get("attention_mask", np.ones(expected["last_hidden_state"].shape[:2]))) == 1
    for name, array in expected.items():
        assert output[name].dtype == np.float32 and output[name].shape == array.shape
        if name == "pooler_output":
            # a left-padded row is pooled from its first token here, from a masked position there
            where = tokens[:, :1]
        elif name.startswith("attentions"):
            where = tokens[:, None, :, None]
        else:
            where = tokens[:, :, None]
        assert difference(output[name], array, where) <= TOLERANCE, name
    assert not output["last_hidden_state"][~tokens].any()


@pytest.mark.parametrize("model", MODELS)
def test_tuple_is_the_output_without_names(model):
    bert = BertModel.from_pretrained(DATA / "models" / model)
    named = bert([[5, 6, 7]], output_hidden_states=True)
    plain = bert([[5, 6, 7]], output_hidden_states=True, return_dict=False)
    assert isinstance(plain, tuple) and len(plain) == 3
    assert np.array_equal(plain[0], named.last_hidden_state)
    assert all(np.array_equal(a, b) for a, b in zip(plain[2], named.hidden_states, strict=True))


def test_company_does_not_matter():
    bert = BertModel.from_pretrained(DATA / "models" / "bert")
    ids = np.random.default_rng(0).integers(0, 131, (5, 13))
    lengths = np.array([13, 1, 7, 2, 12])
    mask = np.arange(13) < lengths[:, None]
    batch = bert(ids, attention_mask=mask)
    for row, length in enumerate(lengths):
        alone = bert(ids[row : row + 1, :length])
        assert np.array_equal(batch.last_hidden_state[row, :length], alone.last_hidden_state[0])
        assert np.array_equal(batch.pooler_output[row], alone.pooler_output[0])
