"""`SentenceTransformerTrainer`: the `Trainer` for sentence embeddings; names and meanings are those of sentence-transformers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import InputError
from .trainer import Trainer
from .trainer_data import DataLoader, read_column
from .trainer_utils import mix_seeds
from .training_args import TrainingArguments, takes_foreign_names

__all__ = ["SentenceTransformerTrainer", "SentenceTransformerTrainingArguments"]

LABEL_COLUMNS = ("label", "labels", "score", "scores")


@takes_foreign_names
@dataclass(kw_only=True)
class SentenceTransformerTrainingArguments(TrainingArguments):
    """`TrainingArguments`, and prompts: a text to be put before all texts, or {column: text}.

    batch_sampler: "batch_sampler" is the only one that there is: rows as `train_sampling_strategy` says.
    """

    prompts: str | dict[str, str] | None = None
    batch_sampler: str = "batch_sampler"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_sampler != "batch_sampler":
            raise NotImplementedError(f"batch_sampler={self.batch_sampler!r}: only 'batch_sampler' is supported")
        prompts = self.prompts.values() if isinstance(self.prompts, Mapping) else [self.prompts or ""]
        if not all(isinstance(prompt, str) for prompt in prompts):
            raise InputError(f"prompts={self.prompts!r:.200}: a text, or texts by the names of columns, is needed")


class SentenceTransformerTrainer(Trainer):
    """Trains a `SentenceTransformer`; checkpoints, resuming and all else as in `Trainer`.

    train_dataset, eval_dataset: rows as in `Trainer`. Their columns are the texts of an example, in this order whatever their names
        (anchor, positive, negative; sentence1, sentence2), beside one of label, labels, score and scores.
    loss: one of `ferroformer.sentence_losses`, or a function that makes it of the model.
    evaluator: (model, output_path=, epoch=, steps=) -> a score, or a dict of them; a list of several. Called at each evaluation,
        also without an eval_dataset.
    With gradient accumulation the losses of the batches are averaged, weighted by their rows.
    """

    def __init__(
        self,
        model: Any = None,
        args: TrainingArguments | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        loss: Any = None,
        evaluator: Any = None,
        data_collator: Callable[[list[Any]], Any] | None = None,
        *,
        model_init: Callable[[], Any] | None = None,
        callbacks: Iterable[Any] | None = None,
        optimizers: tuple[Any, Callable[[int], float] | None] = (None, None),
    ) -> None:
        if loss is None:
            raise ValueError("loss is needed: one of ferroformer.sentence_losses")
        if args is not None and args.label_smoothing_factor:
            raise ValueError(f"label_smoothing_factor={args.label_smoothing_factor}: losses of embeddings have none")
        listed = isinstance(evaluator, (list, tuple))
        self.evaluators: Sequence[Any] = evaluator if listed else [] if evaluator is None else [evaluator]
        super().__init__(
            model,
            SentenceTransformerTrainingArguments() if args is None else args,
            data_collator or columns_of,
            train_dataset,
            eval_dataset,
            model_init=model_init,
            callbacks=callbacks,
            optimizers=optimizers,
        )
        made = hasattr(loss, "value_and_grad") and not isinstance(loss, type)
        self.loss = loss if made else loss(self.model)

    # --- train --------------------------------------------------------------------------------
    def training_step(self, model: Any, inputs: Mapping[str, Any], num_items_in_batch: int | None = None) -> float:
        columns, labels, prompts = self._parts(inputs)
        rows = len(columns[0])
        outputs, self.gradients = model.value_and_grad(
            self.loss,
            columns,
            labels,
            prompts=prompts,
            share=rows / (num_items_in_batch or rows),
            gradients=self.gradients,
            dropout_seed=mix_seeds(self.args.seed, self.state.global_step, self._batch_in_step),
            gradient_checkpointing=self.args.gradient_checkpointing,
        )
        self.state.num_input_tokens_seen += outputs.num_tokens
        return float(outputs.loss)

    def _parts(self, inputs: Mapping[str, Any]) -> tuple[list[list[str]], Any, list[str]]:
        """Columns of texts, labels, the prompt of each column."""
        texts = {name: column for name, column in inputs.items() if name != "labels"}
        prompts = getattr(self.args, "prompts", None) or {}
        by_column = [prompts if isinstance(prompts, str) else prompts.get(name, "") for name in texts]
        return list(texts.values()), inputs.get("labels"), by_column

    def _count_items(self, batches: list[Any]) -> int:
        return sum(len(next(iter(batch.values()))) for batch in batches)

    def _used_columns(self, dataset: Any, name: str) -> Any:
        return dataset

    def _check_before_training(self, loader: DataLoader) -> None:
        super()._check_before_training(loader)
        dataset = loader.dataset
        if self.data_collator is columns_of and (isinstance(dataset, (list, tuple)) or hasattr(dataset, "column_names")):
            name = next((name for name in LABEL_COLUMNS if name in dataset[0]), None)
            self.loss.check_labels(None if name is None else read_column(dataset, name))

    # --- evaluate -----------------------------------------------------------------------------
    def _can_evaluate(self) -> bool:
        return self.eval_dataset is not None or bool(self.evaluators)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """The evaluation data in batches; none if there are only evaluators."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        return [] if dataset is None and self.evaluators else super().get_eval_dataloader(dataset)

    def prediction_step(
        self, model: Any, inputs: Mapping[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[float | None, Any, Any]:
        columns, labels, prompts = self._parts(inputs)
        return model.loss_of(self.loss, columns, labels, prompts=prompts), None, None

    def _metrics(self, prefix: str, logits: Any, labels: Any, inputs: Any, losses: Any) -> dict[str, Any]:
        """The loss, and what evaluators say; of several data sets these are asked at the first, under the prefix "eval"."""
        metrics = super()._metrics(prefix, logits, labels, inputs, losses)
        if isinstance(self.eval_dataset, dict) and prefix.startswith("eval_"):
            if prefix != f"eval_{next(iter(self.eval_dataset))}":
                return metrics
            prefix = "eval"
        for evaluator in self.evaluators:
            metrics |= self._scores(evaluator, prefix)
        return metrics

    def _scores(self, evaluator: Any, prefix: str) -> dict[str, Any]:
        folder = os.path.join(str(self.args.output_dir), "eval")
        os.makedirs(folder, exist_ok=True)
        scores = evaluator(self.model, output_path=folder, epoch=self.state.epoch or 0, steps=self.state.global_step)
        scores = scores if isinstance(scores, dict) else {"evaluator": scores}
        return {f"{prefix}_{name.removeprefix(f'{prefix}_')}": value for name, value in scores.items()}


def columns_of(rows: list[Any]) -> dict[str, Any]:
    """{column: texts} of rows, and their "labels" if they have some. Raises InputError, TypeError for rows of another kind."""
    import numpy as np

    first = rows[0]
    if not isinstance(first, Mapping):
        raise TypeError(f"rows must be {{column: text}}, got {type(first).__name__}")
    label = next((name for name in LABEL_COLUMNS if name in first), None)
    texts = [name for name in first if name != label]
    for row in rows:
        if row.keys() != first.keys():
            raise InputError(f"one row has the columns {', '.join(row)}, another {', '.join(first)}")
        wrong = next((name for name in texts if not isinstance(row[name], str)), None)
        if wrong is not None:
            raise TypeError(f"the column {wrong!r} holds {row[wrong]!r:.100}; texts are needed, and one of {', '.join(LABEL_COLUMNS)}")
    batch: dict[str, Any] = {name: [row[name] for row in rows] for name in texts}
    return batch if label is None else batch | {"labels": np.asarray([row[label] for row in rows])}
