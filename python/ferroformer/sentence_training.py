"""The gradients of a `SentenceTransformer`: texts -> token vectors (core) -> pooling, normalisation, loss (numpy), and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import InputError
from .sentence_modules import SentenceFiles

if TYPE_CHECKING:
    import os

    import numpy as np
    from numpy.typing import NDArray

    from .training import Gradients

__all__ = ["SentenceOutputs", "TrainableSentences"]


class _Batch(NamedTuple):
    """ids, mask (N, T): tokens, filled up at the end; places (N, T): those that are pooled."""

    ids: NDArray[np.int64]
    mask: NDArray[np.bool_]
    places: NDArray[np.bool_]


class SentenceOutputs(NamedTuple):
    """The loss of a batch, the embeddings (B, H) of each column, and the number of tokens."""

    loss: float
    embeddings: list[NDArray[np.float64]]
    num_tokens: int


class TrainableSentences:
    """What a `SentenceTransformer` needs to be trained; `SentenceTransformer` sets the attributes."""

    _model: Any
    _files: SentenceFiles

    def _encode_ids(self, texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        raise NotImplementedError

    def _prompt_tokens(self, prompt: str) -> int | None:
        raise NotImplementedError

    def value_and_grad(
        self,
        loss: Any,
        columns: Sequence[Sequence[str]],
        labels: Any = None,
        *,
        prompts: Sequence[str] = (),
        share: float = 1.0,
        gradients: Gradients | None = None,
        dropout_seed: int | None = None,
        gradient_checkpointing: bool = False,
    ) -> tuple[SentenceOutputs, Gradients]:
        """A loss of `ferroformer.sentence_losses` on a batch, and its gradients by the parameters of the transformer.

        columns: the first texts of all examples, the second ones, ..; they go through the model together. prompts: a text to be put
        before those of each column. share: a factor of loss and gradients, with which batches add up to a larger one; gradients:
        earlier ones, to which these are added. dropout_seed, gradient_checkpointing: as `training.record` has them.

        Raises InputError for columns and labels that the loss does not take, TypeError for texts that are no str.
        """
        import numpy as np

        from . import training
        from .sentence_pooling import pool, pool_backward

        batch = self._batch(columns, prompts)
        options: dict[str, Any] = {"dropout_seed": dropout_seed, "gradient_checkpointing": gradient_checkpointing}
        outputs, recording = training.record(self._model, input_ids=batch.ids, attention_mask=batch.mask, **options)
        states, modes = outputs.last_hidden_state, self._files.pooling.modes
        vectors, back = self._normalized(pool(states, batch.places, modes))
        embeddings = np.split(vectors, len(columns))
        value, by_column = loss.value_and_grad(embeddings, labels)
        gradient = back(share * np.concatenate(by_column)).astype(np.float32)
        by_state = pool_backward(gradient, states, batch.places, modes)
        gradients = recording.backward(last_hidden_state=by_state, gradients=gradients)
        return SentenceOutputs(share * value, embeddings, int(batch.mask.sum())), gradients

    def loss_of(self, loss: Any, columns: Sequence[Sequence[str]], labels: Any = None, *, prompts: Sequence[str] = ()) -> float:
        """The loss alone, without dropout; see `value_and_grad`."""
        import numpy as np

        from .sentence_pooling import pool

        batch = self._batch(columns, prompts)
        states = self._model(input_ids=batch.ids, attention_mask=batch.mask, return_dict=True).last_hidden_state
        vectors, _ = self._normalized(pool(states, batch.places, self._files.pooling.modes))
        return float(loss.value_and_grad(np.split(vectors, len(columns)), labels)[0])

    def _normalized(self, vectors: Any) -> tuple[Any, Any]:
        """(N, H) as the modules after the pooling have it, in float64; and the way back."""
        import numpy as np

        from .sentence_losses import unit

        kinds = {kind for kind, _ in self._files.later}
        if not kinds <= {"Normalize"}:
            raise NotImplementedError(f"a model with the modules {', '.join(sorted(kinds))} after its pooling cannot be trained")
        wide = vectors.astype(np.float64)
        return unit(wide) if kinds else (wide, lambda d: d)

    def _batch(self, columns: Sequence[Sequence[str]], prompts: Sequence[str]) -> _Batch:
        import numpy as np

        sizes = [len(column) for column in columns]
        if not sizes or len(set(sizes)) > 1 or not sizes[0]:
            raise InputError(f"columns need texts, as many in each; they have {sizes}")
        before = list(prompts) or [""] * len(columns)
        texts = [prompt + text for prompt, column in zip(before, columns, strict=True) for text in column]
        tokens, lengths = self._encode_ids(texts)
        order = np.arange(lengths.max())
        mask = order < lengths[:, None]
        ids = np.full(mask.shape, self._model.config.pad_token_id or 0, np.int64)
        ids[mask] = tokens
        skipped = np.repeat([self._prompt_tokens(prompt) or 0 for prompt in before], sizes)
        return _Batch(ids, mask, mask & (order >= skipped[:, None]))

    # --- what training asks of a model: all is that of the transformer ------------------------
    @property
    def core(self) -> Any:
        """The compiled model."""
        return self._model.core

    @property
    def tensor_names(self) -> dict[str, str]:
        """Slot -> name of a parameter."""
        names: dict[str, str] = self._model.tensor_names
        return names

    @property
    def frozen_slots(self) -> set[str]:
        """Slots that are not trained."""
        slots: set[str] = self._model.frozen_slots
        return slots

    @property
    def training(self) -> bool:
        """Whether `value_and_grad` drops what the configuration says."""
        return bool(self._model.training)

    def train(self, mode: bool = True) -> Any:
        """Set training mode; returns the model. `encode` never drops anything."""
        self._model.train(mode)
        return self

    def eval(self) -> Any:
        """Leave training mode."""
        return self.train(False)

    def freeze(self, *patterns: str) -> None:
        """Parameters of the transformer whose names match are not trained: see `PreTrainedModel.freeze`."""
        self._model.freeze(*patterns)

    def unfreeze(self, *patterns: str) -> None:
        """Parameters whose names match are trained again."""
        self._model.unfreeze(*patterns)

    def num_parameters(self) -> int:
        """The number of weights."""
        return int(self._model.num_parameters())

    def load_weights(self, directory: str | os.PathLike[str]) -> None:
        """Read what `save_pretrained` of this very model wrote, in place."""
        self._model.load_weights(directory)
