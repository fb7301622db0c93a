"""Rows of a data set -> one batch of numpy arrays. transformers' collators, with its masks bit for bit (its numpy path)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "DataCollatorForLanguageModeling",
    "DataCollatorForSeq2Seq",
    "DataCollatorForTokenClassification",
    "DataCollatorWithPadding",
    "DefaultDataCollator",
    "default_data_collator",
]

IGNORED = -100
_LABELS = ("label", "label_ids")


def default_data_collator(features: Sequence[Any], return_tensors: str = "np") -> dict[str, Any]:
    """Stack the columns of rows that have equal lengths.

    features: mappings, or objects with attributes. "label" or "label_ids" becomes "labels", integers as int64 and others as float32;
    texts and None are left out. Raises InputError for a column that is missing in a row, or whose rows differ in shape.
    """
    _check_numpy(return_tensors)
    rows = [row if isinstance(row, Mapping) else vars(row) for row in features]
    batch = {}
    label = next((name for name in _LABELS if rows[0].get(name) is not None), None)
    if label is not None:
        batch["labels"] = _labels(label, _column(label, rows))
    for name, value in rows[0].items():
        if name not in _LABELS and value is not None and not isinstance(value, str):
            batch[name] = _stack(name, _column(name, rows))
    return batch


@dataclass
class DefaultDataCollator:
    """`default_data_collator` as an object."""

    return_tensors: str = "np"

    def __post_init__(self) -> None:
        _check_numpy(self.return_tensors)

    def __call__(self, features: Sequence[Any], return_tensors: str | None = None) -> dict[str, Any]:
        return default_data_collator(features, return_tensors or self.return_tensors)


@dataclass
class DataCollatorWithPadding:
    """Pad rows of different length with `tokenizer.pad`; "label" and "label_ids" become "labels".

    padding: True or "longest": to the longest row of the batch; "max_length": to `max_length`; False: not at all.
    """

    tokenizer: Any
    padding: Any = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    return_tensors: str = "np"

    def __post_init__(self) -> None:
        _check_numpy(self.return_tensors)

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> Any:
        batch = _pad(self, features)
        for name in _LABELS:
            if name in batch:
                batch["labels"] = batch.pop(name)
        return batch


@dataclass
class DataCollatorForTokenClassification:
    """Pad rows with `tokenizer.pad`, and their labels, one a token, with `label_pad_token_id`; without labels rows only.

    Raises InputError for a row that has more labels than tokens.
    """

    tokenizer: Any
    padding: Any = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    label_pad_token_id: int = IGNORED
    return_tensors: str = "np"

    def __post_init__(self) -> None:
        _check_numpy(self.return_tensors)

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> Any:
        import numpy as np

        name = "label" if "label" in features[0] else "labels"
        batch = _pad(self, [{key: value for key, value in row.items() if key != name} for row in features])
        if name in features[0]:
            length = np.shape(batch["input_ids"])[1]
            batch["labels"] = np.array([self._pad_labels(name, row, length) for row in features], np.int64)
        return batch

    def _pad_labels(self, name: str, row: Mapping[str, Any], length: int) -> list[int]:
        labels, tokens = list(row[name]), len(row["input_ids"])
        if len(labels) != tokens:
            raise InputError(f"{name}: a row has {len(labels)} labels for {tokens} tokens; one a token is needed")
        padding = [self.label_pad_token_id] * (length - tokens)
        return labels + padding if self.tokenizer.padding_side == "right" else padding + labels


@dataclass
class DataCollatorForSeq2Seq:
    """Pad rows with `tokenizer.pad`, and "labels" (or "label"), whose length is their own, with `label_pad_token_id`.

    model: where it can prepare "decoder_input_ids" of the labels, the batch has them too.
    padding: of the labels too: True or "longest": to the longest of the batch; "max_length": to `max_length`, else to the
    longest; False: not at all, so that all rows must have one length. pad_to_multiple_of: of both.

    Raises InputError for labels that are longer than `max_length` or that differ in length and are not padded. "labels" is None
    where no row has any.
    """

    tokenizer: Any
    model: Any = None
    padding: Any = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    label_pad_token_id: int = IGNORED
    return_tensors: str = "np"

    def __post_init__(self) -> None:
        _check_numpy(self.return_tensors)

    def __call__(self, features: Sequence[Mapping[str, Any]], return_tensors: str | None = None) -> Any:
        _check_numpy(return_tensors or self.return_tensors)
        name = "label" if "label" in features[0] else "labels"
        batch = _pad(self, [{key: value for key, value in row.items() if key != name} for row in features])
        batch["labels"] = None
        if any(row.get(name) is not None for row in features):
            batch["labels"] = self._labels(name, [list(labels) for labels in _column(name, features)])
            prepare = getattr(self.model, "prepare_decoder_input_ids_from_labels", None)
            if prepare is not None:
                batch["decoder_input_ids"] = prepare(labels=batch["labels"])
        return batch

    def _labels(self, name: str, rows: list[list[int]]) -> NDArray[np.int64]:
        """(B, L) of rows of any length."""
        import numpy as np

        padded = self.padding not in (False, "do_not_pad")
        length = self.max_length if self.padding == "max_length" else None
        length = max(map(len, rows)) if length is None else length
        if padded and self.pad_to_multiple_of:
            length = -(-length // self.pad_to_multiple_of) * self.pad_to_multiple_of
        wrong = next((i for i, row in enumerate(rows) if len(row) > length or not (padded or len(row) == length)), None)
        if wrong is not None:
            raise InputError(f"{name}: row {wrong} of the batch has {len(rows[wrong])} where {length} are needed")
        filled = np.full((len(rows), length), self.label_pad_token_id, np.int64)
        for place, row in zip(filled, rows):
            place[slice(len(row)) if self.tokenizer.padding_side == "right" else slice(length - len(row), None)] = row
        return filled


@dataclass
class DataCollatorForLanguageModeling:
    """Rows of token ids -> a batch with "labels" for masked (`mlm`) or causal language modelling.

    mlm: of the tokens that are not special, `mlm_probability` are chosen; of these `mask_replace_prob` become the mask token,
    `random_replace_prob` any token, and the others stay; labels are the ids of the chosen, -100 elsewhere (Devlin et al. 2019, 3.1).
    Without it labels are the input ids, -100 where they are padding.
    seed: of a generator of its own; None: numpy's global one. The draws are those of transformers with return_tensors="np".

    Raises ValueError for a tokenizer without a mask token and for probabilities outside [0, 1], NotImplementedError for
    `whole_word_mask`.
    """

    tokenizer: Any
    mlm: bool = True
    whole_word_mask: bool = False
    mlm_probability: float = 0.15
    mask_replace_prob: float = 0.8
    random_replace_prob: float = 0.1
    pad_to_multiple_of: int | None = None
    return_tensors: str = "np"
    seed: int | None = None

    def __post_init__(self) -> None:
        _check_numpy(self.return_tensors)
        self.padding, self.max_length = True, None
        self.generator: np.random.Generator | None = None
        if self.whole_word_mask:
            raise NotImplementedError("whole_word_mask=True is not supported: tokens are masked one by one")
        if self.mlm and self.tokenizer.mask_token is None:
            raise ValueError("the tokenizer has no mask token, which mlm needs; mlm=False is for causal language modelling")
        for name in ("mlm_probability", "mask_replace_prob", "random_replace_prob"):
            value = getattr(self, name)
            if self.mlm and not 0 <= value <= 1:
                raise ValueError(f"{name}={value}: a number in [0, 1] is needed")
        if self.mask_replace_prob + self.random_replace_prob > 1:
            total = self.mask_replace_prob + self.random_replace_prob
            raise ValueError(f"mask_replace_prob + random_replace_prob is {total}, which must not be above 1")

    def __call__(self, features: Sequence[Any]) -> Any:
        rows = [row if isinstance(row, Mapping) else {"input_ids": list(row)} for row in features]
        batch = _pad(self, rows)
        special = batch.pop("special_tokens_mask", None)
        batch.pop("offset_mapping", None)
        ids = batch["input_ids"]
        if self.mlm:
            batch["input_ids"], batch["labels"] = self._mask(ids.copy(), special)
        else:
            batch["labels"] = ids.copy()
            if self.tokenizer.pad_token_id is not None:
                batch["labels"][ids == self.tokenizer.pad_token_id] = IGNORED
        return batch

    def _mask(self, ids: NDArray[Any], special: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """ids (B, T) -> ids with masks, labels; the order of the draws is that of transformers."""
        import numpy as np

        random = self._random()
        labels = ids.copy()
        if special is None:
            special = [self.tokenizer.get_special_tokens_mask(row, already_has_special_tokens=True) for row in ids.tolist()]
        probability = np.where(np.asarray(special, bool), 0.0, self.mlm_probability)
        chosen = random.binomial(1, probability, size=ids.shape).astype(bool)
        labels[~chosen] = IGNORED
        replaced = random.binomial(1, self.mask_replace_prob, size=ids.shape).astype(bool) & chosen
        ids[replaced] = self.tokenizer.mask_token_id
        if self.mask_replace_prob == 1 or self.random_replace_prob == 0:
            return ids, labels
        share = self.random_replace_prob / (1 - self.mask_replace_prob)
        other = random.binomial(1, share, size=ids.shape).astype(bool) & chosen & ~replaced
        integers = random.integers if self.generator is not None else random.randint
        ids[other] = integers(low=0, high=len(self.tokenizer), size=np.count_nonzero(other), dtype=np.int64)
        return ids, labels

    def _random(self) -> Any:
        import numpy as np

        if self.seed is not None and self.generator is None:
            self.generator = np.random.default_rng(self.seed)
        return np.random if self.generator is None else self.generator


def _pad(collator: Any, rows: Sequence[Mapping[str, Any]]) -> Any:
    return collator.tokenizer.pad(
        rows,
        padding=collator.padding,
        max_length=collator.max_length,
        pad_to_multiple_of=collator.pad_to_multiple_of,
        return_tensors="np",
    )


def _check_numpy(return_tensors: str) -> None:
    if return_tensors != "np":
        raise ValueError(f"return_tensors={return_tensors!r}: batches are numpy arrays, 'np'")


def _column(name: str, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    lacking = next((number for number, row in enumerate(rows) if row.get(name) is None), None)
    if lacking is not None:
        raise InputError(f"{name}: row {lacking} of the batch has none, row 0 has one")
    return [row[name] for row in rows]


def _labels(name: str, column: list[Any]) -> NDArray[Any]:
    import numpy as np

    stacked = _stack(name, column)
    if isinstance(column[0], np.ndarray) and column[0].ndim:
        return stacked
    return stacked.astype(np.int64 if stacked.dtype.kind in "iub" else np.float32)


def _stack(name: str, column: list[Any]) -> NDArray[Any]:
    import numpy as np

    shapes = [np.shape(value) for value in column]
    for number, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise InputError(
                f"{name}: row {number} of the batch has the shape {shape}, row 0 {shapes[0]}; "
                "DataCollatorWithPadding(tokenizer) pads rows of different length"
            )
    return np.array(column)
