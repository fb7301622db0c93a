"""TrainingArguments: transformers' defaults, its old and its inapplicable names, and errors that say what is allowed."""

import dataclasses
import json

import pytest

from ferroformer import training_args_names
from ferroformer.errors import ConfigError
from ferroformer.training_args import TrainingArguments
from ferroformer.trainer_utils import IntervalStrategy

# what differs from transformers, on purpose
OWN = {"frozen_parameters", "logging_dir"}
OTHER_DEFAULTS = {"gradient_checkpointing", "report_to", "disable_tqdm", "optim"}


def reference():
    pytest.importorskip("transformers")
    from transformers import TrainingArguments as Reference

    return {field.name: field for field in dataclasses.fields(Reference)}


def test_defaults_are_transformers():
    theirs = reference()
    ours = {field.name: field.default for field in dataclasses.fields(TrainingArguments)}
    assert set(ours) - set(theirs) == OWN
    compared = set(ours) - OWN - OTHER_DEFAULTS
    assert {name: ours[name] for name in compared if ours[name] is not dataclasses.MISSING} == {
        name: theirs[name].default for name in compared if theirs[name].default is not dataclasses.MISSING
    }


@pytest.mark.filterwarnings("error")
def test_every_argument_of_transformers_is_known():
    """With its default it is taken in silence."""
    theirs = reference()
    for name, field in theirs.items():
        if field.default is not dataclasses.MISSING:
            TrainingArguments(**{name: field.default})


@pytest.mark.parametrize(
    "old, value, new, expected",
    [
        ("evaluation_strategy", "epoch", "eval_strategy", "epoch"),
        ("per_gpu_train_batch_size", 3, "per_device_train_batch_size", 3),
        ("warmup_ratio", 0.1, "warmup_steps", 0.1),
        ("group_by_length", True, "train_sampling_strategy", "group_by_length"),
        ("group_by_length", False, "train_sampling_strategy", "random"),
    ],
)
def test_old_names(old, value, new, expected):
    with pytest.warns(FutureWarning, match=f"{old} is an old name: use {new}"):
        assert getattr(TrainingArguments("x", **{old: value}), new) == expected


def test_activation_checkpointing_is_another_name():
    assert TrainingArguments("x", activation_checkpointing=True).gradient_checkpointing is True


def test_warmup():
    assert TrainingArguments("x", warmup_steps=0.25).get_warmup_steps(10) == 3
    assert TrainingArguments("x", warmup_steps=4.0).get_warmup_steps(10) == 4
    with pytest.warns(FutureWarning):
        assert TrainingArguments("x", warmup_ratio=0.5, warmup_steps=2).get_warmup_steps(10) == 2
    with pytest.warns(FutureWarning), pytest.raises(ValueError, match=r"warmup_ratio=2.*\[0, 1\)"):
        TrainingArguments("x", warmup_ratio=2)


def test_two_names_at_once():
    with pytest.warns(FutureWarning), pytest.raises(ValueError, match="give one of them"):
        TrainingArguments("x", evaluation_strategy="epoch", eval_strategy="no")


@pytest.mark.parametrize(
    "name, value",
    [("fp16", True), ("dataloader_num_workers", 4), ("logging_nan_inf_filter", False), ("torch_compile", True), ("local_rank", 1)],
)
def test_without_effect(name, value):
    with pytest.warns(UserWarning, match=f"{name}={value} has no effect: "):
        TrainingArguments("x", **{name: value})


@pytest.mark.parametrize(
    "name, value",
    [("deepspeed", "ds.json"), ("fsdp", "full_shard"), ("push_to_hub", True), ("eval_do_concat_batches", False)],
)
def test_refused(name, value):
    with pytest.raises(NotImplementedError, match=f"{name}={value!r} is not supported: "):
        TrainingArguments("x", **{name: value})


