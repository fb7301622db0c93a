"""From a data set to the batches of each step: order, columns, and checks before hours are spent."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import InputError

if TYPE_CHECKING:
    from .training_args import TrainingArguments

__all__ = ["Chunk", "DataLoader"]

LABEL_COLUMNS = ("labels", "label", "label_ids")


class Chunk(NamedTuple):
    """The rows of one batch, before they are collated: their numbers and, of an iterable, themselves."""

    numbers: list[int]
    rows: list[Any] | None = None


class DataLoader:
    """Batches of a data set with len and getitem, or of an iterable, which is read anew in each epoch.

    order: epoch -> the row numbers in the order in which they are read; None: as they are.
    Iterating gives the batches of epoch 0. Raises InputError for a data set without rows.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        collate: Callable[[list[Any]], Any],
        *,
        order: Callable[[int], Sequence[int]] | None = None,
        drop_last: bool = False,
        name: str = "dataset",
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.collate = collate
        self.order = order
        self.drop_last = drop_last
        self.name = name
        self.num_rows: int | None = len(dataset) if is_indexed(dataset) else None
        if self.num_batches == 0:
            enough = f"{self.num_rows} rows are less than one batch of {batch_size}, and dataloader_drop_last is set"
            raise InputError(f"{name} is empty" if not self.num_rows else f"{name}: {enough}")

    @property
    def num_batches(self) -> int | None:
        """Of an epoch; None if only reading would tell."""
        if self.num_rows is None:
            return None
        return self.num_rows // self.batch_size if self.drop_last else -(-self.num_rows // self.batch_size)

    def __len__(self) -> int:
        if self.num_batches is None:
            raise TypeError(f"{self.name} has no length")
        return self.num_batches

    def __iter__(self) -> Iterator[Any]:
        return (self.load(chunk) for chunk in self.chunks(0))

    def chunks(self, epoch: int) -> Iterator[Chunk]:
        """The batches of an epoch, none of which is loaded yet."""
        if self.num_rows is None:
            return self._read()
        numbers = range(self.num_rows) if self.order is None else self.order(epoch)
        starts = range(0, len(self) * self.batch_size, self.batch_size)
        return (Chunk([int(number) for number in numbers[start : start + self.batch_size]]) for start in starts)

    def _read(self) -> Iterator[Chunk]:
        rows, first = iter(self.dataset), 0
        while chunk := list(islice(rows, self.batch_size)):
            if len(chunk) == self.batch_size or not self.drop_last:
                yield Chunk(list(range(first, first + len(chunk))), chunk)
            first += len(chunk)

    def load(self, chunk: Chunk) -> Any:
        """The batch that the collator makes of these rows; its errors say which rows they were."""
        rows = [self.dataset[number] for number in chunk.numbers] if chunk.rows is None else chunk.rows
        try:
            return self.collate(rows)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{self.name}, rows {shortened(chunk.numbers)}: no batch can be made of them: {error}") from error


class Step(NamedTuple):
    """The chunks whose gradients make one update; `batches_done` of the epoch with them; whether they are its last."""

    chunks: list[Chunk]
    batches_done: int
    is_last: bool


def steps(loader: DataLoader, accumulation: int, epoch: int, skip: int = 0) -> Iterator[Step]:
    """The steps of an epoch after `skip` batches; nothing is loaded, so skipping is cheap.

    Raises InputError if there is none.
    """
    chunks = islice(loader.chunks(epoch), skip, None)
    following = list(islice(chunks, accumulation))
    if not following:
        again = ": an iterator can be read once, an iterable starts anew" if epoch else ""
        raise InputError(f"{loader.name} has no rows in epoch {epoch} after {skip} batches{again}")
    done = skip
    while following:
        current, following = following, list(islice(chunks, accumulation))
        done += len(current)
        yield Step(current, done, not following)


def check_is_rows(dataset: Any, name: str) -> None:
    """InputError for a mapping: columns, or the splits of a data set."""
    if isinstance(dataset, Mapping):
        keys = ", ".join(map(repr, list(dataset)[:8]))
        raise InputError(f"{name} is a mapping of {keys}; rows are needed: [{{column: value, ..}}, ..], or one split of a DatasetDict")


def is_indexed(dataset: Any) -> bool:
    """Whether it has a length and rows by number; the alternative is an iterable."""
    if not hasattr(dataset, "__getitem__"):
        return False
    try:
        len(dataset)
    except (TypeError, NotImplementedError):
        return False
    return True


