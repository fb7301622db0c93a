"""The steps of optimizers against their formulas in float64, their files, and the gradients that they are given."""

import numpy as np
import pytest

from ferroformer import training
from ferroformer.errors import CorruptModelError, InputError, WeightMismatchError

from .small_models import bits, learn, numbered, small_batch, small_model

pytestmark = pytest.mark.numbers

LRS = [0.03, 0.01, 0.02, 0.0, 0.005]


def some_gradients(model, step):
    """Of all sizes, and zeros."""
    dice = np.random.default_rng(step)
    draw = lambda shape: dice.normal(size=shape) * 10.0 ** dice.integers(-6, 2, shape) * (dice.random(shape) < 0.9)
    return {name: draw(w.shape).astype(np.float32) for name, w in model.state_dict().items()}


class Adam64:
    """torch.optim.AdamW as its documentation gives it."""

    def __init__(self, b1, b2, eps):
        self.b1, self.b2, self.eps, self.m, self.v, self.t = b1, b2, eps, 0.0, 0.0, 0

    def step(self, w, g, lr, decay):
        self.t += 1
        w = w - lr * decay * w
        self.m = self.b1 * self.m + (1 - self.b1) * g
        self.v = self.b2 * self.v + (1 - self.b2) * g * g
        m, v = self.m / (1 - self.b1**self.t), self.v / (1 - self.b2**self.t)
        return w - lr * m / (np.sqrt(v) + self.eps)


class Sgd64:
    """torch.optim.SGD as its documentation gives it, without dampening."""

    def __init__(self, momentum, nesterov):
        self.momentum, self.nesterov, self.buffer = momentum, nesterov, None

    def step(self, w, g, lr, decay):
        g = g + decay * w
        if self.momentum:
            self.buffer = g if self.buffer is None else self.momentum * self.buffer + g
            g = g + self.momentum * self.buffer if self.nesterov else self.buffer
        return w - lr * g


def follow(model, optimizer, rules, decays):
    """Five steps here and there; the largest difference, by the largest of a weight and its moves, which float32 rounds."""
    exact = {name: w.astype(np.float64) for name, w in model.state_dict().items()}
    largest, worst = {name: 1e-3 for name in exact}, 0.0
    for step, lr in enumerate(LRS):
        gradients = some_gradients(model, step)
        optimizer.step(gradients, lr=lr)
        for name, w in exact.items():
            exact[name] = rules[name].step(w, gradients[name].astype(np.float64), lr, decays[name])
            largest[name] = np.maximum(largest[name], np.abs(w) + np.abs(exact[name] - w))
        for name, w in model.state_dict().items():
            worst = max(worst, (np.abs(w - exact[name]) / largest[name]).max())
    return worst


@pytest.mark.parametrize("betas, eps", [((0.9, 0.999), 1e-8), ((0.8, 0.95), 1e-3), ((0.0, 0.9), 1e-6)])
def test_adamw(betas, eps):
    model = small_model("rows")
    names = list(model.state_dict())
    optimizer = training.AdamW(model, lr=1e9, betas=betas, eps=eps, weight_decay=0.1, no_decay=names[::3])
    decays = {name: 0.0 if name in names[::3] else 0.1 for name in names}
    assert follow(model, optimizer, {name: Adam64(*betas, eps) for name in names}, decays) < 2e-6
    assert optimizer.steps == 5


def test_adamw_without_memory_moves_by_the_sign():
    """betas=(0, 0): each step is lr g / |g|, whatever came before."""
    model = small_model("rows")
    optimizer = training.AdamW(model, lr=0.01, betas=(0.0, 0.0), eps=1e-12)
    zeros = {name: np.zeros_like(w) for name, w in model.state_dict().items()}
    for gradient in (30.0, 1e-7):
        before = model.state_dict()["classifier.bias"]
        optimizer.step(zeros | {"classifier.bias": np.full(4, gradient)})
        assert model.state_dict()["classifier.bias"] - before == pytest.approx(-0.01, rel=1e-4)


