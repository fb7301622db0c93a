"""Logits processors: what changes the scores of the next token before it is chosen.

A processor is called with input_ids (N, L) int64, the sequences so far, and scores (N, V) float32, and returns scores
(N, V). `__call__` leaves its arguments alone. The built-in ones say in `apply` what they do, in place: in a
`LogitsProcessorList` one copy serves them all. Your own may be any callable, on numpy arrays.
"""

from __future__ import annotations

import inspect
import math
from typing import Any, Callable, Sequence, Union

import numpy as np

from ..errors import TokenIdError
from .numbers import Ids, Scores, log_softmax

# one token id, or several
TokenIds = Union[int, Sequence[int], Ids]

__all__ = [
    "EncoderRepetitionPenaltyLogitsProcessor",
    "ExponentialDecayLengthPenalty",
    "ForcedBOSTokenLogitsProcessor",
    "ForcedEOSTokenLogitsProcessor",
    "InfNanRemoveLogitsProcessor",
    "LogitNormalization",
    "LogitsProcessor",
    "LogitsProcessorList",
    "MinLengthLogitsProcessor",
    "MinNewTokensLengthLogitsProcessor",
    "PrefixConstrainedLogitsProcessor",
    "RepetitionPenaltyLogitsProcessor",
    "SuppressTokensAtBeginLogitsProcessor",
    "SuppressTokensLogitsProcessor",
]


class LogitsProcessor:
    """Base class: override `__call__(input_ids, scores)`, or `apply`, which may overwrite scores."""

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """The scores (N, V) for the token after input_ids (N, L)."""
        return self.apply(input_ids, scores.copy())

    def apply(self, input_ids: Ids, scores: Scores) -> Scores:
        """As `__call__`; `scores` may be overwritten."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__")

    def select(self, rows: Ids) -> LogitsProcessor:
        """The processor for these rows of the batch alone: itself, unless it knows something about each row."""
        return self


class LogitsProcessorList(list[Any]):
    """Processors, applied one after the other."""

    def __call__(self, input_ids: Ids, scores: Scores, **kwargs: Any) -> Scores:
        """What is left of scores (N, V), which are not changed. `kwargs` go to processors that take more arguments.

        Raises ValueError if a processor wants an argument that is not there.
        """
        return self.run(input_ids, scores, owned=False, **kwargs)

    def run(self, input_ids: Ids, scores: Scores, *, owned: bool, **kwargs: Any) -> Scores:
        """As a call; `owned` scores may be overwritten."""
        for processor in self:
            if type(processor).__call__ is LogitsProcessor.__call__:
                scores = processor.apply(input_ids, scores if owned else scores.copy())
                owned = True
            else:
                scores = processor(input_ids, scores, **_wanted(processor, kwargs))
                owned = False  # it may have kept them
        return scores

    def select(self, rows: Ids) -> LogitsProcessorList:
        """The processors for these rows of the batch alone. All of them must be built-in ones."""
        return LogitsProcessorList(processor.select(rows) for processor in self)


def _wanted(processor: Any, given: dict[str, Any]) -> dict[str, Any]:
    names = list(inspect.signature(processor.__call__).parameters)
    if len(names) <= 2:
        return {}
    if not all(name in given for name in names[2:]):
        raise ValueError(
            f"Make sure that all the required parameters: {names} for {type(processor)} are passed to the logits "
            "processor."
        )
    return given


def token_ids(eos_token_id: Any) -> Ids:
    """A token id or several as a (n,) array."""
    return np.atleast_1d(np.asarray(eos_token_id)).astype(np.int64)


def check_positive_float(name: str, value: Any) -> None:
    """ValueError unless it is a float > 0."""
    if not isinstance(value, float) or not value > 0:
        raise ValueError(f"`{name}` has to be a strictly positive float, but is {value}")


def _check_count(name: str, value: Any) -> None:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"`{name}` has to be a non-negative integer, but is {value}")


def _check_ids(ids: Ids) -> None:
    if (ids < 0).any():
        raise ValueError(f"`eos_token_id` has to be a list of positive integers, but is {ids.tolist()}")


def _suppress(scores: Scores, ids: Ids) -> Scores:
    scores[:, ids[(ids >= 0) & (ids < scores.shape[-1])]] = -math.inf
    return scores


def _force(scores: Scores, ids: Ids, argument: str) -> Scores:
    if ((ids < 0) | (ids >= scores.shape[-1])).any():
        raise TokenIdError(f"{argument}={ids.tolist()}: the vocabulary has {scores.shape[-1]} tokens")
    scores[:] = -math.inf
    scores[:, ids] = 0
    return scores


# --- length ---------------------------------------------------------------------------------------
class MinLengthLogitsProcessor(LogitsProcessor):
    """No end before `min_length` tokens, those of the prompt included."""

    def __init__(self, min_length: int, eos_token_id: TokenIds) -> None:
        _check_count("min_length", min_length)
        self.min_length = min_length
        self.eos_token_id = token_ids(eos_token_id)

    def apply(self, input_ids: Ids, scores: Scores) -> Scores:
        return _suppress(scores, self.eos_token_id) if input_ids.shape[-1] < self.min_length else scores


class MinNewTokensLengthLogitsProcessor(LogitsProcessor):
    """No end before `min_new_tokens` tokens after the prompt's `prompt_length_to_skip`."""

    def __init__(self, prompt_length_to_skip: int, min_new_tokens: int, eos_token_id: TokenIds) -> None:
        _check_count("prompt_length_to_skip", prompt_length_to_skip)
        _check_count("min_new_tokens", min_new_tokens)
        self.prompt_length_to_skip = prompt_length_to_skip
        self.min_new_tokens = min_new_tokens
        self.eos_token_id = token_ids(eos_token_id)

    def apply(self, input_ids: Ids, scores: Scores) -> Scores:
        new_tokens = input_ids.shape[-1] - self.prompt_length_to_skip
        return _suppress(scores, self.eos_token_id) if new_tokens < self.min_new_tokens else scores


