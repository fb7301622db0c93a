"""Labels of one's own for texts, by a model that tells whether one text follows from another."""

from __future__ import annotations

from typing import Any

from .base import Pipeline, Row, model_rows
from .scores import softmax

__all__ = ["ZeroShotClassificationPipeline"]


class ZeroShotClassificationPipeline(Pipeline):
    """pipe("a text", candidate_labels=["sport", "politics"]) -> {"sequence", "labels", "scores"}, the best label first.

    candidate_labels: a list, or a str with commas between them.
    hypothesis_template: the sentence that is to follow from the text, with {} for the label; "This example is {}."
    multi_label: each label by itself, its entailment against its contradiction, instead of one among all.

    The text is cut where both do not fit.
    """

    head = "SequenceClassification"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.entailment_id == -1:
            _logger().warning(
                "Failed to determine 'entailment' label id from the label2id mapping in the model config. Setting to "
                "-1. Define a descriptive label2id mapping in the model config to ensure correct outputs."
            )

    @property
    def entailment_id(self) -> int:
        """The output that says that the hypothesis follows; the last where no label begins with "entail"."""
        labels = self.model.config.label2id or {}
        return next((index for label, index in labels.items() if label.lower().startswith("entail")), -1)

    def __call__(  # type: ignore[override]  # transformers' name of the inputs
        self, sequences: Any, candidate_labels: Any = None, **kwargs: Any
    ) -> Any:
        if candidate_labels is not None:
            kwargs["candidate_labels"] = candidate_labels
        return super().__call__(sequences, **kwargs)

    def parameters(
        self,
        candidate_labels: Any = None,
        hypothesis_template: str | None = None,
        multi_label: bool | None = None,
        multi_class: bool | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        arguments: dict[str, Any] = {}
        if candidate_labels is not None:
            arguments["candidate_labels"] = _labels(candidate_labels)
        if hypothesis_template is not None:
            arguments["hypothesis_template"] = hypothesis_template
        # version 3's name
        multi_label = multi_class if multi_label is None else multi_label
        return arguments, {} if multi_label is None else {"multi_label": multi_label}

    def preprocess(
        self, item: Any, candidate_labels: Any = (), hypothesis_template: str = "This example is {}."
    ) -> list[Row]:
        """A row for each label; its notes are the text and the label."""
        if not isinstance(item, str):
            raise TypeError(f"a text is needed, got {type(item).__name__}")
        if len(candidate_labels) == 0 or not item:
            raise ValueError("You must include at least one label and at least one sequence.")
        if hypothesis_template.format(candidate_labels[0]) == hypothesis_template:
            raise ValueError(
                f'The provided hypothesis_template "{hypothesis_template}" was not able to be formatted with the '
                "target labels. Make sure the passed template includes formatting syntax such as {} where the label should go."
            )
        names = self.tokenizer.model_input_names
        return [
            Row(model_rows(self._encoded(item, hypothesis_template.format(label)), names)[0], (item, label))
            for label in candidate_labels
        ]

    def _encoded(self, text: str, hypothesis: str) -> Any:
        try:
            return self.tokenizer(text, hypothesis, truncation="only_first")
        except ValueError as error:
            # a hypothesis that is too long by itself is left as it is
            if "too short" not in str(error):
                raise
            return self.tokenizer(text, hypothesis, truncation=False)

    def keep(self, outputs: Any, index: int, row: Row) -> Any:
        return outputs["logits"][index].copy()

    def postprocess(self, rows: list[Row], kept: list[Any], multi_label: bool = False) -> Any:
        import numpy as np

        logits, entailment = np.stack(kept), self.entailment_id
        if multi_label or len(rows) == 1:
            contradiction = -1 if entailment == 0 else 0
            scores = _shares(logits[:, [contradiction, entailment]])[:, 1]
        else:
            scores = _shares(logits[:, entailment])
        order = scores.argsort()[::-1]
        return {
            "sequence": rows[0].notes[0],
            "labels": [rows[i].notes[1] for i in order],
            "scores": scores[order].tolist(),
        }


def _shares(logits: Any) -> Any:
    """The softmax to transformers' last digit, which decides the order of labels that are all but certain.

    The maximum is not subtracted there.
    """
    import numpy as np

    if np.abs(logits).max() > 80:
        return softmax(logits)
    powers = np.exp(logits)
    return powers / powers.sum(axis=-1, keepdims=True)


def _labels(labels: Any) -> list[Any]:
    if isinstance(labels, str):
        return [label.strip() for label in labels.split(",") if label.strip()]
    return list(labels)


def _logger() -> Any:
    import logging

    return logging.getLogger(__name__)
