"""The training loop on a toy model: what it computes, logs and calls."""

import json
import math
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from ferroformer.trainer import Trainer
from ferroformer.trainer_callback import EarlyStoppingCallback, TrainerCallback
from ferroformer.trainer_utils import EvalPrediction, mix_seeds

from . import toy_training
from .toy_training import CLASSES, ToyModel, toy_rows


def accuracy(prediction):
    logits, labels = prediction
    return {"accuracy": (logits.argmax(-1) == labels).mean()}


def logged(trainer, name):
    return [logs[name] for logs in trainer.state.log_history if name in logs]


class Recorder(TrainerCallback):
    def __init__(self):
        self.events = []

    def __getattribute__(self, name):
        if name.startswith("on_"):
            return lambda *args, **kwargs: self.events.append((name.removeprefix("on_"), args[1].global_step))
        return super().__getattribute__(name)


# --- the loop ---


def test_it_learns(make_trainer):
    data = {"train_dataset": toy_rows(100), "eval_dataset": toy_rows(50, seed=1)}
    trainer = make_trainer(num_train_epochs=30, compute_metrics=accuracy, **data)
    before = trainer.evaluate()
    output = trainer.train()
    after = trainer.evaluate()
    assert output.global_step == 30 * 13 and output.training_loss < before["eval_loss"] / 2
    assert after["eval_accuracy"] > 0.85 and after["eval_loss"] < before["eval_loss"] / 2
    assert trainer.model.training is False


def test_what_is_logged(make_trainer):
    trainer = make_trainer(num_train_epochs=2, logging_steps=2, eval_dataset=toy_rows(5), eval_strategy="epoch")
    output = trainer.train()
    history = trainer.state.log_history
    assert [set(logs) for logs in history if "loss" in logs] == [{"loss", "grad_norm", "learning_rate", "epoch", "step"}] * 3
    speed = ["runtime", "samples_per_second", "steps_per_second"]
    evaluations = [logs for logs in history if "eval_loss" in logs]
    assert [set(logs) for logs in evaluations] == [{"eval_loss", "epoch", "step", *(f"eval_{name}" for name in speed)}] * 2
    assert [(logs["step"], logs["epoch"]) for logs in evaluations] == [(3, 1.0), (6, 2.0)]
    assert set(history[-1]) == {"train_loss", "epoch", "step", *(f"train_{name}" for name in speed)}
    assert set(output.metrics) == set(history[-1]) - {"step"}
    assert json.loads(json.dumps(history)) == history


def test_losses_are_means_since_the_last_log(make_trainer):
    losses = []

    class Losses(TrainerCallback):
        def on_step_end(self, args, state, control, loss, **kwargs):
            losses.append(loss)

    trainer = make_trainer(max_steps=7, logging_steps=3, callbacks=[Losses])
    output = trainer.train()
    assert logged(trainer, "loss") == pytest.approx([np.mean(losses[:3]), np.mean(losses[3:6])])
    assert output.training_loss == pytest.approx(np.mean(losses))


def test_learning_rate(make_trainer):
    trainer = make_trainer(max_steps=6, warmup_steps=2, logging_steps=1)
    trainer.train()
    expected = [0.0, 0.05, 0.1, 0.075, 0.05, 0.025]
    assert logged(trainer, "learning_rate") == pytest.approx(expected) and trainer.optimizer.rates == pytest.approx(expected)


def test_accumulation_equals_the_large_batch(make_trainer):
    """Also where batches count different numbers of labels."""
    rows = toy_rows(24)
    for number in (0, 1, 2, 7, 11):
        rows[number]["label"] = -100
    common = {"train_dataset": rows, "num_train_epochs": 1, "logging_steps": 1, "train_sampling_strategy": "sequential"}
    whole = make_trainer(per_device_train_batch_size=12, **common)
    parts = make_trainer(per_device_train_batch_size=4, gradient_accumulation_steps=3, **common)
    for trainer in (whole, parts):
        trainer.training_step = without_dropout(trainer)
        trainer.train()
    assert logged(parts, "loss") == pytest.approx(logged(whole, "loss"), rel=1e-6)
    assert logged(parts, "grad_norm") == pytest.approx(logged(whole, "grad_norm"), rel=1e-6)
    for name, array in whole.model.weights.items():
        np.testing.assert_allclose(parts.model.weights[name], array, atol=1e-6)


