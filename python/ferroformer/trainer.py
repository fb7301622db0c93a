"""`Trainer`: fine-tuning on the CPU with transformers' names. The loop; what it needs is in the trainer_*.py beside it."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from . import schedules
from .config_files import read_config_file, write_text
from .data_collator import DataCollatorWithPadding, default_data_collator
from .errors import InputError, NonFiniteLossError
from .trainer_callback import CallbackHandler, DefaultFlowCallback, TrainerControl, TrainerState
from .trainer_checkpoint import (
    ARGS_NAME,
    LOOP_NAME,
    OPTIMIZER_NAME,
    SCHEDULE_NAME,
    STATE_NAME,
    LoopState,
    clean_up,
    find_checkpoint,
    probe,
    restore_generators,
    rotate,
    write_whole,
)
from .trainer_checks import check_batches, check_labels
from .trainer_data import (
    DataLoader,
    Step,
    check_is_rows,
    count_tokens,
    is_indexed,
    shortened,
    steps,
    training_order,
    without_unused_columns,
)
from .trainer_evaluation import Evaluator, plain
from .trainer_reports import PrinterCallback, ProgressCallback, TensorBoardCallback
from .trainer_utils import (
    EvalPrediction,
    IntervalStrategy,
    SaveStrategy,
    TrainOutput,
    mix_seeds,
    set_seed,
    speed_metrics,
)
from .training_args import OptimizerNames, TrainingArguments

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .training import AdamW, Gradients, SGD

__all__ = ["Trainer"]

# the arguments that, with the schedule's, decide what a step does
_DECIDE = {
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "train_sampling_strategy",
    "dataloader_drop_last",
    "seed",
    "data_seed",
    "optim",
    "optim_args",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "label_smoothing_factor",
    "frozen_parameters",
}


class Trainer(Evaluator):
    """Trains a model on a data set, evaluates it, and saves checkpoints from which a run goes on bit for bit.

    train_dataset, eval_dataset: lists of {column: value}, data sets of `datasets`, anything with len and getitem, or iterables of
        rows (then `max_steps` says how long to train); eval_dataset may be a dict of several.
    data_collator: rows -> batch; by default DataCollatorWithPadding if there is a tokenizer, else default_data_collator.
    processing_class: the tokenizer, saved with the model (`tokenizer` is its old name).
    model_init: makes the model, in place of `model`; called at each `train()`.
    compute_loss_func: (outputs, labels, num_items) -> (loss, its gradient by the logits), in place of the model's own loss.
    compute_metrics: EvalPrediction -> {name: number}.
    preprocess_logits_for_metrics: (logits, labels) -> what is kept of the logits of a batch.
    optimizers: an optimizer of `ferroformer.training`, and a function step -> factor of its learning rate; None: as `args` say.

    The same arguments and seed give the same weights bit for bit, on any number of threads, also when the run was killed and resumed:
    rows are drawn from (data_seed or seed, epoch), the dropout of a batch from mix_seeds(seed, step, number of the batch in it).
    Python's and numpy's global generators are seeded when a training begins.
    To change how gradients come about, override `training_step`; there is no autograd, so a `compute_loss` could not be trained on.
    """

    def __init__(
        self,
        model: Any = None,
        args: TrainingArguments | None = None,
        data_collator: Callable[[list[Any]], Any] | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        model_init: Callable[[], Any] | None = None,
        compute_loss_func: Callable[[Any, Any, float | None], tuple[float, NDArray[np.float32]]] | None = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, Any]] | None = None,
        callbacks: Iterable[Any] | None = None,
        optimizers: tuple[Any, Callable[[int], float] | None] = (None, None),
        preprocess_logits_for_metrics: Callable[[Any, Any], Any] | None = None,
        *,
        tokenizer: Any = None,
    ) -> None:
        if tokenizer is not None:
            warnings.warn("tokenizer is an old name: use processing_class", FutureWarning, stacklevel=2)
            processing_class = tokenizer if processing_class is None else processing_class
        self.args = TrainingArguments() if args is None else args
        self.processing_class = processing_class
        self.train_dataset = train_dataset
        self.eval_dataset = eval_dataset
        self.model_init = model_init
        self.compute_loss_func = compute_loss_func
        self.compute_metrics = compute_metrics
        self.preprocess_logits_for_metrics = preprocess_logits_for_metrics
        self.optimizer, self.lr_scheduler = self._given = optimizers
        self._check_arguments(model)
        self.model = self._make_model() if model is None else model
        padded = processing_class is not None and hasattr(processing_class, "pad")
        self.data_collator = data_collator or (DataCollatorWithPadding(processing_class) if padded else default_data_collator)
        names: Any = self.args.label_names or getattr(self.model, "label_names", ("labels",))
        self.label_names = list(names)
        self.state, self.control, self._loop = TrainerState(), TrainerControl(), LoopState()
        self.gradients: Gradients | None = None
        self._batch_in_step = 0
        self._last_checkpoint: str | None = None
        self.callback_handler = CallbackHandler([*self._default_callbacks(), *(callbacks or ())])
        self._event("on_init_end")

    def _check_arguments(self, model: Any) -> None:
        if (model is None) == (self.model_init is None):
            raise ValueError("Trainer needs exactly one of model and model_init")
        if self.model_init is not None and self._given != (None, None):
            raise ValueError("optimizers belong to one model: with model_init, override create_optimizer")
        if hasattr(type(self), "compute_loss"):
            raise TypeError(
                f"{type(self).__name__}.compute_loss would not be trained on, as there is no autograd: pass compute_loss_func, which "
                "gives the loss and its gradient by the logits, or override training_step"
            )
        if self.args.eval_strategy != IntervalStrategy.NO and not self._can_evaluate():
            raise ValueError(f"eval_strategy={IntervalStrategy(self.args.eval_strategy).value!r} needs an eval_dataset")

    def _can_evaluate(self) -> bool:
        return self.eval_dataset is not None

    def _default_callbacks(self) -> list[Any]:
        reports = [TensorBoardCallback] if "tensorboard" in (self.args.report_to or ()) else []
        return [DefaultFlowCallback, PrinterCallback if self.args.disable_tqdm else ProgressCallback, *reports]

    def _make_model(self) -> Any:
        set_seed(self.args.seed)
        assert self.model_init is not None
        return self.model_init()

    # --- callbacks ----------------------------------------------------------------------------
    def add_callback(self, callback: Any) -> None:
        """Add a callback, or one that a class makes."""
        self.callback_handler.add_callback(callback)

    def pop_callback(self, callback: Any) -> Any:
        """Remove a callback, or the first of a class, and return it; None if there is none."""
        return self.callback_handler.pop_callback(callback)

    def remove_callback(self, callback: Any) -> None:
        """Remove a callback, or the first of a class."""
        self.callback_handler.pop_callback(callback)

    def _event(self, event: str, **kwargs: Any) -> None:
        self.callback_handler.objects |= {
            "model": self.model,
            "processing_class": self.processing_class,
            "optimizer": self.optimizer,
            "lr_scheduler": self.lr_scheduler,
        }
        self.control = self.callback_handler.call_event(event, self.args, self.state, self.control, **kwargs)

    # --- data ---------------------------------------------------------------------------------
    def get_train_dataloader(self) -> DataLoader:
        """The training data in batches; ValueError if there is none."""
        if self.train_dataset is None:
            raise ValueError("train() needs a train_dataset")
        order = training_order(self.args, self.train_dataset)
        options = {"order": order, "drop_last": self.args.dataloader_drop_last}
        return self._loader(self.train_dataset, "train_dataset", self.args.train_batch_size, **options)

    def _loader(self, dataset: Any, name: str, batch_size: int, **options: Any) -> DataLoader:
        check_is_rows(dataset, name)
        if is_indexed(dataset) and not len(dataset):
            raise InputError(f"{name} is empty")
        return DataLoader(self._used_columns(dataset, name), batch_size, self.data_collator, name=name, **options)

    def _used_columns(self, dataset: Any, name: str) -> Any:
        return without_unused_columns(dataset, self.model, self.label_names, name) if self.args.remove_unused_columns else dataset

    # --- train --------------------------------------------------------------------------------
    def train(
        self, resume_from_checkpoint: str | bool | None = None, *, ignore_keys_for_eval: list[str] | None = None
    ) -> TrainOutput:
        """Train as `args` say.

        resume_from_checkpoint: a checkpoint directory, or True for the last one in output_dir; the run goes on as if it had not
        been interrupted.

        Raises before the first step what can be known then: ValueError and InputError for data and labels, OSError for output_dir,
        FileNotFoundError for a checkpoint; NonFiniteLossError for a step whose loss or gradient is not finite.
        """
        args = self.args
        asked = args.resume_from_checkpoint if resume_from_checkpoint is None else resume_from_checkpoint
        checkpoint = find_checkpoint(asked, str(args.output_dir))
        set_seed(args.seed)
        if self.model_init is not None:
            self.model = self._make_model()
        loader = self.get_train_dataloader()
        self._check_before_training(loader)
        self._prepare(loader, checkpoint)
        begin, first_step = time.perf_counter(), self.state.global_step
        self._samples = 0
        try:
            self._train(loader, ignore_keys_for_eval)
        except KeyboardInterrupt as interrupt:
            interrupt.args = (self._where_it_stopped(),)
            raise
        finally:
            self.model.eval()
            self.gradients = None
            self.model.core.release()
        return self._finish(time.perf_counter() - begin, self.state.global_step - first_step)

    def _check_before_training(self, loader: DataLoader) -> None:
        output_dir = str(self.args.output_dir)
        probe(output_dir, 4 * self.model.num_parameters())
        clean_up(output_dir)
        if loader.num_batches is not None:
            check_batches(loader)
            if self.compute_loss_func is None and type(self).training_step is Trainer.training_step:
                check_labels(loader, self.model, self.label_names)
        elif self.args.max_steps <= 0:
            raise ValueError(f"train_dataset has no length, so max_steps must say how long to train; it is {self.args.max_steps}")

    def _prepare(self, loader: DataLoader, checkpoint: str | None) -> None:
        """Optimizer, schedule and state, at the beginning or where the checkpoint was."""
        args = self.args
        if args.frozen_parameters:
            self.model.freeze(*args.frozen_parameters)
        self._plan(loader)
        self.optimizer, self.lr_scheduler = self._given
        self.create_optimizer()
        self.create_scheduler(self.state.max_steps)
        self._loop, self._last_checkpoint = LoopState(), checkpoint
        if checkpoint is not None:
            self._resume(checkpoint)
        self.callback_handler.objects["train_dataloader"] = loader

    def _plan(self, loader: DataLoader) -> None:
        args = self.args
        batches = loader.num_batches
        per_epoch = args.max_steps if batches is None else math.ceil(batches / args.gradient_accumulation_steps)
        max_steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * per_epoch)
        epochs = sys.maxsize if batches is None else math.ceil(max_steps / per_epoch)
        self.state = TrainerState(max_steps=max_steps, num_train_epochs=epochs, train_batch_size=args.train_batch_size)
        self.state.compute_steps(args, max_steps)

    def create_optimizer(self) -> Any:
        """The optimizer that was given, or the one that `args` name."""
        if self.optimizer is None:
            self.optimizer = _make_optimizer(self.model, self.args)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Callable[[int], float]:
        """The schedule that was given, or the one that `args` name: step -> factor of the learning rate."""
        if self.lr_scheduler is None:
            args = self.args
            self.lr_scheduler = schedules.get_schedule(
                args.lr_scheduler_type,
                num_warmup_steps=args.get_warmup_steps(num_training_steps),
                num_training_steps=num_training_steps,
                lr=(optimizer or self.optimizer).lr,
                **(args.lr_scheduler_kwargs or {}),
            )
        return self.lr_scheduler

    def _train(self, loader: DataLoader, ignore_keys: list[str] | None) -> None:
        self._event("on_train_begin")
        if self.args.eval_on_start and self.state.global_step == 0:
            self.evaluate(ignore_keys=ignore_keys)
        while self.state.global_step < self.state.max_steps and not self.control.should_training_stop:
            self._event("on_epoch_begin")
            self._run_epoch(loader, ignore_keys)

    def _run_epoch(self, loader: DataLoader, ignore_keys: list[str] | None) -> None:
        """The rest of the current epoch. Its end is part of its last step, so that no checkpoint lies between the two."""
        loop = self._loop
        for step in steps(loader, self.args.gradient_accumulation_steps, loop.epoch, loop.batches_done):
            self._run_step(loader, step)
            ended = step.is_last or self._stops()
            loop.epoch, loop.batches_done = (loop.epoch + 1, 0) if ended else (loop.epoch, step.batches_done)
            if ended:
                self._event("on_epoch_end")
            self._log_evaluate_save(ignore_keys)
            if self._stops() and not ended:  # an evaluation stopped it
                self._event("on_epoch_end")
                self._log_evaluate_save(ignore_keys)
            if ended or self._stops():
                return

    def _stops(self) -> bool:
        return self.control.should_epoch_stop or self.control.should_training_stop

    def _run_step(self, loader: DataLoader, step: Step) -> None:
        """One update of the weights."""
        self._event("on_step_begin")
        batches = [loader.load(chunk) for chunk in step.chunks]
        num_items = self._count_items(batches)
        self.model.train()
        if self.gradients is not None:
            self.gradients.zero()  # the same memory in each step: new pages cost more than this
        loss = 0.0
        for self._batch_in_step, batch in enumerate(batches):
            if self._batch_in_step:
                self._event("on_substep_end")
            part = self.training_step(self.model, batch, num_items)
            if not math.isfinite(part):
                raise self._not_finite(f"a loss of {part}", step, self._batch_in_step)
            loss += part
            self.state.num_input_tokens_seen += count_tokens(batch, self._main_input())
        norm = self._clip(step)
        learning_rate = self._update()
        self._grad_norm, self._learning_rate = norm, learning_rate
        self._loop.loss_sum += loss
        self._samples += sum(len(chunk.numbers) for chunk in step.chunks)
        self.state.global_step += 1
        whole = loader.num_batches or self.state.max_steps * self.args.gradient_accumulation_steps
        self.state.epoch = self._loop.epoch + step.batches_done / whole
        self._event("on_step_end", loss=loss, learning_rate=learning_rate)

    def training_step(self, model: Any, inputs: Mapping[str, Any], num_items_in_batch: int | None = None) -> float:
        """Add the gradients of a batch to `self.gradients` and return its loss.

        num_items_in_batch: of all batches of the step, by which loss and gradients are divided so that they add up.
        """
        from . import training

        seed = mix_seeds(self.args.seed, self.state.global_step, self._batch_in_step)
        outputs, self.gradients = training.value_and_grad(
            model,
            gradients=self.gradients,
            num_items=num_items_in_batch,
            label_smoothing=self.args.label_smoothing_factor if "labels" in inputs else 0.0,
            loss_fn=self.compute_loss_func,
            dropout_seed=seed,
            gradient_checkpointing=self.args.gradient_checkpointing,
            **inputs,
        )
        return float(outputs.loss)

    def _clip(self, step: Step) -> float:
        """The gradient's norm, before it is clipped."""
        assert self.gradients is not None, "training_step must set self.gradients"
        most = self.args.max_grad_norm
        norm = float(self.gradients.clip(most) if most > 0 else self.gradients.norm())
        if not math.isfinite(norm):
            raise self._not_finite(f"a gradient norm of {norm}", step, None)
        return norm

    def _update(self) -> float:
        """Let the optimizer step; the learning rate that it had."""
        assert self.optimizer is not None and self.lr_scheduler is not None
        self._event("on_pre_optimizer_step", gradients=self.gradients)
        learning_rate = float(self.optimizer.lr * self.lr_scheduler(self.state.global_step))
        self.optimizer.step(self.gradients, lr=learning_rate)
        self._event("on_optimizer_step")
        return learning_rate

    def _not_finite(self, what: str, step: Step, batch: int | None) -> NonFiniteLossError:
        chunks = step.chunks if batch is None else [step.chunks[batch]]
        rows = shortened([number for chunk in chunks for number in chunk.numbers])
        norm = "" if batch is None or self.gradients is None else f" and a gradient norm of {self.gradients.norm()}"
        return NonFiniteLossError(
            f"step {self.state.global_step + 1} (epoch {self.state.epoch:.2f}), rows {rows} of the training data: {what}{norm}. "
            f"The weights are those before this step; {self._checkpoint_note()}. A lower learning_rate (it is "
            f"{self.args.learning_rate}) or more warmup_steps may help; so may a look at these rows"
        )

    def _where_it_stopped(self) -> str:
        return f"training was interrupted after step {self.state.global_step}; {self._checkpoint_note()}"

    def _checkpoint_note(self) -> str:
        if self._last_checkpoint is None:
            return "no checkpoint has been saved"
        return f"the last checkpoint is {self._last_checkpoint}; train(resume_from_checkpoint=True) goes on from there"

    def _finish(self, seconds: float, steps_done: int) -> TrainOutput:
        loop, args = self._loop, self.args
        loop.total_loss += loop.loss_sum
        train_loss = loop.total_loss / max(1, self.state.global_step)
        metrics = {**speed_metrics("train", seconds, self._samples, steps_done), "train_loss": train_loss}
        self.log(dict(metrics))
        best = self.state.best_model_checkpoint
        if args.load_best_model_at_end and best is not None:
            self.model.load_weights(best)
        if args.save_total_limit == 1 and best is not None:
            rotate(str(args.output_dir), 1, [best])
        self._event("on_train_end")
        return TrainOutput(self.state.global_step, train_loss, {**metrics, "epoch": self.state.epoch})

    # --- log, evaluate, save as the switches say ----------------------------------------------
    def _log_evaluate_save(self, ignore_keys: list[str] | None) -> None:
        loop = self._loop
        if self.control.should_log and self.state.global_step > loop.last_logged_step:
            loss = loop.loss_sum / (self.state.global_step - loop.last_logged_step)
            loop.total_loss, loop.loss_sum, loop.last_logged_step = loop.total_loss + loop.loss_sum, 0.0, self.state.global_step
            self.log({"loss": loss, "grad_norm": self._grad_norm, "learning_rate": self._learning_rate})
        if self.control.should_evaluate:
            is_best = self._note_best(self.evaluate(ignore_keys=ignore_keys))
            if self.args.save_strategy == SaveStrategy.BEST:
                self.control.should_save = is_best
        if self.control.should_save:
            self._save_checkpoint()
            self._event("on_save")

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Add `logs` to state.log_history with the epoch and the step, and tell the callbacks."""
        logs.update(plain(logs), epoch=self.state.epoch)
        self.state.log_history.append({**logs, "step": self.state.global_step})
        self._event("on_log", logs=logs)

    def _note_best(self, metrics: dict[str, Any]) -> bool:
        """Whether `metric_for_best_model` is better than ever before."""
        if self.args.metric_for_best_model is None:
            return False
        key = f"eval_{self.args.metric_for_best_model.removeprefix('eval_')}"
        if key not in metrics:
            found = ", ".join(sorted(metrics))
            raise KeyError(f"metric_for_best_model={self.args.metric_for_best_model!r}: {key} is not among the metrics {found}")
        value, best = metrics[key], self.state.best_metric
        is_best = bool(best is None or (value > best if self.args.greater_is_better else value < best))
        if is_best:
            self.state.best_metric, self.state.best_global_step = value, self.state.global_step
        return is_best

    # --- checkpoints --------------------------------------------------------------------------
    def _save_checkpoint(self) -> None:
        output_dir, state = str(self.args.output_dir), self.state
        path = os.path.join(output_dir, f"checkpoint-{state.global_step}")
        best = os.path.join(output_dir, f"checkpoint-{state.best_global_step}")
        if best == path or os.path.isdir(best):
            state.best_model_checkpoint = best
        state.stateful_callbacks = self.callback_handler.export(self.control)
        write_whole(path, self._fill_checkpoint)
        self._last_checkpoint = path
        rotate(output_dir, self.args.save_total_limit, [path, state.best_model_checkpoint])

    def _fill_checkpoint(self, folder: str) -> None:
        self.save_model(folder)
        self.state.save_to_json(os.path.join(folder, STATE_NAME))
        if not self.args.save_only_model:
            assert self.optimizer is not None
            self.optimizer.save(os.path.join(folder, OPTIMIZER_NAME))
            write_text(os.path.join(folder, SCHEDULE_NAME), json.dumps(self._schedule_settings(), indent=2) + "\n")
            self._loop.save(folder, self.data_collator)

    def _schedule_settings(self) -> dict[str, Any]:
        """What the learning rate depends on, beside the step."""
        args, state = self.args, self.state
        return {
            "lr_scheduler_type": None if self._given[1] else schedules.SchedulerType(args.lr_scheduler_type).value,
            "lr_scheduler_kwargs": args.lr_scheduler_kwargs,
            "learning_rate": getattr(self.optimizer, "lr", None),
            "num_warmup_steps": args.get_warmup_steps(state.max_steps),
            "num_training_steps": state.max_steps,
        }

    def _resume(self, checkpoint: str) -> None:
        planned = self.state
        self._warn_of_changes(checkpoint)
        self.model.load_weights(checkpoint)
        self.optimizer.load(os.path.join(checkpoint, OPTIMIZER_NAME))
        self.state = TrainerState.load_from_json(os.path.join(checkpoint, STATE_NAME))
        self.state.max_steps, self.state.num_train_epochs = planned.max_steps, planned.num_train_epochs
        self.state.train_batch_size = planned.train_batch_size
        self.state.compute_steps(self.args, planned.max_steps)
        self._loop = LoopState.load(checkpoint)
        self.callback_handler.restore(self.state.stateful_callbacks, self.control)
        restore_generators(self._loop.generators or {}, self.data_collator)

    def _warn_of_changes(self, checkpoint: str) -> None:
        """Log what makes the resumed run another one than that of the checkpoint."""
        before = {**read_config_file(os.path.join(checkpoint, ARGS_NAME)), **read_config_file(os.path.join(checkpoint, SCHEDULE_NAME))}
        now = {name: value for name, value in self.args.to_dict().items() if name in _DECIDE} | self._schedule_settings()
        changes = [f"{name} was {before.get(name)!r} and is {now[name]!r}" for name in now if before.get(name) != now[name]]
        if changes:
            _logger().warning(f"resuming {checkpoint} with other settings: {'; '.join(changes)}")

    def save_model(self, output_dir: str | None = None) -> None:
        """Write the model, the tokenizer and the arguments, so that `from_pretrained` reads them."""
        folder = str(self.args.output_dir if output_dir is None else output_dir)
        self.model.save_pretrained(folder)
        tokenizer = self.processing_class or getattr(self.data_collator, "tokenizer", None)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        write_text(os.path.join(folder, ARGS_NAME), self.args.to_json_string() + "\n")

    def save_state(self) -> None:
        """Write trainer_state.json into output_dir."""
        os.makedirs(str(self.args.output_dir), exist_ok=True)
        self.state.save_to_json(os.path.join(str(self.args.output_dir), STATE_NAME))


def _make_optimizer(model: Any, args: TrainingArguments) -> AdamW | SGD:
    from . import training

    options = _parse_options(args.optim_args)
    if args.optim == OptimizerNames.SGD:
        return training.SGD(model, lr=args.learning_rate, weight_decay=args.weight_decay, **options)
    betas = (args.adam_beta1, args.adam_beta2)
    common = {"lr": args.learning_rate, "betas": betas, "eps": args.adam_epsilon, "weight_decay": args.weight_decay}
    return training.AdamW(model, **{**common, **options})


def _parse_options(text: str | None) -> dict[str, Any]:
    """"momentum=0.9,nesterov=true" as a dict; ValueError if it is something else."""
    try:
        pairs = [pair.split("=", 1) for pair in (text or "").replace(" ", "").split(",") if pair]
        return {name: json.loads(value.lower()) for name, value in pairs}
    except ValueError as error:
        raise ValueError(f"optim_args={text!r}: expected name=value,name=value with numbers, true or false") from error


def _logger() -> logging.Logger:
    return logging.getLogger(__name__)
