"""GPT-Neo (Black et al. 2021, https://doi.org/10.5281/zenodo.5297715): GPT-2 whose every second layer attends to a window behind each
token, with scores that are not scaled.
"""

from __future__ import annotations

from typing import Any

from .. import modeling_causal as causal
from ..config_values import check_choice, check_divides, check_not_negative, check_positive, check_probability
from ..configuration_utils import PreTrainedConfig
from ..errors import ConfigError
from ..tensor_match import TensorTable
from .bert import ACTIVATIONS, MAX_LAYERS
from .gpt2 import LABELS, SHARED, WORDS

__all__ = ["GPTNeoConfig", "GPTNeoForCausalLM", "GPTNeoForSequenceClassification", "GPTNeoModel"]


class GPTNeoConfig(PreTrainedConfig):
    """The settings of a GPT-Neo model; names and defaults are those of transformers."""

    model_type = "gpt_neo"
    attribute_map = {"num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"}

    vocab_size: int = 50257
    max_position_embeddings: int = 2048
    hidden_size: int = 2048
    num_layers: int = 24
    attention_types: list[Any] | None = None
    num_heads: int = 16
    intermediate_size: int | None = None
    window_size: int = 256
    activation_function: str = "gelu_new"
    resid_dropout: float = 0.0
    embed_dropout: float = 0.0
    attention_dropout: float = 0.0
    classifier_dropout: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    use_cache: bool = True
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256
    pad_token_id: int | None = None
    tie_word_embeddings: bool = True
    attention_layers: list[str] | None = None

    def __init__(self, **kwargs: Any) -> None:
        types = kwargs.get("attention_types")
        types = [[["global", "local"], 12]] if types is None else types
        super().__init__(**kwargs | {"attention_types": types, "attention_layers": _layers(types)})

    def validate(self) -> None:
        """Raise ConfigError, which names key, value and what is allowed, if no GPT-Neo can have these settings."""
        super().validate()
        check_positive(self, "vocab_size", "max_position_embeddings", "hidden_size", "num_layers", "num_heads")
        check_positive(self, "window_size")
        check_probability(self, "resid_dropout", "embed_dropout", "attention_dropout", "classifier_dropout")
        check_not_negative(self, "layer_norm_epsilon", "initializer_range")
        check_choice("activation_function", self.activation_function, ACTIVATIONS)
        check_divides(self, "num_heads", "hidden_size")
        if self.num_layers > MAX_LAYERS:
            raise ConfigError(f"num_layers={self.num_layers}: at most {MAX_LAYERS} are supported")
        if self.intermediate_size is not None:
            check_positive(self, "intermediate_size")
        layers = self.attention_layers or []
        for kind in layers:
            check_choice("attention_types", kind, ("global", "local"))
        if len(layers) != self.num_layers:
            raise ConfigError(f"attention_types says {len(layers)} layers, num_layers is {self.num_layers}")


def _layers(types: Any) -> list[str]:
    """[[["global", "local"], 2]] -> ["global", "local", "global", "local"]."""
    try:
        return [kind for kinds, times in types for _ in range(min(times, MAX_LAYERS + 1)) for kind in kinds]
    except (TypeError, ValueError):
        raise ConfigError(f"attention_types={types!r:.200}: expected a list like [[['global', 'local'], 12]]") from None


TENSORS: TensorTable = SHARED | {
    "layers.{i}.attention.query": ("h.{i}.attn.attention.q_proj", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.key": ("h.{i}.attn.attention.k_proj", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.value": ("h.{i}.attn.attention.v_proj", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.output": ("h.{i}.attn.attention.out_proj", ("hidden_size", "hidden_size")),
    "layers.{i}.feed_forward.up": ("h.{i}.mlp.c_fc", ("intermediate_size", "hidden_size")),
    "layers.{i}.feed_forward.down": ("h.{i}.mlp.c_proj", ("hidden_size", "intermediate_size")),
}


class GPTNeoPreTrainedModel(causal.Decoder):
    """What all GPT-Neos share."""

    config_class = GPTNeoConfig
    base_model_prefix = "transformer"
    base_table = TENSORS

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        # the last so many tokens, itself one of them
        windows = {"global": None, "local": config.window_size - 1}
        return {
            "hidden_size": config.hidden_size,
            "num_layers": config.num_layers,
            "embeddings": {"vocab_size": config.vocab_size, "positions": config.max_position_embeddings},
            "attention": {
                "heads": config.num_heads,
                "head_dim": config.hidden_size // config.num_heads,
                "bias": False,
                "causal": True,
            },
            "feed_forward": {
                "size": config.intermediate_size or 4 * config.hidden_size,
                "activation": ACTIVATIONS[config.activation_function],
            },
            "norm": {"kind": "layer_norm", "placement": "pre", "eps": config.layer_norm_epsilon},
            "layers": [{"window": windows[kind], "scale": 1.0} for kind in config.attention_layers],
            "pooler": pooler,
            "head": head,
        }

    def dropout_rates(self) -> tuple[float, float, float, float]:
        return self.config.resid_dropout, self.config.attention_dropout, 0.0, 0.0

    def embedding_dropout(self) -> float:
        return float(self.config.embed_dropout)


class GPTNeoModel(causal.DecoderModel, GPTNeoPreTrainedModel):
    """GPT-Neo without a head: token ids in, hidden states out, a BaseModelOutputWithPast."""


class GPTNeoForCausalLM(causal.CausalLM, GPTNeoPreTrainedModel):
    head_table = WORDS


class GPTNeoForSequenceClassification(causal.SequenceClassification, GPTNeoPreTrainedModel):
    head_table = LABELS
