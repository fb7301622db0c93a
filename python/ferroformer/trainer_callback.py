"""Callbacks of a `Trainer`: its state, the switches that they may turn, and what logs, evaluates, saves and stops by default."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from .config_files import read_config_file, write_text
from .trainer_utils import IntervalStrategy, SaveStrategy

if TYPE_CHECKING:
    from typing_extensions import Self

    from .training_args import TrainingArguments

__all__ = [
    "CallbackHandler",
    "DefaultFlowCallback",
    "EarlyStoppingCallback",
    "ExportableState",
    "TrainerCallback",
    "TrainerControl",
    "TrainerState",
]

# event -> the switches that are off again when it happens
_TURNED_OFF = {
    "on_train_begin": ("should_training_stop",),
    "on_epoch_begin": ("should_epoch_stop",),
    "on_step_begin": ("should_log", "should_evaluate", "should_save"),
    "on_log": ("should_log",),
    "on_evaluate": ("should_evaluate",),
    "on_save": ("should_save",),
}


@dataclass
class TrainerState:
    """Where a training is; saved as trainer_state.json, with transformers' keys. A step is one update of the weights.

    epoch: how many passes over the data are done, with the share of the current one.
    num_input_tokens_seen: tokens that are not padding.
    log_history: what was logged, with its "step".
    total_flos: always 0, not counted; the is_* and trial_* are transformers' and always these.
    """

    epoch: float = 0
    global_step: int = 0
    max_steps: int = 0
    logging_steps: int = 500
    eval_steps: int = 500
    save_steps: int = 500
    train_batch_size: int | None = None
    num_train_epochs: int = 0
    num_input_tokens_seen: int = 0
    total_flos: float = 0
    log_history: list[dict[str, Any]] = field(default_factory=list)
    best_metric: float | None = None
    best_global_step: int | None = None
    best_model_checkpoint: str | None = None
    is_local_process_zero: bool = True
    is_world_process_zero: bool = True
    is_hyper_param_search: bool = False
    trial_name: str | None = None
    trial_params: dict[str, Any] | None = None
    stateful_callbacks: dict[str, Any] = field(default_factory=dict)

    def save_to_json(self, json_path: str | os.PathLike[str]) -> None:
        write_text(json_path, json.dumps(asdict(self), indent=2, sort_keys=True) + "\n")

    @classmethod
    def load_from_json(cls, json_path: str | os.PathLike[str]) -> Self:
        known = {item.name for item in fields(cls)}
        return cls(**{key: value for key, value in read_config_file(json_path).items() if key in known})

    def compute_steps(self, args: TrainingArguments, max_steps: int) -> None:
        """Take the intervals of `args`; shares become steps."""
        for name in ("logging_steps", "eval_steps", "save_steps"):
            steps = getattr(args, name)
            if steps is not None:
                setattr(self, name, math.ceil(max_steps * steps) if steps < 1 else steps)


class ExportableState:
    """Whose `state()` is saved in checkpoints: {"args": of the constructor, "attributes": set again when a run resumes}."""

    def state(self) -> dict[str, Any]:
        raise NotImplementedError(f"{type(self).__name__} must implement state()")

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        instance = cls(**state["args"])
        vars(instance).update(state["attributes"])
        return instance


@dataclass
class TrainerControl(ExportableState):
    """The switches that callbacks turn on; the trainer turns them off when it has done what they ask for."""

    should_training_stop: bool = False
    should_epoch_stop: bool = False
    should_save: bool = False
    should_evaluate: bool = False
    should_log: bool = False

    def state(self) -> dict[str, Any]:
        return {"args": asdict(self), "attributes": {}}


class TrainerCallback:
    """What is called at the events of a training.

    Each event gets args (TrainingArguments), state (TrainerState), control (TrainerControl), and by name model, processing_class,
    optimizer, lr_scheduler, train_dataloader, eval_dataloader. It may turn switches of `control`; it returns `control` or None.
    """

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """The trainer is made."""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """Before the first step."""

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """After the last step."""

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """Before the first step of an epoch."""

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """After `on_step_end` of an epoch's last step, before what the two have switched on is done."""

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """Before a step."""

    def on_substep_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """After each batch of a step but the last."""

    def on_pre_optimizer_step(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """Before the weights are updated, when gradients are clipped."""

    def on_optimizer_step(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """After the weights are updated."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """After a step; `loss` is its loss."""

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """After an evaluation; `metrics` are its results."""

    def on_predict(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """After a prediction; `metrics` are its results."""

    def on_prediction_step(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """After a batch of an evaluation or prediction."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """After a checkpoint was written."""

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """After `logs` were added to the history."""


class CallbackHandler:
    """Calls all callbacks, in their order; `objects` are what they get by name."""

    def __init__(self, callbacks: Iterable[Any], **objects: Any) -> None:
        self.callbacks: list[Any] = []
        self.objects = objects
        for callback in callbacks:
            self.add_callback(callback)

    def add_callback(self, callback: Any) -> None:
        """Add a callback, or one that a class makes."""
        self.callbacks.append(callback() if isinstance(callback, type) else callback)

    def pop_callback(self, callback: Any) -> Any:
        """Remove a callback, or the first of a class, and return it; None if there is none."""
        for found in self.callbacks:
            if isinstance(found, callback) if isinstance(callback, type) else found is callback:
                self.callbacks.remove(found)
                return found
        return None

    def call_event(self, event: str, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """`control`, or what a callback returned in its place."""
        for switch in _TURNED_OFF.get(event, ()):
            setattr(control, switch, False)
        for callback in self.callbacks:
            control = getattr(callback, event)(args, state, control, **self.objects, **kwargs) or control
        return control

    def export(self, control: TrainerControl) -> dict[str, Any]:
        """Class name -> state of everything that has one; a list of states where a class is there more than once."""
        exported: dict[str, Any] = {}
        for name, group in self._stateful(control).items():
            states = [one.state() for one in group]
            exported[name] = states if len(states) > 1 else states[0]
        return exported

    def restore(self, exported: dict[str, Any], control: TrainerControl) -> None:
        """Set the exported attributes; what the constructors were given stays as it is now."""
        for name, group in self._stateful(control).items():
            states = exported.get(name, [])
            for one, state in zip(group, states if isinstance(states, list) else [states]):
                vars(one).update(state["attributes"])

    def _stateful(self, control: TrainerControl) -> dict[str, list[ExportableState]]:
        groups: dict[str, list[ExportableState]] = {}
        for one in (*self.callbacks, control):
            if isinstance(one, ExportableState):
                groups.setdefault(type(one).__name__, []).append(one)
        return groups


class DefaultFlowCallback(TrainerCallback):
    """Turns the switches on as the strategies of TrainingArguments say."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        step, last = state.global_step, state.global_step >= state.max_steps
        by_steps = IntervalStrategy.STEPS
        if args.logging_strategy == by_steps and step % state.logging_steps == 0 or step == 1 and args.logging_first_step:
            control.should_log = True
        if args.eval_strategy == by_steps and (step % state.eval_steps == 0 or last) and args.eval_delay <= step:
            control.should_evaluate = True
        if args.save_strategy == SaveStrategy.STEPS and (step % state.save_steps == 0 or last):
            control.should_save = True
        if last:
            control.should_training_stop = True

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        if args.logging_strategy == IntervalStrategy.EPOCH:
            control.should_log = True
        if args.eval_strategy == IntervalStrategy.EPOCH and args.eval_delay <= state.epoch:
            control.should_evaluate = True
        if args.save_strategy == SaveStrategy.EPOCH:
            control.should_save = True


class EarlyStoppingCallback(TrainerCallback, ExportableState):
    """Stops the training when `metric_for_best_model` did not get better for `early_stopping_patience` evaluations in a row.

    early_stopping_threshold: by how much it has to get better to count.
    Raises ValueError at the beginning of a training without `metric_for_best_model` or without evaluations.
    """

    def __init__(self, early_stopping_patience: int = 1, early_stopping_threshold: float | None = 0.0) -> None:
        self.early_stopping_patience = early_stopping_patience
        self.early_stopping_threshold = early_stopping_threshold or 0.0
        self.early_stopping_patience_counter = 0

    def state(self) -> dict[str, Any]:
        names = ("early_stopping_patience", "early_stopping_threshold")
        return {
            "args": {name: getattr(self, name) for name in names},
            "attributes": {"early_stopping_patience_counter": self.early_stopping_patience_counter},
        }

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        if args.metric_for_best_model is None:
            raise ValueError("EarlyStoppingCallback needs metric_for_best_model")
        if args.eval_strategy == IntervalStrategy.NO:
            raise ValueError("EarlyStoppingCallback needs eval_strategy='steps' or 'epoch'")
        if not args.load_best_model_at_end:
            _logger().warning("EarlyStoppingCallback without load_best_model_at_end=True: the last model is kept, not the best")

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        key = f"eval_{str(args.metric_for_best_model).removeprefix('eval_')}"
        value = kwargs["metrics"].get(key)
        if value is None:
            _logger().warning(f"{key} is not among the metrics, so EarlyStoppingCallback does not count this evaluation")
            return
        better = self._is_better(value, state.best_metric, bool(args.greater_is_better))
        self.early_stopping_patience_counter = 0 if better else self.early_stopping_patience_counter + 1
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True

    def _is_better(self, value: float, best: float | None, greater: bool) -> bool:
        return best is None or (value - best if greater else best - value) > self.early_stopping_threshold


def _logger() -> logging.Logger:
    return logging.getLogger(__name__)
