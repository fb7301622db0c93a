"""Stopping criteria: after each token, whether a sequence is finished.

A criterion is called with input_ids (N, L) int64 and the scores so far (a tuple of (N, V) with `output_scores`, else
None), and returns (N,) bool. Your own may be any callable, on numpy arrays.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .logits_process import TokenIds, token_ids
from .numbers import Ids
from .warnings_once import warn_once

__all__ = ["EosTokenCriteria", "MaxLengthCriteria", "MaxTimeCriteria", "StoppingCriteria", "StoppingCriteriaList"]

Finished = NDArray[np.bool_]


class StoppingCriteria:
    """Base class: override `__call__(input_ids, scores, **kwargs)`."""

    def __call__(self, input_ids: Ids, scores: Any, **kwargs: Any) -> Finished:
        """(N,): True where the sequence of input_ids (N, L) is finished."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__")


class StoppingCriteriaList(list[Any]):
    """Criteria of which one is enough."""

    def __call__(self, input_ids: Ids, scores: Any, **kwargs: Any) -> Finished:
        """(N,): True where one of the criteria says so."""
        done = np.zeros(len(input_ids), np.bool_)
        for criterion in self:
            done |= np.asarray(criterion(input_ids, scores, **kwargs), np.bool_)
        return done

    @property
    def max_length(self) -> int | None:
        """That of the first MaxLengthCriteria."""
        return next((criterion.max_length for criterion in self if isinstance(criterion, MaxLengthCriteria)), None)


class MaxLengthCriteria(StoppingCriteria):
    """So many tokens, those of the prompt included."""

    def __init__(self, max_length: int, max_position_embeddings: int | None = None) -> None:
        self.max_length = max_length
        self.max_position_embeddings = max_position_embeddings

    def __call__(self, input_ids: Ids, scores: Any, **kwargs: Any) -> Finished:
        rows, length = input_ids.shape
        done = length >= self.max_length
        if self.max_position_embeddings is not None and not done and length > self.max_position_embeddings:
            warn_once(
                "This is a friendly reminder - the current text generation call has exceeded the model's predefined "
                f"maximum length ({self.max_position_embeddings}). Depending on the model, you may observe exceptions, "
                "performance degradation, or nothing at all."
            )
        return np.full(rows, done)


class MaxTimeCriteria(StoppingCriteria):
    """So many seconds since the criterion was made, or since `initial_timestamp`."""

    def __init__(self, max_time: float, initial_timestamp: float | None = None) -> None:
        self.max_time = max_time
        self.initial_timestamp = time.time() if initial_timestamp is None else initial_timestamp

    def __call__(self, input_ids: Ids, scores: Any, **kwargs: Any) -> Finished:
        return np.full(len(input_ids), time.time() - self.initial_timestamp > self.max_time)


class EosTokenCriteria(StoppingCriteria):
    """The last token is one of these."""

    def __init__(self, eos_token_id: TokenIds) -> None:
        self.eos_token_id = token_ids(eos_token_id)

    def __call__(self, input_ids: Ids, scores: Any, **kwargs: Any) -> Finished:
        done: Finished = (input_ids[:, -1:] == self.eos_token_id).any(axis=-1)
        return done
