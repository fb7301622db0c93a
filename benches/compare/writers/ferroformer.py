"""ferroformer: the wheel as users install it, the checkpoint as it lies on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ferroformer import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, set_num_threads

VARIANTS = ("float32", "bfloat16", "int8")
MODELS = ("gpt2", "marian", "t5-small")


class Engine:
    def __init__(self, checkpoint: Path, folder: Path, variant: str, threads: int) -> None:
        set_num_threads(threads)
        answers = AutoConfig.from_pretrained(checkpoint).is_encoder_decoder
        kind: Any = AutoModelForSeq2SeqLM if answers else AutoModelForCausalLM
        self._model = kind.from_pretrained(checkpoint, dtype=variant)

    @property
    def precision(self) -> str:
        return str(self._model.dtype)

    def write(self, ids: Any, count: int, beams: int) -> Any:
        return self._generated(ids, count, beams)[:, -count:]

    def logits(self, ids: Any) -> Any:
        return self._model(ids, logits_to_keep=1).logits[:, -1]

    def held(self, ids: Any, count: int, beams: int) -> float:
        """MB of the weights, and of the keys and values after a `write`."""
        output = self._generated(ids, count, beams, return_dict_in_generate=True)
        return float(self._model.memory_footprint() + output.past_key_values.memory_footprint()) / 2**20

    def _generated(self, ids: Any, count: int, beams: int, **options: Any) -> Any:
        options |= {"min_new_tokens": count, "max_new_tokens": count, "num_beams": beams}
        return self._model.generate(ids, attention_mask=np.ones_like(ids), do_sample=False, **options)
