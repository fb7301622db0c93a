"""Losses against their formulas in float64, and their gradients against finite differences of these."""

import numpy as np
import pytest

from ferroformer import losses
from ferroformer.errors import InputError
from ferroformer.losses import LossOptions

pytestmark = pytest.mark.numbers


def logits(*shape, size=3.0):
    return (size * np.random.default_rng(0).normal(size=shape)).astype(np.float32)


def labels(*shape, classes):
    """Some of them do not count."""
    dice = np.random.default_rng(1)
    return np.where(dice.random(shape) < 0.3, -100, dice.integers(0, classes, shape))


def cross_entropy(x, y, weights=None, smoothing=0.0, num_items=None):
    """One label after the other, as torch's documentation of CrossEntropyLoss has it."""
    classes = x.shape[-1]
    weights = np.ones(classes) if weights is None else np.asarray(weights, np.float64)
    total, count = 0.0, 0.0
    for row, label in zip(np.asarray(x, np.float64).reshape(-1, classes), np.ravel(y)):
        if label == -100:
            continue
        logs = row - row.max() - np.log(np.exp(row - row.max()).sum())
        total -= (1 - smoothing) * weights[label] * logs[label] + smoothing / classes * (weights * logs).sum()
        count += weights[label]
    return total / (count if num_items is None else num_items)


def numeric(f, x, h=1e-5):
    """df/dx by central differences in float64."""
    x = x.astype(np.float64)
    slope = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = h
        slope[i] = (f(x + step) - f(x - step)) / (2 * h)
    return slope


def check(loss, f, x):
    assert loss.value.dtype == loss.gradient.dtype == np.float32 and loss.gradient.shape == x.shape
    assert loss.value == pytest.approx(f(x), rel=1e-6)
    expected = numeric(f, x)
    assert np.abs(loss.gradient - expected).max() <= 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("classes", [1, 2, 5, 17, 100])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("num_items", [None, 7.0])
def test_cross_entropy(classes, smoothing, weighted, num_items):
    x, y = logits(3, 4, classes), labels(3, 4, classes=classes)
    weights = np.random.default_rng(2).random(classes).astype(np.float32) * 2 if weighted else None
    loss = losses.cross_entropy(x, y, LossOptions(num_items, smoothing, weights))
    if classes == 1:  # one class is certain
        assert loss.value == 0 and not loss.gradient.any()
        return
    check(loss, lambda x: cross_entropy(x, y, weights, smoothing, num_items), x)
    assert not loss.gradient[y == -100].any()


def test_cross_entropy_of_logits_that_are_large_or_infinite():
    x = np.array([[1e4, 0, -1e4], [88, 89, 90], [-np.inf, 2, 3]], np.float32)
    loss = losses.cross_entropy(x, [0, 1, 2])
    assert loss.value == pytest.approx((0 + np.log(np.e**-1 + 1 + np.e) + np.log(1 + np.exp(-1))) / 3, rel=1e-6)
    assert np.isfinite(loss.gradient).all() and loss.gradient[0] == pytest.approx([0, 0, 0], abs=1e-7)
    assert losses.cross_entropy(x, [2, 0, 1]).value == pytest.approx((2e4 + 2.4076059 + 1.3132617) / 3, rel=1e-6)


def test_cross_entropy_of_nothing():
    for y in ([-100, -100], np.zeros(0, int)):
        loss = losses.cross_entropy(logits(len(y), 3), y)
        assert np.isnan(loss.value) and loss.gradient.shape == (len(y), 3) and not loss.gradient.any()


def test_what_is_ignored_can_be_another_number():
    x = logits(4, 3)
    some, all_but_one = losses.cross_entropy(x, [0, 1, 7, 2], ignored=7), losses.cross_entropy(x, [0, 1, -100, 2])
    assert some.value == all_but_one.value and np.array_equal(some.gradient, all_but_one.gradient)


