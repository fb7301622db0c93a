"""`TrainingArguments`: how a `Trainer` trains. transformers' names, defaults and meanings."""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, fields
from enum import Enum
from typing import Any, TypeVar

from .config_values import check_choice, check_kind, listed_keys
from .errors import ConfigError
from .schedules import SchedulerType
from .trainer_utils import IntervalStrategy, SaveStrategy
from .training_args_names import take_foreign_names
from .words import Words

__all__ = ["OptimizerNames", "TrainingArguments"]

T = TypeVar("T")

_SAMPLING = ("random", "sequential", "group_by_length")
_REPORTS = ("tensorboard",)
_METRIC_INPUTS = ("inputs", "loss")
_AT_LEAST = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "learning_rate": 0,
    "warmup_steps": 0,
    "weight_decay": 0,
    "adam_epsilon": 0,
    "max_grad_norm": 0,
    "eval_delay": 0,
    "save_total_limit": 1,
    "seed": 0,
    "data_seed": 0,
}


class OptimizerNames(Words):
    ADAMW_TORCH = "adamw_torch"
    ADAMW_TORCH_FUSED = "adamw_torch_fused"
    ADAMW_HF = "adamw_hf"
    SGD = "sgd"


def takes_foreign_names(cls: type[T]) -> type[T]:
    """Let the constructor take the names in training_args_names.py too."""
    own: Callable[..., None] = cls.__init__

    @functools.wraps(own)
    def init(self: Any, *args: Any, **given: Any) -> None:
        own(self, *args, **take_foreign_names(given))

    setattr(cls, "__init__", init)
    return cls


