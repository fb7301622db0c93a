"""Drawing tokens. Each row draws from a stream of its own, so that what it draws does not depend on its company.

A stream is Philox (a counter-based generator: Salmon et al. 2011, doi:10.1145/2063384.2063405) keyed by the seed of
the row. torch's stream cannot be reproduced: the distribution is transformers', the draws are ours.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..trainer_utils import mix_seeds
from .numbers import Ids, Scores


def row_seeds(seed: Any, prompts: int, copies: int) -> list[int]:
    """A seed for each of `copies` sequences of each prompt.

    seed: an integer; or one for each prompt; or None: numpy's global generator (`set_seed`) gives one for each prompt
    in turn, so that it does not matter how the prompts are split into batches.
    """
    if seed is None:
        of_prompts = np.random.randint(2**63, size=prompts, dtype=np.int64).tolist()
    elif np.ndim(seed) == 0:
        of_prompts = [mix_seeds(_integer(seed), prompt) for prompt in range(prompts)]
    elif len(seed) == prompts:
        of_prompts = [_integer(number) for number in seed]
    else:
        raise InputError(f"seed: {len(seed)} integers for {prompts} prompts: one is needed, or one for each")
    return [mix_seeds(number, copy) for number in of_prompts for copy in range(copies)]


def _integer(seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"seed={seed!r:.200}: an integer is needed, or a list of them")
    return int(seed)


class Sampler:
    """Draws tokens for N rows, of which some may have gone."""

    def __init__(self, seeds: list[int]) -> None:
        self._streams = [np.random.Generator(np.random.Philox(key=seed)) for seed in seeds]

    def draw(self, scores: Scores, rows: Ids) -> Ids:
        """A token for each of scores (n, V), which belong to `rows` (n,), drawn by the softmax of its scores."""
        tokens = np.empty(len(scores), np.int64)
        for place, (row, row_scores) in enumerate(zip(rows.tolist(), scores)):
            tokens[place] = self._token(row, row_scores)
        return tokens

    def draw_several(self, scores: Scores, rows: Ids, count: int) -> Ids:
        """As `draw`, `count` different ones (n, count), one after the other; impossible ones where the possible end."""
        drawn = np.empty((len(scores), count), np.int64)
        for place, (row, row_scores) in enumerate(zip(rows.tolist(), scores)):
            left = row_scores.copy()
            possible = min(count, int((left != -math.inf).sum()))
            for number in range(max(possible, 1)):
                drawn[place, number] = token = self._token(row, left)
                left[token] = -math.inf
            if possible < count:
                left[drawn[place, :possible]] = math.inf
                drawn[place, possible:] = np.flatnonzero(left == -math.inf)[: count - possible]
        return drawn

    def _token(self, row: int, scores: NDArray[np.float32]) -> int:
        possible = np.flatnonzero(scores != -math.inf)
        kept = scores[possible]
        with np.errstate(invalid="ignore"):
            mass = np.exp(kept - kept.max(initial=-math.inf)).cumsum(dtype=np.float64)
        if not (len(mass) and mass[-1] > 0):
            raise InputError(f"row {row}: no token can be drawn, as its scores hold NaN or infinity, or are all -inf")
        # the first whose mass, and that of all before it, exceeds the point: one without weight never does
        return int(possible[np.searchsorted(mass, self._streams[row].random() * mass[-1], side="right")])