@pytest.mark.parametrize("momentum, nesterov", [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd(momentum, nesterov):
    model = small_model("rows")
    names = list(model.state_dict())
    optimizer = training.SGD(model, lr=1e9, momentum=momentum, nesterov=nesterov, weight_decay=0.1, no_decay=names[::3])
    decays = {name: 0.0 if name in names[::3] else 0.1 for name in names}
    assert follow(model, optimizer, {name: Sgd64(momentum, nesterov) for name in names}, decays) < 2e-6


def test_the_learning_rate_is_the_optimizers_unless_the_step_has_one():
    def weights(lr, *step):
        model = small_model("rows")
        training.SGD(model, lr=lr).step(some_gradients(model, 0), *step)
        return bits(model.state_dict())

    assert weights(0.01) == weights(5.0, 0.01) != weights(0.02)


@pytest.mark.parametrize("make", [training.AdamW, training.SGD])
@pytest.mark.parametrize("kind", ["rows", "words"])
def test_biases_and_norms_do_not_decay(make, kind):
    """The rule of transformers' Trainer; with gradients of zero nothing else moves."""
    model = small_model(kind)
    before = {name: np.ones_like(w) for name, w in model.state_dict().items()}
    model.load_state_dict(before)
    make(model, lr=0.1, weight_decay=0.5).step({name: np.zeros_like(w) for name, w in before.items()})
    for name, w in model.state_dict().items():
        free = name.endswith("bias") or "LayerNorm" in name
        assert (w == (1 if free else np.float32(0.95))).all(), name


def test_no_decay_by_name():
    model = small_model("rows")
    before = {name: np.ones_like(w) for name, w in model.state_dict().items()}
    model.load_state_dict(before)
    optimizer = training.AdamW(model, lr=0.1, weight_decay=0.5, no_decay=["classifier.weight"])
    optimizer.step({name: np.zeros_like(w) for name, w in before.items()})
    assert [name for name, w in model.state_dict().items() if (w == 1).all()] == ["classifier.weight"]
    with pytest.raises(InputError, match="no_decay names 'classifier', which is no parameter of the model"):
        training.AdamW(model, no_decay=["classifier"])


@pytest.mark.parametrize("settings, problem", [
    ({"lr": -1}, "lr is -1; expected a number >= 0"),
    ({"lr": float("nan")}, "lr is nan"),
    ({"betas": (1.0, 0.9)}, r"betas\[0\] is 1.0"),
    ({"betas": (0.9, -0.1)}, r"betas\[1\] is -0.1"),
    ({"eps": -1e-8}, "eps is -1e-08"),
    ({"weight_decay": float("inf")}, "weight_decay is inf"),
])
def test_settings_that_no_optimizer_has(settings, problem):
    with pytest.raises(InputError, match=problem):
        training.AdamW(small_model("rows"), **settings)


def test_nesterov_needs_momentum():
    with pytest.raises(InputError, match="nesterov=True needs a momentum > 0"):
        training.SGD(small_model("rows"), lr=0.1, nesterov=True)
    with pytest.raises(InputError, match="momentum is -0.5"):
        training.SGD(small_model("rows"), lr=0.1, momentum=-0.5)


@pytest.mark.parametrize("kind", ["rows", "tokens", "answers", "words"])
def test_a_batch_is_learned_by_heart(kind):
    model, batch = small_model(kind), small_batch(kind)
    optimizer = training.AdamW(model, lr=5e-3)
    for step in range(300):
        outputs, gradients = training.value_and_grad(model, **batch)
        gradients.clip(1.0)
        optimizer.step(gradients)
        if outputs.loss < 1e-3:
            break
    assert model(**batch).loss < 1e-3, step


# --- files ------------------------------------------------------------------------------------
MAKERS = {
    "adamw": lambda model: training.AdamW(model, lr=0.01, weight_decay=0.1),
    "momentum": lambda model: training.SGD(model, lr=0.01, momentum=0.9),
    "plain": lambda model: training.SGD(model, lr=0.01),
}


def take_steps(model, optimizer, steps):
    for step in steps:
        optimizer.step(training.value_and_grad(model, **small_batch("rows"), dropout_seed=step)[1])


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("frozen", [(), ("bert.embeddings.*", "*.query.*")])
def test_a_run_goes_on_where_it_was(maker, frozen, tmp_path):
    model = small_model("rows")
    model.freeze(*frozen)
    optimizer = MAKERS[maker](model)
    take_steps(model, optimizer, [0, 1])
    model.save_pretrained(tmp_path)
    optimizer.save(tmp_path / "optimizer.safetensors")
    take_steps(model, optimizer, [2, 3])

    again = type(model).from_pretrained(tmp_path)
    again.freeze(*frozen)
    resumed = MAKERS[maker](again)
    resumed.load(tmp_path / "optimizer.safetensors")
    assert resumed.steps == 2
    take_steps(again, resumed, [2, 3])
    assert resumed.steps == optimizer.steps == 4
    assert bits(again.state_dict()) == bits(model.state_dict())
    resumed.save(tmp_path / "resumed")
    optimizer.save(tmp_path / "straight")
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "straight").read_bytes()


OTHERS = {
    "larger": lambda: MAKERS["adamw"](small_model("rows", hidden_size=42)),
    "other labels": lambda: MAKERS["adamw"](small_model("rows", num_labels=5)),
    "another head": lambda: MAKERS["adamw"](small_model("words")),
    "another layer": lambda: MAKERS["adamw"](small_model("rows", num_hidden_layers=3)),
    "momentum": lambda: MAKERS["momentum"](small_model("rows")),
    "plain": lambda: MAKERS["plain"](small_model("rows")),
}


@pytest.mark.parametrize("other", OTHERS)
def test_files_of_others_are_refused(other, tmp_path):
    OTHERS[other]().save(tmp_path / "file")
    optimizer = MAKERS["adamw"](small_model("rows"))
    with pytest.raises(WeightMismatchError, match="file"):
        optimizer.load(tmp_path / "file")
    assert optimizer.steps == 0


def test_frozen_parameters_have_no_state(tmp_path):
    model = small_model("rows")
    MAKERS["adamw"](model).save(tmp_path / "all")
    model.freeze("bert.*")
    optimizer = MAKERS["adamw"](model)
    optimizer.save(tmp_path / "few")
    assert (tmp_path / "few").stat().st_size < (tmp_path / "all").stat().st_size / 50
    with pytest.raises(WeightMismatchError):
        optimizer.load(tmp_path / "all")


def test_a_refused_file_changes_nothing(tmp_path):
    """The head comes last in the file, and it alone is of another shape."""
    other = small_model("rows", num_labels=5)
    strange = MAKERS["adamw"](other)
    take_steps(other, strange, [7])
    strange.save(tmp_path / "strange")
    optimizer = MAKERS["adamw"](model := small_model("rows"))
    take_steps(model, optimizer, [0])
    optimizer.save(tmp_path / "before")
    with pytest.raises(WeightMismatchError):
        optimizer.load(tmp_path / "strange")
    optimizer.save(tmp_path / "after")
    assert (tmp_path / "after").read_bytes() == (tmp_path / "before").read_bytes()


def test_damaged_files(tmp_path):
    optimizer = MAKERS["adamw"](small_model("rows"))
    optimizer.save(tmp_path / "file")
    data = (tmp_path / "file").read_bytes()
    for bad in (data[:-1], data[:100], b"", b"not a file of tensors"):
        (tmp_path / "bad").write_bytes(bad)
        with pytest.raises(CorruptModelError, match="bad"):
            optimizer.load(tmp_path / "bad")
    with pytest.raises(FileNotFoundError):
        optimizer.load(tmp_path / "missing")
    with pytest.raises(OSError):
        optimizer.save(tmp_path / "no" / "directory")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad", "file"], "nothing is left half written"


# --- gradients --------------------------------------------------------------------------------
@pytest.fixture
def gradients():
    return training.value_and_grad(small_model("rows"), **small_batch("rows"))[1]


def test_gradients_are_a_mapping(gradients):
    model = small_model("rows")
    assert list(gradients) == list(model.state_dict()) and len(gradients) == 41
    assert {name: g.shape for name, g in gradients.items()} == {n: w.shape for n, w in model.state_dict().items()}
    assert "classifier.bias" in gradients and "classifier" not in gradients
    assert repr(gradients) == "Gradients(41 parameters)"
    gradients["classifier.bias"][:] = 9
    assert not (gradients["classifier.bias"] == 9).any(), "what is read is a copy"
    with pytest.raises(KeyError):
        gradients["classifier"]
    with pytest.raises(KeyError):
        gradients["classifier"] = np.zeros(4)
    with pytest.raises(TypeError, match="cannot be taken out"):
        del gradients["classifier.bias"]
    with pytest.raises(InputError, match=r"gradient of classifier.bias has the shape \(4,\), not \(5,\)"):
        gradients["classifier.bias"] = np.zeros(5)


def test_each_has_its_own_place(gradients):
    """Queries, keys and values lie in one matrix."""
    for name in gradients:
        others = {other: data for other, data in bits(dict(gradients)).items() if other != name}
        value = np.random.default_rng(0).normal(size=gradients[name].shape).astype(np.float32)
        gradients[name] = value
        assert np.array_equal(gradients[name], value)
        assert {other: data for other, data in bits(dict(gradients)).items() if other != name} == others


def test_norm_scale_and_zero(gradients):
    before = dict(gradients)
    assert gradients.norm() == pytest.approx(np.linalg.norm(numbered(before)), rel=1e-6)
    gradients.scale(0.25)
    assert bits(dict(gradients)) == bits({name: g * np.float32(0.25) for name, g in before.items()})
    gradients.zero()
    assert gradients.norm() == 0 and not numbered(dict(gradients)).any()


def test_clip(gradients):
    before, norm = dict(gradients), gradients.norm()
    assert gradients.clip(2 * norm) == norm and bits(dict(gradients)) == bits(before), "short enough"
    assert gradients.clip(0.5) == norm
    assert gradients.norm() == pytest.approx(0.5, rel=1e-5)
    factor = np.float32(0.5 / (norm + 1e-6))
    assert all(np.allclose(g, before[name] * factor, rtol=1e-6, atol=0) for name, g in gradients.items())


def test_a_dict_of_arrays_is_as_good():
    results = []
    for convert in (lambda g: g, dict, lambda g: {name: array.tolist() for name, array in reversed(list(g.items()))}):
        model = small_model("rows")
        training.AdamW(model, lr=0.01).step(convert(training.value_and_grad(model, **small_batch("rows"))[1]))
        results.append(bits(model.state_dict()))
    assert results[0] == results[1] == results[2]


def test_a_dict_must_be_whole():
    model = small_model("rows")
    optimizer, before = training.AdamW(model, lr=0.01), bits(model.state_dict())
    _, given = learn(model, small_batch("rows"))
    for wrong, problem in (
        ({n: g for n, g in given.items() if n != "classifier.bias"}, "'classifier.bias' is missing"),
        (given | {"classifier": np.zeros(4)}, "'classifier' is no parameter that is trained"),
        (given | {"classifier.bias": np.zeros(5)}, r"has the shape \(4,\), not \(5,\)"),
    ):
        with pytest.raises(InputError, match=problem):
            optimizer.step(wrong)
    assert optimizer.steps == 0 and bits(model.state_dict()) == before
