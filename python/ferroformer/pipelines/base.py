"""What all pipelines share: items in, rows through the model in batches, results out in the order of the items.

A task says how an item becomes rows of ids (`preprocess`), what it keeps of the model's answer to each (`keep`) and what it makes
of that (`postprocess`). Rows are padded on the right and masked; what the model computes of a row does not depend on the others,
so neither do results, whatever the size of a batch.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ..errors import FerroformerError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# the rows of a batch where nothing else is asked for
ROWS = 32
# the numbers that the answer to a batch may hold, unless one row has more
_NUMBERS = 1 << 24


class PipelineException(FerroformerError, ValueError):
    """An input that a task can do nothing with."""

    def __init__(self, task: str, model: str, reason: str) -> None:
        super().__init__(reason)
        self.task = task
        self.model = model

    def __reduce__(self) -> Any:
        return type(self), (self.task, self.model, str(self))


class Row(NamedTuple):
    """What the model takes of an item, or of a part of it: lists of T integers. `notes` are the task's own."""

    inputs: dict[str, list[int]]
    notes: Any = None


class _Item:
    """The rows of an item, and what is kept of those that are computed."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self.kept: list[Any] = []


class _Batch:
    """Rows that are computed together, each with its item."""

    def __init__(self) -> None:
        self.rows: list[tuple[_Item, Row]] = []
        self.longest = 0

    def __len__(self) -> int:
        return len(self.rows)

    def tokens_with(self, row: Row) -> int:
        """How many tokens it would have with one row more, padded."""
        return (len(self) + 1) * max(self.longest, _length(row))

    def add(self, item: _Item, row: Row) -> None:
        self.rows.append((item, row))
        self.longest = max(self.longest, _length(row))


class Results(Iterator[Any]):
    """Results as they are asked for, in the order of the inputs; as long as these, if they have a length."""

    def __init__(self, results: Iterator[Any], inputs: Any) -> None:
        self._results = results
        self._inputs = inputs

    def __next__(self) -> Any:
        return next(self._results)

    def __len__(self) -> int:
        return len(self._inputs)

    def __bool__(self) -> bool:
        return True


class Pipeline:
    """A model, its tokenizer and a task: `pipe(inputs, ...)`.

    One input gives one result, a list (or tuple) a list; any other iterable, such as a generator or a dataset, an iterator that
    reads its inputs as results are asked for. Arguments of the call that are given to the constructor are its defaults.

    Of every call:
    batch_size: how many rows the model computes together; by default 32, and for iterables without a length those of one
        input. It never changes a result.
    show_progress_bar: None shows one for a list of more than a batch, on a terminal, once the work has taken a second.
    num_workers: accepted, and changes nothing.
    """

    # in the names of the model classes that it takes: "SequenceClassification"; None for models without a head
    head: ClassVar[str | None] = None

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        task: str = "",
        *,
        device: Any = None,
        batch_size: int | None = None,
        num_workers: int | None = None,
        **parameters: Any,
    ) -> None:
        check_device(device)
        self.model = model
        self.tokenizer = tokenizer
        self.task = task
        self._batch_size = check_batch_size(batch_size)
        self._check_model()
        self._defaults = self.parameters(**parameters)

    def _check_model(self) -> None:
        if self.tokenizer is None:
            raise ValueError(f"{type(self).__name__} needs a tokenizer")
        if self.head and not any(f"For{self.head}" in cls.__name__ for cls in type(self.model).__mro__):
            name = type(self.model).__name__
            _logger().error("The model '%s' is not supported for %s: one for %s is.", name, self.task, self.head)

    # --- what a task says ---------------------------------------------------------------------
    def parameters(self, *args: Any, **given: Any) -> tuple[dict[str, Any], ...]:
        """The arguments of a call, checked, as those of `preprocess` and of `postprocess`, and of `compute` where it takes any.
        Only what is given."""
        raise NotImplementedError

    def preprocess(self, *args: Any, **options: Any) -> Iterable[Row]:
        """The rows of an item, which is the one argument."""
        raise NotImplementedError

    def keep(self, outputs: Any, index: int, row: Row) -> Any:
        """What `postprocess` needs of row `index` of the model's outputs. Padding is beyond the row's length."""
        raise NotImplementedError

    def postprocess(self, *args: Any, **options: Any) -> Any:
        """The result of an item: of its rows and of what is kept of each."""
        raise NotImplementedError

    def numbers_per_token(self) -> int:
        """How many numbers the model returns for a token, about."""
        return int(max(self.model.config.hidden_size, self.model.config.num_labels))

    # --- the call -----------------------------------------------------------------------------
    def __call__(
        self,
        inputs: Any,
        *,
        batch_size: int | None = None,
        num_workers: int | None = None,
        show_progress_bar: bool | None = None,
        **parameters: Any,
    ) -> Any:
        """The result of an input, a list of those of a list, an iterator over those of another iterable."""
        size = check_batch_size(batch_size) or self._batch_size
        options = tuple(old | new for old, new in zip(self._defaults, self.parameters(**parameters)))
        one = isinstance(inputs, (str, bytes, Mapping)) or not isinstance(inputs, Iterable)
        # a result of a stream without length may be waited for before there is a next input
        ahead = size is not None or hasattr(inputs, "__len__")
        results = self.stream([inputs] if one else inputs, size or ROWS, ahead, *options)
        if one:
            return next(results)
        is_list = isinstance(inputs, (list, tuple))
        if show_progress_bar or (show_progress_bar is None and is_list and len(inputs) > (size or ROWS)):
            results = _with_bar(results, inputs, show_progress_bar)
        return list(results) if is_list else Results(results, inputs)

    def predict(self, inputs: Any) -> Any:
        """scikit-learn's name of the call."""
        return self(inputs)

    transform = predict

    def stream(
        self,
        inputs: Iterable[Any],
        batch_size: int,
        ahead: bool,
        preprocess: dict[str, Any],
        postprocess: dict[str, Any],
        compute: dict[str, Any] | None = None,
    ) -> Iterator[Any]:
        """The results of inputs, which are read as far as a batch needs, but no further than the next result unless `ahead`."""
        waiting: deque[_Item] = deque()
        batch = _Batch()
        if any(getattr(self.model, kind, False) for kind in ("reads_padding", "sees_padding")):
            batch_size = 1  # a result does not depend on what else is in a batch
        how = compute or {}
        most = _NUMBERS // self.numbers_per_token()
        for value in inputs:
            item = _Item(list(self.preprocess(value, **preprocess)))
            waiting.append(item)
            for row in item.rows:
                if len(batch) == batch_size or (batch and batch.tokens_with(row) > most):
                    batch = self._computed(batch, how)
                batch.add(item, row)
            if not ahead or len(batch) == batch_size:
                batch = self._computed(batch, how)
            yield from self._finished(waiting, postprocess)
        self._computed(batch, how)
        yield from self._finished(waiting, postprocess)

    def _finished(self, waiting: deque[_Item], options: dict[str, Any]) -> Iterator[Any]:
        while waiting and len(waiting[0].kept) == len(waiting[0].rows):
            item = waiting.popleft()
            yield self.postprocess(item.rows, item.kept, **options)

    def compute(self, rows: list[Row], **options: Any) -> Any:
        """What the model makes of rows together."""
        return self.model(**self._padded([row.inputs for row in rows]), return_dict=True)

    def _computed(self, batch: _Batch, how: dict[str, Any]) -> _Batch:
        """Run the model on the rows of a batch; returns an empty one."""
        if batch:
            outputs = self.compute([row for _, row in batch.rows], **how)
            for index, (item, row) in enumerate(batch.rows):
                item.kept.append(self.keep(outputs, index, row))
        return _Batch()

    def _padded(self, rows: list[dict[str, list[int]]], side: str = "right") -> dict[str, NDArray[np.int64]]:
        """Columns (B, T); an attention mask is among them. `side` is where padding goes."""
        import numpy as np

        main = next(iter(rows[0]))
        lengths = np.array([len(row[main]) for row in rows])
        real = np.arange(lengths.max(initial=0)) < lengths[:, None]
        real = real if side == "right" else real[:, ::-1]
        arrays = {"attention_mask": real.astype(np.int64)}
        for name in rows[0]:
            padding = self.tokenizer.pad_token_id if name == "input_ids" else None
            arrays[name] = np.full(real.shape, padding or 0, np.int64)
            arrays[name][real] = np.concatenate([np.asarray(row[name], np.int64) for row in rows])
        return arrays

    # --- what it is ---------------------------------------------------------------------------
    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Write the model and the tokenizer into a directory."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.tokenizer.save_pretrained(save_directory)

    @property
    def device(self) -> str:
        """Always "cpu"."""
        return "cpu"

    @property
    def dtype(self) -> Any:
        """The model's."""
        return self.model.dtype

    @property
    def torch_dtype(self) -> Any:
        """The old name of `dtype`."""
        return self.dtype

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={type(self.model).__name__}, task={self.task!r})"