def training_order(args: TrainingArguments, dataset: Any) -> Callable[[int], Sequence[int]] | None:
    """epoch -> row numbers, drawn by numpy's default generator from (data_seed or seed, epoch); None: as they are."""
    import numpy as np

    if not is_indexed(dataset) or args.train_sampling_strategy == "sequential":
        return None
    seed = args.seed if args.data_seed is None else args.data_seed
    count = len(dataset)
    lengths = _lengths(dataset, args.length_column_name) if args.train_sampling_strategy == "group_by_length" else None

    def order(epoch: int) -> Sequence[int]:
        numbers: list[int] = np.random.default_rng([seed, epoch]).permutation(count).tolist()
        return numbers if lengths is None else _grouped(numbers, lengths, args.train_batch_size)

    return order


def _grouped(numbers: list[int], lengths: list[int], batch_size: int) -> list[int]:
    """Sort by length, longest first, inside groups of up to 50 batches; the longest row of all comes first.

    As transformers' get_length_grouped_indices: what needs most memory is met at once.
    """
    group = max(1, min(len(numbers) // (batch_size * 4), 50)) * batch_size
    groups = [sorted(numbers[i : i + group], key=lambda number: -lengths[number]) for i in range(0, len(numbers), group)]
    longest = max(groups, key=lambda members: lengths[members[0]])
    groups[0][0], longest[0] = longest[0], groups[0][0]
    return [number for members in groups for number in members]


def _lengths(dataset: Any, column: str) -> list[int]:
    values = read_column(dataset, column)
    if values is not None:
        return [int(value) for value in values]
    ids = read_column(dataset, "input_ids")
    if ids is None:
        raise InputError(f"train_sampling_strategy='group_by_length' needs a column 'input_ids' or {column!r} in train_dataset")
    return [len(row) for row in ids]


def read_column(dataset: Any, name: str) -> Any:
    """The values of one column, of all rows; None if the first row has it not."""
    first = dataset[0]
    if not isinstance(first, Mapping) or first.get(name) is None:
        return None
    return dataset[name] if hasattr(dataset, "column_names") else [dataset[number][name] for number in range(len(dataset))]


def without_unused_columns(dataset: Any, model: Any, label_names: Iterable[str], name: str) -> Any:
    """A data set of mappings with only the columns that `model.forward` takes, and labels.

    Raises InputError if no column would be left.
    """
    taken = getattr(model, "input_names", None) or inspect.signature(model.forward).parameters
    kept = {*taken, *label_names, *LABEL_COLUMNS}
    columns = getattr(dataset, "column_names", None)
    if columns is None and is_indexed(dataset) and len(dataset) and isinstance(dataset[0], Mapping):
        columns = list(dataset[0])
    if columns is not None and not kept & set(columns):
        raise InputError(
            f"{name} has the columns {', '.join(columns)}, of which {type(model).__name__}.forward takes none: tokenize it first, "
            "or set remove_unused_columns=False"
        )
    if hasattr(dataset, "remove_columns") and columns is not None:
        return dataset.remove_columns([column for column in columns if column not in kept])
    return _Columns(dataset, kept) if is_indexed(dataset) else _IterableColumns(dataset, kept)


class _Columns:
    """Rows with some of their columns; rows that are no mappings stay as they are."""

    def __init__(self, dataset: Any, kept: set[str]) -> None:
        self.dataset, self.kept = dataset, kept

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, number: int) -> Any:
        return _only(self.dataset[number], self.kept)


class _IterableColumns:
    def __init__(self, dataset: Any, kept: set[str]) -> None:
        self.dataset, self.kept = dataset, kept

    def __iter__(self) -> Iterator[Any]:
        return (_only(row, self.kept) for row in self.dataset)


def _only(row: Any, kept: set[str]) -> Any:
    return {key: value for key, value in row.items() if key in kept} if isinstance(row, Mapping) else row


def count_tokens(batch: Mapping[str, Any], main_input: str) -> int:
    """How many tokens of a batch are not padding."""
    import numpy as np

    mask = batch.get("attention_mask")
    return int(np.sum(mask)) if mask is not None else int(np.size(batch.get(main_input, ())))


def count_rows(batch: Mapping[str, Any]) -> int:
    """The rows of a batch: the length of its first column that has one."""
    return next((len(value) for value in batch.values() if hasattr(value, "__len__") and not isinstance(value, str)), 0)


def shortened(numbers: Sequence[int]) -> str:
    """"[3, 1, 4, .. 32 in all]"."""
    listed = ", ".join(map(str, numbers[:40]))
    return f"[{listed}]" if len(numbers) <= 40 else f"[{listed}, .. {len(numbers)} in all]"

