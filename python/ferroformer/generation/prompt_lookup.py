"""Speculation from the prompt: what once followed the last tokens may follow them again.

The guess is fed to the model with the last token, one step for all of it, and is kept as far as the tokens are those
that would have been chosen; so the sequence is the same as without guessing. One sequence at a time.
(https://github.com/apoorvumang/prompt-lookup-decoding)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .decoding import Record, Rules, Sequences, chosen
from .decoding_state import DecodingState
from .numbers import Ids, Scores


class Lookup:
    """Guesses of up to `num_tokens` tokens, from where the last `ngram_size` or fewer tokens stand already."""

    def __init__(self, num_tokens: int, ngram_size: int | None, max_length: int, eos: Ids | None) -> None:
        self._num_tokens = num_tokens
        self._ngram_size = 2 if ngram_size is None else ngram_size
        self._max_length = max_length
        self._eos = () if eos is None else eos.tolist()
        if self._ngram_size <= 0 or num_tokens <= 0:
            raise ValueError("Invalid max_matching_ngram_size or num_output_tokens")

    def guess(self, ids: Ids) -> list[int]:
        """What may follow ids (L,); the longest ngram counts, and the first place where it stands."""
        # one more token comes from the model itself
        room = min(self._num_tokens, self._max_length - len(ids) - 1)
        for size in range(min(self._ngram_size, len(ids) - 1), 0, -1):
            same: Any = sliding_window_view(ids, size)[:-1] == ids[-size:]
            places = np.flatnonzero(same.all(axis=-1))
            if len(places):
                start = int(places[0]) + size
                return self._before_end(ids[start : start + max(room, 0)].tolist())
        return []

    def _before_end(self, tokens: list[int]) -> list[int]:
        return tokens[: next((place for place, token in enumerate(tokens) if token in self._eos), len(tokens))]


def decode_with_lookup(
    state: DecodingState, logits: Scores, prompt: Ids, held: int, rules: Rules, record: Record, lookup: Lookup
) -> Ids:
    """As `decoding.decode` for one prompt (1, T), of which the state holds `held` tokens."""
    sequences = Sequences(prompt)
    _, finished = _accepted(logits[:, None], [], sequences, rules, record)
    while not finished:
        ids = sequences.ids[0]
        guess = lookup.guess(ids)
        ahead = state.step(np.array([[ids[-1], *guess]], np.int64), last_only=False)
        accepted, finished = _accepted(ahead, guess, sequences, rules, record)
        # held now: the token that was fed first, and of the guess what was right
        held += accepted
        if accepted <= len(guess):
            state.crop(np.array([held]))
    return np.ascontiguousarray(sequences.ids)


def _accepted(
    ahead: Scores, guess: list[int], sequences: Sequences, rules: Rules, record: Record
) -> tuple[int, bool]:
    """Choose tokens by ahead (1, 1 + guess, V) as long as the guess is right: how many, and whether it is the end."""
    tokens: list[int] = []
    finished = False
    for place, guessed in enumerate([*guess, None]):
        scores = record.processed(rules.processors, sequences.ids, ahead[:, place])
        token = chosen(scores, np.zeros(1, np.int64), rules.sampler)
        sequences.append(token)
        tokens.append(int(token[0]))
        finished = bool(rules.criteria(sequences.ids, record.scores).all())
        if finished or tokens[-1] != guessed:
            break
    if rules.streamer is not None:
        rules.streamer.put(np.array([tokens]))
    return len(tokens), finished
