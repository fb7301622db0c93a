"""What a trainer reads, in which order, and what it refuses before the first step."""

from collections import Counter

import numpy as np
import pytest

from ferroformer.data_collator import default_data_collator
from ferroformer.errors import InputError, NonFiniteLossError
from ferroformer.trainer_data import DataLoader, count_tokens, shortened, training_order
from ferroformer.trainer_evaluation import concatenate
from ferroformer.training_args import TrainingArguments

from . import toy_training
from .toy_training import toy_rows


class Columns:
    """Like a data set of the package `datasets`."""

    def __init__(self, columns):
        self.columns = columns
        self.column_names = list(columns)

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, key):
        return self.columns[key] if isinstance(key, str) else {name: values[key] for name, values in self.columns.items()}

    def remove_columns(self, names):
        return Columns({name: values for name, values in self.columns.items() if name not in names})


class Stream:
    """An iterable that starts anew."""

    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


def columns(rows, **more):
    return Columns({name: [row[name] for row in rows] for name in rows[0]} | more)


def weights(trainer):
    trainer.train()
    return trainer.model.weights["weight"].tobytes()


# --- kinds of data sets ---


def test_kinds_of_data_sets_train_alike(make_trainer):
    rows = toy_rows(20)
    common = {"max_steps": 5, "train_sampling_strategy": "sequential"}

    class Indexed:
        def __len__(self):
            return 20

        def __getitem__(self, number):
            return rows[number]

    kinds = [rows, tuple(rows), Indexed(), columns(rows, text=["x"] * 20), Stream(rows), [row | {"text": "x"} for row in rows]]
    assert len({weights(make_trainer(train_dataset=kind, **common)) for kind in kinds}) == 1


def test_stream(make_trainer):
    """Is read again for the next epoch; its length is not known."""
    data = {"train_dataset": Stream(toy_rows(10)), "eval_dataset": Stream(toy_rows(6))}
    trainer = make_trainer(max_steps=5, per_device_train_batch_size=4, **data)
    trainer.train()
    assert [len(call["inputs"]) for call in trainer.model.calls] == [4, 4, 2, 4, 4]
    assert trainer.evaluate()["eval_samples_per_second"] > 0 and trainer.predict(Stream(toy_rows(6))).predictions.shape == (6, 3)
    with pytest.raises(ValueError, match="train_dataset has no length, so max_steps must say how long.*is -1"):
        make_trainer(train_dataset=Stream(toy_rows(10))).train()


def test_an_iterator_can_be_read_once(make_trainer):
    with pytest.raises(InputError, match="train_dataset has no rows in epoch 1 after 0 batches: an iterator can be read once"):
        make_trainer(train_dataset=iter(toy_rows(8)), max_steps=2).train()


def test_drop_last(make_trainer):
    trainer = make_trainer(dataloader_drop_last=True, num_train_epochs=1)
    assert trainer.train().global_step == 2
    trainer = make_trainer(dataloader_drop_last=True, max_steps=3, train_dataset=Stream(toy_rows(20)))
    trainer.train()
    assert [len(call["inputs"]) for call in trainer.model.calls] == [8, 8, 8]


# --- columns ---


def test_unused_columns(make_trainer):
    rows = [row | {"index": 3} for row in toy_rows(20)]
    make_trainer(train_dataset=rows, max_steps=1).train()
    with pytest.raises(TypeError, match="index"):
        make_trainer(train_dataset=rows, max_steps=1, remove_unused_columns=False).train()
    with pytest.raises(InputError, match="train_dataset has the columns text, of which ToyModel.forward takes none: tokenize"):
        make_trainer(train_dataset=[{"text": "x"}]).train()
    with pytest.raises(InputError, match="eval_dataset has the columns text"):
        make_trainer().evaluate(Columns({"text": ["x"]}))


