"""`tokenizer.pad`: encoded rows of different length -> rows of one length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .tokenization_options import PaddingStrategy

Row = dict[str, Any]


def as_columns(encoded_inputs: Any, main_name: str) -> dict[str, Any]:
    """A BatchEncoding, dict, or list of dicts (as a data loader collects them) -> a dict of columns."""
    if isinstance(encoded_inputs, (list, tuple)):
        if not all(isinstance(row, Mapping) for row in encoded_inputs):
            raise ValueError("pad takes a mapping of columns or a list of such mappings, one a row")
        names = list(encoded_inputs[0]) if encoded_inputs else []
        columns = {name: [row[name] for row in encoded_inputs] for name in names}
    else:
        columns = dict(encoded_inputs)
    if main_name not in columns:
        raise ValueError(
            "You should supply an encoding or a list of encodings to this method that includes "
            f"{main_name}, but you provided {list(columns)}"
        )
    return columns


def array_kind(values: Any) -> str | None:
    """ "np" or "pt" if `values` is an array or tensor, or holds one; None for lists of numbers."""
    while isinstance(values, (list, tuple)) and values:
        values = next((value for value in values if not isinstance(value, (list, tuple)) or value), None)
    if values is None or isinstance(values, (int, list, tuple)):
        return None
    for kind, module in (("np", "numpy"), ("pt", "torch")):
        if type(values).__module__.split(".")[0] == module:
            return kind
    raise ValueError(f"type of {values} unknown: {type(values)}. Should be one of a python, numpy, or pytorch object.")


def to_lists(values: Any) -> Any:
    """Arrays and tensors, also inside lists, as plain Python lists and numbers."""
    if hasattr(values, "tolist"):
        return values.tolist()
    if isinstance(values, (list, tuple)):
        return [to_lists(value) for value in values]
    return values


class Padder:
    """Pads rows of one batch; `fill` says what each column is filled with."""

    def __init__(self, main_name: str, fill: Mapping[str, Any], side: str, add_mask: bool) -> None:
        self.main_name = main_name
        self.fill = fill
        self.side = side
        self.add_mask = add_mask

    def pad_row(self, row: Row, length: int) -> Row:
        present = len(row[self.main_name])
        if self.add_mask and "attention_mask" not in row:
            row["attention_mask"] = [1] * present
        missing = max(0, length - present)
        return {name: self._fill_up(name, values, missing) for name, values in row.items()}

    def _fill_up(self, name: str, values: Any, missing: int) -> Any:
        if not missing or name not in self.fill or (name == "attention_mask" and not self.add_mask):
            return values
        padding = [self.fill[name]] * missing
        return list(values) + padding if self.side == "right" else padding + list(values)


def pad_columns(
    columns: dict[str, Any],
    padder: Padder,
    strategy: PaddingStrategy,
    max_length: int | None,
    multiple_of: int | None,
) -> dict[str, Any]:
    """Pad one row (columns of numbers) or a batch (columns of lists)."""
    main = columns[padder.main_name]
    single = not isinstance(main[0], (list, tuple))
    lengths = [len(main)] if single else [len(row) for row in main]
    length = _target_length(strategy, lengths, max_length, multiple_of)
    if single:
        return padder.pad_row(columns, length)
    wrong = [name for name, column in columns.items() if len(column) != len(lengths)]
    if wrong:
        raise ValueError(f"columns {wrong} do not have {len(lengths)} rows, as {padder.main_name!r} has")
    rows = [padder.pad_row({name: column[i] for name, column in columns.items()}, length) for i in range(len(lengths))]
    return {name: [row[name] for row in rows] for name in rows[0]}


def _target_length(
    strategy: PaddingStrategy, lengths: Sequence[int], max_length: int | None, multiple_of: int | None
) -> int:
    if strategy is PaddingStrategy.DO_NOT_PAD:
        return 0
    length = max(lengths) if strategy is PaddingStrategy.LONGEST or max_length is None else max_length
    return -(-length // multiple_of) * multiple_of if multiple_of else length
