"""Beam search: of each prompt the `num_beams` best sequences go on together.

The state machine is transformers' (`GenerationMixin._beam_search`), and so are its numbers: float32 sums, and -1e9 for
what must not be chosen. A prompt none of whose beams can get better any more is no longer computed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .decoding import Record, Rules
from .decoding_state import DecodingState
from .numbers import Ids, Scores, log_softmax, log_softmax_top_k, top_k

_NEVER = np.float32(-1e9)


class Beams(NamedTuple):
    """What a beam search is asked for. fill: the token behind sequences that are shorter than the longest."""

    num_beams: int
    num_return_sequences: int
    length_penalty: float
    early_stopping: bool | str | None
    max_length: int
    num_ends: int
    fill: int


class Hypotheses(NamedTuple):
    """B prompts with n sequences each. origins: for each new token, the row of all prompts' beams that it came from."""

    ids: Ids  # (B, n, L)
    scores: Scores  # (B, n)
    origins: NDArray[np.int32]  # (B, n, L - prompt)

    def take(self, places: Ids) -> Hypotheses:
        """Those at places (B, m) of each prompt."""
        return Hypotheses(
            np.take_along_axis(self.ids, places[..., None], axis=1),
            np.take_along_axis(self.scores, places, axis=1),
            np.take_along_axis(self.origins, places[..., None], axis=1),
        )

    def beside(self, others: Hypotheses) -> Hypotheses:
        """These and others of the same prompts."""
        return Hypotheses(
            np.concatenate((self.ids, others.ids), axis=1),
            np.concatenate((self.scores, others.scores), axis=1),
            np.concatenate((self.origins, others.origins), axis=1),
        )

    def of(self, prompts: Any) -> Hypotheses:
        """Those of some prompts."""
        return Hypotheses(self.ids[prompts], self.scores[prompts], self.origins[prompts])


class Found(NamedTuple):
    """The best of each prompt, N = B * num_return_sequences: ids (N, L), scores (N,), origins (N, L - prompt)."""

    ids: Ids
    scores: Scores
    origins: NDArray[np.int32]


def beam_search(
    state: DecodingState, logits: Scores, prompts: Ids, rules: Rules, record: Record, beams: Beams
) -> Found:
    """Continue prompts (B, T), each held by the state `num_beams` times, from logits (B * num_beams, V) on."""
    search = _Search(prompts, rules, beams)
    while True:
        candidates, parents = search.candidates(logits, record)
        rows, over = search.advance(candidates, parents, record.scores)
        if over:
            return search.found()
        state.reorder(rows)
        del logits  # (N, V) floats, many megabytes
        logits = state.step(search.running.ids[..., -1].reshape(-1, 1))


