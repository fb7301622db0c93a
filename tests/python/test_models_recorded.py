"""Every architecture, bare and under its heads, against what transformers and torch recorded: every output of every case."""

import numpy as np
import pytest

from . import recorded

pytestmark = pytest.mark.numbers

TOLERANCE = 2e-5
# Logits of up to 60, sums of 36 products whose rounding torch and we take in another order: seven digits of them are 3e-5.
WIDER = {("modernbert-MaskedLM", "logits"): 5e-5}
SETTINGS = {"multilabel": "multi_label_classification", "regression4": "regression"}
CASES = [
    pytest.param(name, case, id=f"{name}-{case['case']}")
    for name in recorded.NAMES
    for case in recorded.cases(name, "forward")
]


def flat(output):
    """The fields with lists spread out: "hidden_states.0", as they are recorded."""
    spread = {}
    for name, value in output.items():
        spread |= {f"{name}.{i}": array for i, array in enumerate(value)} if isinstance(value, tuple) else {name: value}
    return {name: value for name, value in spread.items() if value is not None and name != "past_key_values"}


def tokens_of(inputs, side=""):
    """(rows, length): where there are tokens; choices are rows. side: "decoder_" of an encoder-decoder, which may be given labels alone."""
    mains = (f"{side}input_ids", f"{side}inputs_embeds", "labels" if side else None, "input_ids")
    main = next(inputs[name] for name in mains if name in inputs)
    if f"{side}attention_mask" in inputs:
        mask = np.asarray(inputs[f"{side}attention_mask"])
        return mask.reshape(-1, mask.shape[-1]) == 1
    return np.ones(main.shape[:2], bool)


def compared(name, array, tokens):
    """Where an output is held to the recorded one: everywhere but at masked positions."""
    if name == "pooler_output":
        # a left-padded row is pooled from its first token here, from a masked position there
        return tokens[:, :1]
    if "attentions" in name:
        return tokens[:, None, :, None]
    if array.shape[:2] == tokens.shape:
        return tokens.reshape(tokens.shape + (1,) * (array.ndim - 2))
    return np.ones(array.shape, bool)


@pytest.mark.parametrize("name, case", CASES)
def test_recorded_case(name, case):
    inputs, expected = recorded.arrays(name, case["case"], "in", "out")
    settings = {"problem_type": SETTINGS[case["case"]]} if case["case"] in SETTINGS else {}
    output = flat(recorded.load(name, **settings)(**inputs, **case["flags"]))
    assert output.keys() == expected.keys()
    own = tokens_of(inputs)
    both = "encoder_last_hidden_state" in expected
    decoded = tokens_of(inputs, "decoder_") if both else own
    # question answering with labels computes what is masked too: its loss is of that; a decoder that nobody masks has nothing that is
    answers = recorded.task(name) == "QuestionAnswering" and not both
    everywhere = answers and "loss" in expected
    for key, array in expected.items():
        assert output[key].dtype == np.float32
        if key == "loss":
            assert abs(output[key] - array.item()) <= TOLERANCE
            continue
        assert output[key].shape == array.shape
        tokens = own if key.startswith("encoder") else decoded
        where = np.broadcast_to(compared(key, array, tokens) | everywhere, array.shape)
        assert where.any() and np.abs(np.where(where, output[key] - array, 0)).max() <= WIDER.get((name, key), TOLERANCE), key
        if key != "pooler_output" and "attentions" not in key:
            assert (output[key][~where] == (-10000 if answers else 0)).all(), "what is masked is not computed"


def test_what_is_wider_is_large():
    for name, key in WIDER:
        for case in recorded.cases(name, "forward"):
            assert np.abs(recorded.arrays(name, case["case"], "out")[0][key]).max() > 10


def test_every_architecture_and_head_is_recorded_somewhere():
    """A head's code is shared by the architectures: each head is recorded with several, each architecture with several heads."""
    seen = {(recorded.model_type(name), recorded.task(name)) for name in recorded.NAMES}
    classes = recorded.classes().values()
    assert {model_type for model_type, _ in seen} == {model_type for model_type, _, _ in classes}
    assert {task for _, task in seen} == {task for _, task, _ in classes}


@pytest.mark.parametrize("name", recorded.names(None))
def test_tuple_is_the_output_without_names(name):
    model = recorded.load(name)
    inputs = recorded.example(model, [[5, 6, 7]]) | {"output_hidden_states": True}
    named, plain = model(**inputs), model(**inputs, return_dict=False)
    assert isinstance(plain, tuple) and len(plain) == len(named.to_tuple())
    assert np.array_equal(plain[0], named.last_hidden_state)
    assert all(np.array_equal(a, b) for a, b in zip(plain[-1], named[-1], strict=True))
