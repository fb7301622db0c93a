"""What a model that generates has beside its head: settings of generation, read and written with it, and a cache to begin with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .cache_utils import DynamicCache, prefill
from .generation.configuration import GenerationConfig
from .generation.utils import GenerationMixin
from .modeling_utils import PreTrainedModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["GenerativeModel"]


class GenerativeModel(GenerationMixin, PreTrainedModel):
    """A model with `generate` and a `generation_config`: what generation_config.json says, or where there is none the configuration."""

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self.generation_config = GenerationConfig.from_model_config(config)

    def read_beside(self, name_or_path: str | os.PathLike[str], where: dict[str, Any]) -> None:
        self.generation_config = GenerationConfig.of_model(name_or_path, **where)

    def save_pretrained(self, save_directory: str | os.PathLike[str], *, packed: bool = False) -> None:
        """As `PreTrainedModel.save_pretrained`, and generation_config.json."""
        super().save_pretrained(save_directory, packed=packed)
        self.generation_config.save_pretrained(save_directory)

    def prefill(
        self, input_ids: Any, attention_mask: Any = None, copies: int = 1, **model_inputs: Any
    ) -> tuple[DynamicCache, NDArray[np.float32]]:
        """What `generate` begins with: see `generation/decoding_state.py`."""
        return prefill(self, input_ids, attention_mask, copies, **model_inputs)
