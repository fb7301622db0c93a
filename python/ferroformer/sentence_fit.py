"""`SentenceTransformer.fit`: training on examples in memory, as sentence-transformers had it before its version 3 and still takes it."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from . import schedules
from .errors import InputError, NonFiniteLossError
from .sentence_training import TrainableSentences

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["DataLoader", "Fit", "InputExample"]

_SCHEDULES = {
    "constantlr": "constant",
    "warmupconstant": "constant_with_warmup",
    "warmuplinear": "linear",
    "warmupcosine": "cosine",
    "warmupcosinewithhardrestarts": "cosine_with_restarts",
}


class InputExample:
    """Texts that belong together, and a label."""

    def __init__(self, guid: str = "", texts: list[str] | None = None, label: float = 0) -> None:
        if isinstance(texts, str):
            raise TypeError(f"texts={texts!r:.100}: a list of texts is needed")
        self.guid, self.texts, self.label = guid, list(texts or ()), label

    def __repr__(self) -> str:
        return f"InputExample(texts={self.texts!r}, label={self.label!r})"


class DataLoader:
    """A data set in lists of `batch_size` rows, in a new order each time it is gone through.

    seed: decides the orders; None: numpy's global generator does (`set_seed`). Names and defaults are those of torch's DataLoader.
    """

    def __init__(
        self, dataset: Any, batch_size: int = 1, shuffle: bool = False, *, seed: int | None = None, drop_last: bool = False
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: at least 1 is needed")
        self.dataset, self.batch_size, self.shuffle, self.drop_last = dataset, batch_size, shuffle, drop_last
        self._seed, self._epoch = seed, 0

    def __len__(self) -> int:
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[list[Any]]:
        numbers = self._order() if self.shuffle else range(len(self.dataset))
        for first in range(0, len(self) * self.batch_size, self.batch_size):
            yield [self.dataset[int(number)] for number in numbers[first : first + self.batch_size]]

    def _order(self) -> NDArray[np.int64]:
        import numpy as np

        count, epoch = len(self.dataset), self._epoch
        self._epoch += 1
        return np.random.permutation(count) if self._seed is None else np.random.default_rng([self._seed, epoch]).permutation(count)


class Fit(TrainableSentences):
    """`fit`, for a `SentenceTransformer`."""

    def save(self, path: str) -> None:
        raise NotImplementedError

    def fit(
        self,
        train_objectives: Iterable[tuple[Any, Any]],
        evaluator: Callable[..., Any] | None = None,
        epochs: int = 1,
        steps_per_epoch: int | None = None,
        scheduler: str = "WarmupLinear",
        warmup_steps: int = 10000,
        optimizer_class: Callable[..., Any] | None = None,
        optimizer_params: dict[str, Any] | None = None,
        weight_decay: float = 0.01,
        evaluation_steps: int = 0,
        output_path: str | os.PathLike[str] | None = None,
        save_best_model: bool = True,
        max_grad_norm: float = 1,
        use_amp: bool = False,
        callback: Callable[[float, int, int], Any] | None = None,
        show_progress_bar: bool = True,
        checkpoint_path: str | os.PathLike[str] | None = None,
        checkpoint_save_steps: int = 500,
        checkpoint_save_total_limit: int = 0,
        resume_from_checkpoint: bool = False,
        *,
        batch_size: int = 16,
    ) -> None:
        """Train on (batches, loss) pairs, each of which gives one step in turn.

        Batches: a `DataLoader` or another iterable of lists of `InputExample`, gone through again when it ends; or a list of
        `InputExample`, which is shuffled into batches of `batch_size`. Losses: of `ferroformer.sentence_losses`.
        steps_per_epoch: turns in an epoch; None: the batches of the shortest. Numpy's global generator (`set_seed`) decides dropout.
        scheduler: ConstantLR, WarmupConstant, WarmupLinear, WarmupCosine or WarmupCosineWithHardRestarts.
        optimizer_class: of `ferroformer.training`, AdamW if None; optimizer_params: its arguments, by default {"lr": 2e-5}.
        evaluator(model, output_path=, epoch=, steps=) -> a score, or a dict that holds `evaluator.primary_metric`; called after each
        epoch (with steps=-1) and each `evaluation_steps` of it; callback(score, epoch, steps) after that.
        output_path: where the model with the best score is saved, or the last if there is no evaluator or not `save_best_model`.
        checkpoint_path: where checkpoint-N are saved, models each, after `checkpoint_save_steps` and at the end; the last
        `checkpoint_save_total_limit` are kept, all if it is 0.

        Raises InputError, ValueError and OSError before the first step where it can be known then, NonFiniteLossError for a loss or a
        gradient that is not finite, NotImplementedError for resume_from_checkpoint: `SentenceTransformerTrainer` can.
        """
        from . import training

        if resume_from_checkpoint:
            raise NotImplementedError("resume_from_checkpoint: fit cannot go on with a run; SentenceTransformerTrainer.train can")
        if use_amp:
            warnings.warn("use_amp has no effect: weights, activations and gradients are float32", UserWarning, stacklevel=2)
        objectives = [(_as_batches(data, batch_size), loss) for data, loss in train_objectives]
        for batches, loss in objectives:
            _check_labels(batches, loss)
        per_epoch = steps_per_epoch or _shortest(objectives)
        saver = _Saver(self, output_path, checkpoint_path, checkpoint_save_steps, checkpoint_save_total_limit)
        scores = _Scores(self, evaluator, callback, saver if save_best_model else None, output_path)
        factor = _schedule(scheduler, warmup_steps, per_epoch * epochs)
        settings = {"weight_decay": weight_decay} | (optimizer_params or {"lr": 2e-5})
        optimizer = (optimizer_class or training.AdamW)(self, **settings)
        sources = [(_endless(batches), loss) for batches, loss in objectives]
        done = 0
        self.train()
        try:
            for epoch in range(epochs):
                for step in _progress(per_epoch, f"Epoch {epoch + 1}/{epochs}", show_progress_bar):
                    for source, loss in sources:
                        self._fit_step(next(source), loss, optimizer, factor(done), max_grad_norm, done + 1)
                    done += 1
                    if evaluation_steps > 0 and step % evaluation_steps == 0:
                        scores.evaluate(epoch, step)
                    saver.after_step(done)
                scores.evaluate(epoch, -1)
        except KeyboardInterrupt as interrupt:
            interrupt.args = (f"training was interrupted after step {done}; {saver.note()}",)
            raise
        finally:
            self.eval()
            self.core.release()
        if evaluator is None or not save_best_model:
            saver.save_model()
        saver.save_checkpoint(done)

    def _fit_step(
        self, examples: list[InputExample], loss: Any, optimizer: Any, factor: float, max_grad_norm: float, number: int
    ) -> None:
        columns, labels = _columns(examples)
        outputs, gradients = self.value_and_grad(loss, columns, labels)
        norm = gradients.clip(max_grad_norm)
        if not math.isfinite(outputs.loss) or not math.isfinite(norm):
            raise NonFiniteLossError(
                f"step {number}, a batch of {len(examples)} that begins with {examples[0]!r:.200}: a loss of {outputs.loss} and a "
                f"gradient norm of {norm}. The weights are those before this step; a lower learning rate or more warmup_steps may help"
            )
        optimizer.step(gradients, lr=optimizer.lr * factor)


# --- data -----------------------------------------------------------------------------------------
def _as_batches(data: Any, batch_size: int) -> Any:
    if isinstance(data, (list, tuple)) and data and isinstance(data[0], InputExample):
        return DataLoader(data, batch_size, shuffle=True)
    if hasattr(data, "collate_fn"):  # torch's: the examples themselves are wanted
        data.collate_fn = list
    return data


def _check_labels(batches: Any, loss: Any) -> None:
    """All that can be seen beforehand."""
    examples = getattr(batches, "dataset", None)
    if isinstance(examples, (list, tuple)):
        loss.check_labels([example.label for example in examples])


def _shortest(objectives: list[tuple[Any, Any]]) -> int:
    try:
        shortest = min(len(batches) for batches, _ in objectives)
    except TypeError as error:
        raise InputError(f"train_objectives: batches without a length need steps_per_epoch ({error})") from error
    except ValueError as error:
        raise InputError("train_objectives is empty") from error
    if not shortest:
        raise InputError("train_objectives: an objective has no batches")
    return shortest


def _endless(batches: Iterable[list[InputExample]]) -> Iterator[list[InputExample]]:
    while True:
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty:
            raise InputError("train_objectives: an objective has no more batches; an iterator can be read once, an iterable starts anew")


def _columns(examples: list[InputExample]) -> tuple[list[list[str]], list[float]]:
    """The first texts, the second ones, ..; and the labels."""
    for example in examples:
        if not isinstance(example, InputExample):
            raise InputError(f"train_objectives: a batch holds {example!r:.100}; InputExample is needed")
        if len(example.texts) != len(examples[0].texts):
            raise InputError(f"{example!r:.200} has {len(example.texts)} texts, another of its batch {len(examples[0].texts)}")
    return [list(column) for column in zip(*(example.texts for example in examples))], [example.label for example in examples]


# --- schedule, scores, files ----------------------------------------------------------------------
def _schedule(name: str, warmup_steps: int, steps: int) -> Callable[[int], float]:
    if name.lower() not in _SCHEDULES:
        raise ValueError(f"scheduler={name!r}: one of {', '.join(_SCHEDULES)} is needed")
    kind = _SCHEDULES[name.lower()]
    if kind != "constant" and warmup_steps >= steps:
        import logging

        logging.getLogger(__name__).warning(
            f"warmup_steps={warmup_steps}, but there are {steps} steps: the learning rate never becomes what was asked for"
        )
    return schedules.get_schedule(kind, num_warmup_steps=warmup_steps, num_training_steps=steps)


class _Scores:
    """Calls the evaluator, and saves the model with the best score."""

    def __init__(self, model: Any, evaluator: Any, callback: Any, saver: _Saver | None, output_path: Any) -> None:
        self.model, self.evaluator, self.callback, self.saver = model, evaluator, callback, saver
        self.folder = None if output_path is None else os.path.join(output_path, "eval")
        self.best: float | None = None

    def evaluate(self, epoch: int, steps: int) -> None:
        if self.evaluator is None:
            return
        if self.folder is not None:
            os.makedirs(self.folder, exist_ok=True)
        score = self.evaluator(self.model, output_path=self.folder, epoch=epoch, steps=steps)
        score = score[self.evaluator.primary_metric] if isinstance(score, dict) else score
        if self.callback is not None:
            self.callback(score, epoch, steps)
        sign = 1 if getattr(self.evaluator, "greater_is_better", True) else -1
        if self.best is None or sign * score > sign * self.best:
            self.best = score
            if self.saver is not None:
                self.saver.save_model()


class _Saver:
    """Writes models into output_path and checkpoint_path; OSError if they cannot be written."""

    def __init__(self, model: Any, output_path: Any, checkpoint_path: Any, every: int, limit: int) -> None:
        from .trainer_checkpoint import clean_up, probe

        self.model, self.every, self.limit = model, every, limit
        self.output_path = None if output_path is None else os.fspath(output_path)
        self.checkpoint_path = None if checkpoint_path is None else os.fspath(checkpoint_path)
        self.last: str | None = None
        for path in filter(None, (self.output_path, self.checkpoint_path)):
            probe(path, 4 * model.num_parameters())
            clean_up(path)

    def note(self) -> str:
        return f"the last checkpoint is {self.last}" if self.last else "no checkpoint has been saved"

    def save_model(self) -> None:
        if self.output_path is not None:
            self.model.save(self.output_path)

    def after_step(self, done: int) -> None:
        if self.every and done % self.every == 0:
            self.save_checkpoint(done)

    def save_checkpoint(self, done: int) -> None:
        from .trainer_checkpoint import rotate, write_whole

        if self.checkpoint_path is None:
            return
        self.last = os.path.join(self.checkpoint_path, f"checkpoint-{done}")
        write_whole(self.last, self.model.save)
        rotate(self.checkpoint_path, self.limit or None, [self.last])


def _progress(steps: int, description: str, wanted: bool) -> Iterable[int]:
    numbers = range(1, steps + 1)
    if not wanted:
        return numbers
    from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

    bar: Iterable[int] = tqdm(numbers, desc=description)
    return bar
