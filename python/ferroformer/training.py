"""The core of fine-tuning, for loops of one's own: gradients of a model's loss, optimizers, schedules.

from ferroformer import training

model.train()
optimizer = training.AdamW(model, lr=5e-5)
factor = training.get_schedule("linear", num_warmup_steps=0, num_training_steps=len(batches))
for step, batch in enumerate(batches):
    outputs, gradients = training.value_and_grad(model, **batch)
    gradients.clip(1.0)
    optimizer.step(gradients, lr=5e-5 * factor(step))

Weights change in place. Sums are taken in one order, so the same seed gives the same weights, bit for bit, on any
number of threads. A model's weights must be float32 and its own (not mapped from a packed file).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .losses import Loss, LossOptions
from .modeling_utils import with_loss
from .schedules import (
    SchedulerType,
    constant,
    constant_with_warmup,
    cosine,
    cosine_with_restarts,
    get_schedule,
    inverse_sqrt,
    linear,
    polynomial,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from . import _native

__all__ = [
    "SGD",
    "AdamW",
    "Gradients",
    "Recording",
    "SchedulerType",
    "constant",
    "constant_with_warmup",
    "cosine",
    "cosine_with_restarts",
    "get_schedule",
    "inverse_sqrt",
    "linear",
    "loss",
    "num_items",
    "polynomial",
    "record",
    "value_and_grad",
]

# names of parameters that do not decay, as transformers' Trainer chooses them
_NO_DECAY = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")


class Gradients(MutableMapping[str, "NDArray[np.float32]"]):
    """The gradient of every parameter that is not frozen, by its name in a checkpoint.

    What is read is a copy; to change a gradient, assign it. They are held in the layout of the weights, so a step
    with them costs no conversion.
    """

    def __init__(self, model: Any) -> None:
        from ._native import Gradients as Native

        self.core = Native(model.core, model.frozen_slots)
        self._slots = {model.tensor_names[slot]: slot for slot in self.core.slots()}

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self.core.tensor(self._slots[name])

    def __setitem__(self, name: str, value: Any) -> None:
        import numpy as np

        array = np.ascontiguousarray(value, np.float32)
        shape = self[name].shape
        if array.shape != shape:
            raise InputError(f"the gradient of {name} has the shape {shape}, not {array.shape}")
        self.core.set(self._slots[name], array)

    def __delitem__(self, name: str) -> None:
        raise TypeError("a gradient cannot be taken out; assign zeros")

    def __iter__(self) -> Iterator[str]:
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)

    def norm(self) -> float:
        """The Euclidean norm of all gradients together."""
        return self.core.norm()

    def scale(self, factor: float) -> None:
        """Multiply all."""
        self.core.scale(factor)

    def clip(self, max_norm: float) -> float:
        """Scale all so that their norm is at most `max_norm`, as torch's `clip_grad_norm_`; returns the norm before."""
        norm = self.norm()
        factor = max_norm / (norm + 1e-6)
        if factor < 1:
            self.scale(factor)
        return norm

    def zero(self) -> None:
        """Set all to zero, to be used again."""
        self.core.zero()

    def __repr__(self) -> str:
        return f"Gradients({len(self)} parameters)"


class Recording:
    """A forward pass that remembers what the way back needs; good for one `backward`."""

    def __init__(self, model: Any, core: _native.Recording) -> None:
        self._model, self._core = model, core

    def backward(
        self,
        *,
        logits: Any = None,
        last_hidden_state: Any = None,
        pooler_output: Any = None,
        gradients: Gradients | None = None,
    ) -> Gradients:
        """The gradients of a loss, from its derivatives by the outputs (arrays of their shapes; None is zero).

        Where the attention mask is zero they are not read. Added to `gradients`, if there are some. Raises InputError for
        shapes, and if it has been called before.
        """
        gradients = Gradients(self._model) if gradients is None else gradients
        d = [_floats(x) for x in (last_hidden_state, pooler_output, logits)]
        self._model.core.backward(self._core, *d, gradients.core)
        return gradients


