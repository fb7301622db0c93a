"""What can be known to go wrong before a training begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .trainer_checkpoint import generator_states, restore_generators
from .trainer_data import LABEL_COLUMNS, DataLoader

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["check_batches", "check_labels"]

IGNORED = -100


def check_batches(loader: DataLoader) -> None:
    """Make the first and the last batch of epoch 0; the collator's errors name the rows. Its generator stays where it was."""
    chunks = list(loader.chunks(0))
    states = generator_states(loader.collate)
    for chunk in (chunks[0], chunks[-1]):
        loader.load(chunk)
    restore_generators(states, loader.collate)


def check_labels(loader: DataLoader, model: Any, label_names: Iterable[str]) -> None:
    """Run the model on row 0, and see whether all integer labels are among its classes.

    Raises InputError that names the row, the label and what is allowed; what the model itself raises for row 0.
    """
    import numpy as np

    states = generator_states(loader.collate)
    batch = loader.collate([loader.dataset[0]])
    restore_generators(states, loader.collate)
    missing = [name for name in label_names if batch.get(name) is None]
    if missing:
        raise InputError(f"{loader.name}: row 0 gives the columns {', '.join(batch)} and no {', '.join(missing)}: there is no loss")
    logits = model(**batch).logits
    labels = np.asarray(batch.get("labels", ()))
    classes = logits.shape[-1]
    if classes > 1 and labels.dtype.kind in "iu" and logits.ndim == labels.ndim + 1:
        _check_range(loader, classes)


def _check_range(loader: DataLoader, classes: int) -> None:
    """Of a column that can be read without making the rows: that of a list or of a data set with columns."""
    column = _label_column(loader)
    if column is None:
        return
    for number, value in enumerate(column):
        if value is None:
            raise InputError(f"{loader.name}, row {number} has no label")
    labels, owners = _flat(column)
    wrong = (labels != IGNORED) & ((labels < 0) | (labels >= classes))
    if wrong.any():
        place = int(wrong.argmax())
        raise InputError(
            f"{loader.name}, row {owners[place]}: the label {labels[place]}; the model has {classes} classes, so allowed are 0 to "
            f"{classes - 1}, and {IGNORED} for what does not count"
        )


def _label_column(loader: DataLoader) -> Any:
    dataset = getattr(loader.dataset, "dataset", loader.dataset)
    first = loader.dataset[0]
    name = next((name for name in LABEL_COLUMNS if isinstance(first, Mapping) and name in first), None)
    if name is None:
        return None
    if hasattr(dataset, "column_names"):
        return dataset[name]
    return [row.get(name) for row in dataset] if isinstance(dataset, (list, tuple)) else None


def _flat(column: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All labels of all rows, and the row of each."""
    import numpy as np

    rows = [np.ravel(value) for value in column]
    return np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(row) for row in rows])
