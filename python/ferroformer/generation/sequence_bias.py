"""Processors that make given sequences of tokens likelier, or impossible."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .logits_process import LogitsProcessor, TokenIds, token_ids
from .numbers import Ids, Scores

__all__ = ["NoBadWordsLogitsProcessor", "SequenceBiasLogitsProcessor"]


class SequenceBiasLogitsProcessor(LogitsProcessor):
    """A number is added to the score of the last token of a sequence where the others stand before it.

    sequence_bias: {(token, ..): bias} or [[[token, ..], bias], ..].
    """

    def __init__(self, sequence_bias: Any) -> None:
        self.sequence_bias = _checked_biases(sequence_bias)
        self._prepare()

    def _prepare(self) -> None:
        biases = {ids: bias for ids, bias in self.sequence_bias.items() if ids}
        # the tokens that may be biased, and where each sequence's last token stands among them
        self._tokens, places = np.unique(np.array([ids[-1] for ids in biases], np.int64), return_inverse=True)
        self._words = [
            (np.array(ids[:-1], np.int64), place, np.float32(bias))
            for (ids, bias), place in zip(biases.items(), places.reshape(-1).tolist())
        ]
        self._largest = max((max(ids) for ids in biases), default=-1)

    def apply(self, input_ids: Ids, scores: Scores) -> Scores:
        vocabulary = scores.shape[-1]
        if self._largest >= vocabulary:
            wrong = [token for ids in self.sequence_bias for token in ids if token >= vocabulary]
            raise ValueError(
                f"The model vocabulary size is {vocabulary}, but the following tokens were being biased: {wrong}"
            )
        total = np.zeros((len(scores), len(self._tokens)), np.float32)
        for before, place, bias in self._words:
            if len(before) <= input_ids.shape[1]:
                total[(input_ids[:, input_ids.shape[1] - len(before) :] == before).all(axis=-1), place] += bias
        scores[:, self._tokens] += total
        return scores


class NoBadWordsLogitsProcessor(SequenceBiasLogitsProcessor):
    """Sequences of tokens that must not come: [[token, ..], ..]. A lone end of sequence is left out of them."""

    def __init__(self, bad_words_ids: list[list[int]], eos_token_id: TokenIds | None = None) -> None:
        if not isinstance(bad_words_ids, list) or len(bad_words_ids) == 0:
            raise ValueError(f"`bad_words_ids` has to be a non-empty list, but is {bad_words_ids}.")
        if any(not isinstance(word, list) for word in bad_words_ids):
            raise ValueError(f"`bad_words_ids` has to be a list of lists, but is {bad_words_ids}.")
        if any(not _are_ids(word) for word in bad_words_ids):
            raise ValueError(
                f"Each list in `bad_words_ids` has to be a list of positive integers, but is {bad_words_ids}."
            )
        self.bad_word_ids = bad_words_ids
        ends = [] if eos_token_id is None else [[token] for token in token_ids(eos_token_id).tolist()]
        self.sequence_bias = {tuple(word): -math.inf for word in bad_words_ids if word not in ends}
        self._prepare()


def _are_ids(values: Any) -> bool:
    return all(isinstance(value, (int, np.integer)) and value >= 0 for value in values)


def _checked_biases(sequence_bias: Any) -> dict[tuple[int, ...], float]:
    if not isinstance(sequence_bias, (dict, list)) or len(sequence_bias) == 0:
        raise ValueError(
            f"`sequence_bias` has to be a non-empty dictionary, or non-empty list of lists but is {sequence_bias}."
        )
    if isinstance(sequence_bias, list):
        for pair in sequence_bias:
            if len(pair) != 2 or not isinstance(pair[0], list):
                raise ValueError(
                    "Each element in `sequence_bias` has to be a non-empty list of lists of positive integers and "
                    f"float, but is {sequence_bias}."
                )
        sequence_bias = {tuple(ids): bias for ids, bias in sequence_bias}
    for ids, bias in sequence_bias.items():
        if not isinstance(ids, tuple):
            raise ValueError(f"`sequence_bias` has to be a dict with tuples as keys, but is {sequence_bias}.")
        if len(ids) == 0 or not _are_ids(ids):
            raise ValueError(
                "Each key in `sequence_bias` has to be a non-empty tuple of positive integers, but is "
                f"{sequence_bias}."
            )
        if not isinstance(bias, float):
            raise ValueError(f"`sequence_bias` has to be a dict with floats as values, but is {sequence_bias}.")
    return dict(sequence_bias)
