"""What decoders share: a token knows nothing of those after it, labels are predicted at the token before, padding on either side."""

import numpy as np
import pytest

import ferroformer
from ferroformer import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, training
from ferroformer.errors import InputError
from ferroformer.models.auto import MODELS

from . import recorded

pytestmark = pytest.mark.numbers

DECODERS = [name for name, entry in MODELS.items() if "CausalLM" in entry.heads]
IDS = np.random.default_rng(0).integers(3, 80, (3, 8))
LENGTHS = np.array([8, 3, 6])
RIGHT = (np.arange(8) < LENGTHS[:, None]).astype(np.int64)
LEFT = RIGHT[:, ::-1].copy()


@pytest.fixture(params=DECODERS)
def model(request):
    return AutoModelForCausalLM.from_pretrained(recorded.MODELS_DIR / f"{request.param}-CausalLM")


def test_a_token_knows_nothing_of_those_after_it(model):
    whole = model(IDS).logits
    for length in (1, 4, 7):
        assert np.array_equal(model(IDS[:, :length]).logits, whole[:, :length])


def test_padding_on_either_side(model):
    """The same bits as alone, where positions count tokens."""
    positions = np.maximum(LEFT.cumsum(1) - 1, 0)
    left = model(IDS, attention_mask=LEFT, position_ids=positions).logits
    right = model(IDS, attention_mask=RIGHT).logits
    for row, length in enumerate(LENGTHS):
        assert np.array_equal(right[row, :length], model(IDS[row : row + 1, :length]).logits[0])
        assert np.array_equal(left[row, 8 - length :], model(IDS[row : row + 1, 8 - length :]).logits[0])
        assert not right[row, length:].any() and not left[row, : 8 - length].any()


def test_a_loss_is_of_the_labels_after_each_token(model):
    """By hand, in float64; the same in training, which computes labelled tokens alone."""
    labels = np.where(np.random.default_rng(1).random(IDS.shape) < 0.6, IDS, -100) * RIGHT - 100 * (1 - RIGHT)
    output = model(IDS, attention_mask=RIGHT, labels=labels)
    logits, targets = output.logits[:, :-1].astype(np.float64), labels[:, 1:]
    counted = targets != -100
    scores = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -scores[counted, targets[counted]].mean()
    assert output.loss == pytest.approx(expected, rel=1e-6)
    assert training.num_items(model, {"labels": labels}) == counted.sum()
    learned, _ = training.value_and_grad(model, input_ids=IDS, attention_mask=RIGHT, labels=labels)
    assert learned.loss == output.loss and learned.logits.shape == (counted.sum(), model.config.vocab_size)
    whole, _ = training.value_and_grad(model, input_ids=IDS, attention_mask=RIGHT, labels=labels, num_items=1)
    assert whole.loss == pytest.approx(expected * counted.sum(), rel=1e-6)


def test_labels_that_nothing_predicts():
    model = recorded.load("gpt2-CausalLM")
    with pytest.raises(InputError, match=rf"labels\[1, 5\] is {IDS[1, 5]}, which the token before it would predict"):
        model(IDS, attention_mask=LEFT, labels=np.where(LEFT == 1, IDS, -100))
    first = np.where((LEFT == 1) & (LEFT.cumsum(1) > 1), IDS, -100)
    assert np.isfinite(model(IDS, attention_mask=LEFT, labels=first).loss)
    # the word after the last token is predicted by that
    after = np.where(np.arange(8) <= LENGTHS[:, None], IDS, -100)
    assert np.isfinite(model(IDS, attention_mask=RIGHT, labels=after).loss)


def test_what_is_not_there():
    model = recorded.load("gpt2-CausalLM")
    for name in ("encoder_hidden_states", "token_type_ids", "cache_position"):
        with pytest.raises(NotImplementedError, match=name):
            model(IDS, **{name: True})
    assert np.array_equal(model(IDS, use_cache=False, past_key_values=None, token_type_ids=None).logits, model(IDS).logits)
    with pytest.raises(TypeError, match="past_key_values must be a DynamicCache, as a model returns it, got bool"):
        model(IDS, past_key_values=True)
    with pytest.raises(TypeError, match="'colour'"):
        model(IDS, colour=None)


@pytest.mark.parametrize("name", [name for name in DECODERS if "SequenceClassification" in MODELS[name].heads])
def test_a_row_is_labelled_by_its_last_word(name):
    model = AutoModelForSequenceClassification.from_pretrained(recorded.MODELS_DIR / name, pad_token_id=1, num_labels=3)
    inside = AutoModel.from_pretrained(recorded.MODELS_DIR / name, pad_token_id=1)
    for mask, last in ((RIGHT, LENGTHS - 1), (LEFT, np.full(3, 7))):
        words = np.where(mask == 1, IDS, 1)
        hidden = inside(words, attention_mask=mask).last_hidden_state[np.arange(3), last]
        logits = model(words, attention_mask=mask).logits
        (weight,) = (weight for key, weight in model.state_dict().items() if key == "score.weight")
        assert logits.shape == (3, 3) and np.abs(logits - hidden @ weight.T).max() < 1e-5
    # words at the end that are padding, with no mask that says so
    assert np.abs(model(np.where(RIGHT == 1, IDS, 1)).logits - model(np.where(RIGHT == 1, IDS, 1), RIGHT).logits).max() < 1e-6
    assert np.array_equal(model([[1, 1, 1]]).logits, model([[1]]).logits), "a row of padding is read at its beginning"
    with pytest.raises(InputError, match=r"attention_mask\[1, 7\] is 0"):
        model(IDS, attention_mask=RIGHT)


def test_a_row_without_pad_token_id():
    model = AutoModelForSequenceClassification.from_pretrained(recorded.MODELS_DIR / "gpt2", num_labels=3)
    model.config.pad_token_id = None
    assert model(IDS[:1]).logits.shape == (1, 3)
    with pytest.raises(InputError, match="3 rows, and config.pad_token_id is None"):
        model(IDS)


def test_positions_of_opt_count_tokens():
    model = recorded.load("opt")
    for row, length in enumerate(LENGTHS):
        left = model(IDS, attention_mask=LEFT).last_hidden_state[row, 8 - length :]
        assert np.array_equal(left, model(IDS[row : row + 1, 8 - length :]).last_hidden_state[0])
    last = model.config.max_position_embeddings - 1
    assert model([[5]], position_ids=[[last]]).last_hidden_state.any()
    with pytest.raises(ferroformer.errors.TokenIdError, match=f"{last + 1}"):
        model([[5]], position_ids=[[last + 1]])
    with pytest.raises(InputError, match=f"longer than the model's {last + 1} positions"):
        model([[5] * (last + 2)])
    assert model([[5] * (last + 2)], attention_mask=[[0] + [1] * (last + 1)]).last_hidden_state.any()


def test_opt_with_smaller_words():
    model = recorded.load("opt-projected-CausalLM")
    assert model.get_input_embeddings().weight.shape == (131, 20)
    with pytest.raises(NotImplementedError, match="output_hidden_states"):
        model(IDS, output_hidden_states=True)
