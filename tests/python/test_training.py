"""Gradients: against finite differences, and the laws that they keep to the bit."""

import numpy as np
import pytest

import ferroformer
from ferroformer import BertConfig, BertModel, set_num_threads, training

from .small_models import KINDS, SETTINGS, bits, learn, numbered, small_batch, small_model, without_gradient

pytestmark = pytest.mark.numbers

# those whose ways through the top of the model differ
HEADS = ["rows", "tokens", "answers", "words"]


@pytest.fixture
def threads():
    before = ferroformer.get_num_threads()
    yield set_num_threads
    set_num_threads(before)


# --- finite differences -----------------------------------------------------------------------
class Slope:
    """The derivative of a loss by finite differences in float32, and how far rounding may take it."""

    def __init__(self, model, value, step=3e-3):
        self.model, self.value, self.step = model, value, step
        loss = float(value())
        self.weights = model.state_dict()
        # what the loss changes by when each weight's last bit does, by the largest sum of the formula's coefficients
        noise = max(abs(loss) * 2**-24, *(abs(self.at(self._last_bits(i), 1) - loss) for i in range(8)))
        self.tolerance = 3 * noise * 1.5 / step

    def _last_bits(self, seed):
        dice = np.random.default_rng(seed)
        return {name: np.spacing(np.abs(w)) * dice.choice([-1, 1], w.shape) for name, w in self.weights.items()}

    def at(self, direction, distance):
        moved = {n: w + distance * direction[n] if n in direction else w for n, w in self.weights.items()}
        self.model.load_state_dict(moved)
        return float(self.value())

    def along(self, direction):
        """With four points: the error is of the fourth order in the step."""
        f = {k: self.at(direction, k * self.step) for k in (-2, -1, 1, 2)}
        return (8 * (f[1] - f[-1]) - (f[2] - f[-2])) / (12 * self.step)

    def check(self, gradients, relative=3e-4):
        """Along the gradient of everything, that of each parameter, and in four directions by chance."""
        directions = {"all": gradients} | {name: {name: gradient} for name, gradient in gradients.items()}
        dice = np.random.default_rng(3)
        for i in range(4):
            sizes = {n: np.linalg.norm(g) / np.sqrt(g.size) for n, g in gradients.items()}
            directions[f"random {i}"] = {n: dice.normal(size=g.shape) * sizes[n] for n, g in gradients.items()}
        for name, direction in directions.items():
            length = np.linalg.norm(numbered(direction))
            if length < 1e-6:  # a key's bias has none: any direction will do
                direction, length = {n: np.ones_like(d) for n, d in direction.items()}, np.sqrt(numbered(direction).size)
            unit = {n: d.astype(np.float64) / length for n, d in direction.items()}
            expected = sum((gradients[n].astype(np.float64) * unit[n]).sum() for n in unit)
            found = self.along(unit)
            self.model.load_state_dict(self.weights)
            assert abs(found - expected) <= self.tolerance + relative * abs(expected), name


@pytest.mark.parametrize("kind", KINDS)
def test_finite_differences(kind):
    model, batch = small_model(kind), small_batch(kind)
    loss, gradients = learn(model, batch)
    assert loss == model(**batch).loss or kind == "words"  # which computes other logits
    Slope(model, lambda: learn(model, batch)[0]).check(gradients)


@pytest.mark.parametrize("kind", HEADS)
def test_finite_differences_under_dropout(kind):
    model, batch = small_model(kind), small_batch(kind)
    _, gradients = learn(model, batch, dropout_seed=7)
    Slope(model, lambda: learn(model, batch, dropout_seed=7)[0]).check(gradients)


@pytest.mark.parametrize("activation", ["gelu_new", "relu", "silu", "tanh"])
def test_finite_differences_of_activations(activation):
    model, batch = small_model("rows", hidden_act=activation), small_batch("rows")
    # relu has a corner, and some of the thousands of its inputs are always near
    step, relative = (3e-4, 5e-3) if activation == "relu" else (3e-3, 3e-4)
    Slope(model, lambda: learn(model, batch)[0], step).check(learn(model, batch)[1], relative)


