"""Llama (Touvron et al. 2023, https://arxiv.org/abs/2302.13971): a decoder with RMSNorm before attention and feed-forward, rotary
positions, grouped heads, a gated feed-forward network and no biases.

What Mistral, Qwen, SmolLM and EuroBERT share with it is here too: the settings, the blueprint and the names of tensors.
"""

from __future__ import annotations

from typing import Any, ClassVar

from .. import modeling_causal as causal
from .. import modeling_heads as heads
from ..config_values import check_choice, check_divides, check_not_negative, check_positive, check_probability
from ..configuration_utils import PreTrainedConfig
from ..errors import ConfigError
from ..rope import rope_parameters, rotation
from ..tensor_match import TensorTable
from .bert import ACTIVATIONS, MAX_LAYERS, padding_row

__all__ = [
    "LlamaConfig",
    "LlamaForCausalLM",
    "LlamaForQuestionAnswering",
    "LlamaForSequenceClassification",
    "LlamaForTokenClassification",
    "LlamaModel",
]

FULL, WINDOW = "full_attention", "sliding_attention"


class RotaryConfig(PreTrainedConfig):
    """What Llama and the models after it have in common; names are those of transformers."""

    default_theta: ClassVar[float] = 10000.0
    # the key that names the activation of feed-forward
    activation: ClassVar[str] = "hidden_act"

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    tie_word_embeddings: bool = False
    rope_parameters: dict[str, Any] | None = None
    attention_dropout: float | None = 0.0

    def __init__(self, **kwargs: Any) -> None:
        scaling, theta = kwargs.pop("rope_scaling", None), kwargs.pop("rope_theta", self.default_theta)
        super().__init__(**kwargs)
        self.rope_parameters = rope_parameters(self.rope_parameters, scaling, theta, self.max_position_embeddings)
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads

    @property
    def head_channels(self) -> int:
        """Of each head of attention."""
        given = getattr(self, "head_dim", None)
        return int(self.hidden_size // self.num_attention_heads if given is None else given)

    def validate(self) -> None:
        """Raise ConfigError, which names key, value and what is allowed, if no such model can have these settings."""
        super().validate()
        check_positive(self, "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        check_probability(self, "attention_dropout")
        check_not_negative(self, "rms_norm_eps", "initializer_range")
        check_choice(self.activation, getattr(self, self.activation), ACTIVATIONS)
        if self.num_hidden_layers > MAX_LAYERS:
            raise ConfigError(f"num_hidden_layers={self.num_hidden_layers}: at most {MAX_LAYERS} are supported")
        if self.num_key_value_heads is not None:
            check_positive(self, "num_key_value_heads")
            check_divides(self, "num_key_value_heads", "num_attention_heads")


class LayeredConfig(RotaryConfig):
    """Likewise, where each layer attends to all tokens or to a window of them."""

    sliding_window: int | None = 4096
    layer_types: list[str] | None = None

    def validate(self) -> None:
        super().validate()
        for kind in self.layer_types or ():
            check_choice("layer_types", kind, (FULL, WINDOW))
        if self.layer_types is not None and len(self.layer_types) != self.num_hidden_layers:
            found = f"layer_types has {len(self.layer_types)} entries"
            raise ConfigError(f"{found}, num_hidden_layers is {self.num_hidden_layers}")


class LlamaConfig(RotaryConfig):
    """The settings of a Llama model; names and defaults are those of transformers (Llama 7B)."""

    model_type = "llama"

    hidden_act: str = "silu"
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    pretraining_tp: int | None = 1
    attention_bias: bool = False
    mlp_bias: bool = False
    head_dim: int | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.head_dim = self.head_channels

    def validate(self) -> None:
        super().validate()
        check_divides(self, "num_attention_heads", "hidden_size")


TENSORS: TensorTable = {
    "embeddings.word": ("embed_tokens", ("vocab_size", "hidden_size")),
    "layers.{i}.attention.query": ("layers.{i}.self_attn.q_proj", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.key": ("layers.{i}.self_attn.k_proj", ()),
    "layers.{i}.attention.value": ("layers.{i}.self_attn.v_proj", ()),
    "layers.{i}.attention.output": ("layers.{i}.self_attn.o_proj", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.norm": ("layers.{i}.input_layernorm", ("hidden_size",)),
    "layers.{i}.feed_forward.gate": ("layers.{i}.mlp.gate_proj", ("intermediate_size", "hidden_size")),
    "layers.{i}.feed_forward.up": ("layers.{i}.mlp.up_proj", ("intermediate_size", "hidden_size")),
    "layers.{i}.feed_forward.down": ("layers.{i}.mlp.down_proj", ("hidden_size", "intermediate_size")),
    "layers.{i}.feed_forward.norm": ("layers.{i}.post_attention_layernorm", ("hidden_size",)),
    "final_norm": ("norm", ("hidden_size",)),
}


def rotary_blueprint(
    config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None, layers: list[dict[str, Any]], **attention: Any
) -> dict[str, Any]:
    """The ingredients of a Llama in the compiled core's words; `attention` are those of its attention that differ."""
    biased = getattr(config, "attention_bias", False)
    return {
        "hidden_size": config.hidden_size,
        "num_layers": config.num_hidden_layers,
        "embeddings": {"vocab_size": config.vocab_size, "padding": padding_row(config)},
        "attention": {
            "heads": config.num_attention_heads,
            "key_heads": config.num_key_value_heads,
            "head_dim": config.head_channels,
            "bias": biased,
            "output_bias": biased,
            "rotary": [rotation(config.rope_parameters, config.head_channels, config.max_position_embeddings)],
        }
        | attention,
        "feed_forward": {
            "size": config.intermediate_size,
            "activation": ACTIVATIONS[getattr(config, config.activation)],
            "gated": True,
            "bias": getattr(config, "mlp_bias", False),
        },
        "norm": {"kind": "rms_norm", "placement": "pre", "eps": config.rms_norm_eps},
        "layers": layers,
        "pooler": pooler,
        "head": head,
    }


def window_behind(config: Any) -> int:
    """How far behind itself a token attends in a layer with a window, which counts the token too."""
    if config.sliding_window is None or config.sliding_window < 1:
        raise ConfigError(f"sliding_window={config.sliding_window}: layers with a window need one of at least 1")
    return int(config.sliding_window) - 1


def layers(config: Any) -> list[dict[str, Any]]:
    """What is peculiar to each: its rotation, and its window where `layer_types` says so."""
    kinds = getattr(config, "layer_types", None) or [FULL] * config.num_hidden_layers
    return [{"rotary": 0, "window": window_behind(config) if kind == WINDOW else None} for kind in kinds]


class LlamaPreTrainedModel(causal.Decoder):
    """What all Llamas share."""

    config_class: ClassVar[type[PreTrainedConfig]] = LlamaConfig
    base_model_prefix = "model"
    # question answering has the one, all else the other
    other_prefixes = ("model", "transformer")
    base_table = TENSORS

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        return rotary_blueprint(config, pooler, head, layers(config), causal=True)

    def dropout_rates(self) -> tuple[float, float, float, float]:
        return 0.0, self.config.attention_dropout or 0.0, 0.0, 0.0


CAUSAL_HEAD: TensorTable = {"head": ("lm_head", ("vocab_size", "hidden_size"))}
SCORE: TensorTable = {"head": ("score", ("num_labels", "hidden_size"))}
ANSWER: TensorTable = {"head": ("qa_outputs", ("num_labels", "hidden_size"))}


class TokenClassification(heads.TokenClassification):
    """With what transformers drops before the head of any decoder."""

    head_table = SCORE

    def dropout_rates(self) -> tuple[float, float, float, float]:
        hidden, attention, _, pooler = super().dropout_rates()
        given = (getattr(self.config, key, None) for key in ("classifier_dropout", "hidden_dropout"))
        return hidden, attention, next((rate for rate in given if rate is not None), 0.1), pooler


class QuestionAnswering(heads.QuestionAnswering, causal.Decoder):
    """With the arguments of a decoder in their order."""

    head_table = ANSWER

    def forward(  # type: ignore[override]
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        position_ids: Any = None,
        past_key_values: Any = None,
        inputs_embeds: Any = None,
        start_positions: Any = None,
        end_positions: Any = None,
        **others: Any,
    ) -> Any:
        """As `modeling_heads.QuestionAnswering.forward`; NotImplementedError as in `modeling_causal.Decoder.forward`."""
        return super().forward(
            input_ids,
            attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            start_positions=start_positions,
            end_positions=end_positions,
            **others,
        )


class LlamaModel(causal.DecoderModel, LlamaPreTrainedModel):
    """Llama without a head: token ids in, hidden states out, a BaseModelOutputWithPast."""


class LlamaForCausalLM(causal.CausalLM, LlamaPreTrainedModel):
    head_table = CAUSAL_HEAD


class LlamaForSequenceClassification(causal.SequenceClassification, LlamaPreTrainedModel):
    head_table = SCORE


class LlamaForTokenClassification(TokenClassification, LlamaPreTrainedModel):
    pass


class LlamaForQuestionAnswering(QuestionAnswering, LlamaPreTrainedModel):
    base_model_prefix = "transformer"