def test_label_names(make_trainer):
    rows = [{"inputs": row["inputs"], "labels": row["label"]} for row in toy_rows(20)]
    trainer = make_trainer(train_dataset=rows, max_steps=1)
    trainer.train()
    assert trainer.label_names == ["labels"] and make_trainer(label_names=["start", "end"]).label_names == ["start", "end"]


# --- order ---


def order(epoch=0, count=100, lengths=None, **given):
    args = TrainingArguments("x", **given)
    rows = [{"input_ids": [0] * length} for length in lengths or [1] * count]
    return training_order(args, rows)(epoch)


def test_order():
    assert order() == np.random.default_rng([42, 0]).permutation(100).tolist()
    assert order(3, data_seed=7) == np.random.default_rng([7, 3]).permutation(100).tolist()
    assert training_order(TrainingArguments("x", train_sampling_strategy="sequential"), [1, 2]) is None


def test_group_by_length():
    lengths = np.random.default_rng(0).integers(1, 200, 400).tolist()
    given = {"train_sampling_strategy": "group_by_length", "per_device_train_batch_size": 8}
    found = order(lengths=lengths, **given)
    assert Counter(found) == Counter(range(400)) and found != order(1, lengths=lengths, **given)
    spread = [np.ptp([lengths[number] for number in found[i : i + 8]]) for i in range(0, 400, 8)]
    assert lengths[found[0]] == max(lengths) and np.mean(spread[1:]) < 30


def test_lengths_from_a_column():
    args = TrainingArguments("x", train_sampling_strategy="group_by_length", length_column_name="n", per_device_train_batch_size=2)
    rows = Columns({"n": [1, 9, 5, 7], "input_ids": [[0]] * 4})
    assert [rows.columns["n"][number] for number in training_order(args, rows)(0)][0] == 9
    with pytest.raises(InputError, match="needs a column 'input_ids' or 'n' in train_dataset"):
        training_order(args, [{"x": 1}])


# --- refused before the first step ---


@pytest.mark.parametrize(
    "rows, message",
    [
        ([], "train_dataset is empty"),
        ({"inputs": [[1.0]], "label": [0]}, "train_dataset is a mapping of 'inputs', 'label'; rows are needed"),
        ([{"inputs": [0.0] * 6, "label": 0}] * 9 + [{"inputs": [0.0] * 5, "label": 0}], r"train_dataset, rows \[.*9.*\]: no batch"),
        ([{"inputs": [0.0] * 6}] * 9, "row 0 gives the columns inputs and no labels"),
        ([{"inputs": [0.0] * 6, "label": 0}] * 9 + [{"inputs": [0.0] * 6}], "no batch can be made.*label: row .* has none"),
        ([{"inputs": [0.0] * 6, "label": 0}] * 98 + [{"inputs": [0.0] * 6, "label": 3}], "row 98: the label 3; .* 3 classes.*0 to 2"),
        ([{"inputs": [0.0] * 6, "label": 0}] * 98 + [{"inputs": [0.0] * 6, "label": -1}], "row 98: the label -1"),
    ],
)
def test_refused(make_trainer, rows, message):
    """Before anything is trained, also where the wrong row comes last."""
    trainer = make_trainer(train_dataset=rows)
    with pytest.raises(InputError, match=message):
        trainer.train()
    assert not trainer.model.calls


def test_a_row_without_a_label_among_many(make_trainer):
    rows = toy_rows(300)
    del rows[150]["label"]
    with pytest.raises(InputError, match="train_dataset, row 150 has no label"):
        make_trainer(train_dataset=rows).train()


def test_label_range_of_columns(make_trainer):
    rows = toy_rows(40)
    rows[7]["label"] = 5
    with pytest.raises(InputError, match="row 7: the label 5"):
        make_trainer(train_dataset=columns(rows)).train()


def test_too_few_rows_for_a_batch(make_trainer):
    with pytest.raises(InputError, match="5 rows are less than one batch of 8, and dataloader_drop_last is set"):
        make_trainer(train_dataset=toy_rows(5), dataloader_drop_last=True).train()


