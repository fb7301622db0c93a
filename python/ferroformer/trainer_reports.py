"""What shows how a training goes: a progress bar, printed lines, TensorBoard, a picture of the losses."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from .trainer_callback import TrainerCallback

if TYPE_CHECKING:
    from .trainer_callback import TrainerControl, TrainerState
    from .training_args import TrainingArguments

__all__ = ["PrinterCallback", "ProgressCallback", "TensorBoardCallback", "plot_losses"]


class ProgressCallback(TrainerCallback):
    """A bar with the steps, the time left, the loss, the learning rate and the tokens per second; logs are written above it."""

    def __init__(self) -> None:
        self.training_bar: Any = None
        self.prediction_bar: Any = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        self.training_bar = _bar(total=state.max_steps, initial=state.global_step)
        self._began = time.perf_counter(), state.num_input_tokens_seen

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        seconds, tokens = time.perf_counter() - self._began[0], state.num_input_tokens_seen - self._began[1]
        shown = {"loss": f"{kwargs['loss']:.4g}", "lr": f"{kwargs['learning_rate']:.3g}", "tokens/s": f"{tokens / seconds:,.0f}"}
        self.training_bar.set_postfix(shown, refresh=False)
        self.training_bar.update(1)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        if self.training_bar is not None:
            self.training_bar.write(str(_rounded(kwargs["logs"])))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        self.training_bar.close()
        self.training_bar = None

    def on_prediction_step(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        if self.prediction_bar is None:
            loader = kwargs["eval_dataloader"]
            self.prediction_bar = _bar(total=loader.num_batches, leave=self.training_bar is None)
        self.prediction_bar.update(1)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        if self.prediction_bar is not None:
            self.prediction_bar.close()
            self.prediction_bar = None

    on_predict = on_evaluate


class PrinterCallback(TrainerCallback):
    """Prints the logs."""

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        print(_rounded(kwargs["logs"]))


class TensorBoardCallback(TrainerCallback):
    """Writes the logs for TensorBoard into `logging_dir`; needs torch's writer or tensorboardX, else ImportError."""

    def __init__(self) -> None:
        self._writer_class = _summary_writer()
        self._writer: Any = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        folder = args.logging_dir or os.path.join(str(args.output_dir), "runs", time.strftime("%b%d_%H-%M-%S"))
        self._writer = self._writer_class(folder)
        self._writer.add_text("args", args.to_json_string())

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        if self._writer is None:
            return
        for name, value in kwargs["logs"].items():
            if isinstance(value, (int, float)):
                self._writer.add_scalar(_tag(name), value, state.global_step)
        self._writer.flush()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        self._writer.close()
        self._writer = None


def plot_losses(log_history: list[dict[str, Any]], path: str | os.PathLike[str]) -> None:
    """Draw training and evaluation losses over the steps into a picture; its kind is what the name of the file ends with.

    Raises ImportError without matplotlib, ValueError if no loss was logged.
    """
    curves = {name: _curve(log_history, name) for name in _losses(log_history)}
    if not curves:
        raise ValueError("no loss was logged: train first, with logging_steps below the number of steps")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('pictures need matplotlib: pip install "ferroformer[plot]"') from error
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss")
    for name, (steps, losses) in curves.items():
        axes.plot(steps, losses, label=name, marker="." if len(steps) < 50 else None)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path)


def _losses(log_history: list[dict[str, Any]]) -> list[str]:
    """"loss" and the names of evaluation losses, in the order in which they appear."""
    names = (name for logs in log_history for name in logs)
    return list(dict.fromkeys(name for name in names if name == "loss" or name.startswith("eval_") and name.endswith("_loss")))


def _curve(log_history: list[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    points = [(logs["step"], logs[name]) for logs in log_history if name in logs]
    return [step for step, _ in points], [loss for _, loss in points]


def _bar(**options: Any) -> Any:
    from tqdm.auto import tqdm

    return tqdm(dynamic_ncols=True, **options)


def _rounded(logs: dict[str, Any]) -> dict[str, Any]:
    return {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in logs.items()}


def _tag(name: str) -> str:
    """"eval/loss" for "eval_loss", "train/loss" for "loss"."""
    for split in ("eval", "test"):
        if name.startswith(f"{split}_"):
            return f"{split}/{name.removeprefix(f'{split}_')}"
    return f"train/{name}"


def _summary_writer() -> Any:
    import importlib

    for module in ("torch.utils.tensorboard", "tensorboardX"):
        try:
            return importlib.import_module(module).SummaryWriter
        except ImportError:
            pass
    raise ImportError("report_to='tensorboard' needs a writer of its files: pip install tensorboardX (or torch and tensorboard)")
