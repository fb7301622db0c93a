"""The hidden states of texts."""

from __future__ import annotations

from typing import Any

from .base import Pipeline, Row, model_rows

__all__ = ["FeatureExtractionPipeline"]


class FeatureExtractionPipeline(Pipeline):
    """pipe("a text") -> the last hidden states as nested lists, 1 x T x H.

    return_tensors: a float32 array (1, T, H) instead.
    truncation: as the tokenizer has it; tokenize_kwargs: other arguments of the tokenizer.
    """

    def parameters(
        self, truncation: Any = None, tokenize_kwargs: dict[str, Any] | None = None, return_tensors: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        arguments = dict(tokenize_kwargs or {})
        if truncation is not None:
            if "truncation" in arguments:
                raise ValueError(
                    "truncation parameter defined twice (given as keyword argument as well as in tokenize_kwargs)"
                )
            arguments["truncation"] = truncation
        return arguments, {} if return_tensors is None else {"return_tensors": return_tensors}

    def preprocess(self, item: Any, **tokenize_kwargs: Any) -> list[Row]:
        return [Row(inputs) for inputs in model_rows(self.tokenizer(item, **tokenize_kwargs))]

    def keep(self, outputs: Any, index: int, row: Row) -> Any:
        # without the padding of the batch, where there are tokens: a head may say one thing of the whole row
        states = outputs[0][index]
        return states[: len(row.inputs["input_ids"])].copy() if states.ndim == 2 else states.copy()

    def postprocess(self, rows: list[Row], kept: list[Any], return_tensors: Any = False) -> Any:
        return kept[0][None] if return_tensors else [kept[0].tolist()]