def without_dropout(trainer):
    def training_step(model, inputs, num_items_in_batch=None):
        outputs, trainer.gradients = toy_training.value_and_grad(
            model, gradients=trainer.gradients, num_items=num_items_in_batch, **inputs
        )
        return float(outputs.loss)

    return training_step


def test_last_step_of_an_epoch_may_have_fewer_batches(make_trainer):
    trainer = make_trainer(per_device_train_batch_size=8, gradient_accumulation_steps=2, num_train_epochs=2)
    assert trainer.train().global_step == 4
    assert [call["num_items"] for call in trainer.model.calls] == [16, 16, 4, 16, 16, 4]


def test_memory_is_given_back(make_trainer):
    """At the end, also of a run that fails."""

    class Failing(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            raise RuntimeError("enough")

    for callbacks in ([], [Failing]):
        trainer, released = make_trainer(max_steps=2, callbacks=callbacks), []
        trainer.model.core.release = lambda: released.append(trainer.gradients)
        with pytest.raises(RuntimeError, match="enough") if callbacks else nullcontext():
            trainer.train()
        assert released == [None]


def test_dropout_seeds(make_trainer):
    trainer = make_trainer(per_device_train_batch_size=5, gradient_accumulation_steps=2, max_steps=2, seed=7)
    trainer.train()
    seeds = [call["dropout_seed"] for call in trainer.model.calls]
    assert seeds == [mix_seeds(7, step, batch) for step in (0, 1) for batch in (0, 1)]


def test_mix_seeds():
    assert mix_seeds(0) == 0xE220A8397B1DCDAF  # the first number of SplitMix64 with seed 0
    assert len({mix_seeds(a, b, c) for a in range(20) for b in range(20) for c in range(5)}) == 2000
    assert 0 <= mix_seeds(2**70, 3) < 2**64


def test_clipping(make_trainer):
    common = {"optim": "sgd", "logging_steps": 1, "learning_rate": 1.0}
    trainer = make_trainer(max_steps=3, max_grad_norm=1e-3, lr_scheduler_type="constant", **common)
    before = trainer.model.state_dict()
    trainer.train()
    moved = math.sqrt(sum(((trainer.model.weights[name] - before[name]) ** 2).sum() for name in before))
    assert min(logged(trainer, "grad_norm")) > 1e-2 and moved <= 3.01e-3
    free = make_trainer(max_steps=1, max_grad_norm=0, **common)
    free.train()
    assert logged(free, "grad_norm")[0] == pytest.approx(logged(trainer, "grad_norm")[0])


def test_same_seed_same_weights(make_trainer):
    def train(**options):
        trainer = make_trainer(num_train_epochs=2, logging_steps=1, **options)
        trainer.train()
        return trainer.model.weights["weight"].tobytes(), logged(trainer, "loss")

    assert train() == train() and train(seed=1) != train() and train(data_seed=5) != train()


def test_every_epoch_reads_every_row_in_its_own_order(make_trainer):
    trainer = make_trainer(num_train_epochs=3, per_device_train_batch_size=20)
    trainer.train()
    orders = [call["inputs"].tolist() for call in trainer.model.calls]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_fractions_of_epochs_and_shares_of_steps(make_trainer):
    trainer = make_trainer(num_train_epochs=1.5, per_device_train_batch_size=2, logging_steps=0.2)
    assert trainer.train().global_step == 15
    assert [logs["step"] for logs in trainer.state.log_history if "loss" in logs] == [3, 6, 9, 12, 15]


def test_events(make_trainer):
    recorder = Recorder()
    common = {"eval_strategy": "epoch", "eval_dataset": toy_rows(3), "logging_steps": 2, "num_train_epochs": 1}
    make_trainer(per_device_train_batch_size=5, gradient_accumulation_steps=2, callbacks=[recorder], **common).train()
    step = ["step_begin", "substep_end", "pre_optimizer_step", "optimizer_step", "step_end"]
    names = [name for name, _ in recorder.events]
    end = ["epoch_end", "log", "prediction_step", "log", "evaluate", "log", "train_end"]
    assert names == ["init_end", "train_begin", "epoch_begin", *step, *step, *end]


def test_callbacks_turn_switches(make_trainer):
    class StopAt(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_epoch_stop = state.global_step == 2
            control.should_training_stop = state.global_step == 4
            return control

    recorder = Recorder()
    trainer = make_trainer(per_device_train_batch_size=5, num_train_epochs=9, callbacks=[StopAt, recorder])
    assert trainer.train().global_step == 4 and trainer.state.epoch == 1.5
    assert [step for name, step in recorder.events if name.startswith("epoch")] == [0, 2, 2, 4]


def test_callbacks_are_added_and_removed(make_trainer):
    trainer, recorder = make_trainer(), Recorder()
    trainer.add_callback(recorder)
    assert trainer.pop_callback(Recorder) is recorder and trainer.pop_callback(Recorder) is None
    trainer.add_callback(Recorder)
    trainer.remove_callback(Recorder)
    assert not any(isinstance(callback, Recorder) for callback in trainer.callback_handler.callbacks)


def test_a_step_without_labels(make_trainer):
    """Learns nothing; an evaluation leaves such a batch out."""
    rows = [row | {"label": -100} for row in toy_rows(8)]
    trainer = make_trainer(train_dataset=rows, max_steps=1, per_device_eval_batch_size=8)
    before = trainer.model.state_dict()
    assert trainer.train().training_loss == 0 and (trainer.model.weights["weight"] == before["weight"]).all()
    labelled = toy_rows(8, seed=3)
    assert trainer.evaluate(rows + labelled)["eval_loss"] == trainer.evaluate(labelled)["eval_loss"]
    assert "eval_loss" not in trainer.evaluate(rows)


def test_training_step_may_be_overridden(make_trainer):
    class Twice(Trainer):
        def training_step(self, model, inputs, num_items_in_batch=None):
            return 2 * super().training_step(model, inputs, num_items_in_batch)

    plain = make_trainer(max_steps=1).train().training_loss
    assert make_trainer(max_steps=1, cls=Twice).train().training_loss == 2 * plain


# --- what it is made of ---


def test_model_init(make_trainer):
    seeds = iter(range(9))
    trainer = make_trainer(model_init=lambda: ToyModel(seed=next(seeds)), max_steps=1)
    first = trainer.model
    trainer.train()
    assert trainer.model is not first and trainer.optimizer.model is trainer.model


def test_constructor_errors(make_trainer):
    with pytest.raises(ValueError, match="exactly one of model and model_init"):
        Trainer()
    with pytest.raises(ValueError, match="eval_strategy='epoch' needs an eval_dataset"):
        make_trainer(eval_strategy="epoch")
    with pytest.raises(ValueError, match="train.. needs a train_dataset"):
        make_trainer(train_dataset=None).train()
    with pytest.raises(ValueError, match="evaluate.. needs an eval_dataset"):
        make_trainer().evaluate()


def test_compute_loss_cannot_be_overridden():
    class Mine(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False):
            return 0

    with pytest.raises(TypeError, match="Mine.compute_loss would not be trained on.*compute_loss_func"):
        Mine(ToyModel())


def test_tokenizer_is_an_old_name(make_trainer):
    class Tokenizer:
        def save_pretrained(self, folder):
            (Path(folder) / "tok").write_text("x")

    with pytest.warns(FutureWarning, match="processing_class"):
        trainer = make_trainer(tokenizer=Tokenizer())
    trainer.save_model()
    names = sorted(path.name for path in Path(trainer.args.output_dir).iterdir())
    assert names == ["config.json", "model.safetensors", "tok", "training_args.json"]


def test_own_optimizer_and_schedule(make_trainer):
    model = ToyModel()
    optimizer = toy_training.SGD(model, lr=0.5)
    make_trainer(model=model, optimizers=(optimizer, lambda step: 1 / (step + 1)), max_steps=3).train()
    assert optimizer.rates == pytest.approx([0.5, 0.25, 0.5 / 3])


def test_optimizer_arguments(make_trainer):
    trainer = make_trainer(optim="sgd", optim_args="momentum=0.9, nesterov=true", weight_decay=0.1)
    optimizer = trainer.create_optimizer()
    assert type(optimizer) is toy_training.SGD and optimizer.momentum == 0.9 and optimizer.weight_decay == 0.1
    adam = make_trainer(adam_beta1=0.8, adam_epsilon=1e-6).create_optimizer()
    assert type(adam) is toy_training.AdamW and adam.betas == (0.8, 0.999) and adam.eps == 1e-6
    with pytest.raises(ValueError, match="optim_args='momentum': expected name=value"):
        make_trainer(optim="sgd", optim_args="momentum").create_optimizer()


def test_frozen_parameters(make_trainer):
    trainer = make_trainer(frozen_parameters=["b*"], max_steps=3)
    trainer.train()
    assert not trainer.model.weights["bias"].any()


def test_label_smoothing(make_trainer):
    """It is passed on in training, and evaluation has the same loss."""
    trainer = make_trainer(label_smoothing_factor=0.2, max_steps=1, eval_dataset=toy_rows(10))
    trainer.train()
    assert trainer.model.calls[0]["label_smoothing"] == 0.2
    output = trainer.predict(toy_rows(10))
    logs = output.predictions - np.log(np.exp(output.predictions).sum(1, keepdims=True))
    smooth = -(0.8 * logs[np.arange(10), output.label_ids] + 0.2 * logs.mean(1))
    assert trainer.evaluate()["eval_loss"] == pytest.approx(smooth.mean(), rel=1e-6)


def test_own_loss(make_trainer):
    def squared(outputs, labels, num_items):
        error = outputs.logits - np.eye(CLASSES)[labels]
        return (error**2).sum() / num_items, 2 * error / num_items

    trainer = make_trainer(compute_loss_func=squared, num_train_epochs=20, learning_rate=0.05, eval_dataset=toy_rows(20))
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    output = trainer.predict(toy_rows(20))
    expected = ((output.predictions - np.eye(CLASSES)[output.label_ids]) ** 2).sum(1).mean()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5) and expected < before / 2


# --- evaluation ---


def test_predictions_are_in_order(make_trainer):
    rows = toy_rows(11)
    trainer = make_trainer(per_device_eval_batch_size=4)
    output = trainer.predict(rows, metric_key_prefix="x")
    np.testing.assert_allclose(output.predictions, ToyModel()(inputs=[row["inputs"] for row in rows]).logits, rtol=1e-6)
    assert output.label_ids.tolist() == [row["label"] for row in rows]
    assert {"x_loss", "x_runtime"} <= set(output.metrics)
    without = trainer.predict([{"inputs": row["inputs"]} for row in rows])
    assert without.label_ids is None and "test_loss" not in without.metrics and without.predictions.shape == (11, CLASSES)


def test_evaluation_loss_is_the_mean_over_rows(make_trainer):
    rows = toy_rows(7)
    whole = make_trainer(per_device_eval_batch_size=7).evaluate(rows)["eval_loss"]
    assert make_trainer(per_device_eval_batch_size=3).evaluate(rows)["eval_loss"] == pytest.approx(whole, rel=1e-6)


def test_metrics(make_trainer):
    seen = {}

    def metrics(prediction):
        seen["prediction"] = prediction
        return {"count": np.int64(len(prediction.label_ids)), "eval_half": np.float32(0.5), "each": {"a": np.arange(2)}}

    trainer = make_trainer(compute_metrics=metrics, include_for_metrics=["inputs", "loss"], eval_dataset=toy_rows(10))
    trainer.preprocess_logits_for_metrics = lambda logits, labels: logits.argmax(-1)
    found = trainer.evaluate()
    assert found["eval_count"] == 10 and type(found["eval_count"]) is int and found["eval_half"] == 0.5 and found["eval_each"] == {"a": [0, 1]}
    predictions, labels, inputs, losses = seen["prediction"]
    assert predictions.shape == labels.shape == losses.shape == (10,) and inputs.shape == (10, 6)


def test_several_eval_datasets(make_trainer):
    trainer = make_trainer(eval_dataset={"a": toy_rows(4), "b": toy_rows(6)}, eval_strategy="epoch", num_train_epochs=1)
    trainer.train()
    assert logged(trainer, "eval_a_loss") and logged(trainer, "eval_b_loss") and not logged(trainer, "eval_loss")


def test_eval_prediction_unpacks():
    assert tuple(EvalPrediction(1, 2)) == (1, 2) and EvalPrediction(1, 2, losses=3)[2] == 3
    with pytest.raises(IndexError):
        EvalPrediction(1, 2)[2]


def test_early_stopping(make_trainer):
    """The loss gets worse from the second evaluation on, and two such evaluations stop the training."""
    trainer = make_trainer(
        max_steps=50, eval_strategy="steps", eval_steps=1, eval_dataset=toy_rows(4), learning_rate=0.0,
        metric_for_best_model="loss", load_best_model_at_end=True, save_strategy="steps", save_steps=1, save_total_limit=1,
        callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
    )  # fmt: skip
    assert trainer.train().global_step == 3 and trainer.state.best_global_step == 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"eval_strategy": "epoch"}, "needs metric_for_best_model"),
        ({"metric_for_best_model": "loss"}, "needs eval_strategy"),
    ],
)
def test_early_stopping_needs(make_trainer, options, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(eval_dataset=toy_rows(3), callbacks=[EarlyStoppingCallback], **options).train()


def test_unknown_best_metric(make_trainer):
    trainer = make_trainer(eval_dataset=toy_rows(3), eval_strategy="epoch", metric_for_best_model="f1")
    with pytest.raises(KeyError, match="eval_f1 is not among the metrics .*eval_loss"):
        trainer.train()


# --- what shows it ---


def test_progress(make_trainer, capsys):
    make_trainer(disable_tqdm=False, max_steps=3, logging_steps=1, eval_dataset=toy_rows(9), eval_strategy="steps").train()
    captured = capsys.readouterr()
    assert "3/3" in captured.err and "tokens/s=" in captured.err and "'grad_norm'" in captured.out


def test_printer(make_trainer, capsys):
    make_trainer(max_steps=1, logging_steps=1).train()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("{'loss': '1.") and lines[1].startswith("{'train_runtime'")


def test_tensorboard(make_trainer, monkeypatch):
    import sys
    from types import SimpleNamespace

    for name in ("torch.utils.tensorboard", "tensorboardX"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="pip install tensorboardX"):
        make_trainer(report_to="tensorboard")
    written = []

    class Writer:
        def __init__(self, folder):
            written.append(folder)

        def add_text(self, *args):
            pass

        def add_scalar(self, tag, value, step):
            written.append((tag, step))

        flush = close = lambda self: None

    monkeypatch.setitem(sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=Writer))
    make_trainer(report_to="tensorboard", logging_dir="runs/x", max_steps=1, logging_steps=1, eval_strategy="steps",
         eval_dataset=toy_rows(3)).train()  # fmt: skip
    assert written[0] == "runs/x" and ("train/loss", 1) in written and ("eval/loss", 1) in written


def test_plot(make_trainer, monkeypatch, tmp_path):
    import sys

    trainer = make_trainer(max_steps=2, logging_steps=1)
    with pytest.raises(ValueError, match="no loss was logged"):
        trainer.plot()
    trainer.train()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(ImportError, match=r"ferroformer\[plot\]"):
            trainer.plot()
    pytest.importorskip("matplotlib")
    assert Path(trainer.plot(tmp_path / "x.png")).read_bytes().startswith(b"\x89PNG")


def test_metrics_files(make_trainer, capsys):
    trainer = make_trainer()
    trainer.save_metrics("train", {"a": 1.5})
    trainer.log_metrics("train", {"a": 1.5})
    trainer.save_state()
    out = Path(trainer.args.output_dir)
    assert json.loads((out / "train_results.json").read_text()) == {"a": 1.5} and "a = 1.5000" in capsys.readouterr().out
    assert json.loads((out / "trainer_state.json").read_text())["global_step"] == 0