class ExponentialDecayLengthPenalty(LogitsProcessor):
    """From a length on the end becomes likelier with each token: (start after the prompt, factor)."""

    def __init__(
        self,
        exponential_decay_length_penalty: tuple[int, float],
        eos_token_id: TokenIds,
        input_ids_seq_length: int,
    ) -> None:
        start, self.regulation_factor = exponential_decay_length_penalty
        self.regulation_start = start + input_ids_seq_length
        self.eos_token_id = token_ids(eos_token_id)
        _check_ids(self.eos_token_id)

    def apply(self, input_ids: Ids, scores: Scores) -> Scores:
        excess = input_ids.shape[-1] - self.regulation_start
        if excess > 0:
            ends = scores[:, self.eos_token_id]
            with np.errstate(all="ignore"):
                growth = min(np.float64(self.regulation_factor) ** excess - 1, np.finfo(np.float32).max)
                # of the absolute value: scores may be negative
                bonus = np.abs(ends) * np.float32(growth)
            scores[:, self.eos_token_id] = ends + np.where(np.isfinite(ends), bonus, np.float32(0))
        return scores


# --- repetition -----------------------------------------------------------------------------------
class RepetitionPenaltyLogitsProcessor(LogitsProcessor):
    """Scores of tokens that are in the sequence: divided by the penalty, or multiplied if they are negative.

    prompt_ignore_length: so many tokens at the beginning do not count, or (N,) as many of each row.
    """

    def __init__(self, penalty: float, prompt_ignore_length: int | Ids | None = None) -> None:
        check_positive_float("penalty", penalty)
        if isinstance(prompt_ignore_length, int):
            _check_count("prompt_ignore_length", prompt_ignore_length)
        elif prompt_ignore_length is not None and prompt_ignore_length.ndim != 1:
            raise ValueError("`prompt_ignore_length` must be 1D")
        self.penalty = penalty
        self.prompt_ignore_length = prompt_ignore_length

    def apply(self, input_ids: Ids, scores: Scores) -> Scores:
        counted = input_ids < scores.shape[-1]
        if self.prompt_ignore_length is not None:
            ignored = np.asarray(self.prompt_ignore_length)
            if ignored.ndim and len(ignored) != len(input_ids):
                raise ValueError("Incompatible `prompt_ignore_length` batch size")
            counted &= np.arange(input_ids.shape[1]) >= ignored[..., None]
        return _penalize(scores, input_ids, counted, self.penalty)

    def select(self, rows: Ids) -> RepetitionPenaltyLogitsProcessor:
        if not isinstance(self.prompt_ignore_length, np.ndarray):
            return self
        return RepetitionPenaltyLogitsProcessor(self.penalty, self.prompt_ignore_length[rows])


