"""Writing: models with random weights, what they continue or answer, and whether an engine's words are right.

Speed does not depend on weights, but a proof does: those of a fresh model say one word for ever. A few parts are made
larger here, so that what a model says depends on what it has read, yet not so much that int8 says something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import checkpoint as checkpoints
import writing_reference
from workloads import Model, Workload, model_of, slug

# By the ends of their names; of a feed-forward's way down the mean over its inputs goes too, which no input changes.
_FACTORS: dict[str, dict[str, float]] = {
    "gpt2": {},
    "marian": {"shared.weight": 3, "fc2.weight": 10},
    "t5-small": {"Attention.q.weight": 3, "Attention.o.weight": 5, "wo.weight": 15},
}
_DOWN = ("fc2.weight", "wo.weight")


@dataclass(frozen=True)
class Writing(Workload):
    """`count` words more for each of `rows` prompts ("write"), or the logits of the next word alone ("logits")."""

    model: Writer
    rows: int
    count: int
    beams: int

    @property
    def words(self) -> int:
        return self.rows * self.count

    @property
    def prompts(self) -> list[writing_reference.Ids]:
        return [tuple(row) for row in np.load(self.inputs)["ids"].tolist()]


@dataclass(frozen=True)
class Writer(Model):
    @cached_property
    def reference(self) -> writing_reference.Reference:
        return writing_reference.of(checkpoints.read(self.checkpoint, checkpoints.Checkpoint))


def chosen(cache: Path, parts: list[str]) -> Iterator[tuple[Writer, list[Writing]]]:
    """Models, with those of their works whose names have one of the parts; a model without any is not made."""
    for name, kinds in _WORKS.items():
        named = {f"{name}, {_title(*kind)}": kind for kind in kinds}
        wanted = {title: kind for title, kind in named.items() if any(part in title for part in parts)}
        if wanted:
            writer = _writer(name, cache)
            yield writer, [_work(writer, title, *kind) for title, kind in wanted.items()]


# rows, length of each prompt, words written, beams
_WORKS = {
    "gpt2": [(1, 32, 64, 1), (8, 32, 64, 1), (1, 512, 1, 1)],
    "marian": [(1, 32, 32, 1), (1, 32, 32, 4), (8, 32, 32, 1), (8, 32, 32, 4)],
    "t5-small": [(1, 32, 32, 1), (1, 32, 32, 4)],
}


def _title(rows: int, length: int, count: int, beams: int) -> str:
    if count == 1:
        return f"the next word of {rows} x {length}"
    return f"{rows} x {length} -> {count} tokens, {'greedy' if beams == 1 else f'beam {beams}'}"


def _work(writer: Writer, title: str, rows: int, length: int, count: int, beams: int) -> Writing:
    inputs = writer.folder / f"{slug(title)}.npz"
    random = np.random.default_rng(0)
    np.savez(inputs, ids=random.integers(1000, 30000, (rows, length)), count=count, beams=beams)
    how = "logits" if count == 1 else "write"
    work = Writing(title, how, inputs, inputs.with_suffix(".truth.npy"), writer, rows, count, beams)
    if not work.truth.exists() and (how == "logits" or beams > 1):
        np.save(work.truth, [_truth(work, prompt) for prompt in work.prompts])
    return work


def _truth(work: Writing, prompt: writing_reference.Ids) -> Any:
    """The next word's logits, or the words of a search. What is greedy is judged word by word."""
    reference = work.model.reference
    if work.how == "logits":
        return reference.logits(prompt, (), 0)[0]
    return reference.search(prompt, work.count, work.beams)


def _writer(name: str, cache: Path) -> Writer:
    directory = cache / f"{name}-random"
    if not (directory / "model.safetensors").exists():
        model = _fresh(name)
        model.load_state_dict({key: _enlarged(name, key, value) for key, value in model.state_dict().items()})
        model.save_pretrained(directory)
    return Writer(**vars(model_of(name, directory, cache)))


def _fresh(name: str) -> Any:
    """As large as gpt2, an OPUS-MT translator and t5-small."""
    import ferroformer as ff

    if name == "gpt2":
        return ff.GPT2LMHeadModel(ff.GPT2Config(initializer_range=0.05), seed=0)
    if name == "t5-small":
        return ff.T5ForConditionalGeneration(ff.T5Config(decoder_start_token_id=0), seed=0)
    sizes = {"layers": 6, "attention_heads": 8, "ffn_dim": 2048}
    sides = {f"{side}_{key}": size for side in ("encoder", "decoder") for key, size in sizes.items()}
    settings = {"d_model": 512, "activation_function": "swish", "scale_embedding": True, "init_std": 0.04}
    return ff.MarianMTModel(ff.MarianConfig(**sides, **settings, forced_eos_token_id=None), seed=0)


def _enlarged(name: str, key: str, value: NDArray[Any]) -> NDArray[Any]:
    factor = next((factor for end, factor in _FACTORS[name].items() if key.endswith(end)), 1.0)
    centred = value - value.mean(axis=1, keepdims=True) if key.endswith(_DOWN) else value
    return np.float32(factor) * centred
