"""Checkpoints: what is in them, that a run goes on bit for bit, and that what goes wrong leaves them whole."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ferroformer import trainer_checkpoint
from ferroformer.data_collator import default_data_collator
from ferroformer.trainer_callback import EarlyStoppingCallback, TrainerCallback, TrainerState
from ferroformer.trainer_utils import get_checkpoints, get_last_checkpoint

from .conftest import read_safetensors
from .toy_training import ToyModel, toy_rows

FILES = "config.json loop_state.json model.safetensors optimizer.safetensors scheduler.json trainer_state.json training_args.json"


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


class Stop(TrainerCallback):
    """Ends the process, as far as a test can: by an error nobody catches."""

    def __init__(self, step):
        self.step = step

    def on_save(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise SystemError("killed")


# --- what is there ---


def test_files(make_trainer, out):
    make_trainer(save_strategy="steps", save_steps=2, max_steps=5).train()
    assert names(out) == ["checkpoint-2", "checkpoint-4", "checkpoint-5"] and names(out / "checkpoint-4") == FILES.split()
    state = json.loads((out / "checkpoint-4" / "trainer_state.json").read_text())
    assert state["global_step"] == 4 and state["max_steps"] == 5 and "TrainerControl" in state["stateful_callbacks"]
    schedule = json.loads((out / "checkpoint-4" / "scheduler.json").read_text())
    assert schedule["lr_scheduler_type"] == "linear" and schedule["num_training_steps"] == 5 and schedule["learning_rate"] == 0.1


def test_transformers_reads_the_state(make_trainer, out):
    pytest.importorskip("transformers")
    from transformers.trainer_callback import TrainerState as Reference

    make_trainer(save_strategy="epoch", num_train_epochs=2, logging_steps=1).train()
    path = str(out / "checkpoint-6" / "trainer_state.json")
    ours, theirs = TrainerState.load_from_json(path), Reference.load_from_json(path)
    assert vars(theirs) == vars(ours)


def test_only_the_model(make_trainer, out):
    make_trainer(save_strategy="epoch", save_only_model=True, num_train_epochs=1).train()
    assert names(out / "checkpoint-3") == "config.json model.safetensors trainer_state.json training_args.json".split()
    with pytest.raises(FileNotFoundError, match="cannot be resumed: no optimizer.safetensors, loop_state.json .with save_only_model"):
        make_trainer(num_train_epochs=1).train(resume_from_checkpoint=True)


def test_limit(make_trainer, out):
    make_trainer(save_strategy="steps", save_steps=1, max_steps=5, save_total_limit=2).train()
    assert names(out) == ["checkpoint-4", "checkpoint-5"]


class Scripted:
    """compute_metrics that gives one number after the other."""

    def __init__(self, *values):
        self.values = iter(values)

    def __call__(self, prediction):
        return {"score": next(self.values)}


def best(make_trainer, *scores, **options):
    common = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1, "max_steps": len(scores)}
    given = {**common, "load_best_model_at_end": True, "metric_for_best_model": "score", **options}
    trainer = make_trainer(eval_dataset=toy_rows(4), compute_metrics=Scripted(*scores), **given)
    snapshots = []

    class Snapshots(TrainerCallback):
        def on_step_end(self, args, state, control, model, **kwargs):
            snapshots.append(model.state_dict()["weight"])

    trainer.add_callback(Snapshots)
    trainer.train()
    return trainer, snapshots


@pytest.mark.parametrize("greater, step", [(None, 2), (True, 2), (False, 4)])
def test_best_model(make_trainer, out, greater, step):
    trainer, snapshots = best(make_trainer, 2, 5, 3, 1, 4, save_total_limit=2, greater_is_better=greater)
    np.testing.assert_array_equal(trainer.model.weights["weight"], snapshots[step - 1])
    assert names(out) == [f"checkpoint-{step}", "checkpoint-5"]
    assert trainer.state.best_model_checkpoint == str(out / f"checkpoint-{step}")
    assert json.loads((out / "checkpoint-5" / "trainer_state.json").read_text())["best_global_step"] == step


def test_best_model_alone(make_trainer, out):
    best(make_trainer, 2, 5, 3, save_total_limit=1)
    assert names(out) == ["checkpoint-2"]


def test_only_what_is_better_is_saved(make_trainer, out):
    best(make_trainer, 2, 1, 3, 3, save_strategy="best")
    assert names(out) == ["checkpoint-1", "checkpoint-3"]


# --- going on bit for bit ---


class Noisy:
    """A collator that draws from all generators that it can."""

    def __init__(self):
        self.generator = None

    def __call__(self, rows):
        import random

        self.generator = self.generator or np.random.default_rng(3)
        batch = default_data_collator(rows)
        noise = [self.generator.standard_normal(), np.random.standard_normal(), random.gauss(0, 1)]
        batch["inputs"] = batch["inputs"] + 0.1 * np.sum(noise)
        return batch


class Stream:
    def __iter__(self):
        return iter(toy_rows(21))


RUNS = {
    "plain": {},
    "accumulation": {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 3},
    "grouped": {"train_sampling_strategy": "group_by_length", "length_column_name": "label"},
    "sgd": {"optim": "sgd", "optim_args": "momentum=0.9", "lr_scheduler_type": "cosine", "warmup_steps": 0.2},
    "epochs": {"eval_strategy": "epoch", "logging_strategy": "epoch"},
    "noise": {"data_collator": Noisy},
    "stream": {"train_dataset": Stream(), "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4},
}


def run(make_trainer, name, resume=None, **more):
    options = {key: value() if isinstance(value, type) else value for key, value in RUNS[name].items()}
    options.setdefault("eval_dataset", toy_rows(7, seed=2))
    common = {"max_steps": 8, "logging_steps": 3, "save_strategy": "steps", "save_steps": 1, "weight_decay": 0.01}
    trainer = make_trainer(model=ToyModel(seed=9 if resume else 0), **{**common, **options, **more})
    output = trainer.train(resume_from_checkpoint=resume)
    return trainer, output


def history(trainer):
    timeless = ("runtime", "per_second")
    return [{name: value for name, value in logs.items() if not name.endswith(timeless)} for logs in trainer.state.log_history]


@pytest.mark.parametrize("name", RUNS)
def test_resume(make_trainer, out, tmp_path, name):
    """From every checkpoint on the run is the one that was not interrupted, to the last bit and the last log."""
    whole, output = run(make_trainer, name)
    expected = {checkpoint: read_safetensors(Path(checkpoint) / "optimizer.safetensors") for checkpoint in get_checkpoints(out)}
    last = max(expected, key=len) if len(expected) == 1 else str(out / "checkpoint-8")
    for step in range(1, 8):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(out / f"checkpoint-{step}", copy / f"checkpoint-{step}")
        resumed, again = run(make_trainer, name, str(copy / f"checkpoint-{step}"), output_dir=copy)
        assert again[:2] == output[:2]
        for key, array in whole.model.weights.items():
            assert resumed.model.weights[key].tobytes() == array.tobytes(), (step, key)
        moments = read_safetensors(copy / "checkpoint-8" / "optimizer.safetensors")
        assert {key: array.tobytes() for key, array in moments.items()} == {
            key: array.tobytes() for key, array in expected[last].items()
        }
        assert history(resumed) == history(whole)
        assert resumed.state.num_input_tokens_seen == whole.state.num_input_tokens_seen


def test_resume_after_an_epoch_was_cut_short(make_trainer, out):
    class Cut(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_epoch_stop = state.global_step in (2, 3)

    whole, _ = run(make_trainer, "plain", callbacks=[Cut])
    shutil.rmtree(out / "checkpoint-8")
    resumed, _ = run(make_trainer, "plain", str(out / "checkpoint-3"), callbacks=[Cut])
    assert resumed.model.weights["weight"].tobytes() == whole.model.weights["weight"].tobytes()


def test_resume_restores_counters(make_trainer, out):
    """Two evaluations in a row without a better loss stop it, one before and one after the interruption."""
    common = {"eval_strategy": "steps", "eval_steps": 1, "metric_for_best_model": "loss", "learning_rate": 0.0,
              "load_best_model_at_end": True}  # fmt: skip

    def callbacks():
        return [EarlyStoppingCallback(early_stopping_patience=2)]

    with pytest.raises(SystemError):
        run(make_trainer, "plain", callbacks=[*callbacks(), Stop(2)], **common)
    resumed, _ = run(make_trainer, "plain", True, callbacks=callbacks(), **common)
    assert resumed.state.global_step == 3


def test_resume_the_last(make_trainer, out):
    with pytest.raises(SystemError):
        run(make_trainer, "plain", callbacks=[Stop(4)])
    resumed, _ = run(make_trainer, "plain", True)
    from_args, _ = run(make_trainer, "plain", None, resume_from_checkpoint=str(out / "checkpoint-4"))
    assert resumed.state.global_step == 8 and names(out)[-1] == "checkpoint-8"
    assert from_args.model.weights["weight"].tobytes() == resumed.model.weights["weight"].tobytes()


def test_resume_what_is_done(make_trainer, out):
    whole, output = run(make_trainer, "plain")
    resumed, again = run(make_trainer, "plain", True)
    assert again.global_step == 8 and again.training_loss == output.training_loss
    assert resumed.model.weights["weight"].tobytes() == whole.model.weights["weight"].tobytes()


def test_resume_with_other_settings_is_logged(make_trainer, out, caplog):
    run(make_trainer, "plain", max_steps=3)
    run(make_trainer, "plain", True, max_steps=5, per_device_train_batch_size=4)
    assert "per_device_train_batch_size was 8 and is 4; num_training_steps was 3 and is 5" in caplog.text
    caplog.clear()
    run(make_trainer, "plain", True, max_steps=5, per_device_train_batch_size=4)
    assert not caplog.text


def test_resume_errors(make_trainer, out):
    with pytest.raises(ValueError, match="resume_from_checkpoint=True, but there is no checkpoint-N in"):
        run(make_trainer, "plain", True)
    with pytest.raises(FileNotFoundError, match="nowhere' cannot be resumed: no model.safetensors, trainer_state.json"):
        run(make_trainer, "plain", "nowhere")


# --- what goes wrong ---


def test_a_full_disk_leaves_the_checkpoint_before(make_trainer, out):
    trainer = make_trainer(save_strategy="steps", save_steps=1, max_steps=4)
    create = trainer.create_optimizer

    def full():
        optimizer = create()
        save = optimizer.save

        def fail(path):
            save(path)
            if optimizer.steps == 3:
                raise OSError(errno.ENOSPC, "No space left on device")

        optimizer.save = fail

    trainer.create_optimizer = full
    message = "checkpoint-3 could not be written: No space left on device; the last checkpoint is .*checkpoint-2"
    with pytest.raises(OSError, match=message) as raised:
        trainer.train()
    assert raised.value.errno == errno.ENOSPC and names(out) == ["checkpoint-1", "checkpoint-2"]
    run(make_trainer, "plain", True)


def test_no_room_at_the_beginning(make_trainer, monkeypatch):
    class Usage:
        free = 83

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage)
    trainer = make_trainer()
    with pytest.raises(OSError, match="83 bytes are free on its disk, a model takes 84"):
        trainer.train()
    Usage.free = 84
    trainer.train()


def test_output_dir_is_a_file(make_trainer, tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "inside"):
        trainer = make_trainer(output_dir=path)
        with pytest.raises(OSError, match="output_dir=.* cannot be written: (File exists|Not a directory)"):
            trainer.train()
        assert not trainer.model.calls


@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root may write everywhere")
def test_output_dir_cannot_be_written(make_trainer, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(PermissionError, match="output_dir=.* cannot be written: Permission denied"):
        make_trainer(output_dir=tmp_path / "locked").train()


def test_left_overs(make_trainer, out):
    """Of a run that was killed: while it wrote, while it removed, between the two renames of a replacement."""
    run(make_trainer, "plain", max_steps=2)
    shutil.copytree(out / "checkpoint-1", out / ".checkpoint-9.tmp-123")
    (out / ".checkpoint-9.tmp-123" / "model.safetensors").unlink()
    shutil.copytree(out / "checkpoint-1", out / ".checkpoint-1.old")
    os.rename(out / "checkpoint-2", out / ".checkpoint-2.old")
    (out / ".checkpoint-notes").mkdir()
    assert get_last_checkpoint(out) == str(out / "checkpoint-1")
    trainer_checkpoint.clean_up(str(out))
    assert names(out) == [".checkpoint-notes", "checkpoint-1", "checkpoint-2"]
    run(make_trainer, "plain", True)


def test_a_checkpoint_is_replaced(make_trainer, out):
    run(make_trainer, "plain", max_steps=1, seed=1)
    before = (out / "checkpoint-1" / "model.safetensors").read_bytes()
    run(make_trainer, "plain", max_steps=1, seed=2)
    assert (out / "checkpoint-1" / "model.safetensors").read_bytes() != before and names(out) == ["checkpoint-1"]


KILLED = """
import sys
import ferroformer
from tests.python import toy_training
sys.modules["ferroformer.training"] = toy_training
args = ferroformer.TrainingArguments(sys.argv[1], max_steps=10**6, save_steps=1, save_total_limit=2, disable_tqdm=True,
                                     logging_strategy="no", resume_from_checkpoint=len(sys.argv) > 2)