def test_finite_differences_of_what_a_bare_model_returns():
    model, batch = BertModel(BertConfig(**SETTINGS), seed=1), small_batch("rows")
    del batch["labels"]
    dice = np.random.default_rng(0)
    d_hidden, d_pooled = dice.normal(size=(8, 22, 39)), dice.normal(size=(8, 39))
    d_hidden *= batch["attention_mask"][:, :, None]

    def loss():
        outputs, _ = training.record(model, **batch)
        return ((d_hidden * outputs.last_hidden_state).sum() + (d_pooled * outputs.pooler_output).sum()) / 100

    _, recording = training.record(model, **batch)
    gradients = recording.backward(last_hidden_state=d_hidden / 100, pooler_output=d_pooled / 100)
    Slope(model, loss).check(dict(gradients))


# --- bits -------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", HEADS)
def test_threads_change_nothing(kind, threads):
    def trained():
        model, batch = small_model(kind), small_batch(kind, repeats=5)
        optimizer = training.AdamW(model, lr=0.01, weight_decay=0.01)
        for step in range(2):
            outputs, gradients = training.value_and_grad(model, **batch, dropout_seed=step)
            norm = gradients.clip(0.1)
            optimizer.step(gradients)
        return outputs.loss, norm, bits(gradients), bits(model.state_dict())

    results = []
    for number in (1, 2, 3):
        threads(number)
        results.append(trained())
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("dropout_seed", [None, 7])
@pytest.mark.parametrize("kind", HEADS)
def test_gradient_checkpointing_changes_nothing(kind, dropout_seed):
    model, batch = small_model(kind), small_batch(kind)
    plain = learn(model, batch, dropout_seed=dropout_seed)
    saving = learn(model, batch, dropout_seed=dropout_seed, gradient_checkpointing=True)
    assert plain[0] == saving[0] and bits(plain[1]) == bits(saving[1])


def test_a_pass_leaves_nothing_behind():
    """Memory is used again by batches of other sizes."""
    model, large, small = small_model("tokens"), small_batch("tokens", repeats=5), small_batch("tokens", seed=1)
    first = learn(model, small, dropout_seed=3)
    learn(model, large)
    learn(model, small, gradient_checkpointing=True)
    again = learn(model, small, dropout_seed=3)
    assert first[0] == again[0] and bits(first[1]) == bits(again[1])


def padded(batch, width):
    """With more columns, and other values where nothing is computed."""
    dice = np.random.default_rng(9)
    wide = {}
    for name, array in batch.items():
        if np.shape(array)[-1:] != (22,):
            wide[name] = array
            continue
        fill = {"attention_mask": 0, "labels": -100}.get(name)
        limit = 2 if name == "token_type_ids" else 53
        shape = (*array.shape[:-1], width)
        more = dice.integers(0, limit, shape) if fill is None else np.full(shape, fill)
        more[..., :22] = array if fill is not None else np.where(batch["attention_mask"], array, more[..., :22])
        wide[name] = more
    return wide


# question answering is not among them: as in transformers, its loss is of what is masked too
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "answers"])
def test_padding_and_what_is_masked_change_nothing(kind):
    model, batch = small_model(kind), small_batch(kind)
    narrow, wide = learn(model, batch, dropout_seed=5), learn(model, padded(batch, 24), dropout_seed=5)
    assert narrow[0] == wide[0] and bits(narrow[1]) == bits(wide[1])


def test_what_is_masked_is_not_read_on_the_way_back():
    model, batch = BertModel(BertConfig(**SETTINGS), seed=1), small_batch("rows")
    mask = batch["attention_mask"][:, :, None]
    d = np.random.default_rng(0).normal(size=(8, 22, 39)).astype(np.float32)

    def gradients(fill):
        recording = training.record(model, **{name: batch[name] for name in batch if name != "labels"})[1]
        return bits(recording.backward(last_hidden_state=np.where(mask, d, np.float32(fill))))

    assert gradients(0) == gradients(np.nan)


def test_a_row_without_tokens():
    model, batch = small_model("rows"), small_batch("rows")
    batch["attention_mask"][3] = 0
    outputs, gradients = training.value_and_grad(model, **batch)
    assert not outputs.logits[3].any()
    rest = {name: np.delete(array, 3, 0) for name, array in batch.items()}
    _, expected = learn(model, rest, num_items=8)
    assert bits(dict(gradients)) == bits(expected)


