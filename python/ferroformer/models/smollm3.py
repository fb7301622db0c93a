"""SmolLM3 (Bakouch et al. 2025, https://huggingface.co/blog/smollm3): Llama with layers that know no positions between those that do (Yang
et al. 2025, https://arxiv.org/abs/2501.18795).
"""

from __future__ import annotations

from typing import Any

from .. import modeling_causal as causal
from ..errors import ConfigError
from .llama import (
    CAUSAL_HEAD,
    FULL,
    SCORE,
    WINDOW,
    LayeredConfig,
    LlamaPreTrainedModel,
    QuestionAnswering,
    TokenClassification,
    layers,
    rotary_blueprint,
)

__all__ = [
    "SmolLM3Config",
    "SmolLM3ForCausalLM",
    "SmolLM3ForQuestionAnswering",
    "SmolLM3ForSequenceClassification",
    "SmolLM3ForTokenClassification",
    "SmolLM3Model",
]


class SmolLM3Config(LayeredConfig):
    """The settings of a SmolLM3 model; names and defaults are those of transformers (SmolLM3-3B)."""

    model_type = "smollm3"
    default_theta = 2000000.0

    vocab_size: int = 128256
    hidden_size: int = 2048
    num_hidden_layers: int = 36
    num_attention_heads: int = 16
    num_key_value_heads: int | None = 4
    hidden_act: str = "silu"
    max_position_embeddings: int = 32768
    pad_token_id: int | None = 128004
    bos_token_id: int | None = 128000
    eos_token_id: int | list[int] | None = 128001
    use_sliding_window: bool = False
    sliding_window: int | None = None
    no_rope_layers: list[int] | None = None
    no_rope_layer_interval: int = 4
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        every, count = self.no_rope_layer_interval, self.num_hidden_layers
        if self.no_rope_layers is None:
            if every < 1:
                raise ConfigError(f"no_rope_layer_interval={every}: at least 1 is needed")
            self.no_rope_layers = [int((i + 1) % every != 0) for i in range(count)]
        self._check_turned()
        if self.layer_types is None:
            windows = self.use_sliding_window and self.sliding_window is not None
            self.layer_types = [WINDOW if windows and not self.no_rope_layers[i] else FULL for i in range(count)]

    def validate(self) -> None:
        super().validate()
        self._check_turned()

    def _check_turned(self) -> None:
        if self.no_rope_layers is not None and len(self.no_rope_layers) < self.num_hidden_layers:
            found = f"no_rope_layers has {len(self.no_rope_layers)} entries"
            raise ConfigError(f"{found}, num_hidden_layers is {self.num_hidden_layers}")


class SmolLM3PreTrainedModel(LlamaPreTrainedModel):
    """What all SmolLM3 share."""

    config_class = SmolLM3Config

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        turned = zip(layers(config), config.no_rope_layers, strict=False)  # the list may be longer
        mixed = [layer | {"rotary": 0 if rotates else None} for layer, rotates in turned]
        return rotary_blueprint(config, pooler, head, mixed, causal=True)


class SmolLM3Model(causal.DecoderModel, SmolLM3PreTrainedModel):
    """SmolLM3 without a head: token ids in, hidden states out, a BaseModelOutputWithPast."""


class SmolLM3ForCausalLM(causal.CausalLM, SmolLM3PreTrainedModel):
    head_table = CAUSAL_HEAD


class SmolLM3ForSequenceClassification(causal.SequenceClassification, SmolLM3PreTrainedModel):
    head_table = SCORE


class SmolLM3ForTokenClassification(TokenClassification, SmolLM3PreTrainedModel):
    pass


class SmolLM3ForQuestionAnswering(QuestionAnswering, SmolLM3PreTrainedModel):
    base_model_prefix = "transformer"
