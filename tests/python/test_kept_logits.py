"""`logits_to_keep`: some of all logits, whatever the architecture."""

import numpy as np
import pytest

from ferroformer.errors import InputError

from . import recorded

pytestmark = pytest.mark.numbers

IDS = np.random.default_rng(0).integers(3, 30, (3, 8))
RIGHT = (np.arange(8) < np.array([[8], [3], [6]])).astype(np.int64)
LEFT = RIGHT[:, ::-1].copy()


@pytest.fixture(scope="module", params=recorded.names("CausalLM", "MaskedLM") + ["bert-PreTraining"])
def model(request):
    return recorded.load(request.param)


def words(output):
    return output.prediction_logits if "prediction_logits" in output else output.logits


@pytest.mark.parametrize(
    "kept", [1, 3, 8, 100, np.int64(2), [0], [5, 2, -1], [[1, 2], [0, 0], [7, 3]], IDS % 3 == 0, IDS[0] % 2 == 0]
)
@pytest.mark.parametrize("mask", [None, LEFT, RIGHT])
def test_some_of_all(model, kept, mask):
    whole, columns = words(model(IDS, attention_mask=mask)), np.asarray(kept)
    if columns.ndim == 0:
        expected = whole[:, -int(kept) :]
    elif columns.shape == IDS.shape:
        expected = whole[columns]
    elif columns.ndim == 2:
        expected = np.take_along_axis(whole, columns[:, :, None], axis=1)
    else:
        expected = whole[:, columns]
    assert np.array_equal(words(model(IDS, attention_mask=mask, logits_to_keep=kept)), expected)
    assert np.array_equal(words(model(IDS, attention_mask=mask, logits_to_keep=0)), whole)


@pytest.mark.parametrize(
    "kept, error, words",
    [
        ([9], InputError, "logits_to_keep names a column"),
        ([[1, 2]], InputError, r"has the shape \(1, 2\)"),
        (np.zeros((3, 7), bool), InputError, r"has the shape \(3, 7\)"),
        (1.5, TypeError, "float64"),
    ],
)
def test_what_cannot_be(model, kept, error, words):
    with pytest.raises(error, match=words):
        model(IDS, logits_to_keep=kept)


def test_a_loss_is_of_all(model):
    labels = {name: IDS if name == "labels" else [0, 1, 0] for name in model.label_names}
    with pytest.raises(InputError, match="logits_to_keep and labels"):
        model(IDS, **labels, logits_to_keep=2)
