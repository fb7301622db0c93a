"""torch with transformers, where this Python has them: they are too large to be installed for a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

VARIANTS = ("float32",)
MODELS = ("gpt2", "marian", "t5-small")


class Engine:
    def __init__(self, checkpoint: Path, folder: Path, variant: str, threads: int) -> None:
        torch.set_num_threads(threads)
        answers = AutoConfig.from_pretrained(checkpoint).is_encoder_decoder
        kind: Any = AutoModelForSeq2SeqLM if answers else AutoModelForCausalLM
        self._model = kind.from_pretrained(checkpoint, dtype=torch.float32).eval()

    @property
    def precision(self) -> str:
        return str(self._model.dtype)

    @torch.inference_mode()
    def write(self, ids: Any, count: int, beams: int) -> Any:
        prompts = torch.from_numpy(ids)
        options = {"min_new_tokens": count, "max_new_tokens": count, "num_beams": beams, "do_sample": False}
        found = self._model.generate(prompts, attention_mask=torch.ones_like(prompts), **options)
        return found[:, -count:].numpy()

    @torch.inference_mode()
    def logits(self, ids: Any) -> Any:
        return self._model(torch.from_numpy(ids), logits_to_keep=1).logits[:, -1].numpy()