@takes_foreign_names
@dataclass
class TrainingArguments:
    """How a `Trainer` trains, evaluates, logs and saves.

    Names, defaults and meanings are transformers'; old spellings are taken with a FutureWarning, arguments about what there is not
    on a CPU without torch with a warning where nothing is lost, with NotImplementedError where something would be.

    output_dir: where checkpoints go; "trainer_output" if it is None.
    num_train_epochs, max_steps: how long; max_steps wins if it is positive.
    warmup_steps: a number of steps, or below 1 a share of them.
    optim: "adamw_torch" (and its spellings "adamw_torch_fused", "adamw_hf") or "sgd"; optim_args: its further arguments, as
        "momentum=0.9,nesterov=true".
    logging_steps, eval_steps, save_steps: a number of steps, or below 1 a share of all.
    report_to: "none" or "tensorboard" (into logging_dir, or output_dir/runs/..).
    train_sampling_strategy: "random", "sequential", or "group_by_length": random, with rows of like length together.
    resume_from_checkpoint: what `train()` resumes from if it is not told: a directory, or True for the last in output_dir.
    frozen_parameters: patterns (fnmatch) of the names of parameters that are not trained.

    Raises ConfigError (a ValueError) that names the argument, its value and what is allowed.
    """

    output_dir: str | None = None
    _: KW_ONLY
    do_train: bool = False
    do_eval: bool = False
    do_predict: bool = False
    num_train_epochs: float = 3.0
    max_steps: int = -1
    per_device_train_batch_size: int = 8
    per_device_eval_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    learning_rate: float = 5e-5
    lr_scheduler_type: SchedulerType | str = "linear"
    lr_scheduler_kwargs: dict[str, Any] | None = None
    warmup_steps: float = 0
    optim: OptimizerNames | str = "adamw_torch"
    optim_args: str | None = None
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    label_smoothing_factor: float = 0.0
    gradient_checkpointing: bool = False
    frozen_parameters: list[str] = field(default_factory=list)
    logging_strategy: IntervalStrategy | str = "steps"
    logging_steps: float = 500
    logging_first_step: bool = False
    logging_dir: str | None = None
    disable_tqdm: bool = False
    report_to: str | list[str] | None = "none"
    eval_strategy: IntervalStrategy | str = "no"
    eval_steps: float | None = None
    eval_delay: float = 0
    eval_on_start: bool = False
    prediction_loss_only: bool = False
    include_for_metrics: list[str] = field(default_factory=list)
    save_strategy: SaveStrategy | str = "steps"
    save_steps: float = 500
    save_total_limit: int | None = None
    save_only_model: bool = False
    load_best_model_at_end: bool = False
    metric_for_best_model: str | None = None
    greater_is_better: bool | None = None
    resume_from_checkpoint: str | bool | None = None
    seed: int = 42
    data_seed: int | None = None
    remove_unused_columns: bool = True
    label_names: list[str] | None = None
    train_sampling_strategy: str = "random"
    length_column_name: str = "length"
    dataloader_drop_last: bool = False

    def __post_init__(self) -> None:
        self._check_kinds()
        self.output_dir = os.path.expanduser("trainer_output" if self.output_dir is None else self.output_dir)
        self._check_words()
        self._check_numbers()
        self._derive()
        self._check_intervals()
        self._check_best_model()

    def _check_kinds(self) -> None:
        self.disable_tqdm = self.disable_tqdm or False  # None by default in transformers, like the next one
        self.gradient_checkpointing = self.gradient_checkpointing or False
        if isinstance(self.output_dir, os.PathLike):
            self.output_dir = os.fspath(self.output_dir)
        for key, kind in listed_keys(TrainingArguments).items():
            if key != "_":
                setattr(self, key, check_kind(key, getattr(self, key), kind))

    def _check_words(self) -> None:
        for key, words in _WORDS.items():
            check_choice(key, getattr(self, key), [word.value for word in words])
            setattr(self, key, words(getattr(self, key)))
        check_choice("train_sampling_strategy", self.train_sampling_strategy, _SAMPLING)
        for name in self.include_for_metrics:
            check_choice("include_for_metrics", name, _METRIC_INPUTS)
        self.report_to = _reports(self.report_to)

    def _check_numbers(self) -> None:
        for key, least in _AT_LEAST.items():
            value = getattr(self, key)
            if value is not None and not least <= value < math.inf:
                raise ConfigError(f"{key}={value}: at least {least} is needed")
        for key in ("adam_beta1", "adam_beta2", "label_smoothing_factor"):
            if not 0 <= getattr(self, key) < 1:
                raise ConfigError(f"{key}={getattr(self, key)}: a number in [0, 1) is needed")
        if self.max_steps <= 0 and not 0 < self.num_train_epochs < math.inf:
            raise ConfigError(f"num_train_epochs={self.num_train_epochs}: a number above 0 is needed, or max_steps")
        if self.warmup_steps >= 1:
            self.warmup_steps = _whole("warmup_steps", self.warmup_steps)

    def _derive(self) -> None:
        self.do_eval = self.do_eval or self.eval_strategy != IntervalStrategy.NO
        if self.eval_strategy == IntervalStrategy.STEPS and not self.eval_steps:
            self.eval_steps = self.logging_steps
        if self.metric_for_best_model is None and (self.load_best_model_at_end or self.save_strategy == SaveStrategy.BEST):
            self.metric_for_best_model = "loss"
        if self.greater_is_better is None and self.metric_for_best_model is not None:
            self.greater_is_better = not self.metric_for_best_model.endswith("loss")

    def _check_intervals(self) -> None:
        for kind in ("logging", "eval", "save"):
            if getattr(self, f"{kind}_strategy") == IntervalStrategy.STEPS:
                key = f"{kind}_steps"
                steps = getattr(self, key)
                if not 0 < steps < math.inf:
                    raise ConfigError(f"{key}={steps}: above 0 is needed with {kind}_strategy='steps'")
                if steps >= 1:
                    setattr(self, key, _whole(key, steps))
        if self.save_strategy == SaveStrategy.BEST and self.eval_strategy == IntervalStrategy.NO:
            raise ConfigError("save_strategy='best' needs an eval_strategy of 'steps' or 'epoch'")

    def _check_best_model(self) -> None:
        """What is evaluated is what is saved, so that the best can be loaded."""
        if not self.load_best_model_at_end or self.save_strategy == SaveStrategy.BEST:
            return
        words = [IntervalStrategy(self.eval_strategy).value, SaveStrategy(self.save_strategy).value]
        if words not in (["steps", "steps"], ["epoch", "epoch"]):
            found = "eval_strategy={!r}, save_strategy={!r}".format(*words)
            raise ConfigError(f"load_best_model_at_end needs one strategy to evaluate and to save, 'steps' or 'epoch'; got {found}")
        if self.eval_strategy == IntervalStrategy.STEPS and not _is_multiple(self.save_steps, self.eval_steps or 0):
            raise ConfigError(
                f"load_best_model_at_end needs save_steps={self.save_steps} to be a multiple of eval_steps={self.eval_steps}"
            )

    @property
    def train_batch_size(self) -> int:
        return self.per_device_train_batch_size

    @property
    def eval_batch_size(self) -> int:
        return self.per_device_eval_batch_size

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """The steps of the warmup, of so many in all."""
        return int(self.warmup_steps) if self.warmup_steps >= 1 else math.ceil(num_training_steps * self.warmup_steps)

    def to_dict(self) -> dict[str, Any]:
        """All arguments; words as strings."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value.value if isinstance(value, Enum) else value for name, value in values.items()}

    def to_json_string(self) -> str:
        return json.dumps(self.to_dict(), indent=2)


_WORDS: dict[str, type[Words]] = {
    "lr_scheduler_type": SchedulerType,
    "optim": OptimizerNames,
    "logging_strategy": IntervalStrategy,
    "eval_strategy": IntervalStrategy,
    "save_strategy": SaveStrategy,
}


def _reports(value: str | list[str] | None) -> list[str]:
    names = [] if value is None else [value] if isinstance(value, str) else list(value)
    if names == ["all"]:
        return list(_REPORTS)
    for name in names:
        check_choice("report_to", name, ("none", *_REPORTS))
    return [name for name in names if name != "none"]


def _whole(key: str, value: float) -> int:
    if value != int(value):
        raise ConfigError(f"{key}={value}: a whole number is needed, or a share below 1")
    return int(value)


def _is_multiple(large: float, small: float) -> bool:
    """Of whole numbers, or of shares as they were written in decimals."""
    from fractions import Fraction

    return (large < 1) == (small < 1) and Fraction(str(large)) % Fraction(str(small)) == 0