def model_rows(encoded: Mapping[str, Any], names: Iterable[str] | None = None) -> list[dict[str, list[int]]]:
    """What a tokenizer returned for one text, with or without overflowing rows, as a dict for each row.

    `names`: the columns that are wanted, if not all of them are.
    """
    wanted = [name for name in encoded if name != "overflow_to_sample_mapping" and (names is None or name in names)]
    if not encoded["input_ids"] or not isinstance(encoded["input_ids"][0], list):
        return [{name: encoded[name] for name in wanted}]
    return [{name: encoded[name][row] for name in wanted} for row in range(len(encoded["input_ids"]))]


def check_device(device: Any) -> None:
    """ValueError unless it is the CPU."""
    if device not in (None, -1) and str(device) not in ("cpu", "cpu:0"):
        raise ValueError(f"device={device!r}: models run on the CPU; allowed are None, -1 and 'cpu'")


def check_batch_size(batch_size: Any) -> int | None:
    """ValueError unless it is None or at least 1."""
    if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
        raise ValueError(f"batch_size={batch_size!r}: an integer of at least 1 is needed, or None")
    return batch_size


def _length(row: Row) -> int:
    return len(next(iter(row.inputs.values())))


def _with_bar(results: Iterator[Any], inputs: Any, wanted: bool | None) -> Iterator[Any]:
    from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

    total = len(inputs) if hasattr(inputs, "__len__") else None
    how = {"delay": 0} if wanted else {"delay": 1, "disable": None}
    return iter(tqdm(results, total=total, **how))


def _logger() -> Any:
    import logging

    return logging.getLogger(__name__)
