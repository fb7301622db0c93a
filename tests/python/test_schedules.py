"""The schedules against values worked out from the formulas of transformers' optimization.py."""

import math

import pytest

from ferroformer import schedules
from ferroformer.schedules import SchedulerType, get_schedule

WARMUP, TOTAL = 4, 12


def factors(name, steps, **options):
    schedule = get_schedule(name, num_warmup_steps=WARMUP, num_training_steps=TOTAL, lr=2e-3, **options)
    return [schedule(step) for step in steps]


@pytest.mark.parametrize(
    "name, options, expected",
    [
        ("linear", {}, [1, 0.75, 0.5, 0.25, 0, 0]),
        ("cosine", {}, [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0, (1 - math.sqrt(0.5)) / 2]),
        ("cosine", {"num_cycles": 1.0}, [1, 0.5, 0, 0.5, 1, 0.5]),
        ("cosine_with_restarts", {"num_cycles": 2}, [1, 0.5, 1, 0.5, 0, 0]),
        ("polynomial", {"lr_end": 1e-3}, [1, 0.875, 0.75, 0.625, 0.5, 0.5]),
        ("polynomial", {"lr_end": 0.0, "power": 2.0}, [1, 0.5625, 0.25, 0.0625, 0, 0]),
        ("constant_with_warmup", {}, [1] * 6),
        ("inverse_sqrt", {}, [1, math.sqrt(4 / 6), math.sqrt(0.5), math.sqrt(0.4), math.sqrt(1 / 3), math.sqrt(2 / 7)]),
        ("inverse_sqrt", {"timescale": 16}, [math.sqrt(16 / (16 + past)) for past in (0, 2, 4, 6, 8, 10)]),
    ],
)
def test_formula(name, options, expected):
    assert factors(name, range(WARMUP), **options) == [0, 0.25, 0.5, 0.75]
    assert factors(name, range(WARMUP, 16, 2), **options) == pytest.approx(expected, abs=1e-15)


def test_constant():
    assert factors("constant", [0, 3, 99]) == [1, 1, 1]


def test_no_warmup():
    assert get_schedule("linear", num_training_steps=2)(0) == 1
    assert get_schedule("inverse_sqrt")(10_000) == pytest.approx(math.sqrt(0.5))


def test_polynomial_without_decay_steps():
    assert schedules.polynomial(3, num_warmup_steps=3, num_training_steps=3, lr=1.0, lr_end=0.5) == 0.5


def test_every_name_has_a_function():
    assert [getattr(schedules, word.value)(0, **_needs(word)) for word in SchedulerType] == [1.0] * 7


def _needs(word):
    needs = {} if word in ("constant", "constant_with_warmup", "inverse_sqrt") else {"num_training_steps": 5}
    return needs | ({"lr": 1.0} if word == "polynomial" else {})


def test_errors():
    with pytest.raises(ValueError, match="wavy is not a valid SchedulerType.*'linear'"):
        get_schedule("wavy")
    with pytest.raises(TypeError, match="'linear' has no option num_cycles; it takes num_warmup_steps, num_training_steps"):
        get_schedule("linear", num_training_steps=3, num_cycles=2)
    with pytest.raises(TypeError, match="'cosine' needs num_training_steps"):
        get_schedule("cosine")
    with pytest.raises(ValueError, match="lr_end=0.1.*learning rate, which is 0.01"):
        schedules.polynomial(0, num_training_steps=2, lr=0.01, lr_end=0.1)
