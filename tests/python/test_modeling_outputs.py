"""ModelOutput: attribute, key, index and slice; what is None is not there."""

import copy
import pickle

import pytest

from ferroformer.modeling_outputs import BaseModelOutputWithPooling, ModelOutput


@pytest.fixture
def output():
    return BaseModelOutputWithPooling("last", None, ("a", "b"))


def test_every_way_in(output):
    assert output.last_hidden_state == output["last_hidden_state"] == output[0] == "last"
    assert output[1] == output[-1] == output.hidden_states == ("a", "b")
    assert output[:2] == output[:] == output.to_tuple() == ("last", ("a", "b"))
    assert output.pooler_output is None and "pooler_output" not in output
    assert list(output) == list(output.keys()) == ["last_hidden_state", "hidden_states"]
    assert list(output.values()) == ["last", ("a", "b")] and len(output) == 2
    with pytest.raises(KeyError):
        output["pooler_output"]
    with pytest.raises(IndexError):
        output[2]
    with pytest.raises(AttributeError):
        output.nothing


def test_assignment_by_either_name(output):
    output["pooler_output"] = "pooled"
    output.attentions = ("x",)
    assert output.pooler_output == "pooled" and output["attentions"] == ("x",)


def test_fields_are_fixed(output):
    for change in (
        lambda: output.pop("hidden_states"),
        lambda: output.update({}),
        lambda: output.setdefault("hidden_states", 1),
        lambda: output.__delitem__("hidden_states"),
        output.clear,
        output.popitem,
    ):
        with pytest.raises(TypeError, match="fixed"):
            change()


@pytest.mark.parametrize("clone", [lambda output: pickle.loads(pickle.dumps(output)), copy.deepcopy, copy.copy])
def test_copies(output, clone):
    twin = clone(output)
    assert type(twin) is type(output) and isinstance(twin, ModelOutput)
    assert twin.to_tuple() == output.to_tuple() and twin.pooler_output is None
