"""Tokens a second of every architecture at one size, beside BERT's: python benches/architectures.py [rounds]

Models with random weights, 6 layers of 384 channels, 12 heads, feed-forward of 1,536; 8 rows of 128 tokens, float32, the threads that
FERROFORMER_NUM_THREADS says. They take turns; each round's time is compared with BERT's of the same round. "arithmetic" is the number of
multiplications beside BERT's: weights that each token meets, and attention.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from typing import Any

import numpy as np

import ferroformer
from ferroformer import _native
from ferroformer.models.auto import MODELS, load_class

ROWS, LENGTH, HIDDEN, LAYERS, HEADS, INNER = 8, 128, 384, 6, 12, 1536
SIZES = {
    "vocab_size": 30000,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
}
MORE: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 128},
    "convbert": {"embedding_size": 128},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False},
    "deberta-v2": {
        "relative_attention": True,
        "pos_att_type": ["c2p", "p2c"],
        "position_buckets": 256,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
    },
    "distilbert": {"dim": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": INNER, "vocab_size": 30000},
    "electra": {"embedding_size": 128},
    "eurobert": {"pad_token_id": 0},
    # as wide inside as the published model
    "mobilebert": {"embedding_size": 128, "intra_bottleneck_size": 128, "intermediate_size": 512, "num_attention_heads": 4},
    "modernbert": {"pad_token_id": 0},
    "squeezebert": {"embedding_size": HIDDEN},
}


def build(model_type: str) -> Any:
    place = MODELS[model_type]
    settings = MORE["distilbert"] if model_type == "distilbert" else SIZES | MORE.get(model_type, {})
    return load_class(place.model or "")(load_class(place.config)(**settings), seed=0)


def multiplications(model: Any) -> float:
    """Of a token: weights of its layers and projections, queries with keys, probabilities with values."""
    shapes = {name: array.shape for name, array in model.named_parameters()}
    tables = ("word_embeddings", "position_embeddings", "type_embeddings", "tok_embeddings", "embed_tokens", "embed_positions")
    weights = [shape for name, shape in shapes.items() if len(shape) == 2 and not any(t in name for t in tables)]
    shared = LAYERS if model.config.model_type == "albert" else 1
    layers = sum(shape[0] * shape[1] for shape in weights if min(shape) >= HIDDEN)
    once = sum(shape[0] * shape[1] for shape in weights if min(shape) < HIDDEN and "relative" not in str(shape))
    # convolutions, which see one token at a time or few neighbours
    once += sum(math.prod(shape) for shape in shapes.values() if len(shape) == 3)
    return float(layers * shared + once) + 2 * LAYERS * LENGTH * HIDDEN


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    ids = np.random.default_rng(0).integers(5, 30000, (ROWS, LENGTH))
    models = {name: build(name) for name in ["bert", *sorted(set(MODELS) - {"bert"})]}
    times: dict[str, list[float]] = {name: [] for name in models}
    for model in models.values():
        model(ids)
    for _ in range(rounds):
        for name, model in models.items():
            start = time.perf_counter()
            model(ids)
            times[name].append(time.perf_counter() - start)
    base = multiplications(models["bert"])
    print(f"{ferroformer.get_num_threads()} threads, {_native.isa()}, {rounds} rounds\n")
    print("| | tokens/s | time beside BERT's | arithmetic beside BERT's |\n|---|---:|---:|---:|")
    for name, model in models.items():
        ratio = statistics.median(ours / bert for ours, bert in zip(times[name], times["bert"]))
        speed = ROWS * LENGTH / statistics.median(times[name])
        print(f"| {name} | {speed:,.0f} | {ratio:.2f} | {multiplications(model) / base:.2f} |")


if __name__ == "__main__":
    main()