def _floats(x: Any) -> NDArray[np.float32] | None:
    import numpy as np

    return None if x is None else np.ascontiguousarray(x, np.float32)


def record(
    model: Any,
    *,
    selected: Any = None,
    dropout_seed: int | None = None,
    gradient_checkpointing: bool = False,
    **inputs: Any,
) -> tuple[Any, Recording]:
    """The outputs of model(**inputs), without labels, and a `Recording` of how they came about.

    selected (B, T): 1 for the tokens that a head on tokens is to read, M in all; logits are then (M, C), in their order.
    dropout_seed: an integer that decides what is dropped; None: in training mode (`model.train()`) one from numpy's
    global generator (`set_seed`), else nothing is dropped. gradient_checkpointing: keep little and compute layers
    twice. Raises what the model does, InputError for a model whose weights cannot change.
    """
    if dropout_seed is None and model.training:
        import numpy as np

        dropout_seed = int(np.random.randint(2**63, dtype=np.int64))
    options = {"dropout_seed": dropout_seed, "gradient_checkpointing": gradient_checkpointing}
    outputs, core = model.record(inputs, selected=selected, **options)
    return outputs, Recording(model, core)


def value_and_grad(
    model: Any,
    *,
    gradients: Gradients | None = None,
    num_items: float | None = None,
    label_smoothing: float = 0.0,
    class_weights: Any = None,
    loss_fn: Callable[[Any, Any, Any], tuple[Any, Any]] | None = None,
    dropout_seed: int | None = None,
    gradient_checkpointing: bool = False,
    **batch: Any,
) -> tuple[Any, Gradients]:
    """The outputs of model(**batch), `loss` among them, and the gradients of that loss: {parameter name: array}.

    batch: what `model(...)` takes, with labels. gradients: earlier ones, to which these are added. num_items: divides
    the sum of the labels' losses, in place of their number in this batch, so that the losses and the gradients of small
    batches add up to those of a large one. label_smoothing, class_weights (C,): of cross-entropy. loss_fn(outputs, labels,
    num_items) -> (loss, its derivative by outputs.logits): in place of the model's own. dropout_seed,
    gradient_checkpointing: see `record`.

    A masked language model is computed for labelled tokens alone: its logits are (labelled tokens, vocabulary).
    Raises InputError (no labels, shapes, label values), TypeError, and what `model(...)` does.
    """
    batch = model.complete(batch)
    labels = _labels(model, batch)
    outputs, recording = record(
        model,
        selected=model.selected(labels),
        dropout_seed=dropout_seed,
        gradient_checkpointing=gradient_checkpointing,
        **batch,
    )
    if loss_fn is None:
        value = model.loss(outputs, labels, batch, LossOptions(num_items, label_smoothing, class_weights))
    else:
        only = next(iter(labels.values())) if len(labels) == 1 else labels
        value = Loss(*loss_fn(outputs, only, num_items))
    outputs = with_loss(outputs, value.value)
    return outputs, recording.backward(**model.loss_gradients(value.gradient, batch), gradients=gradients)


def loss(model: Any, **batch: Any) -> np.float32:
    """The loss of model(**batch) without what else the model would return: quicker where logits are many.

    Nothing is dropped. Raises what `value_and_grad` does.
    """
    batch = model.complete(batch)
    labels = _labels(model, batch)
    outputs, core = model.record(batch, selected=model.selected(labels), dropout_seed=None, gradient_checkpointing=True)
    model.core.discard(core)
    value: np.float32 = model.loss(outputs, labels, batch, LossOptions()).value
    return value