class EncoderRepetitionPenaltyLogitsProcessor(LogitsProcessor):
    """Scores of tokens that are in the encoder's input (B, T): multiplied by the penalty, or divided if negative."""

    def __init__(self, penalty: float, encoder_input_ids: Ids) -> None:
        check_positive_float("penalty", penalty)
        self.penalty = 1 / penalty
        self.encoder_input_ids = encoder_input_ids

    def apply(self, input_ids: Ids, scores: Scores) -> Scores:
        ids = np.repeat(self.encoder_input_ids, max(len(scores) // len(self.encoder_input_ids), 1), axis=0)
        return _penalize(scores, ids, ids < scores.shape[-1], self.penalty)

    def select(self, rows: Ids) -> EncoderRepetitionPenaltyLogitsProcessor:
        return EncoderRepetitionPenaltyLogitsProcessor(1 / self.penalty, self.encoder_input_ids[rows])


def _penalize(scores: Scores, ids: Ids, counted: Any, penalty: float) -> Scores:
    rows, places = np.nonzero(counted)
    columns = ids[rows, places]
    values = scores[rows, columns]
    scores[rows, columns] = np.where(values < 0, values * penalty, values / penalty)
    return scores


# --- tokens allowed, forced, suppressed -----------------------------------------------------------
class PrefixConstrainedLogitsProcessor(LogitsProcessor):
    """Only tokens that `prefix_allowed_tokens_fn(number of the prompt, (L,) sequence so far)` returns."""

    def __init__(self, prefix_allowed_tokens_fn: Callable[[int, Ids], Sequence[int]], num_beams: int) -> None:
        self._prefix_allowed_tokens_fn = prefix_allowed_tokens_fn
        self._num_beams = num_beams
        self._prompts: Ids | None = None  # all

    def apply(self, input_ids: Ids, scores: Scores) -> Scores:
        mask = np.full_like(scores, -math.inf)
        prompts = np.arange(len(input_ids) // self._num_beams) if self._prompts is None else self._prompts
        for row, prompt in enumerate(np.repeat(prompts, self._num_beams).tolist()):
            allowed = self._prefix_allowed_tokens_fn(prompt, input_ids[row])
            if len(allowed) == 0:
                raise ValueError(
                    f"`prefix_allowed_tokens_fn` returned an empty list for batch ID {prompt}. This means that the "
                    "constraint is unsatisfiable. Please check your implementation of `prefix_allowed_tokens_fn`"
                )
            mask[row, np.asarray(allowed, np.int64)] = 0
        scores += mask
        # where all that is allowed has no chance in any beam, it is forced
        lost = (scores.max(axis=-1) == -math.inf).reshape(-1, self._num_beams).all(axis=-1)
        lost = np.repeat(lost, self._num_beams)
        scores[lost] = mask[lost]
        return scores

    def select(self, rows: Ids) -> PrefixConstrainedLogitsProcessor:
        selected = PrefixConstrainedLogitsProcessor(self._prefix_allowed_tokens_fn, self._num_beams)
        selected._prompts = rows[:: self._num_beams] // self._num_beams
        return selected


class ForcedBOSTokenLogitsProcessor(LogitsProcessor):
    """The first token after a prompt of one token."""

    def __init__(self, bos_token_id: int) -> None:
        self.bos_token_id = bos_token_id

    def apply(self, input_ids: Ids, scores: Scores) -> Scores:
        forced = input_ids.shape[-1] == 1
        return _force(scores, token_ids(self.bos_token_id), "forced_bos_token_id") if forced else scores


class ForcedEOSTokenLogitsProcessor(LogitsProcessor):
    """The last token where `max_length` is reached."""

    def __init__(self, max_length: int, eos_token_id: TokenIds) -> None:
        self.max_length = max_length
        self.eos_token_id = token_ids(eos_token_id)
        _check_ids(self.eos_token_id)

    def apply(self, input_ids: Ids, scores: Scores) -> Scores:
        forced = input_ids.shape[-1] == self.max_length - 1
        return _force(scores, self.eos_token_id, "forced_eos_token_id") if forced else scores


class SuppressTokensLogitsProcessor(LogitsProcessor):
    """These tokens never."""

    def __init__(self, suppress_tokens: Sequence[int]) -> None:
        self.suppress_tokens = token_ids(list(suppress_tokens))

    def apply(self, input_ids: Ids, scores: Scores) -> Scores:
        return _suppress(scores, self.suppress_tokens)


class SuppressTokensAtBeginLogitsProcessor(LogitsProcessor):
    """These tokens not as the first, where `begin_index` tokens are there."""

    def __init__(self, begin_suppress_tokens: Sequence[int], begin_index: int) -> None:
        self.begin_suppress_tokens = token_ids(list(begin_suppress_tokens))
        self.begin_index = begin_index

    def set_begin_index(self, begin_index: int) -> None:
        """How many tokens there are at the beginning."""
        self.begin_index = begin_index

    def apply(self, input_ids: Ids, scores: Scores) -> Scores:
        begins = input_ids.shape[-1] == self.begin_index
        return _suppress(scores, self.begin_suppress_tokens) if begins else scores


# --- what the numbers are -------------------------------------------------------------------------
class InfNanRemoveLogitsProcessor(LogitsProcessor):
    """NaN becomes 0, an infinity the largest number of its sign."""

    def apply(self, input_ids: Ids, scores: Scores) -> Scores:
        limit = np.finfo(np.float32).max
        return np.nan_to_num(scores, copy=False, nan=0.0, posinf=limit, neginf=-limit)


class LogitNormalization(LogitsProcessor):
    """Logarithms of probabilities."""

    def apply(self, input_ids: Ids, scores: Scores) -> Scores:
        return log_softmax(scores)
