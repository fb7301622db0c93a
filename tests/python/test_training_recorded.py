"""Three steps of AdamW on every recorded model: losses, gradients and weights beside those of torch and transformers."""

import numpy as np
import pytest

from ferroformer import training

from . import recorded as models
from .small_models import without_gradient

pytestmark = pytest.mark.numbers

NAMES = [name for name in models.NAMES if models.cases(name, "train")]
LR = 0.01


class Recorded:
    """A model, the batch of its three steps, and what became of them."""

    def __init__(self, name):
        self.model = models.load(name)
        self.rounding = without_gradient(models.task(name), models.model_type(name))
        self.batch, self.out, self.gradients, self.after = models.arrays(name, "train", "in", "out", "grad", "after")

    def steps(self, first=None):
        """Three steps; `first` stands in for the first gradients. Yields the loss, the norm, the gradients as clipped."""
        optimizer = training.AdamW(self.model, lr=LR, weight_decay=0.01, no_decay=[])
        for _ in range(3):
            outputs, gradients = training.value_and_grad(self.model, **self.batch)
            norm = gradients.clip(1.0)
            yield outputs.loss, norm, dict(gradients)
            optimizer.step(gradients if first is None else first)
            first = None

    def compared(self):
        """The names of parameters whose gradient is more than rounding, from which Adam would make whole steps."""
        return [name for name in self.after if not name.endswith(self.rounding)]


@pytest.fixture(params=NAMES)
def recorded(request):
    return Recorded(request.param)


def test_gradients(recorded):
    """Within a hundred-thousandth of a tensor's largest, or half of that of the model's largest: the terms of a sum that cancel leave
    their rounding. Never more than a ten-thousandth of the tensor's largest."""
    largest = max(np.abs(expected).max() for expected in recorded.gradients.values())
    loss, norm, gradients = next(recorded.steps())
    assert loss == pytest.approx(recorded.out["losses"][0], abs=2e-6)
    assert norm == pytest.approx(recorded.out["grad_norm"].item(), rel=2e-6)
    assert gradients.keys() == recorded.gradients.keys() == recorded.after.keys()
    for name, expected in recorded.gradients.items():
        if name in recorded.compared():
            scale = np.abs(expected).max()
            assert np.abs(gradients[name] - expected).max() <= min(max(1e-5 * scale, 5e-6 * largest), 1e-4 * scale), name
        else:
            assert np.abs(gradients[name]).max() <= 1e-7, name


def test_three_steps(recorded):
    """Adam's first step is lr * g / (|g| + 1e-8). Where g is of the size of its rounding error that is anything up to lr, in
    either direction, and it moves the rest a little. What is beyond doubt is held to a hundredth of lr; of the rest two runs need not
    agree, but neither goes further than Adam can: lr a step (by Cauchy-Schwarz, 1.005 lr in the third) and the decay."""
    start = recorded.model.state_dict()
    losses = [loss for loss, _, _ in recorded.steps()]
    assert losses == pytest.approx(recorded.out["losses"], abs=1e-4)
    after = recorded.model.state_dict()
    for name, expected in recorded.after.items():
        gradient = np.abs(recorded.gradients[name])
        sure = (gradient > 1e-5 * gradient.max()) & (name in recorded.compared())
        assert np.abs(after[name] - expected)[sure].max(initial=0) <= LR / 100, name
        farthest = 3 * LR * (1.005 + 0.01 * (np.abs(start[name]) + 3 * LR))
        assert (np.abs(after[name] - start[name]) <= farthest).all(), name


def test_three_steps_from_the_recorded_gradients(recorded):
    """With the first step beyond doubt, so is the rest: within 5e-6, and what rounding makes of Adam's next step, LR r / |g| for a
    gradient g with an error of r, a millionth of its tensor's largest."""
    losses = [loss for loss, _, _ in recorded.steps(recorded.gradients)]
    assert losses == pytest.approx(recorded.out["losses"], abs=2e-6)
    after = recorded.model.state_dict()
    for name in recorded.compared():
        gradient = np.abs(recorded.gradients[name])
        rounding = LR * 1e-6 * gradient.max() / np.maximum(gradient, 1e-6 * gradient.max())
        if recorded.model.config.model_type == "bert":
            rounding = 0.0
        assert (np.abs(after[name] - recorded.after[name]) <= 5e-6 + rounding).all(), name
