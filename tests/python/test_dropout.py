"""What dropout decides, and by what."""

import numpy as np
import pytest

import ferroformer
from ferroformer import training

from .small_models import bits, learn, numbered, small_batch, small_model

pytestmark = pytest.mark.numbers

NONE = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}


def step(model, **options):
    """Bits of the loss and of all gradients."""
    loss, gradients = learn(model, small_batch("rows"), **options)
    return loss, bits(gradients)


def test_a_seed_decides():
    model = small_model("rows")
    assert step(model, dropout_seed=1) == step(model, dropout_seed=1)
    losses = {step(model, dropout_seed=seed)[0] for seed in (None, 0, 1, 2, -1, 2**64 + 7, 2**63)}
    assert len(losses) == 7


def test_no_rate_is_no_dropout():
    model = small_model("rows", **NONE)
    assert step(model, dropout_seed=1) == step(model)


@pytest.mark.parametrize("rate", NONE)
def test_each_rate_is_of_something(rate):
    model, plain = small_model("rows", **{**NONE, rate: 0.3}), small_model("rows", **NONE)
    assert step(model, dropout_seed=1)[0] != step(plain)[0]
    assert step(model) == step(plain)


def test_the_classifiers_rate_is_that_of_hidden_states_by_default():
    rates = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.0}
    default, same = small_model("rows", **rates), small_model("rows", **rates, classifier_dropout=0.3)
    assert step(default, dropout_seed=1) == step(same, dropout_seed=1)


@pytest.mark.parametrize("kind", ["answers", "words"])
def test_heads_that_drop_nothing(kind):
    """As in transformers."""
    model, batch = small_model(kind, **{**NONE, "classifier_dropout": 0.5}), small_batch(kind)
    assert learn(model, batch, dropout_seed=1)[0] == learn(model, batch)[0]


def test_training_mode_draws_seeds():
    model = small_model("rows")
    assert step(model) == step(model)
    model.train()
    ferroformer.set_seed(3)
    first, second = step(model), step(model)
    ferroformer.set_seed(3)
    assert (step(model), step(model)) == (first, second) and first != second
    batch = small_batch("rows")
    assert model(**batch).loss == model(**batch).loss, "a plain call drops nothing"
    assert step(model, dropout_seed=1) == step(model.eval(), dropout_seed=1)


def test_what_is_left_is_divided():
    """The gradient of the head's weights is what it reads, where there is one token: zeros, and the rest over 1 - rate."""
    model = small_model("tokens", **{**NONE, "classifier_dropout": 0.25})

    def read(seed):
        _, recording = training.record(model, input_ids=[[7]], dropout_seed=seed)
        return recording.backward(logits=np.eye(1, 5)[None])["classifier.weight"][0]

    whole, draws = read(None), np.array([read(seed) for seed in range(100)])
    kept = draws != 0
    assert np.allclose(draws[kept], np.broadcast_to(whole / 0.75, draws.shape)[kept], rtol=1e-6)
    # 3,900 draws: four standard deviations; and for each place 100
    assert abs(kept.mean() - 0.75) < 4 * np.sqrt(0.75 * 0.25 / kept.size)
    assert (abs(kept.mean(axis=0) - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 100)).all()


def test_the_average_over_seeds_is_near_the_whole():
    """The model is far from linear, so not at any rate: what is apart is proportional to it, 18 % of the gradient at 0.01."""
    model = small_model("rows", hidden_dropout_prob=0.01, attention_probs_dropout_prob=0.01)
    batch = small_batch("rows")
    loss, whole = learn(model, batch)
    losses, mean, seeds = [], 0.0, 200
    for seed in range(seeds):
        one, gradients = learn(model, batch, dropout_seed=seed)
        losses.append(one)
        mean = mean + numbered(gradients) / seeds
    whole = numbered(whole)
    assert np.linalg.norm(mean - whole) < 0.3 * np.linalg.norm(whole)
    assert abs(np.mean(losses) - loss) < 0.05 * loss