@pytest.mark.parametrize("num_items", [None, 7.0])
def test_binary_cross_entropy(num_items):
    x, y = logits(5, 4), np.random.default_rng(1).integers(0, 2, (5, 4)) * 0.9 + 0.05

    def formula(x):
        p = 1 / (1 + np.exp(-np.asarray(x, np.float64)))
        return -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum() / (20 if num_items is None else 4 * num_items)

    check(losses.binary_cross_entropy(x, y, LossOptions(num_items)), formula, x)


def test_binary_cross_entropy_of_large_logits():
    loss = losses.binary_cross_entropy(np.float32([[1e4, -1e4, 1e4]]), np.float32([[1, 0, 0]]))
    assert loss.value == pytest.approx(1e4 / 3) and loss.gradient[0] == pytest.approx([0, 0, 1 / 3])


@pytest.mark.parametrize("shape", [(5,), (5, 4)])
@pytest.mark.parametrize("num_items", [None, 7.0])
def test_mean_squared_error(shape, num_items):
    x, y = logits(*shape), np.random.default_rng(1).normal(size=shape)
    count = x.size if num_items is None else num_items * x.size / 5
    check(losses.mean_squared_error(x, y, LossOptions(num_items)), lambda x: ((x - y) ** 2).sum() / count, x)


@pytest.mark.parametrize("num_items", [None, 7.0])
def test_span(num_items):
    x, start, end = logits(6, 9, 2), np.array([0, 8, 3, 9, 200, 5]), np.array([1, 8, 4, 9, 4, 5])
    outside = lambda y: np.where(y >= 9, -100, y)

    def formula(x):
        parts = [cross_entropy(x[..., i], outside(y), num_items=num_items) for i, y in enumerate((start, end))]
        return sum(parts) / 2

    positions = {"start_positions": start, "end_positions": end}
    check(losses.span(x[..., 0], x[..., 1], positions, LossOptions(num_items)), formula, x)


def test_batches_add_up():
    x, y = logits(10, 4), labels(10, classes=4)
    whole, items = losses.cross_entropy(x, y), (y != -100).sum()
    parts = [losses.cross_entropy(x[p], y[p], LossOptions(items)) for p in (slice(0, 3), slice(3, 10))]
    assert sum(part.value for part in parts) == pytest.approx(whole.value, rel=1e-6)
    assert np.allclose(np.concatenate([part.gradient for part in parts]), whole.gradient, rtol=1e-6, atol=1e-9)


class Config:
    def __init__(self, problem_type, num_labels):
        self.problem_type, self.num_labels = problem_type, num_labels


@pytest.mark.parametrize("num_labels, y, kind", [
    (1, np.float32([1.5, 2.5]), "regression"),
    (1, np.array([1, 2]), "regression"),
    (3, np.array([1, 2]), "single_label_classification"),
    (3, np.ones((2, 3), np.float32), "multi_label_classification"),
])
def test_the_problem_is_seen_from_the_labels(num_labels, y, kind):
    assert losses.problem_type(Config(None, num_labels), y) == kind
    x = logits(2, num_labels)
    guessed, said = (losses.classification(Config(t, num_labels), x, y) for t in (None, kind))
    assert guessed.value == said.value and guessed.gradient.shape == (2, num_labels)
    assert np.array_equal(guessed.gradient, said.gradient)


def test_a_regression_of_one_number_and_of_several():
    x, y = logits(4, 1), np.float32([1, 2, 3, 4])
    for given in (y, y[:, None]):
        check(losses.classification(Config(None, 1), x, given), lambda x: ((x[:, 0] - y) ** 2).mean(), x)
    x, y = logits(4, 3), logits(4, 3, size=1)
    check(losses.classification(Config("regression", 3), x, y), lambda x: ((x - y) ** 2).mean(), x)


