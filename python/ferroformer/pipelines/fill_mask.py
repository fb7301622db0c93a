"""Words for the masked places of a text."""

from __future__ import annotations

from typing import Any

from .base import Pipeline, PipelineException, Row, model_rows
from .scores import largest, softmax

__all__ = ["FillMaskPipeline"]


class FillMaskPipeline(Pipeline):
    """pipe("Paris is the [MASK] of France.") -> the best words, a list of {"score", "token", "token_str", "sequence"}.

    Of several masks each has a list of its own, and each word its score by itself.

    top_k: how many words, 5 by default.
    targets: the words to choose from; one that is no token stands for its first.
    tokenizer_kwargs: arguments of the tokenizer, such as {"truncation": True}.

    Raises PipelineException for a text without a mask, and where the tokenizer has none.
    """

    head = "MaskedLM"

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        results = super().__call__(inputs, **kwargs)
        return results[0] if isinstance(inputs, list) and len(inputs) == 1 else results

    def numbers_per_token(self) -> int:
        return int(self.model.config.vocab_size)

    def parameters(
        self, top_k: int | None = None, targets: Any = None, tokenizer_kwargs: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        if self.tokenizer.mask_token_id is None:
            raise self._exception("The tokenizer does not define a `mask_token`.")
        options: dict[str, Any] = {}
        if targets is not None:
            options["targets"] = self.get_target_ids(targets)
        if top_k is not None:
            if not isinstance(top_k, int) or top_k < 1:
                raise ValueError(f"top_k={top_k!r}: an integer of at least 1 is needed")
            options["top_k"] = top_k
        return dict(tokenizer_kwargs or {}), options

    def get_target_ids(self, targets: str | list[str]) -> Any:
        """The ids of words, each once, as an array."""
        import numpy as np

        words = [targets] if isinstance(targets, str) else targets
        ids = sorted({id for id in map(self._target_id, words) if id is not None})
        if not ids:
            raise ValueError("At least one target must be provided when passed.")
        return np.array(ids)

    def _target_id(self, word: str) -> int | None:
        found: int | None = self.tokenizer.backend_tokenizer.token_to_id(word)
        if found is not None:
            return found
        ids = self.tokenizer(word, add_special_tokens=False, max_length=1, truncation=True)["input_ids"]
        instead = f"replaced by {self.tokenizer.convert_ids_to_tokens(ids[0])!r}" if ids else "ignored"
        _logger().warning("The specified target token `%s` does not exist in the model vocabulary: %s.", word, instead)
        return ids[0] if ids else None

    def preprocess(self, item: Any, **tokenizer_kwargs: Any) -> list[Row]:
        """Rows whose notes are the places of masks."""
        mask = self.tokenizer.mask_token_id
        rows = []
        for inputs in model_rows(self.tokenizer(item, **tokenizer_kwargs)):
            places = [place for place, id in enumerate(inputs["input_ids"]) if id == mask]
            if not places:
                raise self._exception(f"No mask_token ({self.tokenizer.mask_token}) found on the input")
            rows.append(Row(inputs, places))
        return rows

    def compute(self, rows: list[Row], **options: Any) -> Any:
        """Of each row the logits of its masks (M, vocabulary)."""
        import numpy as np

        arrays = self._padded([row.inputs for row in rows])
        masks = np.zeros(arrays["input_ids"].shape, bool)
        for row, wanted in zip(rows, masks):
            wanted[row.notes] = True
        logits = self.model(**arrays, logits_to_keep=masks, return_dict=True)["logits"]
        return np.split(logits, masks.sum(-1).cumsum()[:-1])

    def keep(self, outputs: Any, index: int, row: Row) -> Any:
        return outputs[index]

    def postprocess(self, rows: list[Row], kept: list[Any], top_k: int = 5, targets: Any = None) -> Any:
        ids, places = rows[0].inputs["input_ids"], rows[0].notes
        words = [
            [self._filled(ids, place, token, score, len(places) == 1) for token, score in _best(logits, top_k, targets)]
            for place, logits in zip(places, kept[0])
        ]
        return words[0] if len(words) == 1 else words

    def _filled(self, ids: list[int], place: int, token: int, score: float, only: bool) -> dict[str, Any]:
        """Special tokens are left out of the text, unless other masks are among them."""
        tokens = [*ids[:place], token, *ids[place + 1 :]]
        sequence = [id for id in tokens if id != self.tokenizer.pad_token_id]
        return {
            "score": score,
            "token": token,
            "token_str": self.tokenizer.decode([token]),
            "sequence": self.tokenizer.decode(sequence, skip_special_tokens=only),
        }

    def _exception(self, reason: str) -> PipelineException:
        return PipelineException("fill-mask", self.model.base_model_prefix, reason)


def _best(logits: Any, count: int, targets: Any) -> Any:
    """(token, score) of the best words of a place, the best first."""
    scores = softmax(logits)
    scores = scores if targets is None else scores[targets]
    best = largest(scores, count)
    tokens = best if targets is None else targets[best]
    return zip(tokens.tolist(), scores[best].tolist())


def _logger() -> Any:
    import logging

    return logging.getLogger(__name__)
