"""Training steps: classifiers with random weights, and the batches that they learn from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine import padded
from workloads import Model, model_of

_SIZES: dict[str, dict[str, Any]] = {
    "MiniLM": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    "bert-base": {},
}
_ROWS, _WIDTH = 16, 128
# This seed's rows and one of the full width have 629 tokens together.
_MIXED = [_WIDTH, *np.random.default_rng(19).integers(8, 60, _ROWS - 1).tolist()]
_LENGTHS = {
    f"{_ROWS} x {_WIDTH} tokens": [_WIDTH] * _ROWS,
    f"{sum(_MIXED)} tokens of {_ROWS * _WIDTH:,}": _MIXED,
}


@dataclass(frozen=True)
class Step:
    name: str
    model: Model
    inputs: Path
    lengths: tuple[int, ...]
    how: str = "step"  # as in worker.call

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    @property
    def operations(self) -> float:
        """Of the products: two for each weight of a layer and token, and 4 H for each pair of tokens of a row in each
        layer, as attention has two products between them. Each has two more on the way back, so all of it three times.
        What an engine computes once more does not count, nor does the pooler, which reads few tokens.

        6 N (4 H^2 + 2 H F) tokens + 12 N H sum(length^2)      N layers, hidden size H, feed-forward size F
        """
        bert = self.model.bert
        layers, hidden, wide = bert.layers, bert.width, int(bert.config["intermediate_size"])
        squares = sum(length**2 for length in self.lengths)
        return 6.0 * layers * (4 * hidden**2 + 2 * hidden * wide) * self.tokens + 12.0 * layers * hidden * squares


def chosen(cache: Path, parts: list[str]) -> Iterator[tuple[Model, list[Step]]]:
    """Models, with those of their steps whose names have one of the parts; a model without any is not made."""
    for size in _SIZES:
        named = {f"{size}, {kind}": lengths for kind, lengths in _LENGTHS.items()}
        wanted = {name: lengths for name, lengths in named.items() if any(part in name for part in parts)}
        if wanted:
            model = _classifier(size, cache)
            yield model, [Step(name, model, batch(model, lengths), tuple(lengths)) for name, lengths in wanted.items()]


def batch(model: Model, lengths: list[int]) -> Path:
    """ids and mask (B, T), labels (B,)."""
    inputs = model.folder / f"{len(lengths)}-rows-{sum(lengths)}-tokens.npz"
    random = np.random.default_rng(0)
    ids, mask = padded([list(random.integers(1000, 30000, length)) for length in lengths])
    np.savez(inputs, ids=ids, mask=mask, labels=np.arange(len(lengths)) % 2)
    return inputs


def _classifier(size: str, cache: Path) -> Model:
    """For two labels, with random weights: speed does not depend on them. Without dropout."""
    directory = cache / f"{size}-classifier-random"
    if not (directory / "model.safetensors").exists():
        from ferroformer import BertConfig, BertForSequenceClassification

        dropout = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)
        config = BertConfig(num_labels=2, **dropout, **_SIZES[size])
        BertForSequenceClassification(config, seed=0).save_pretrained(directory)
    return model_of(f"{size}-classifier", directory, cache)
