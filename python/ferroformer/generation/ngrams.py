"""Processors that let no sequence of n tokens come twice."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .logits_process import LogitsProcessor
from .numbers import Ids, Scores

__all__ = ["EncoderNoRepeatNGramLogitsProcessor", "NoRepeatNGramLogitsProcessor"]


def _check_size(name: str, value: Any) -> None:
    if not isinstance(value, int) or value <= 0:
        raise ValueError(f"`{name}` has to be a strictly positive integer, but is {value}")


def _ban_continuations(scores: Scores, ngrams: Ids, beginnings: Ids) -> Scores:
    """ngrams (N, W, n): the last token of each whose others are beginnings (N, n - 1) gets no chance."""
    rows, places = np.nonzero((ngrams[..., :-1] == beginnings[:, None]).all(axis=-1))
    tokens = ngrams[rows, places, -1]
    inside = tokens < scores.shape[-1]
    scores[rows[inside], tokens[inside]] = -math.inf
    return scores


class NoRepeatNGramLogitsProcessor(LogitsProcessor):
    """No `ngram_size` tokens in a row that the sequence has already."""

    def __init__(self, ngram_size: int) -> None:
        _check_size("ngram_size", ngram_size)
        self.ngram_size = ngram_size

    def apply(self, input_ids: Ids, scores: Scores) -> Scores:
        length, size = input_ids.shape[-1], self.ngram_size
        if length < size:
            return scores
        ngrams = sliding_window_view(input_ids, size, axis=1)
        return _ban_continuations(scores, ngrams, input_ids[:, length + 1 - size :])


class EncoderNoRepeatNGramLogitsProcessor(LogitsProcessor):
    """No `encoder_ngram_size` tokens in a row that the encoder's input (B, T) has."""

    def __init__(self, encoder_ngram_size: int, encoder_input_ids: Ids) -> None:
        _check_size("encoder_ngram_size", encoder_ngram_size)
        self.ngram_size = encoder_ngram_size
        self.encoder_input_ids = np.atleast_2d(encoder_input_ids)

    def apply(self, input_ids: Ids, scores: Scores) -> Scores:
        length, size = input_ids.shape[-1], self.ngram_size
        if length + 1 < size or self.encoder_input_ids.shape[-1] < size:
            return scores
        ids = np.repeat(self.encoder_input_ids, max(len(scores) // len(self.encoder_input_ids), 1), axis=0)
        return _ban_continuations(scores, sliding_window_view(ids, size, axis=1), input_ids[:, length + 1 - size :])

    def select(self, rows: Ids) -> EncoderNoRepeatNGramLogitsProcessor:
        return EncoderNoRepeatNGramLogitsProcessor(self.ngram_size, self.encoder_input_ids[rows])