def test_checks_leave_generators_alone(make_trainer):
    """A collator that draws has drawn nothing when the first step comes."""

    class Noisy:
        generator = None

        def __call__(self, rows):
            self.generator = self.generator or np.random.default_rng(3)
            batch = default_data_collator(rows)
            batch["inputs"] = np.stack([self.generator.standard_normal(6), np.random.standard_normal(6)])[[0, 1] * 4]
            return batch

    trainer = make_trainer(train_dataset=toy_rows(16), data_collator=Noisy(), max_steps=1, seed=11)
    trainer.train()
    np.random.seed(11)
    expected = [np.random.default_rng(3).standard_normal(6), np.random.standard_normal(6)]
    np.testing.assert_array_equal(trainer.model.calls[0]["inputs"][:2], expected)


# --- losses that are not finite ---


def test_infinite_loss(make_trainer):
    rows = toy_rows(32)
    rows[13]["inputs"] = [float("nan")] * 6
    trainer = make_trainer(train_dataset=rows, per_device_train_batch_size=4, gradient_accumulation_steps=2)
    snapshots = []
    trainer.create_optimizer = lambda: snapshotting(trainer, snapshots)
    with pytest.raises(NonFiniteLossError) as raised:
        trainer.train()
    step = len(snapshots) + 1
    assert f"step {step} (epoch" in str(raised.value) and "no checkpoint has been saved" in str(raised.value)
    named = str(raised.value).split("rows [")[1].split("]")[0].split(", ")
    assert "13" in named and len(named) == 4 and "a loss of nan and a gradient norm of nan" in str(raised.value)
    assert np.isfinite(trainer.model.weights["weight"]).all()


def snapshotting(trainer, snapshots):
    trainer.optimizer = toy_training.SGD(trainer.model, 0.1)
    step = trainer.optimizer.step
    trainer.optimizer.step = lambda *args, **kwargs: (snapshots.append(trainer.model.state_dict()), step(*args, **kwargs))
    return trainer.optimizer


def test_infinite_gradient(make_trainer):
    def loss(outputs, labels, num_items):
        return 1.0, np.full_like(outputs.logits, np.nan)

    trainer = make_trainer(compute_loss_func=loss, per_device_train_batch_size=2)
    before = trainer.model.state_dict()
    with pytest.raises(NonFiniteLossError, match="step 1 .epoch 0.00., rows .* a gradient norm of nan. The weights are those before"):
        trainer.train()
    assert all((trainer.model.weights[name] == before[name]).all() for name in before)


# --- helpers ---


def test_loader_iterates():
    loader = DataLoader(toy_rows(5), 2, default_data_collator)
    assert [len(batch["labels"]) for batch in loader] == [2, 2, 1] and len(loader) == 3
    with pytest.raises(TypeError, match="dataset has no length"):
        len(DataLoader(Stream([]), 2, default_data_collator))


def test_count_tokens():
    assert count_tokens({"input_ids": np.zeros((2, 3)), "attention_mask": np.array([[1, 1, 0], [1, 0, 0]])}, "input_ids") == 3
    assert count_tokens({"input_ids": np.zeros((2, 3))}, "input_ids") == 6


def test_shortened():
    assert shortened([3, 1]) == "[3, 1]" and shortened(range(50)).endswith("38, 39, .. 50 in all]")


def test_concatenate():
    """As transformers: shorter rows are filled up with -100."""
    found = concatenate([np.ones((1, 2, 2), np.float32), np.zeros((2, 3, 2), np.float32)])
    assert found.shape == (3, 3, 2) and found.dtype == np.float32
    assert found[0].tolist() == [[1, 1], [1, 1], [-100, -100]] and not found[1:].any()
    assert concatenate([(np.array([1]), np.array([2]))] * 2)[1].tolist() == [2, 2] and concatenate([]) is None
    assert concatenate([np.int64(3), np.int64(4)]).tolist() == [3, 4]
