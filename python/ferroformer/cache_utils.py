"""What a model remembers of the tokens that it has seen: `past_key_values`, and the state that `generate` goes on from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .modeling_utils import PreTrainedModel

__all__ = ["DynamicCache"]


class DynamicCache:
    """The keys and values of N sequences, in every layer of one model.

    It grows with each call that it is given to. Sequences share what they have in common, so that to reorder them copies no keys and no
    values. Keys and values are float32, of a model in "bfloat16" or "int8" bfloat16: `memory_footprint()` says what they take.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        from ._native import Cache

        self.model = model
        self.core = Cache(model.core)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """The tokens of the longest sequence."""
        return max(self.core.lengths(), default=0)

    def lengths(self) -> list[int]:
        """The tokens of each sequence; padding is not held."""
        return self.core.lengths()

    def memory_footprint(self) -> int:
        """Bytes held."""
        return self.core.memory_footprint()

    # --- what `generate` needs: generation/decoding_state.py ----------------------------------
    def step(self, token_ids: NDArray[np.int64], last_only: bool = True) -> NDArray[np.float32]:
        """Append k tokens to each sequence, (N, k). Logits after the last, (N, V), or after each, (N, k, V)."""
        width = token_ids.shape[1]
        selected = _last_tokens(token_ids.shape, None) if last_only and width > 1 else None
        logits = self._forward(token_ids, selected=selected)
        return logits.reshape(len(token_ids), -1) if last_only and width == 1 else logits

    def reorder(self, indices: NDArray[np.int64]) -> None:
        """Sequence i goes on from what was sequence indices[i]; an index, not a copy."""
        self.core.reorder(_contiguous(indices))

    # transformers' name
    reorder_cache = reorder

    def crop(self, lengths: Any) -> None:
        """Keep of each sequence its first `lengths` tokens: (N,), or one number for all."""
        import numpy as np

        held = np.array(self.core.lengths(), np.int64)
        self.core.crop(np.minimum(held, lengths) if np.ndim(lengths) == 0 else _contiguous(lengths))

    def _forward(self, token_ids: NDArray[np.int64], **arrays: Any) -> NDArray[np.float32]:
        given = dict.fromkeys(("attention_mask", "position_ids", "selected", "source")) | arrays
        outputs = self.model.core.forward(
            _contiguous(token_ids),
            inputs_embeds=None,
            token_type_ids=None,
            task_type_ids=None,
            compute_padding=False,
            output_hidden_states=False,
            output_attentions=False,
            cache=self.core,
            encode=False,
            **given,
        )
        logits = outputs[2]
        assert logits is not None  # a model that generates has a head
        return logits


def checked_cache(cache: Any, model: PreTrainedModel) -> DynamicCache:
    """What a model is given as `past_key_values`. TypeError if it is no cache, InputError if it is another model's."""
    if not isinstance(cache, DynamicCache):
        what = f"{type(model).__name__}.forward: past_key_values must be a DynamicCache, as a model returns it"
        raise TypeError(f"{what}, got {type(cache).__name__}")
    if cache.model.core is not model.core:
        raise InputError("past_key_values are those of another model")
    return cache


def prefill(
    model: PreTrainedModel,
    input_ids: NDArray[np.int64],
    attention_mask: NDArray[np.int64] | None,
    copies: int,
    past_key_values: DynamicCache | None = None,
    position_ids: Any = None,
    source: Any = None,
) -> tuple[DynamicCache, NDArray[np.float32]]:
    """Prompts (B, T) into a cache, each `copies` times, and the logits after the last token of each (B, V).

    past_key_values: holds the beginning of each prompt. Positions count the tokens of a prompt, padding left out; where there is a
    source they are the model's.
    """
    import numpy as np

    cache = DynamicCache(model) if past_key_values is None else past_key_values
    mask = None if attention_mask is None else _contiguous(attention_mask)
    if mask is not None and not mask.any(1).all():
        row = int(np.argmin(mask.any(1)))
        raise InputError(f"row {row} of the prompts has no token: attention_mask[{row}] is all zeros")
    held = cache.lengths()
    if held:
        input_ids, mask = _continued(input_ids, mask, held)
        position_ids = None
    elif position_ids is None and mask is not None and source is None:
        position_ids = np.maximum(mask.cumsum(1) - 1, 0)
    rows, width = input_ids.shape
    last = _last_tokens(input_ids.shape, mask)
    position_ids = None if position_ids is None else _contiguous(np.broadcast_to(position_ids, (rows, width)))
    logits = cache._forward(input_ids, attention_mask=mask, position_ids=position_ids, selected=last, source=source)
    if copies > 1:
        cache.reorder(np.repeat(np.arange(rows), copies))
    return cache, logits


def _continued(
    ids: NDArray[np.int64], mask: NDArray[np.int64] | None, held: list[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """The tokens of prompts that a cache does not hold."""
    import numpy as np

    rows, width = ids.shape
    total = np.full(rows, width) if mask is None else mask.sum(1)
    if len(held) != rows:
        raise InputError(f"past_key_values have {len(held)} sequences, there are {rows} prompts")
    new = total - held
    if (new <= 0).any() or (new != new[0]).any():
        found = f"past_key_values hold {held} tokens, the prompts have {total.tolist()}"
        raise InputError(f"{found}: as many must be new in each, and one at least")
    count = int(new[0])
    return ids[:, -count:], None if mask is None else _contiguous(mask[:, -count:])


def _last_tokens(shape: tuple[int, ...], mask: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """(B, T): 1 at the last token of each row."""
    import numpy as np

    last = np.zeros(shape, np.int64)
    last[np.arange(shape[0]), -1 if mask is None else shape[1] - 1 - mask[:, ::-1].argmax(1)] = 1
    return last


def _contiguous(array: Any) -> NDArray[np.int64]:
    import numpy as np

    contiguous: NDArray[np.int64] = np.ascontiguousarray(array, np.int64)
    return contiguous
