"""The logits of some tokens alone: those of a vocabulary cost as much as layers do, and take up more memory than all else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import InputError
from .model_inputs import encoder_inputs
from .modeling_utils import PreTrainedModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["KeepsLogits"]


class KeepsLogits(PreTrainedModel):
    """A model under a head on tokens, whose calls take one argument more.

    logits_to_keep: the logits of the last so many columns alone (0: of all), of the columns that an array (K,) or of those that an
    array (B, K) names for each row; with an array (B, T) of bools of these alone, (M, outputs). Not with labels.
    """

    def inputs(self, *arrays: Any, others: dict[str, Any]) -> dict[str, Any]:
        kept = others.pop("logits_to_keep", 0)
        everything = isinstance(kept, int) and kept == 0
        return super().inputs(*arrays, others=others) | {"logits_to_keep": None if everything else kept}

    def read_tokens(self, inputs: dict[str, Any]) -> Any:
        if inputs.get("logits_to_keep") is None:
            return None
        return _Kept(inputs, self.embedding_size).selected

    def outputs(self, inputs: dict[str, Any], last: Any, pooled: Any, logits: Any, *rest: Any) -> Any:
        return super().outputs(inputs, last, pooled, self.kept(inputs, logits), *rest)

    def kept(self, inputs: dict[str, Any], logits: Any) -> Any:
        """Those of the tokens that the core read, where the caller asked for them."""
        return logits if inputs.get("logits_to_keep") is None else _Kept(inputs, self.embedding_size).spread(logits)

    def check_all_kept(self, inputs: dict[str, Any]) -> None:
        """InputError for a loss of some tokens' logits."""
        if inputs.get("logits_to_keep") is not None:
            raise InputError("logits_to_keep and labels: a loss is of the logits of all tokens")


class _Kept:
    """The places whose logits `logits_to_keep` asks for."""

    def __init__(self, inputs: dict[str, Any], embedding_size: int) -> None:
        import numpy as np

        arrays = encoder_inputs(inputs, embedding_size)
        ids, mask = arrays["input_ids"], arrays["attention_mask"]
        shape = (arrays["inputs_embeds"] if ids is None else ids).shape[:2]  # type: ignore[union-attr]
        self.places = _places(inputs["logits_to_keep"], *shape)
        # (B, T): those of them that are not masked
        self.selected = np.zeros(shape, np.int64)
        self.selected[self.places] = 1 if mask is None else mask[self.places]

    def spread(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (M, V) of the selected tokens, to their places; zeros at those that are masked."""
        import numpy as np

        number = self.selected.cumsum().reshape(self.selected.shape) - 1
        there = self.selected[self.places] == 1
        spread = np.zeros((*there.shape, logits.shape[-1]), np.float32)
        spread[there] = logits[number[self.places][there]]
        return spread


def _places(kept: Any, rows: int, width: int) -> tuple[NDArray[Any], ...]:
    """Rows and columns, of one shape. Raises InputError, TypeError."""
    import numpy as np

    array = np.asarray(kept)
    if array.dtype.kind not in "iub":
        raise TypeError(f"logits_to_keep must be an integer or an array of integers or bools, got dtype {array.dtype}")
    fits = array.ndim < 2 or array.ndim == 2 and len(array) == rows
    if array.dtype.kind == "b":
        fits = array.shape in ((width,), (rows, width))
    if not fits:
        raise InputError(f"logits_to_keep has the shape {array.shape}; the input ({rows}, {width})")
    if array.ndim == 2 and array.dtype.kind == "b":
        return np.nonzero(array)
    try:
        columns = np.arange(width)[-int(array) :] if array.ndim == 0 else np.arange(width)[array]
    except IndexError:
        raise InputError(f"logits_to_keep names a column that a row of {width} tokens has not: {kept!r:.200}") from None
    return tuple(np.broadcast_arrays(np.arange(rows)[:, None], columns))