class _Search:
    def __init__(self, prompts: Ids, rules: Rules, beams: Beams) -> None:
        batch, length = prompts.shape
        self.rules, self.beams, self.prompt_length = rules, beams, length
        n = beams.num_beams
        ids = np.repeat(prompts[:, None], n, axis=1)
        scores = np.full((batch, n), _NEVER)
        origins = np.empty((batch, n, 0), np.int32)
        self.finished = Hypotheses(ids, scores, origins)
        self.is_finished = np.zeros((batch, n), np.bool_)
        # all beams are the same yet: only the first may go on
        scores = scores.copy()
        scores[:, 0] = 0
        self.running = Hypotheses(ids, scores, origins)
        # whether the finished ones of a prompt can become better
        self.improvable = np.ones(batch, np.bool_)
        # the prompts that are still computed, and those whose finished ones stay as they are
        self.live, self.closed = np.arange(batch), np.zeros(batch, np.bool_)
        self.processors = rules.processors

    # --- one step -----------------------------------------------------------------------------
    def candidates(self, logits: Scores, record: Record) -> tuple[Hypotheses, Ids]:
        """The best continuations (B, K) of each prompt, so many that all may end, and the beam of each (B, K)."""
        batch, n, length = self.running.ids.shape
        vocabulary = logits.shape[-1]
        wanted = max(2, 1 + self.beams.num_ends) * n
        if wanted > n * vocabulary:
            raise InputError(f"num_beams={n} needs {wanted // n} tokens at least: the vocabulary has {vocabulary}")
        if self.rules.sampler is None:
            scores, beams, tokens = self._best(logits, record, wanted)
        else:
            scores, beams, tokens = self._drawn(logits, record, wanted)
        ids = np.take_along_axis(self.running.ids, beams[..., None], axis=1)
        origins = np.take_along_axis(self.running.origins, beams[..., None], axis=1)
        rows = (beams + self.live[:, None] * n).astype(np.int32)
        ids = np.concatenate((ids, tokens[..., None]), axis=-1)
        return Hypotheses(ids, scores, np.concatenate((origins, rows[..., None]), axis=-1)), beams

    def _best(self, logits: Scores, record: Record, wanted: int) -> tuple[Scores, Ids, Ids]:
        """The highest sums, (B, wanted) each: sums, beams, tokens. They are among the highest of each beam."""
        n, each = self.beams.num_beams, min(wanted, logits.shape[-1])
        if self.processors or record.scores is not None or record.logits is not None:
            values, tokens = top_k(self._processed(logits, record), each)
        else:
            values, tokens = log_softmax_top_k(logits, each)
        sums = (values.reshape(-1, n, each) + self.running.scores[..., None]).reshape(-1, n * each)
        scores, places = top_k(sums, wanted)
        return scores, places // each, np.take_along_axis(tokens.reshape(-1, n * each), places, axis=1)

    def _drawn(self, logits: Scores, record: Record, wanted: int) -> tuple[Scores, Ids, Ids]:
        """As `_best`, drawn without putting back."""
        assert self.rules.sampler is not None
        vocabulary = logits.shape[-1]
        scores = self._processed(logits, record).reshape(-1, self.beams.num_beams, vocabulary)
        sums = (scores + self.running.scores[..., None]).reshape(len(scores), -1)
        places = self.rules.sampler.draw_several(sums, self.live, wanted)
        return np.take_along_axis(sums, places, axis=1), places // vocabulary, places % vocabulary

    def _processed(self, logits: Scores, record: Record) -> Scores:
        ids = self.running.ids
        if record.logits is not None:
            record.logits += (logits,)
        scores = log_softmax(logits, out=logits if record.logits is None else None)
        scores = self.processors.run(ids.reshape(-1, ids.shape[-1]), scores, owned=True)
        if record.scores is not None:
            record.scores += (scores,)
        return scores

    def advance(self, candidates: Hypotheses, parents: Ids, recorded: Any) -> tuple[Ids, bool]:
        """Choose who goes on and who is finished; the rows of the state that go on, and whether all is over."""
        batch, wanted, length = candidates.ids.shape
        n = self.beams.num_beams
        ends = self.rules.criteria(candidates.ids.reshape(-1, length), recorded).reshape(batch, wanted)
        open_scores = candidates.scores + ends * _NEVER
        places = np.argsort(-open_scores, axis=1, kind="stable")[:, :n]
        self.running = candidates._replace(scores=open_scores).take(places)
        if ends[:, :n].any():
            self._finish(candidates, ends, length - self.prompt_length)
        self._judge(length - self.prompt_length)
        rows = np.take_along_axis(parents, places, axis=1) + np.arange(batch)[:, None] * n
        done = ~self.improvable[self.live]
        if self.beams.early_stopping is True:
            done |= self.is_finished[self.live].all(axis=1)
        over = bool(done.all() or ends.all())
        self._close((done | over) & ~self.closed[self.live])
        if self.rules.may_shrink and done.any() and not over:
            rows = self._drop(done, rows)
        return rows.reshape(-1), over

    def _finish(self, candidates: Hypotheses, ends: NDArray[np.bool_], new_length: int) -> None:
        """Of the finished so far and those of the best candidates that end now, the best stay."""
        n = self.beams.num_beams
        finishes = ends.copy()
        finishes[:, n:] = False
        scores = candidates.scores / np.float32(new_length**self.beams.length_penalty)
        full = self.is_finished[self.live].all(axis=1, keepdims=True) & (self.beams.early_stopping is True)
        scores = scores + full * _NEVER
        scores = scores + ~self.improvable[self.live, None] * _NEVER
        scores = scores + ~finishes * _NEVER
        old = self._widened(candidates.ids.shape[-1]).of(self.live)
        flags = np.concatenate((self.is_finished[self.live], finishes), axis=1)
        self._keep_best(self.live, old.beside(candidates._replace(scores=scores)), flags)

    def _close(self, now: NDArray[np.bool_]) -> None:
        """Prompts that are through. Where nothing may follow some beams, these stand in for finished sequences."""
        prompts = self.live[now]
        self.closed[prompts] = True
        flags = self.is_finished[prompts]
        if not flags.all():
            running = self.running.of(now)
            dead = running.scores == -np.inf
            running.ids[dead, -1], running.origins[dead, -1] = self.beams.fill, -1
            running.scores[:] = _NEVER
            old = self._widened(running.ids.shape[-1]).of(prompts)
            self._keep_best(prompts, running.beside(old), np.concatenate((np.zeros_like(flags), flags), axis=1))

    def _keep_best(self, prompts: Ids, hypotheses: Hypotheses, flags: NDArray[np.bool_]) -> None:
        """The best of (B, m) become the finished ones; of equal scores (-1e9) those that are flagged come first."""
        places = np.lexsort((~flags, -hypotheses.scores), axis=1)[:, : self.beams.num_beams]
        self.is_finished[prompts] = np.take_along_axis(flags, places, axis=1)
        best = hypotheses.take(places)
        self.finished.ids[prompts] = best.ids
        self.finished.scores[prompts] = best.scores
        self.finished.origins[prompts] = best.origins

    def _widened(self, length: int) -> Hypotheses:
        """The finished, with room for `length` tokens."""
        more = length - self.finished.ids.shape[-1]
        if more > 0:
            shape = (*self.finished.scores.shape, more)
            self.finished = Hypotheses(
                np.concatenate((self.finished.ids, np.full(shape, self.beams.fill, np.int64)), axis=-1),
                self.finished.scores,
                np.concatenate((self.finished.origins, np.full(shape, -1, np.int32)), axis=-1),
            )
        return self.finished

    def _judge(self, new_length: int) -> None:
        """Whether the best that runs may still come before the worst that is finished."""
        never = self.beams.early_stopping == "never" and self.beams.length_penalty > 0
        length = self.beams.max_length - self.prompt_length if never else new_length
        best = self.running.scores[:, :1] / np.float32(length**self.beams.length_penalty)
        scores, finished = self.finished.scores[self.live], self.is_finished[self.live]
        worst = np.where(finished, scores.min(axis=1, keepdims=True), _NEVER)
        self.improvable[self.live] &= (best > worst).any(axis=1)

    def _drop(self, done: NDArray[np.bool_], rows: Ids) -> Ids:
        """Compute some prompts no longer; the rows of the state that are left."""
        self.live, self.running = self.live[~done], self.running.of(~done)
        n = self.beams.num_beams
        self.processors = self.rules.processors.select((self.live[:, None] * n + np.arange(n)).reshape(-1))
        return rows[~done]

    # --- the end ------------------------------------------------------------------------------
    def found(self) -> Found:
        """The best of each prompt, as wide as the longest of them."""
        best = slice(self.beams.num_return_sequences)
        ids, origins = np.concatenate(self.finished.ids[:, best]), np.concatenate(self.finished.origins[:, best])
        longest = int((origins >= 0).sum(axis=-1).max())
        scores = self.finished.scores[:, best].reshape(-1)
        return Found(ids[:, : self.prompt_length + longest], scores, origins[:, :longest])