def test_harmless_in_silence(recwarn):
    TrainingArguments("x", use_cpu=True, no_cuda=True, fp16=False, push_to_hub=False, dataloader_pin_memory=False, fsdp="")
    assert not recwarn


def test_no_name_is_in_two_tables():
    tables = [training_args_names._WITHOUT_EFFECT, training_args_names._REFUSED]
    names = [name for table in tables for group in table.values() for name in group]
    names += [*training_args_names._RENAMED, *training_args_names._ALWAYS]
    names += [field.name for field in dataclasses.fields(TrainingArguments)]
    assert len(names) == len(set(names))


def test_unknown():
    with pytest.raises(TypeError, match="learning_rat"):
        TrainingArguments("x", learning_rat=1)
    with pytest.raises(TypeError):
        TrainingArguments("x", 8)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"eval_strategy": "epochs"}, "eval_strategy='epochs' is not supported; supported: epoch, no, steps; did you mean 'epoch'"),
        ({"optim": "adafactor"}, "optim='adafactor' is not supported; supported: adamw_hf"),
        ({"lr_scheduler_type": "wsd"}, "lr_scheduler_type='wsd'.*cosine_with_restarts"),
        ({"report_to": "wandb"}, "report_to='wandb'.*tensorboard"),
        ({"train_sampling_strategy": "batch_rebalance"}, "train_sampling_strategy='batch_rebalance'.*group_by_length"),
        ({"include_for_metrics": ["logits"]}, "include_for_metrics='logits'.*inputs, loss"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size=0: at least 1"),
        ({"per_device_train_batch_size": "8"}, "per_device_train_batch_size='8': expected int, got str"),
        ({"learning_rate": float("nan")}, "learning_rate=nan: at least 0"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0: at least 0"),
        ({"label_smoothing_factor": 1.0}, r"label_smoothing_factor=1.0: a number in \[0, 1\)"),
        ({"num_train_epochs": 0}, "num_train_epochs=0: a number above 0 is needed, or max_steps"),
        ({"logging_steps": 0}, "logging_steps=0: above 0 is needed with logging_strategy='steps'"),
        ({"save_steps": 2.5}, "save_steps=2.5: a whole number is needed, or a share below 1"),
        ({"save_strategy": "best"}, "save_strategy='best' needs an eval_strategy"),
        ({"load_best_model_at_end": True}, "one strategy to evaluate and to save.*eval_strategy='no', save_strategy='steps'"),
        (
            {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 2, "save_steps": 3},
            "save_steps=3 to be a multiple of eval_steps=2",
        ),
    ],
)
def test_errors(given, message):
    with pytest.raises(ConfigError, match=message):
        TrainingArguments("x", **given)


def test_derived():
    args = TrainingArguments("x", eval_strategy="steps", logging_steps=7)
    assert args.do_eval and args.eval_steps == 7 and args.metric_for_best_model is None and args.greater_is_better is None
    args = TrainingArguments("x", eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True)
    assert args.metric_for_best_model == "loss" and args.greater_is_better is False
    args = TrainingArguments("x", eval_strategy="steps", save_strategy="best", metric_for_best_model="f1")
    assert args.greater_is_better is True and args.eval_strategy is IntervalStrategy.STEPS
    TrainingArguments("x", load_best_model_at_end=True, eval_strategy="steps", eval_steps=0.1, save_steps=0.3)


def test_output_dir(tmp_path):
    assert TrainingArguments().output_dir == "trainer_output"
    assert TrainingArguments(tmp_path).output_dir == str(tmp_path)
    assert not TrainingArguments("~/runs").output_dir.startswith("~")


def test_to_json():
    args = TrainingArguments("x", eval_strategy="epoch", report_to="none", frozen_parameters=["*embeddings*"])
    values = json.loads(args.to_json_string())
    assert values["eval_strategy"] == "epoch" and values["report_to"] == [] and values["frozen_parameters"] == ["*embeddings*"]
    assert TrainingArguments(**values) == args == dataclasses.replace(args)
