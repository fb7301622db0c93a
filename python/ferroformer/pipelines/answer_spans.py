"""Which spans of tokens answer best, by the logits of where an answer begins and where it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .scores import largest, softmax

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# the logit of a token that can be in no answer
_IMPOSSIBLE = -10000.0


class Spans(NamedTuple):
    """First and last tokens with scores, the best first, and the score of there being no answer."""

    starts: NDArray[np.intp]
    ends: NDArray[np.intp]
    scores: NDArray[np.float32]
    null_score: float


def best_spans(
    start_logits: NDArray[np.float32],
    end_logits: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    count: int,
    longest: int,
) -> Spans:
    """The `count` best spans of 1 to `longest` tokens that begin and end with an `allowed` one; all arrays are (T,).

    A span's score is the product of two probabilities, of its begin and its end among the allowed tokens. Those of score 0
    are left out; so are those that begin or end with token 0, which stands for "no answer".
    """
    import numpy as np

    start = softmax(np.where(allowed, start_logits, np.float32(_IMPOSSIBLE)))
    end = softmax(np.where(allowed, end_logits, np.float32(_IMPOSSIBLE)))
    null_score = float(start[0] * end[0])
    start[0] = end[0] = 0
    length = len(start)
    width = min(longest, length)
    # (T, width): element (s, d) is of the span s .. s + d
    ends = np.arange(length)[:, None] + np.arange(width)
    inside = ends < length
    ends = np.where(inside, ends, 0)
    possible = inside & allowed[:, None] & allowed[ends]
    scores = np.where(possible, start[:, None] * end[ends], np.float32(0)).ravel()
    best = largest(scores, count)
    best = best[scores[best] > 0]
    return Spans(best // width, ends.ravel()[best], scores[best], null_score)


def characters(encoding: Any, first: int, last: int, sequence: int, align_to_words: bool) -> tuple[int, int]:
    """Where in its text the span of tokens begins and ends; with `align_to_words`, the words that it touches, if there are."""
    if align_to_words:
        words = encoding.token_to_word(first), encoding.token_to_word(last)
        spans = [None if word is None else encoding.word_to_chars(word, sequence) for word in words]
        if spans[0] is not None and spans[1] is not None:
            return spans[0][0], spans[1][1]
    offsets = encoding.offsets
    return offsets[first][0], offsets[last][1]