def test_the_id_of_padding_learns_nothing_from_its_place():
    """As torch's nn.Embedding(padding_idx=0); from the other side, as a word that is guessed, it does."""
    for kind, learns in (("tokens", False), ("words", True)):
        model, batch = small_model(kind), small_batch(kind)
        batch["input_ids"][0, :5] = 0
        word = learn(model, batch)[1]["bert.embeddings.word_embeddings.weight"][0]
        assert word.any() == learns
        free = small_model(kind, pad_token_id=None)
        assert learn(free, batch)[1]["bert.embeddings.word_embeddings.weight"][0].any()


# --- sums of batches --------------------------------------------------------------------------
def apart(a, b, kind="rows"):
    """The largest difference between gradients, by the scale of each parameter that has one."""
    named = [name for name in b if not name.endswith(without_gradient(KINDS[kind][0]))]
    return max(np.abs(a[name] - b[name]).max() / np.abs(b[name]).max() for name in named)


@pytest.mark.parametrize("kind", KINDS)
def test_accumulation_equals_the_large_batch(kind):
    model, batch = small_model(kind), small_batch(kind, repeats=2)
    loss, expected = learn(model, batch)
    rows = len(batch["input_ids"])
    items = rows if kind == "answers" else training.num_items(model, batch)
    gradients, losses = training.Gradients(model), 0.0
    for part in (slice(0, rows // 4), slice(rows // 4, rows)):
        small = {name: array[part] for name, array in batch.items()}
        outputs, same = training.value_and_grad(model, **small, gradients=gradients, num_items=items)
        assert same is gradients
        losses += outputs.loss
    assert losses == pytest.approx(loss, rel=1e-6)
    assert apart(dict(gradients), expected, kind) <= 3e-6


@pytest.mark.parametrize("kind", KINDS)
def test_num_items(kind):
    batch = small_batch(kind)
    labels = batch.get("labels", batch.get("start_positions"))
    expected = int((labels != -100).sum()) if labels.ndim == 2 and labels.shape[1] == 22 else len(labels)
    assert training.num_items(small_model(kind), batch) == expected


def test_gradients_are_added():
    model, batch = small_model("rows"), small_batch("rows")
    _, once = learn(model, batch)
    gradients = training.Gradients(model)
    for _ in range(2):
        training.value_and_grad(model, **batch, gradients=gradients)
    assert apart(dict(gradients), {name: 2 * g for name, g in once.items()}) <= 1e-6


# --- losses -----------------------------------------------------------------------------------
def test_options_of_the_loss():
    model, batch = small_model("tokens"), small_batch("tokens")
    weights = np.array([0.5, 2, 1, 0, 3])
    options = {"label_smoothing": 0.2, "class_weights": weights, "num_items": 17}
    loss, gradients = learn(model, batch, **options)
    assert loss != learn(model, batch)[0]
    Slope(model, lambda: learn(model, batch, **options)[0]).check(gradients)


def test_a_loss_of_ones_own():
    model, batch = small_model("rows"), small_batch("rows")
    seen = []

    def loss_fn(outputs, labels, num_items):
        seen.append((labels, num_items))
        x = outputs.logits.astype(np.float64)
        return (x**2).sum() / 30, x / 15

    loss, gradients = learn(model, batch, loss_fn=loss_fn, num_items=3)
    assert seen[0][0] is batch["labels"] and seen[0][1] == 3
    assert loss == pytest.approx((model(**{**batch, "labels": None}).logits.astype(np.float64) ** 2).sum() / 30, rel=1e-6)
    Slope(model, lambda: learn(model, batch, loss_fn=loss_fn)[0]).check(gradients)


def test_a_masked_language_model_computes_what_is_labelled():
    model, batch = small_model("words"), small_batch("words")
    outputs, _ = training.value_and_grad(model, **batch)
    full = model(**batch)
    labelled = batch["labels"] != -100
    assert outputs.logits.shape == (labelled.sum(), 53)
    assert np.allclose(outputs.logits, full.logits[labelled], atol=1e-5)
    assert outputs.loss == pytest.approx(full.loss, rel=1e-6)


def test_no_label_that_counts():
    """The loss is 0 / 0, as torch's; nothing is learned."""
    model, batch = small_model("tokens"), small_batch("tokens")
    loss, gradients = learn(model, batch | {"labels": np.full((8, 22), -100)})
    assert np.isnan(loss) and not numbered(gradients).any()
