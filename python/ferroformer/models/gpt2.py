"""GPT-2 (Radford et al. 2019, https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf): a
decoder with learned absolute positions and norms before attention and feed-forward. Its checkpoints hold the weights of its layers
transposed.
"""

from __future__ import annotations

from typing import Any

from .. import modeling_causal as causal
from ..config_values import check_choice, check_divides, check_not_negative, check_positive, check_probability
from ..configuration_utils import PreTrainedConfig
from ..errors import ConfigError
from ..tensor_match import TensorTable
from .bert import ACTIVATIONS, MAX_LAYERS

__all__ = ["GPT2Config", "GPT2ForSequenceClassification", "GPT2LMHeadModel", "GPT2Model"]


class GPT2Config(PreTrainedConfig):
    """The settings of a GPT-2 model; names and defaults are those of transformers (gpt2, of 124 million parameters)."""

    model_type = "gpt2"
    attribute_map = {
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    summary_type: str = "cls_index"
    summary_use_proj: bool = True
    summary_activation: str | None = None
    summary_proj_to_labels: bool = True
    summary_first_dropout: float = 0.1
    scale_attn_weights: bool = True
    use_cache: bool = True
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256
    pad_token_id: int | None = None
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    add_cross_attention: bool = False
    tie_word_embeddings: bool = True

    def validate(self) -> None:
        """Raise ConfigError, which names key, value and what is allowed, if no GPT-2 can have these settings."""
        super().validate()
        check_positive(self, "vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
        check_probability(self, "resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_first_dropout")
        check_not_negative(self, "layer_norm_epsilon", "initializer_range")
        check_choice("activation_function", self.activation_function, ACTIVATIONS)
        check_divides(self, "n_head", "n_embd")
        if self.n_layer > MAX_LAYERS:
            raise ConfigError(f"n_layer={self.n_layer}: at most {MAX_LAYERS} are supported")
        if self.n_inner is not None:
            check_positive(self, "n_inner")


# a checkpoint's names in GPT-2 and GPT-Neo alike
SHARED: TensorTable = {
    "embeddings.word": ("wte", ("vocab_size", "hidden_size")),
    "embeddings.position": ("wpe", ("max_position_embeddings", "hidden_size")),
    "layers.{i}.attention.norm": ("h.{i}.ln_1", ("hidden_size",)),
    "layers.{i}.feed_forward.norm": ("h.{i}.ln_2", ("hidden_size",)),
    "final_norm": ("ln_f", ("hidden_size",)),
}
TENSORS: TensorTable = SHARED | {
    "layers.{i}.attention.qkv": ("h.{i}.attn.c_attn", ()),
    "layers.{i}.attention.output": ("h.{i}.attn.c_proj", ("n_embd", "n_embd")),
    "layers.{i}.feed_forward.up": ("h.{i}.mlp.c_fc", ("n_embd", "n_inner")),
    "layers.{i}.feed_forward.down": ("h.{i}.mlp.c_proj", ("n_inner", "n_embd")),
}
WORDS: TensorTable = {"head": ("lm_head", ("vocab_size", "hidden_size"))}
LABELS: TensorTable = {"head": ("score", ("num_labels", "hidden_size"))}


class GPT2PreTrainedModel(causal.Decoder):
    """What all GPT-2s share."""

    config_class = GPT2Config
    base_model_prefix = "transformer"
    base_table = TENSORS

    def check(self, config: Any) -> None:
        super().check(config)
        if config.add_cross_attention:
            raise ConfigError("add_cross_attention=true is not supported: this decoder reads no encoder")

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        scale = (config.n_embd // config.n_head) ** -0.5 if config.scale_attn_weights else 1.0
        by_layer = config.scale_attn_by_inverse_layer_idx
        return {
            "hidden_size": config.n_embd,
            "num_layers": config.n_layer,
            "embeddings": {"vocab_size": config.vocab_size, "positions": config.n_positions},
            "attention": {
                "heads": config.n_head,
                "head_dim": config.n_embd // config.n_head,
                "fused": True,
                "causal": True,
                "stored": "transposed",
            },
            "feed_forward": {
                "size": config.n_inner or 4 * config.n_embd,
                "activation": ACTIVATIONS[config.activation_function],
                "stored": "transposed",
            },
            "norm": {"kind": "layer_norm", "placement": "pre", "eps": config.layer_norm_epsilon},
            "layers": [{"scale": scale / (i + 1 if by_layer else 1)} for i in range(config.n_layer)],
            "pooler": pooler,
            "head": head,
        }

    def dropout_rates(self) -> tuple[float, float, float, float]:
        return self.config.resid_pdrop, self.config.attn_pdrop, 0.0, 0.0

    def embedding_dropout(self) -> float:
        return float(self.config.embd_pdrop)


class GPT2Model(causal.DecoderModel, GPT2PreTrainedModel):
    """GPT-2 without a head: token ids in, hidden states out, a BaseModelOutputWithPastAndCrossAttentions."""

    output_class = "BaseModelOutputWithPastAndCrossAttentions"


class GPT2LMHeadModel(causal.CausalLM, GPT2PreTrainedModel):
    head_table = WORDS
    output_class = "CausalLMOutputWithCrossAttentions"


class GPT2ForSequenceClassification(causal.SequenceClassification, GPT2PreTrainedModel):
    head_table = LABELS
