"""Labels of texts and of pairs of texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..words import Words
from .base import Pipeline, Row, model_rows
from .scores import sigmoid, softmax

__all__ = ["ClassificationFunction", "TextClassificationPipeline"]


class ClassificationFunction(Words):
    SIGMOID = "sigmoid"
    SOFTMAX = "softmax"
    NONE = "none"


class TextClassificationPipeline(Pipeline):
    """pipe("a text") -> [{"label": "POSITIVE", "score": 0.99}]; a list gives one such dict for each text.

    An input is a text, or a pair as {"text": ..., "text_pair": ...}.

    top_k: return the best k labels of each input, sorted, as a list; all for None. For one text the list stays bare.
    function_to_apply: "sigmoid", "softmax" or "none"; by default what the configuration's problem_type asks for: none for
        "regression", sigmoid for "multi_label_classification" and where there is one label, else softmax.
    return_all_scores: version 4's name for top_k=None, in the order of the labels.
    Others are arguments of the tokenizer: truncation=True, max_length=128.
    """

    head = "SequenceClassification"

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        result = super().__call__(inputs, **kwargs)
        return [result] if isinstance(inputs, str) and "top_k" not in kwargs else result

    def parameters(
        self,
        return_all_scores: bool | None = None,
        function_to_apply: str | ClassificationFunction | None = None,
        top_k: Any = "",
        **tokenizer_kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        options: dict[str, Any] = {}
        if top_k != "":
            if top_k is not None and (not isinstance(top_k, int) or top_k < 1):
                raise ValueError(f"top_k={top_k!r}: an integer of at least 1 is needed, or None for all")
            options |= {"top_k": top_k, "as_list": True}
        elif return_all_scores is not None:
            options["top_k"] = None if return_all_scores else 1
        if function_to_apply is not None:
            options["function_to_apply"] = ClassificationFunction(str.lower(function_to_apply))
        return tokenizer_kwargs, options

    def preprocess(self, item: Any, **tokenizer_kwargs: Any) -> list[Row]:
        if isinstance(item, Mapping):
            encoded = self.tokenizer(**item, **tokenizer_kwargs)
        elif isinstance(item, list):
            encoded = self.tokenizer(*_old_pair(item), **tokenizer_kwargs)
        else:
            encoded = self.tokenizer(item, **tokenizer_kwargs)
        return [Row(inputs) for inputs in model_rows(encoded)]

    def keep(self, outputs: Any, index: int, row: Row) -> Any:
        return outputs["logits"][index].copy()

    def postprocess(
        self,
        rows: list[Row],
        kept: list[Any],
        top_k: int | None = 1,
        as_list: bool = False,
        function_to_apply: ClassificationFunction | None = None,
    ) -> Any:
        function = function_to_apply or self._default_function()
        functions = {ClassificationFunction.SIGMOID: sigmoid, ClassificationFunction.SOFTMAX: softmax}
        scores = functions.get(function, lambda logits: logits)(kept[0])
        names = self.model.config.id2label
        labels = [{"label": names[i], "score": score} for i, score in enumerate(scores.tolist())]
        if top_k == 1 and not as_list:
            return labels[int(scores.argmax())]
        return sorted(labels, key=lambda label: -label["score"])[:top_k] if as_list else labels

    def _default_function(self) -> ClassificationFunction:
        config = self.model.config
        if config.problem_type == "regression":
            return ClassificationFunction.NONE
        if config.problem_type == "multi_label_classification" or config.num_labels == 1:
            return ClassificationFunction.SIGMOID
        return ClassificationFunction.SOFTMAX


def _old_pair(item: list[Any]) -> tuple[Any, Any]:
    """Of [[text, pair]], as pairs were given once."""
    if len(item) == 1 and isinstance(item[0], list) and len(item[0]) == 2:
        return item[0][0], item[0][1]
    raise ValueError(
        "The pipeline received invalid inputs, if you are trying to send text pairs, you can try to send a dictionary "
        '`{"text": "My text", "text_pair": "My pair"}` in order to send a text pair.'
    )
