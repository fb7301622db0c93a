"""From logits to scores, over the last axis."""

from __future__ import annotations

from typing import Any


def softmax(logits: Any) -> Any:
    import numpy as np

    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def sigmoid(logits: Any) -> Any:
    import numpy as np

    # exp of what is not positive never overflows
    small = np.exp(-np.abs(logits))
    return np.where(logits < 0, small, np.ones_like(small)) / (1 + small)


def largest(scores: Any, count: int) -> Any:
    """The indices of the `count` largest of (N,) scores, the largest first; of equals, the first."""
    import numpy as np

    count = min(count, len(scores))
    # a partition may hold any of the equals, in any order
    some = np.sort(np.argpartition(-scores, count - 1)[:count]) if 0 < count < len(scores) else np.arange(len(scores))
    return some[np.argsort(-scores[some], kind="stable")][:count]
