"""`TokenEmbeddings`: the part of a model that gives, sets and resizes its word embeddings."""

from __future__ import annotations

import copy
import inspect
import operator
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ._native import Encoder

_WORDS = "embeddings.word.weight"
# Of the old vectors' covariance, in new ones: transformers' number.
_SPREAD = 1e-9
# Rows of a table that are looked at at a time.
_ROWS = 4096


class Embedding(NamedTuple):
    """A copy of a table of vectors, with the attributes of torch's."""

    weight: NDArray[np.float32]

    @property
    def num_embeddings(self) -> int:
        """How many vectors."""
        return len(self.weight)

    @property
    def embedding_dim(self) -> int:
        """The width of a vector."""
        return int(self.weight.shape[1])


class TokenEmbeddings:
    """What `PreTrainedModel` can do with its word embeddings."""

    config: Any
    core: Encoder
    tensor_names: dict[str, str]
    _reload: tuple[Any, ...] | None

    def get_input_embeddings(self) -> Embedding:
        """A copy of the word embeddings: `.weight` is (vocab_size, width) float32."""
        return Embedding(self.core.tensor(_WORDS))

    def set_input_embeddings(self, value: Any) -> None:
        """Set the word embeddings, in place: an array, or something with a `.weight`, of the shape that they have.

        Raises InputError for another shape: `resize_token_embeddings` changes the number of rows.
        """
        import numpy as np

        table = np.ascontiguousarray(getattr(value, "weight", value), np.float32)
        expected = self.core.tensor(_WORDS).shape
        if table.shape != expected:
            raise InputError(f"value has the shape {table.shape}; the word embeddings have {expected}")
        self.core.set(_WORDS, table)

    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
        *,
        seed: int = 0,
    ) -> Embedding:
        """Make the vocabulary longer or shorter, in place, with all that has its length; returns the new embeddings.

        Rows are taken away or added at the end. New rows lie about the mean of the old ones (`mean_resizing`), with
        1e-9 of their covariance, or are drawn as those of a new model are; `seed` says which. A head that shares the
        word embeddings or has a row for each word grows alike; the biases of new words are zero, as in transformers.
        `new_num_tokens` is rounded up to a multiple of `pad_to_multiple_of`; None is the present number. The
        configuration's vocab_size changes too. For the time of the call both models are in memory; an optimizer, or a
        thread in a call, keeps the old one.

        Raises InputError (a ValueError) for numbers below 1, NotImplementedError for a model that is not float32.
        """
        if new_num_tokens is None and pad_to_multiple_of is None:
            return self.get_input_embeddings()
        size = _size(self.config.vocab_size if new_num_tokens is None else new_num_tokens, pad_to_multiple_of)
        if size != self.config.vocab_size:
            if (dtype := self.core.dtype) != "float32":
                what = f"word embeddings in {dtype} are not resized"
                raise NotImplementedError(f"{what}: resize the float32 model, save it, and load that as {dtype}")
            self.core = self._resized(size, mean_resizing, seed)
            self.set_vocab_size(self.config, size)
            self._reload = None  # the directory holds another model
        return self.get_input_embeddings()

    def set_vocab_size(self, config: Any, size: int) -> None:
        """Write the number of words into a configuration."""
        config.vocab_size = size

    def own_arguments(self) -> dict[str, Any]:
        """Arguments of the class without which a model of this configuration would have other tensors."""
        return {}

    def _resized(self, size: int, mean_resizing: bool, seed: int) -> Encoder:
        """The core of a model with so many words."""
        import numpy as np

        config = copy.deepcopy(self.config)
        self.set_vocab_size(config, size)
        arguments: dict[str, Any] = {"seed": seed} | self.own_arguments()
        if "add_pooling_layer" in inspect.signature(type(self)).parameters:
            arguments["add_pooling_layer"] = "pooler.weight" in self.tensor_names
        core: Encoder = type(self)(config, **arguments).core  # type: ignore[call-arg]
        random = np.random.default_rng(seed)
        for slot in self.tensor_names:
            weight, other = self.core.tensor(slot), core.tensor(slot)
            if weight.shape != other.shape:
                sideways = len(weight) == len(other)  # biases as a row, weights that are held (inputs, outputs)
                grown, weight = (other.T, weight.T) if sideways else (other, weight)
                kept = min(len(weight), len(grown))
                grown[:kept] = weight[:kept]
                # what is not about the mean is as the new model has it
                if mean_resizing and slot.endswith(".weight") and kept < len(grown):
                    grown[kept:] = _about_the_mean(weight, len(grown) - kept, random)
                weight = other
            core.set(slot, weight)
        return core


def _size(number: Any, multiple: Any) -> int:
    step = 1 if multiple is None else _positive("pad_to_multiple_of", multiple)
    return -(-_positive("new_num_tokens", number) // step) * step


def _positive(argument: str, value: Any) -> int:
    try:
        number: int = operator.index(value)
    except TypeError:
        raise InputError(f"{argument}={value!r:.200}: an integer of at least 1 is needed") from None
    if number < 1:
        raise InputError(f"{argument}={number}: an integer of at least 1 is needed")
    return number


def _about_the_mean(table: NDArray[np.float32], count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """(count, width) rows, normally distributed about the mean row of a table. Hewitt 2021, Initializing New Word
    Embeddings for Pretrained Language Models."""
    import numpy as np

    mean: NDArray[np.float64] = table.mean(0, np.float64)
    covariance = np.zeros((len(mean), len(mean)))
    for first in range(0, len(table), _ROWS):
        centered = table[first : first + _ROWS] - mean
        covariance += centered.T @ centered
    rows = np.repeat(mean[None], count, 0)
    try:
        factor = np.linalg.cholesky(_SPREAD / len(table) * covariance)
    except np.linalg.LinAlgError:
        return rows  # fewer rows than columns: there is no such distribution
    return np.asarray(rows + random.standard_normal(rows.shape) @ factor.T)
