"""Training of sentence embeddings: losses and pooling by finite differences, `fit`, the trainer, the evaluator."""

import json

import numpy as np
import pytest

from ferroformer import (
    BertConfig,
    BertModel,
    ContrastiveLoss,
    CosineSimilarityLoss,
    DataLoader,
    EmbeddingSimilarityEvaluator,
    InputExample,
    MultipleNegativesRankingLoss,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    SiameseDistanceMetric,
    set_seed,
    training,
)
from ferroformer.errors import InputError, NonFiniteLossError
from ferroformer.sentence_losses import unit
from ferroformer.sentence_pooling import pool, pool_backward

from .conftest import TINY

pytestmark = pytest.mark.numbers

VOCABULARY = "[PAD] [UNK] [CLS] [SEP] [MASK] a b c d e f g h".split()
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
PAIRS = [("a b", "a c", 1.0), ("b", "d d d", 0.0), ("e f g", "e f", 0.8), ("h", "a h", 0.4), ("c", "g b a", 0.1), ("d e", "d", 0.9)]
EXAMPLES = [InputExample(texts=[first, second], label=label) for first, second, label in PAIRS]
ROWS = [{"sentence1": first, "sentence2": second, "score": label} for first, second, label in PAIRS]


@pytest.fixture
def make(tmp_path):
    """Write a small model and load it."""

    def write(modes=("mean",), normalize=False, dropout=0.0, **pooling):
        path = tmp_path / "made"
        config = BertConfig(**TINY, initializer_range=0.3, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
        BertModel(config, seed=2, add_pooling_layer=False).save_pretrained(path)
        (path / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
        kinds = ["Transformer", "Pooling"] + ["Normalize"] * normalize
        folders = ["", "1_Pooling", "2_Normalize"]
        modules = [{"path": folder, "type": f"sentence_transformers.models.{kind}"} for folder, kind in zip(folders, kinds)]
        (path / "modules.json").write_text(json.dumps(modules))
        (path / "1_Pooling").mkdir(exist_ok=True)
        (path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": list(modes), **pooling}))
        return SentenceTransformer(path)

    return write


def weights(model):
    return model[0].auto_model.state_dict()


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one)


def slopes(function, x, step=1e-6):
    """The derivative of a number by each of x, by central differences in float64."""
    result = np.empty_like(x)
    for place in np.ndindex(x.shape):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[place] += sign * step
            ends.append(function(moved))
        result[place] = (ends[0] - ends[1]) / (2 * step)
    return result


# --- losses ---------------------------------------------------------------------------------------
def cosine(u, v):
    return u @ v / np.sqrt((u @ u) * (v @ v))


def ranking(similarity, scale):
    def value(columns, _):
        candidates = [c for column in columns[1:] for c in column]
        scores = [[scale * similarity(a, c) for c in candidates] for a in columns[0]]
        return np.mean([np.log(np.exp(row).sum()) - row[i] for i, row in enumerate(scores)])

    return value


def contrastive(distance, margin, reduce):
    def value(columns, labels):
        d = [distance(u, v) for u, v in zip(*columns)]
        return reduce([0.5 * (y * x**2 + (1 - y) * max(0, margin - x) ** 2) for x, y in zip(d, labels)])

    return value


# what sentence-transformers' files of these names say, row by row; its distances come from torch's pairwise_distance, eps=1e-6
LOSSES = {
    "ranking": (MultipleNegativesRankingLoss(), 2, ranking(cosine, 20)),
    "ranking-negatives": (MultipleNegativesRankingLoss(), 4, ranking(cosine, 20)),
    "ranking-dot": (MultipleNegativesRankingLoss(scale=1, similarity_fct="dot"), 3, ranking(np.dot, 1)),
    "cosine": (CosineSimilarityLoss(), 2, lambda c, y: np.mean([(cosine(u, v) - label) ** 2 for u, v, label in zip(*c, y)])),
    "contrastive": (ContrastiveLoss(), 2, contrastive(lambda u, v: 1 - cosine(u, v), 0.5, np.mean)),
    "contrastive-sum": (ContrastiveLoss(margin=1.2, size_average=False), 2, contrastive(lambda u, v: 1 - cosine(u, v), 1.2, np.sum)),
    "euclidean": (
        ContrastiveLoss(distance_metric=SiameseDistanceMetric.EUCLIDEAN, margin=4),
        2,
        contrastive(lambda u, v: np.sqrt(((u - v + 1e-6) ** 2).sum()), 4, np.mean),
    ),
    "manhattan": (
        ContrastiveLoss(distance_metric="manhattan", margin=9),
        2,
        contrastive(lambda u, v: np.abs(u - v + 1e-6).sum(), 9, np.mean),
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient(name):
    loss, texts, expected = LOSSES[name]
    columns = np.random.default_rng(5).normal(size=(texts, 5, 7))
    labels = np.array([1, 0, 1, 0, 0.5] if name == "cosine" else [1, 0, 1, 0, 0])
    found = loss.value_and_grad(list(columns), labels)
    assert found.value == pytest.approx(expected(columns, labels), rel=1e-12)
    measured = slopes(lambda moved: loss.value_and_grad(list(moved), labels).value, columns)
    assert np.abs(measured).max() > 1e-3
    assert np.allclose(found.gradients, measured, rtol=1e-6, atol=1e-8)


def test_extreme_embeddings():
    zeros = np.zeros((2, 3))
    for loss, texts, _ in LOSSES.values():
        found = loss.value_and_grad([zeros] * texts, [1, 0])
        assert np.isfinite(found.value) and np.isfinite(found.gradients).all()
    large = 1e6 * np.eye(3)
    assert MultipleNegativesRankingLoss(scale=1e3, similarity_fct="dot").value_and_grad([large, large]).value == 0


@pytest.mark.parametrize(
    "loss, texts, labels, error, text",
    [
        (CosineSimilarityLoss(), 2, [0.5, 3.8], InputError, r"labels\[1\] is 3.8; allowed are -1 to 1.*scale"),
        (CosineSimilarityLoss(), 2, [0.5, float("nan")], InputError, r"labels\[1\] is nan"),
        (CosineSimilarityLoss(), 2, None, InputError, "labels are missing"),
        (CosineSimilarityLoss(), 2, ["a", "b"], TypeError, "numbers"),
        (CosineSimilarityLoss(), 2, [0.5], InputError, "1 labels for 2 examples"),
        (CosineSimilarityLoss(), 3, [0, 1], InputError, "CosineSimilarityLoss needs examples of 2 texts; they have 3"),
        (ContrastiveLoss(), 2, [1, -1], InputError, r"labels\[1\] is -1; allowed are 0 to 1"),
        (ContrastiveLoss(), 1, [1, 1], InputError, "2 texts; they have 1"),
        (MultipleNegativesRankingLoss(), 1, None, InputError, "anchor and a positive"),
    ],
)
def test_refused_batches(loss, texts, labels, error, text):
    with pytest.raises(error, match=text):
        loss.value_and_grad([np.ones((2, 3))] * texts, labels)


def test_refused_options():
    with pytest.raises(ValueError, match="'cosine' or 'dot'"):
        MultipleNegativesRankingLoss(None, similarity_fct=np.dot)
    with pytest.raises(ValueError, match="manhatten"):
        ContrastiveLoss(None, distance_metric="manhatten")


# --- pooling --------------------------------------------------------------------------------------
@pytest.mark.parametrize("modes", [*[(mode,) for mode in MODES], MODES])
def test_gradient_of_pooling(modes):
    random = np.random.default_rng(0)
    states = random.normal(size=(4, 5, 3))
    order = np.arange(5)
    lengths, skipped = np.array([5, 2, 1, 4])[:, None], np.array([0, 0, 0, 2])[:, None]
    places = (order < lengths) & (order >= skipped)
    weight = random.normal(size=(4, 3 * len(modes)))

    def value(moved):
        return (weight * unit(pool(moved, places, modes))[0]).sum()

    back = unit(pool(states, places, modes))[1]
    found = pool_backward(back(weight), states, places, modes)
    assert np.allclose(found, slopes(value, states), atol=1e-8)
    assert not found[~places].any() and found.any()


def test_nothing_to_pool():
    states, places = np.ones((1, 2, 3)), np.zeros((1, 2), bool)
    assert not pool(states, places, MODES).any()
    assert not pool_backward(np.ones((1, 3 * len(MODES))), states, places, MODES).any()


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("modes", [*[(mode,) for mode in MODES], MODES])
def test_embeddings_are_those_of_encode(make, modes, normalize):
    model = make(modes, normalize, include_prompt=False)
    columns, prompts = [["a b", "c"], ["d", "e f g h a"]], ["b c ", ""]
    outputs, _ = model.value_and_grad(CosineSimilarityLoss(), columns, [1, 0], prompts=prompts)
    for column, prompt, found in zip(columns, prompts, outputs.embeddings):
        assert np.allclose(found, model.encode(column, prompt=prompt), atol=2e-6)
    assert outputs.num_tokens == (2 + 1 + 1 + 5) + 2 * 2 + 4 * 2


# --- the whole model ------------------------------------------------------------------------------
@pytest.mark.parametrize("modes", [("mean",), ("cls", "max", "weightedmean")])
@pytest.mark.parametrize("loss", [MultipleNegativesRankingLoss(scale=5), CosineSimilarityLoss(), ContrastiveLoss(margin=1.5)])
def test_gradient_of_the_whole_model(make, modes, loss):
    """The loss along the gradient rises by the square of its length."""
    model = make(modes, normalize=True)
    columns, labels = [["a b", "c", "d"], ["d", "e f", "a a a"]], [1, 0, 0]
    outputs, gradients = model.value_and_grad(loss, columns, labels)
    assert outputs.loss == pytest.approx(model.loss_of(loss, columns, labels), rel=1e-5)
    before, length, step = weights(model), gradients.norm(), 2e-3
    ends = []
    for sign in (1, -1):
        moved = {name: before[name] + sign * step / length * gradients[name] for name in gradients}
        model[0].auto_model.load_state_dict(before | moved)
        ends.append(model.loss_of(loss, columns, labels))
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(length, rel=0.01)


def test_batches_add_up(make):
    model, loss = make(), CosineSimilarityLoss()
    first, second, labels = zip(*PAIRS)
    whole, expected = model.value_and_grad(loss, [first, second], labels)
    value, gradients = 0.0, None
    for part in (slice(0, 4), slice(4, 6)):
        columns, share = [first[part], second[part]], len(first[part]) / 6
        outputs, gradients = model.value_and_grad(loss, columns, labels[part], share=share, gradients=gradients)
        value += outputs.loss
    assert value == pytest.approx(whole.loss, rel=1e-5)
    assert all(np.allclose(gradients[name], expected[name], atol=1e-6) for name in expected)


@pytest.mark.parametrize("columns", [[], [[]], [["a"], ["b", "c"]]])
def test_refused_columns(make, columns):
    with pytest.raises(InputError, match="as many in each"):
        make().value_and_grad(CosineSimilarityLoss(), columns, [1])


# --- fit ------------------------------------------------------------------------------------------
def test_data_loader():
    loader = DataLoader(range(7), 3, shuffle=True, seed=1)
    first, second = list(loader), list(loader)
    assert len(loader) == 3 and [len(batch) for batch in first] == [3, 3, 1]
    assert sorted(sum(first, [])) == sorted(sum(second, [])) == list(range(7)) and first != second
    assert list(DataLoader(range(7), 3, shuffle=True, seed=1)) == first
    assert list(DataLoader(range(7), 3, drop_last=True)) == [[0, 1, 2], [3, 4, 5]]
    orders = []
    for _ in range(2):
        set_seed(3)
        orders.append(list(DataLoader(range(7), 3, shuffle=True)))
    assert orders[0] == orders[1]
    with pytest.raises(ValueError, match="batch_size=0"):
        DataLoader([], 0)


def test_fit_learns_and_what_is_saved_loads(make, tmp_path, capsys):
    model = make()
    loss = CosineSimilarityLoss(model)
    first, second, labels = zip(*PAIRS)
    before = model.loss_of(loss, [first, second], labels)
    set_seed(0)
    model.fit([(EXAMPLES, loss)], epochs=40, batch_size=3, warmup_steps=0, optimizer_params={"lr": 3e-3}, output_path=tmp_path / "out")
    assert model.loss_of(loss, [first, second], labels) < before / 100
    assert not model.training
    assert "2/2" in capsys.readouterr().err
    assert np.array_equal(SentenceTransformer(tmp_path / "out").encode(first), model.encode(first))


def test_fit_gives_the_same_bits(make):
    found = []
    for seed in (0, 0, 1):
        model = make(dropout=0.1)
        set_seed(seed)
        model.fit([(EXAMPLES, ContrastiveLoss(model))], warmup_steps=0, batch_size=2, show_progress_bar=False)
        found.append(weights(model))
    assert same(found[0], found[1]) and not same(found[0], found[2])


class Recorded:
    """A loss of one's own, that notes what it is asked; its gradient is constant."""

    def __init__(self, name, notes):
        self.name, self.notes = name, notes

    def check_labels(self, labels):
        pass

    def value_and_grad(self, embeddings, labels):
        self.notes.append((self.name, labels))
        return 1.0, [np.full_like(column, 0.1) for column in embeddings]


def test_fit_takes_turns(make):
    """Steps go through all objectives; one that ends is begun anew, and epochs go on where the last one stopped."""
    notes, model = [], make()
    batches = [[InputExample(texts=["a"], label=label)] for label in range(3)]
    objectives = [(batches, Recorded("x", notes)), (batches[:2], Recorded("y", notes))]
    model.fit(objectives, epochs=2, show_progress_bar=False, warmup_steps=0)
    assert notes == [("x", [0]), ("y", [0]), ("x", [1]), ("y", [1]), ("x", [2]), ("y", [0]), ("x", [0]), ("y", [1])]
    notes.clear()
    model.fit(objectives[:1], steps_per_epoch=4, show_progress_bar=False, warmup_steps=0)
    assert [labels for _, labels in notes] == [[0], [1], [2], [0]]


@pytest.mark.parametrize(
    "scheduler, factors",
    [
        ("WarmupLinear", [0, 0.5, 1, 0.75, 0.5, 0.25]),
        ("warmupconstant", [0, 0.5, 1, 1, 1, 1]),
        ("ConstantLR", [1] * 6),
        ("WarmupCosine", [0, 0.5, 1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5]),
    ],
)
def test_fit_schedules(make, scheduler, factors):
    rates = []

    class Noted(training.AdamW):
        def step(self, gradients, lr=None):
            rates.append(lr)
            super().step(gradients, lr)

    options = {"warmup_steps": 2, "steps_per_epoch": 6, "show_progress_bar": False}
    make().fit([(EXAMPLES, CosineSimilarityLoss())], scheduler=scheduler, optimizer_class=Noted, optimizer_params={"lr": 0.01}, **options)
    assert rates == pytest.approx([0.01 * factor for factor in factors])


def test_fit_is_the_loop_that_it_says(make):
    """AdamW with decay, clipped gradients, the default learning rate."""
    model, other, loss = make(), make(), CosineSimilarityLoss()
    batches = [EXAMPLES[:3], EXAMPLES[3:]]
    model.fit([(batches, loss)], scheduler="constantlr", max_grad_norm=0.01, show_progress_bar=False)
    optimizer = training.AdamW(other, lr=2e-5, weight_decay=0.01)
    for batch in batches:
        columns = [[example.texts[i] for example in batch] for i in (0, 1)]
        _, gradients = other.value_and_grad(loss, columns, [example.label for example in batch])
        assert gradients.clip(0.01) > 0.01
        optimizer.step(gradients)
    assert same(weights(model), weights(other)) and not same(weights(model), weights(make()))


class Scripted:
    """An evaluator that gives these scores, in this order."""

    def __init__(self, *scores, metric=None):
        self.scores, self.primary_metric, self.calls = list(scores), metric, []

    def __call__(self, model, output_path=None, epoch=-1, steps=-1):
        self.calls.append((epoch, steps, weights(model)))
        score = self.scores.pop(0)
        return {self.primary_metric: score, "other": 0} if self.primary_metric else score


@pytest.mark.parametrize("metric", [None, "main"])
def test_fit_keeps_the_best(make, tmp_path, metric):
    evaluator, heard, model = Scripted(0.1, 0.3, 0.2, 0.3, metric=metric), [], make()
    options = {"warmup_steps": 0, "batch_size": 3, "show_progress_bar": False, "epochs": 2, "evaluation_steps": 1, "steps_per_epoch": 1}
    model.fit([(EXAMPLES, CosineSimilarityLoss())], evaluator, output_path=tmp_path, callback=lambda *call: heard.append(call), **options)
    assert [call[:2] for call in evaluator.calls] == [(0, 1), (0, -1), (1, 1), (1, -1)]
    assert heard == [(0.1, 0, 1), (0.3, 0, -1), (0.2, 1, 1), (0.3, 1, -1)]
    saved = weights(SentenceTransformer(tmp_path))
    assert same(saved, evaluator.calls[1][2]) and not same(saved, weights(model))


def test_fit_without_the_best(make, tmp_path):
    model, evaluator = make(), Scripted(2.0, 1.0)
    options = {"warmup_steps": 0, "show_progress_bar": False, "epochs": 2, "save_best_model": False}
    model.fit([(EXAMPLES, CosineSimilarityLoss())], evaluator, output_path=tmp_path, **options)
    assert same(weights(SentenceTransformer(tmp_path)), weights(model))


def test_fit_checkpoints(make, tmp_path):
    options = {"steps_per_epoch": 5, "warmup_steps": 0, "show_progress_bar": False, "checkpoint_save_steps": 2}
    model = make()
    model.fit([(EXAMPLES, CosineSimilarityLoss())], checkpoint_path=tmp_path / "all", **options)
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["checkpoint-2", "checkpoint-4", "checkpoint-5"]
    assert same(weights(SentenceTransformer(tmp_path / "all" / "checkpoint-5")), weights(model))
    model.fit([(EXAMPLES, CosineSimilarityLoss())], checkpoint_path=tmp_path / "last", checkpoint_save_total_limit=1, **options)
    assert [path.name for path in (tmp_path / "last").iterdir()] == ["checkpoint-5"]


def test_fit_says_where_the_last_checkpoint_is(make, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    options = {"checkpoint_path": tmp_path / "c", "checkpoint_save_steps": 1, "steps_per_epoch": 1, "show_progress_bar": False}
    with pytest.raises(KeyboardInterrupt, match="after step 1; the last checkpoint is .*checkpoint-1"):
        make().fit([(EXAMPLES, CosineSimilarityLoss())], Scripted(1.0), callback=interrupt, warmup_steps=0, **options)


def test_fit_warns_of_a_warmup_without_end(make, caplog):
    make().fit([(EXAMPLES, CosineSimilarityLoss())], show_progress_bar=False)
    assert "warmup_steps=10000, but there are 1 steps" in caplog.text


class Loader:
    """Like torch's: what it gives depends on its collate_fn."""

    def __init__(self):
        self.collate_fn = lambda batch: "tensors"

    def __len__(self):
        return 1

    def __iter__(self):
        return iter([self.collate_fn(EXAMPLES)])


def test_fit_takes_the_examples_of_a_collating_loader(make):
    notes = []
    make().fit([(Loader(), Recorded("x", notes))], warmup_steps=0, show_progress_bar=False)
    assert notes == [("x", [label for *_, label in PAIRS])]


def test_fit_leaves_frozen_parameters(make):
    model = make()
    before = weights(model)
    model.freeze("embeddings.*")
    model.fit([(EXAMPLES, CosineSimilarityLoss())], warmup_steps=0, show_progress_bar=False)
    after = weights(model)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {name for name in before if not name.startswith("embeddings.")}


def test_fit_stops_at_what_is_not_finite(make):
    class Broken(Recorded):
        def value_and_grad(self, embeddings, labels):
            return float("nan"), [np.zeros_like(column) for column in embeddings]

    model = make()
    before = weights(model)
    with pytest.raises(NonFiniteLossError, match="step 1, a batch of 6 that begins with .*'a b'.*a loss of nan"):
        model.fit([([EXAMPLES], Broken("x", []))], warmup_steps=0, show_progress_bar=False)
    assert same(weights(model), before)


WRONG = InputExample(texts=["a", "b"], label=5)


@pytest.mark.parametrize(
    "objectives, options, error, text",
    [
        ([], {}, InputError, "train_objectives is empty"),
        ([([], CosineSimilarityLoss())], {}, InputError, "no batches"),
        ([(iter([EXAMPLES]), CosineSimilarityLoss())], {}, InputError, "steps_per_epoch"),
        ([(iter([EXAMPLES]), CosineSimilarityLoss())], {"steps_per_epoch": 2}, InputError, "no more batches"),
        ([([["a"]], CosineSimilarityLoss())], {}, InputError, "InputExample is needed"),
        ([([[*EXAMPLES, InputExample(texts=["a"])]], CosineSimilarityLoss())], {}, InputError, "has 1 texts, another of its batch 2"),
        ([([*EXAMPLES, WRONG], CosineSimilarityLoss())], {"batch_size": 1}, InputError, r"labels\[6\] is 5"),
        ([(EXAMPLES, CosineSimilarityLoss())], {"scheduler": "nonsense"}, ValueError, "warmuplinear"),
        ([(EXAMPLES, CosineSimilarityLoss())], {"resume_from_checkpoint": True}, NotImplementedError, "SentenceTransformerTrainer"),
    ],
)
def test_fit_refuses(make, objectives, options, error, text):
    model = make()
    with pytest.raises(error, match=text):
        model.fit(objectives, **{"show_progress_bar": False, "warmup_steps": 0, **options})


def test_fit_looks_at_directories_first(make, tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("output_path", "checkpoint_path"):
        with pytest.raises(OSError, match="cannot be written"):
            make().fit([(EXAMPLES, CosineSimilarityLoss())], **{name: tmp_path / "file"})


def test_fit_warns_by_name(make):
    with pytest.warns(UserWarning, match="use_amp"):
        make().fit([(EXAMPLES, CosineSimilarityLoss())], use_amp=True, warmup_steps=0, show_progress_bar=False)


def test_example():
    assert repr(InputExample(texts=["a"], label=1)) == "InputExample(texts=['a'], label=1)"
    with pytest.raises(TypeError, match="a list of texts"):
        InputExample(texts="a")


# --- trainer --------------------------------------------------------------------------------------
@pytest.fixture
def trainer(make, tmp_path):
    def write(model=None, rows=ROWS, loss=CosineSimilarityLoss, own=None, **given):
        common = {"output_dir": tmp_path / "run", "disable_tqdm": True, "save_strategy": "no", "per_device_train_batch_size": 2}
        args = SentenceTransformerTrainingArguments(**{**common, "learning_rate": 1e-3, **given})
        model = make(dropout=0.1) if model is None else model
        return SentenceTransformerTrainer(model=model, args=args, train_dataset=rows, loss=loss, **(own or {}))

    return write


def test_trainer_learns_and_what_is_saved_loads(trainer, make, tmp_path):
    run = trainer(make(), num_train_epochs=20, logging_steps=30, learning_rate=3e-3)
    result = run.train()
    losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    assert result.global_step == 60 and losses[1] < losses[0] / 5
    assert run.state.num_input_tokens_seen == 20 * sum(len((first + " " + second).split()) + 4 for first, second, _ in PAIRS)
    run.save_model(tmp_path / "final")
    assert same(weights(SentenceTransformer(tmp_path / "final")), weights(run.model))


def test_trainer_goes_on_bit_for_bit(trainer, make):
    trainer(save_strategy="steps", save_steps=2, max_steps=5).train()
    whole, resumed = trainer(max_steps=5, save_strategy="no"), trainer(max_steps=5)
    whole.train()
    result = resumed.train(resume_from_checkpoint=f"{resumed.args.output_dir}/checkpoint-2")
    assert result.global_step == 5
    assert same(weights(whole.model), weights(resumed.model)) and not same(weights(whole.model), weights(make()))


def test_trainer_accumulates(trainer, make):
    options = {"train_sampling_strategy": "sequential", "max_steps": 2, "optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0}
    large = trainer(make(), per_device_train_batch_size=6, **options)
    small = trainer(make(), per_device_train_batch_size=4, gradient_accumulation_steps=2, **options)
    large.train()
    small.train()
    a, b = weights(large.model), weights(small.model)
    assert all(np.allclose(a[name], b[name], atol=1e-6) for name in a) and not same(a, weights(make()))


def test_trainer_takes_columns_in_their_order(trainer, make):
    """Whatever their names are; a ranking loss is not symmetric."""
    found = []
    for names in (("anchor", "positive"), ("zebra", "ant")):
        rows = [dict(zip(names, pair[:2])) for pair in PAIRS]
        run = trainer(make(), rows, MultipleNegativesRankingLoss, max_steps=1, learning_rate=0.01)
        run.train()
        found.append(weights(run.model))
    swapped = trainer(make(), [{"b": b, "a": a} for a, b, _ in PAIRS], MultipleNegativesRankingLoss, max_steps=1, learning_rate=0.01)
    swapped.train()
    assert same(*found) and not same(found[0], weights(swapped.model))


def test_trainer_prompts(trainer, make):
    for prompts, texts in (("c ", ("c a b", "c a")), ({"y": "d "}, ("a b", "d a"))):
        rows = [{"x": "a b", "y": "a", "label": 0.5}]
        with_prompts = trainer(make(), rows, prompts=prompts, max_steps=1)
        written = trainer(make(), [{"x": texts[0], "y": texts[1], "label": 0.5}], max_steps=1)
        with_prompts.train()
        written.train()
        assert same(weights(with_prompts.model), weights(written.model))


def test_trainer_evaluates(trainer):
    first, second, labels = zip(*PAIRS)
    evaluators = [EmbeddingSimilarityEvaluator(first, second, labels, name="dev"), Scripted(0.5)]
    run = trainer(own={"eval_dataset": ROWS, "evaluator": evaluators})
    metrics = run.evaluate()
    assert metrics["eval_loss"] == pytest.approx(run.model.loss_of(run.loss, [first, second], labels), rel=1e-5)
    assert metrics["eval_dev_spearman_cosine"] == evaluators[0](run.model)["dev_spearman_cosine"]
    assert metrics["eval_evaluator"] == 0.5


def test_trainer_asks_evaluators_once_for_several_data_sets(trainer):
    run = trainer(own={"eval_dataset": {"a": ROWS, "b": ROWS[:2]}, "evaluator": Scripted(0.5)})
    metrics = run.evaluate()
    assert {"eval_a_loss", "eval_b_loss", "eval_evaluator"} <= set(metrics) and len(run.evaluators[0].calls) == 1


def test_trainer_with_an_evaluator_alone_keeps_the_best(trainer):
    evaluator = Scripted(0.1, 0.4, 0.3)
    strategy = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True, "metric_for_best_model": "evaluator"}
    run = trainer(own={"evaluator": evaluator}, num_train_epochs=3, **strategy)
    run.train()
    assert run.state.best_global_step == 6
    assert same(weights(run.model), evaluator.calls[1][2]) and not same(weights(run.model), evaluator.calls[2][2])


@pytest.mark.parametrize(
    "rows, error, text",
    [
        ([*ROWS, {**ROWS[0], "score": 4.2}], InputError, r"labels\[6\] is 4.2"),
        ([{"a": "a", "b": "b"}], InputError, "labels are missing"),
        ([{**ROWS[0], "score": None}], InputError, "labels are missing"),
        ([ROWS[0], {"sentence1": "a", "score": 1}], InputError, "train_dataset, rows .*: no batch can be made of them: one row has the columns"),
        ([{**ROWS[0], "number": 3}], InputError, "the column 'number' holds 3"),
        (["a", "b"], InputError, "rows must be"),
    ],
)
def test_trainer_refuses_rows(trainer, rows, error, text):
    with pytest.raises(error, match=text):
        trainer(rows=rows).train()


def test_trainer_refuses(trainer):
    with pytest.raises(ValueError, match="loss is needed"):
        trainer(loss=None)
    with pytest.raises(ValueError, match="label_smoothing_factor"):
        trainer(label_smoothing_factor=0.1)
    with pytest.raises(ValueError, match="eval_strategy='steps' needs an eval_dataset"):
        trainer(eval_strategy="steps")
    with pytest.raises(NotImplementedError, match="no_duplicates"):
        trainer(batch_sampler="no_duplicates")
    with pytest.raises(InputError, match="prompts"):
        trainer(prompts={"data": {"column": "a"}})
    with pytest.raises(ValueError, match="needs an eval_dataset"):
        trainer().evaluate()


# --- evaluator ------------------------------------------------------------------------------------
class Fixed:
    """A model that looks vectors up."""

    similarity_fn_name = "cosine"

    def __init__(self, table):
        self.table = table

    def encode(self, texts, **_):
        return np.array([self.table[text] for text in texts], np.float32)


# cosines with "x": 1, 0.6, 0.6, 0
MODEL = Fixed({"x": (1, 0), "a": (2, 0), "b": (3, 4), "c": (3, -4), "d": (0, 1)})


def test_evaluator(tmp_path):
    evaluator = EmbeddingSimilarityEvaluator(["x"] * 4, list("abcd"), [5, 2, 3, 1], name="dev")
    metrics = evaluator(MODEL, output_path=tmp_path, epoch=1, steps=7)
    assert evaluator.primary_metric == "dev_spearman_cosine"
    # ranks 4, 2.5, 2.5, 1 and 4, 2, 3, 1
    assert metrics["dev_spearman_cosine"] == pytest.approx(4.5 / np.sqrt(4.5 * 5))
    assert metrics["dev_pearson_cosine"] == pytest.approx(np.corrcoef([1, 0.6, 0.6, 0], [5, 2, 3, 1])[0, 1])
    evaluator(MODEL, output_path=tmp_path)
    lines = (tmp_path / "similarity_evaluation_dev_results.csv").read_text().splitlines()
    assert lines[0] == "epoch,steps,cosine_pearson,cosine_spearman" and len(lines) == 3
    assert lines[1].startswith("1,7,0.9") and lines[2].startswith("-1,-1,0.9")


def test_evaluator_similarities():
    examples = [InputExample(texts=["x", text], label=label) for text, label in zip("abcd", [5, 2, 3, 1])]
    several = EmbeddingSimilarityEvaluator.from_input_examples(examples, similarity_fn_names=["dot", "euclidean"])
    metrics = several(MODEL)
    assert several.primary_metric == "spearman_max"
    assert metrics["spearman_max"] == max(metrics["spearman_dot"], metrics["spearman_euclidean"])
    main = EmbeddingSimilarityEvaluator.from_input_examples(examples, main_similarity="dot")
    assert set(main(MODEL)) == {"pearson_dot", "spearman_dot"} and main.primary_metric == "spearman_dot"
    same_score = EmbeddingSimilarityEvaluator(["x"] * 2, ["a", "b"], [1, 1])(MODEL)
    assert np.isnan(same_score["spearman_cosine"])


@pytest.mark.parametrize(
    "arguments, text",
    [
        ((["a"], ["b"], [1]), "at least 2"),
        ((["a", "b"], ["b"], [1, 2]), "2, 1 and 2"),
        ((["a", "b"], ["b", "c"], [1, 2], 16, "nonsense"), "nonsense"),
        ((["a", "b"], ["b", "c"], [1, 2], 16, "dot", ["cosine"]), "not among"),
    ],
)
def test_evaluator_refuses(arguments, text):
    with pytest.raises(ValueError, match=text):
        EmbeddingSimilarityEvaluator(*arguments)
