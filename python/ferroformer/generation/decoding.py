"""One token after the other: greedy, or drawn."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .decoding_state import DecodingState
from .logits_process import LogitsProcessorList
from .numbers import Ids, Scores
from .sampling import Sampler
from .stopping_criteria import StoppingCriteriaList


class Rules(NamedTuple):
    """How a call goes on, whatever chooses its tokens.

    pad: what finished sequences are filled up with, None if they go on as long as another does.
    may_shrink: whether finished sequences need not be computed: nobody looks at their scores.
    """

    processors: LogitsProcessorList
    criteria: StoppingCriteriaList
    sampler: Sampler | None
    streamer: Any
    pad: int | None
    may_shrink: bool


class Record:
    """The scores and logits of all steps, as far as they are asked for."""

    def __init__(self, scores: bool, logits: bool) -> None:
        self.scores: tuple[Scores, ...] | None = () if scores else None
        self.logits: tuple[Scores, ...] | None = () if logits else None

    def processed(self, processors: LogitsProcessorList, ids: Ids, logits: Scores) -> Scores:
        """The scores (N, V) that are left of logits (N, V), which may be overwritten if they are not kept."""
        scores = processors.run(ids, logits, owned=self.logits is None)
        if self.scores is not None:
            self.scores += (scores,)
        if self.logits is not None:
            self.logits += (logits,)
        return scores


class Sequences:
    """(N, L) token ids that grow at the end."""

    def __init__(self, ids: Ids) -> None:
        self._room = ids.copy()
        self._length = ids.shape[1]

    @property
    def ids(self) -> Ids:
        """A view of all (N, L) ids so far."""
        ids: Ids = self._room[:, : self._length]
        return ids

    def append(self, tokens: Ids) -> None:
        """A token (N,) for each."""
        if self._length == self._room.shape[1]:
            more = np.empty((len(self._room), max(self._length, 64)), np.int64)
            self._room = np.concatenate((self._room, more), axis=1)
        self._room[:, self._length] = tokens
        self._length += 1


def decode(state: DecodingState, logits: Scores, prompts: Ids, rules: Rules, record: Record) -> Ids:
    """Continue prompts (N, T), which the state holds and logits (N, V) come after, until all are finished: (N, L)."""
    sequences = Sequences(prompts)
    unfinished = np.ones(len(prompts), np.bool_)
    live, processors = np.arange(len(prompts)), rules.processors
    while True:
        ids = sequences.ids
        scores = record.processed(processors, ids if len(live) == len(ids) else ids[live], logits)
        tokens = chosen(scores, live, rules.sampler)
        if rules.pad is not None:
            padded = np.full(len(ids), rules.pad, np.int64)
            padded[live] = tokens
            padded[~unfinished] = rules.pad
            tokens = padded
        sequences.append(tokens)
        unfinished &= ~rules.criteria(sequences.ids, record.scores)
        if rules.streamer is not None:
            rules.streamer.put(tokens)
        if not unfinished.any():
            return np.ascontiguousarray(sequences.ids)
        if rules.may_shrink and rules.pad is not None and not unfinished[live].all():
            state.reorder(np.flatnonzero(unfinished[live]))
            live = np.flatnonzero(unfinished)
            processors = rules.processors.select(live)
        del logits, scores  # (N, V) floats, many megabytes
        logits = state.step(tokens[live, None])


def chosen(scores: Scores, rows: Ids, sampler: Sampler | None) -> Ids:
    """A token for each of scores (n, V), which belong to `rows`: the best, the first of equal ones, or a drawn one."""
    if sampler is not None:
        return sampler.draw(scores, rows)
    best: Ids = scores.argmax(axis=-1)
    return best