def _labels(model: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """Takes the labels out of a batch."""
    labels = {name: batch.pop(name, None) for name in model.label_names}
    missing = [name for name, value in labels.items() if value is None]
    if missing or not labels:
        names = ", ".join(model.label_names) or "no labels: it has no head"
        raise InputError(f"{', '.join(missing) or 'a loss'} is missing: a {type(model).__name__} learns from {names}")
    return labels


def num_items(model: Any, batch: dict[str, Any]) -> int:
    """How many labels of a batch count: its rows, or the tokens whose label is not -100."""
    return int(model.num_items({name: batch[name] for name in model.label_names}))


class _Optimizer:
    """What optimizers share: a model, and a state for each parameter that was not frozen when it was made."""

    core: _native.Optimizer

    def __init__(self, model: Any, lr: float) -> None:
        if not 0 <= lr < float("inf"):
            raise InputError(f"lr is {lr}; expected a number >= 0")
        self.model, self.lr = model, lr

    def _slots_without_decay(self, no_decay: Iterable[str] | None) -> set[str]:
        names: dict[str, str] = self.model.tensor_names
        if no_decay is None:
            return {slot for slot, name in names.items() if _NO_DECAY.search(name.lower())}
        wanted = set(no_decay)
        unknown = wanted - set(names.values())
        if unknown:
            raise InputError(f"no_decay names {sorted(unknown)[0]!r}, which is no parameter of the model")
        return {slot for slot, name in names.items() if name in wanted}

    @property
    def steps(self) -> int:
        """How many steps it has taken."""
        return self.core.steps

    def step(self, gradients: Any, lr: float | None = None) -> None:
        """Change the model's weights by these gradients: a `Gradients`, or a dict of an array for each parameter.

        lr: the learning rate of this step. Raises InputError for gradients of other parameters, and while another
        thread is calling the model.
        """
        if not isinstance(gradients, Gradients):
            gradients = self._held(gradients)
        self.core.step(self.model.core, gradients.core, self.lr if lr is None else lr, 1.0)

    def _held(self, given: dict[str, Any]) -> Gradients:
        held = Gradients(self.model)
        if set(given) != set(held):
            wrong = sorted(set(given) ^ set(held))[0]
            problem = "is missing" if wrong in held else "is no parameter that is trained"
            raise InputError(f"gradients: {wrong!r} {problem}")
        for name, array in given.items():
            held[name] = array
        return held

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write state and number of steps as one safetensors file, which is replaced as a whole or not at all."""
        self.core.save(os.fspath(path), self.model.tensor_names)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Read what `save` wrote. Raises WeightMismatchError, CorruptModelError, OSError."""
        self.core.load(os.fspath(path), self.model.tensor_names)


class AdamW(_Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101), as torch has it.

    no_decay: names of parameters without decay; None: biases and norms, as transformers' Trainer has it.
    """

    def __init__(
        self,
        model: Any,
        lr: float = 5e-5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        no_decay: Iterable[str] | None = None,
    ) -> None:
        from ._native import Optimizer

        super().__init__(model, lr)
        for name, value in (("betas[0]", betas[0]), ("betas[1]", betas[1])):
            if not 0 <= value < 1:
                raise InputError(f"{name} is {value}; expected 0 <= {name} < 1")
        _check_not_negative(eps=eps, weight_decay=weight_decay)
        free = self._slots_without_decay(no_decay)
        self.core = Optimizer.adamw(model.core, *betas, eps, weight_decay, free, model.frozen_slots)


class SGD(_Optimizer):
    """Gradient descent with momentum, as torch has it; weight decay is added to the gradient. no_decay: as in AdamW."""

    def __init__(
        self,
        model: Any,
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        no_decay: Iterable[str] | None = None,
    ) -> None:
        from ._native import Optimizer

        super().__init__(model, lr)
        _check_not_negative(momentum=momentum, weight_decay=weight_decay)
        if nesterov and not momentum:
            raise InputError("nesterov=True needs a momentum > 0")
        free = self._slots_without_decay(no_decay)
        self.core = Optimizer.sgd(model.core, momentum, nesterov, weight_decay, free, model.frozen_slots)


def _check_not_negative(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < float("inf"):
            raise InputError(f"{name} is {value}; expected a number >= 0")