ferroformer.Trainer(toy_training.ToyModel(), args, train_dataset=toy_training.toy_rows(20)).train()
"""


def start(out, *arguments):
    root = Path(__file__).parents[2]
    return subprocess.Popen([sys.executable, "-c", KILLED, str(out), *arguments], cwd=root, stderr=subprocess.PIPE, text=True)


def wait_for(out, process, step):
    deadline = time.monotonic() + 60
    while not (out.is_dir() and any(int(Path(path).name[11:]) >= step for path in get_checkpoints(out))):
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.001)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_killed_at_any_moment(make_trainer, out):
    """While it does nothing but save: there is a whole checkpoint, and the next run goes on from it."""
    random, step = np.random.default_rng(5), 3
    for number in range(4):
        process = start(out, *["resume"] * (number > 0))
        wait_for(out, process, step)
        time.sleep(random.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        last = get_last_checkpoint(out)
        assert names(last) == FILES.split()
        step = int(Path(last).name[11:]) + 3
    trainer = make_trainer(max_steps=step, save_strategy="steps", learning_rate=5e-5)
    assert trainer.train(resume_from_checkpoint=True).global_step == step
    assert not [name for name in names(out) if name.startswith(".")]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_interrupted(out):
    """By Ctrl-C it ends within a second, and says where the last checkpoint is."""
    process = start(out)
    wait_for(out, process, 3)
    process.send_signal(signal.SIGINT)
    begin = time.monotonic()
    _, errors = process.communicate(timeout=10)
    assert time.monotonic() - begin < 1
    last = errors.strip().splitlines()[-1]
    assert last.startswith("KeyboardInterrupt: training was interrupted after step ") and process.returncode != 0
    named = last.split("the last checkpoint is ")[1].split("; train(resume_from_checkpoint=True)")[0]
    assert named in get_checkpoints(out)[-2:]  # the last but one, if the signal came just before the last had its name


def test_interrupted_before_a_checkpoint(make_trainer):
    class Interrupt(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="training was interrupted after step 1; no checkpoint has been saved"):
        make_trainer(callbacks=[Interrupt]).train()


def test_checkpoint_names(tmp_path):
    for name in ("checkpoint-2", "checkpoint-10", "checkpoint-x", "checkpoint-3.bak", ".checkpoint-99.tmp-1"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-50").write_text("a file")
    assert get_last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    assert [Path(path).name for path in get_checkpoints(tmp_path)] == ["checkpoint-2", "checkpoint-10"]
    assert get_last_checkpoint(tmp_path / "checkpoint-2") is None
