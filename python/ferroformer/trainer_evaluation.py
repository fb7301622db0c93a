"""`Evaluator`: the half of a `Trainer` that evaluates and predicts."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .config_files import write_text
from .trainer_data import DataLoader, count_rows
from .trainer_reports import plot_losses
from .trainer_utils import EvalLoopOutput, EvalPrediction, PredictionOutput, speed_metrics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .trainer_callback import CallbackHandler, TrainerState
    from .training_args import TrainingArguments

__all__ = ["Evaluator", "plain"]

PADDING = -100


class Evaluator:
    """Evaluates, predicts and reports; `Trainer` sets the attributes."""

    args: TrainingArguments
    model: Any
    state: TrainerState
    callback_handler: CallbackHandler
    eval_dataset: Any
    label_names: list[str]
    compute_loss_func: Callable[[Any, Any, float | None], tuple[float, NDArray[np.float32]]] | None
    compute_metrics: Callable[[EvalPrediction], dict[str, Any]] | None
    preprocess_logits_for_metrics: Callable[[Any, Any], Any] | None

    def _event(self, event: str, **kwargs: Any) -> None:
        raise NotImplementedError

    def _loader(self, dataset: Any, name: str, batch_size: int) -> DataLoader:
        raise NotImplementedError

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        raise NotImplementedError

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """The evaluation data in batches, in its own order; ValueError if there is none."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if dataset is None:
            raise ValueError("evaluate() needs an eval_dataset")
        return self._loader(dataset, "eval_dataset", self.args.eval_batch_size)

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        """As `get_eval_dataloader`."""
        return self._loader(test_dataset, "test_dataset", self.args.eval_batch_size)

    # --- evaluate -----------------------------------------------------------------------------
    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, Any]:
        """The loss and metrics on a data set, each name with the prefix; logged. Of a dict of data sets: all, with its keys in the
        names, as eval_KEY_loss."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(dataset, dict):
            metrics: dict[str, Any] = {}
            for key, one in dataset.items():
                metrics |= self.evaluate(one, ignore_keys, f"{metric_key_prefix}_{key}")
            return metrics
        loss_only = True if self.compute_metrics is None else None
        output = self._timed_loop(self.get_eval_dataloader(dataset), "Evaluation", loss_only, ignore_keys, metric_key_prefix)
        self.log(output.metrics)
        self._event("on_evaluate", metrics=output.metrics)
        return output.metrics

    def predict(
        self, test_dataset: Any, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test"
    ) -> PredictionOutput:
        """Logits and labels of a data set in its order, and with labels the metrics. Rows of different length are filled up with
        -100."""
        loader = self.get_test_dataloader(test_dataset)
        output = self._timed_loop(loader, "Prediction", None, ignore_keys, metric_key_prefix)
        self._event("on_predict", metrics=output.metrics)
        return PredictionOutput(output.predictions, output.label_ids, output.metrics)

    def _timed_loop(
        self, loader: DataLoader, description: str, loss_only: bool | None, ignore_keys: list[str] | None, prefix: str
    ) -> EvalLoopOutput:
        begin = time.perf_counter()
        output = self.evaluation_loop(loader, description, loss_only, ignore_keys, prefix)
        batches = math.ceil(output.num_samples / self.args.eval_batch_size)
        output.metrics.update(speed_metrics(prefix, time.perf_counter() - begin, output.num_samples, batches))
        return output

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """What `evaluate` and `predict` share: run the model over all batches and compute the metrics."""
        loss_only = self.args.prediction_loss_only if prediction_loss_only is None else prediction_loss_only
        self.model.eval()
        self.callback_handler.objects["eval_dataloader"] = dataloader
        gathered: dict[str, list[Any]] = {"logits": [], "labels": [], "inputs": [], "losses": []}
        rows = 0
        for batch in dataloader:
            loss, logits, labels = self.prediction_step(self.model, batch, loss_only, ignore_keys)
            if logits is not None and self.preprocess_logits_for_metrics is not None:
                logits = self.preprocess_logits_for_metrics(logits, labels)
            size = count_rows(batch)
            inputs = batch[self._main_input()] if "inputs" in self.args.include_for_metrics else None
            losses = None if loss is None else [loss] * size
            for name, value in (("logits", logits), ("labels", labels), ("inputs", inputs), ("losses", losses)):
                if value is not None:
                    gathered[name].append(value)
            rows += size
            self._event("on_prediction_step")
        whole = {name: concatenate(parts) for name, parts in gathered.items()}
        return EvalLoopOutput(whole["logits"], whole["labels"], self._metrics(metric_key_prefix, **whole), rows)

    def _metrics(self, prefix: str, logits: Any, labels: Any, inputs: Any, losses: Any) -> dict[str, Any]:
        """What `compute_metrics` says of predictions with labels, and the mean loss, under names with the prefix."""
        metrics: dict[str, Any] = {}
        if self.compute_metrics is not None and logits is not None and labels is not None:
            shown = losses if "loss" in self.args.include_for_metrics else None
            metrics = plain(self.compute_metrics(EvalPrediction(logits, labels, inputs, shown)))
        if losses is not None:
            metrics[f"{prefix}_loss"] = float(losses.mean())
        return {name if name.startswith(f"{prefix}_") else f"{prefix}_{name}": value for name, value in metrics.items()}

    def _main_input(self) -> str:
        return str(getattr(self.model, "main_input_name", "input_ids"))

    def prediction_step(
        self, model: Any, inputs: Mapping[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[float | None, Any, Any]:
        """The loss, logits and labels of a batch; None for what there is not, tuples for what there are several of."""
        import numpy as np

        from . import training

        found = [inputs.get(name) for name in self.label_names]
        labels = None if not found or any(label is None for label in found) else tuple(map(np.asarray, found))
        smoothed = self.args.label_smoothing_factor and "labels" in inputs
        if prediction_loss_only and labels and not (self.compute_loss_func or smoothed or _nothing_counts(labels)):
            return float(training.loss(model, **inputs)), None, None
        own = self.compute_loss_func is not None and labels is not None
        outputs = model(**{name: value for name, value in inputs.items() if not (own and name == "labels")})
        loss = None if labels is None or _nothing_counts(labels) else self._evaluation_loss(outputs, inputs)
        if prediction_loss_only:
            return loss, None, None
        ignored = getattr(model.config, "keys_to_ignore_at_inference", ()) if ignore_keys is None else ignore_keys
        logits = tuple(value for name, value in outputs.items() if name not in (*ignored, "loss"))
        return loss, _one_or_all(logits), None if labels is None else _one_or_all(labels)

    def _evaluation_loss(self, outputs: Any, inputs: Mapping[str, Any]) -> float:
        """The loss that is trained on, of a batch by itself."""
        if self.compute_loss_func is not None:
            return float(self.compute_loss_func(outputs, inputs.get("labels"), self._count_items([inputs]))[0])
        if self.args.label_smoothing_factor and "labels" in inputs:
            return smoothed_cross_entropy(outputs.logits, inputs["labels"], self.args.label_smoothing_factor)
        return float(outputs.loss)

    def _count_items(self, batches: list[Any]) -> int | None:
        """How many labels the batches of a step have, by which their losses are divided; 1 where none counts: their loss is 0."""
        from . import training

        if not all(batch.get(name) is not None for batch in batches for name in self.label_names):
            return None
        counted: int = max(1, sum(training.num_items(self.model, dict(batch)) for batch in batches))
        return counted

    # --- results ------------------------------------------------------------------------------
    def plot(self, path: str | os.PathLike[str] | None = None) -> str:
        """Draw the losses over the steps into a picture (output_dir/loss.png) and return its path; ImportError without matplotlib."""
        target = os.path.join(str(self.args.output_dir), "loss.png") if path is None else os.fspath(path)
        plot_losses(self.state.log_history, target)
        return target

    def log_metrics(self, split: str, metrics: dict[str, Any]) -> None:
        """Print metrics, one a line."""
        print(f"***** {split} metrics *****")
        for name, value in sorted(metrics.items()):
            print(f"  {name} = {value:.4f}" if isinstance(value, float) else f"  {name} = {value}")

    def save_metrics(self, split: str, metrics: dict[str, Any]) -> None:
        """Write {split}_results.json into output_dir."""
        os.makedirs(str(self.args.output_dir), exist_ok=True)
        text = json.dumps(metrics, indent=4, sort_keys=True) + "\n"
        write_text(os.path.join(str(self.args.output_dir), f"{split}_results.json"), text)


def concatenate(parts: list[Any]) -> Any:
    """Arrays (B, ..) of all batches as one; shorter axes are filled up with -100, as in transformers. Tuples: one by one.

    None if there is nothing.
    """
    import numpy as np

    if not parts:
        return None
    if isinstance(parts[0], tuple):
        return tuple(concatenate(list(column)) for column in zip(*parts))
    arrays = [np.atleast_1d(part) for part in parts]
    rest = np.max([array.shape[1:] for array in arrays], axis=0)
    if all(array.shape[1:] == tuple(rest) for array in arrays):
        return np.concatenate(arrays)
    joined = np.full((sum(map(len, arrays)), *rest.astype(int)), PADDING, np.result_type(*arrays))
    first = 0
    for array in arrays:
        place = (slice(first, first + len(array)), *map(slice, array.shape[1:]))
        joined[place] = array
        first += len(array)
    return joined


def smoothed_cross_entropy(logits: NDArray[Any], labels: NDArray[Any], smoothing: float) -> float:
    """The mean over the labels that are not -100 of (1 - s) (-log p[label]) + s mean(-log p), as transformers' LabelSmoother.

    logits (.., C), labels (..).
    """
    import numpy as np

    counted = np.asarray(labels) != PADDING
    x, target = logits[counted].astype(np.float64), np.asarray(labels)[counted]
    x -= x.max(axis=-1, keepdims=True)
    surprise = np.log(np.exp(x).sum(axis=-1, keepdims=True)) - x
    losses = (1 - smoothing) * surprise[np.arange(len(target)), target] + smoothing * surprise.mean(axis=-1)
    return float(losses.mean())


def plain(value: Any) -> Any:
    """numpy's numbers and arrays, also inside dicts and lists, as Python's, so that JSON holds them."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value


def _one_or_all(values: tuple[Any, ...]) -> Any:
    return values[0] if len(values) == 1 else values


def _nothing_counts(labels: tuple[NDArray[Any], ...]) -> bool:
    """Whether all labels are -100, so that there is no mean loss."""
    return all(bool((array == PADDING).all()) for array in labels)