@pytest.mark.parametrize("num_items", [None, 7.0])
def test_shares_of_labels(num_items):
    x, shares = logits(5, 4), np.random.default_rng(1).random((5, 4))

    def formula(x):
        logs = x - np.log(np.exp(np.asarray(x, np.float64)).sum(-1, keepdims=True))
        return -(shares * logs).sum() / (5 if num_items is None else num_items)

    assert losses.count_rows(shares) == 5
    check(losses.labels_or_shares(x, shares, LossOptions(num_items)), formula, x)
    hot = losses.labels_or_shares(1e3 * x, np.eye(4, dtype=int)[[0, 1, 2, 3, 0]])
    one = losses.labels_or_shares(1e3 * x, [0, 1, 2, 3, 0])
    assert hot.value == pytest.approx(one.value, rel=1e-6) and np.abs(hot.gradient - one.gradient).max() < 1e-6


def test_labels_below_zero_beside_shares_do_not_count():
    x, y = logits(5, 4), np.array([3, -1, 0, -100, 2])
    expected = losses.cross_entropy(x[y >= 0], y[y >= 0])
    for given in (y, y[:, None]):
        loss = losses.labels_or_shares(x, given)
        assert losses.count_rows(given) == 3 and loss.value == expected.value
        assert np.array_equal(loss.gradient[y >= 0], expected.gradient) and not loss.gradient[y < 0].any()
    nothing = losses.labels_or_shares(x, [-1] * 5)
    assert nothing.value == 0 and nothing.gradient.shape == x.shape and not nothing.gradient.any()


@pytest.mark.parametrize("call, error, problem", [
    (lambda: losses.labels_or_shares(logits(2, 3), [0, 3]), InputError, r"labels\[1\] is 3: allowed are 0 to 2"),
    (lambda: losses.labels_or_shares(logits(2, 3), [0.0, 1.0]), TypeError, "labels must hold integers"),
    (lambda: losses.labels_or_shares(logits(2, 3), np.ones((2, 2))), InputError, r"shape \(2, 2\); expected \(2, 3\)"),
    (lambda: losses.labels_or_shares(logits(2, 3), np.ones((2, 3)), LossOptions(None, 0.1)), InputError, "not for shares"),
    (lambda: losses.cross_entropy(logits(2, 3), [0, 3]), InputError, r"labels\[1\] is 3: allowed are 0 to 2, and -100"),
    (lambda: losses.cross_entropy(logits(2, 3), [-1, 0]), InputError, r"labels\[0\] is -1"),
    (lambda: losses.cross_entropy(logits(2, 3), [0]), InputError, r"labels have the shape \(1,\); expected \(2,\)"),
    (lambda: losses.cross_entropy(logits(2, 3), [0.0, 1.0]), TypeError, "labels must hold integers"),
    (lambda: losses.cross_entropy(logits(2, 3), [0, 1], LossOptions(None, 1.5)), InputError, "label_smoothing is 1.5"),
    (lambda: losses.cross_entropy(logits(2, 3), [0, 1], LossOptions(None, float("nan"))), InputError, "smoothing is nan"),
    (lambda: losses.cross_entropy(logits(2, 3), [0, 1], LossOptions(class_weights=[1, 2])), InputError, "must be 3"),
    (lambda: losses.cross_entropy(logits(2, 3), [0, 1], LossOptions(class_weights=[1, 2, -1])), InputError, ">= 0"),
    (lambda: losses.binary_cross_entropy(logits(2, 3), np.ones((2, 3), int)), TypeError, "labels must hold floats"),
    (lambda: losses.binary_cross_entropy(logits(2, 3), np.ones((2, 2))), InputError, r"shape \(2, 2\); expected \(2, 3\)"),
    (lambda: losses.mean_squared_error(logits(2), ["a", "b"]), TypeError, "labels must hold"),
    (lambda: losses.classification(Config("regression", 3), logits(2, 3), logits(2, 3), LossOptions(None, 0.1)),
     InputError, "are for cross-entropy, not for the loss of regression"),
    (lambda: losses.check_masked([[1, 2]], [[1, 0]]), InputError, r"labels\[0, 1\] is 2, where attention_mask is 0"),
])
def test_errors(call, error, problem):
    with pytest.raises(error, match=problem):
        call()
