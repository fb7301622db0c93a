"""Tokens a second of every encoder and decoder at one size, beside BERT's: python benches/architectures.py [rounds]

Models with random weights, 6 layers of 384 channels, 12 heads, feed-forward of 1,536; 8 rows of 128 tokens, no logits, in each precision, the
threads that FERROFORMER_NUM_THREADS says. They take turns; each round's time is compared with BERT's of the same round and precision.
"arithmetic" is the number of multiplications beside BERT's: weights that each token meets, and attention.
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
DTYPES = ("float32", "bfloat16", "int8")
ENCODERS = {name for name, place in MODELS.items() if "MaskedLM" in place.heads}
# tables that are looked up, and what is computed once for all tokens
NOT_MET = (
    *("word_embeddings", "position_embeddings", "type_embeddings", "tok_embeddings", "embed_tokens", "embed_positions"),
    *("wte", "wpe", "embed_in", "rel_embeddings", "relative_attention_bias", "pos_proj", "pos_q_proj", "pooler"),
)
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
    "gemma2": {"head_dim": HIDDEN // HEADS, "num_key_value_heads": HEADS},
    "gpt_neo": {"num_layers": LAYERS, "attention_types": [[["global", "local"], LAYERS // 2]]},
    "mistral": {"num_key_value_heads": HEADS},
    # as wide inside as the published model
    "mobilebert": {"embedding_size": 128, "intra_bottleneck_size": 128, "intermediate_size": 512, "num_attention_heads": 4},
    "modernbert": {"pad_token_id": 0},
    "opt": {"ffn_dim": INNER, "word_embed_proj_dim": HIDDEN},
    "qwen2": {"num_key_value_heads": HEADS},
    "qwen3": {"num_key_value_heads": HEADS, "head_dim": HIDDEN // HEADS},
    "smollm3": {"num_key_value_heads": HEADS},
    "squeezebert": {"embedding_size": HIDDEN},
}


def build(model_type: str, dtype: str) -> Any:
    place = MODELS[model_type]
    settings = MORE["distilbert"] if model_type == "distilbert" else SIZES | MORE.get(model_type, {})
    return load_class(place.model or "")(load_class(place.config)(**settings), seed=0, dtype=dtype)


def multiplications(model: Any) -> float:
    """Of a token: weights of its layers and projections, queries with keys, probabilities with values."""
    shapes = {name: array.shape for name, array in model.named_parameters() if array.ndim > 1}
    met = {name: shape for name, shape in shapes.items() if not any(part in name for part in NOT_MET)}
    # ALBERT's layers share their weights
    weights = sum(math.prod(shape) * (LAYERS if "albert_layers" in name else 1) for name, shape in met.items())
    return float(weights) + 2 * LAYERS * LENGTH * HIDDEN


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    names = ["bert", *sorted(name for name, place in MODELS.items() if name != "bert" and "Seq2SeqLM" not in place.heads)]
    base = multiplications(build("bert", "float32"))
    rows = {name: [f"{multiplications(build(name, 'float32')) / base:.2f}"] for name in names}
    for dtype in DTYPES:
        times = measure({name: build(name, dtype) for name in names}, rounds)
        for name, seconds in times.items():
            ratio = statistics.median(ours / bert for ours, bert in zip(seconds, times["bert"]))
            rows[name] += [f"{ROWS * LENGTH / statistics.median(seconds):,.0f}", f"{ratio:.2f}"]
    print(f"{ferroformer.get_num_threads()} threads, {_native.isa()}, {rounds} rounds\n")
    print("| | arithmetic |" + "".join(f" {dtype}, tokens/s | beside BERT |" for dtype in DTYPES))
    print("|---|---:|" + "---:|---:|" * len(DTYPES))
    for name, cells in rows.items():
        print("| " + " | ".join([name, *cells]) + " |")


def measure(models: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Seconds of each round."""
    ids = np.random.default_rng(0).integers(5, 30000, (ROWS, LENGTH))
    times: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(rounds + 1):
        for name, model in models.items():
            start = time.perf_counter()
            model(ids, **({} if name in ENCODERS else {"use_cache": False}))
            if turn:  # the first makes room
                times[name].append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    main()
