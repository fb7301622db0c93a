"""OPT (Zhang et al. 2022, https://arxiv.org/abs/2205.01068): a decoder with ReLU and learned positions, which count tokens and begin at
the third row of their table. Norms stand before attention and feed-forward, or after the sums (`do_layer_norm_before`). Words may have
smaller vectors than the model, with a linear layer behind them and one before the head (`word_embed_proj_dim`).
"""

from __future__ import annotations

from typing import Any

from .. import modeling_causal as causal
from ..config_values import check_choice, check_divides, check_not_negative, check_positive, check_probability
from ..configuration_utils import PreTrainedConfig
from ..errors import ConfigError
from ..tensor_match import TensorTable
from .bert import ACTIVATIONS, MAX_LAYERS, padding_row

__all__ = ["OPTConfig", "OPTForCausalLM", "OPTForSequenceClassification", "OPTModel"]

EPS = 1e-5  # of all norms: no setting
OFFSET = 2  # of positions: no setting


class OPTConfig(PreTrainedConfig):
    """The settings of an OPT model; names and defaults are those of transformers (opt-125m)."""

    model_type = "opt"

    vocab_size: int = 50272
    hidden_size: int = 768
    num_hidden_layers: int = 12
    ffn_dim: int = 3072
    max_position_embeddings: int = 2048
    do_layer_norm_before: bool = True
    _remove_final_layer_norm: bool = False
    word_embed_proj_dim: int | None = None
    dropout: float = 0.1
    attention_dropout: float = 0.0
    num_attention_heads: int = 12
    activation_function: str = "relu"
    layerdrop: float = 0.0
    init_std: float = 0.02
    use_cache: bool = True
    pad_token_id: int | None = 1
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 2
    enable_bias: bool = True
    layer_norm_elementwise_affine: bool = True
    tie_word_embeddings: bool = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.word_embed_proj_dim is None:
            self.word_embed_proj_dim = self.hidden_size

    def validate(self) -> None:
        """Raise ConfigError, which names key, value and what is allowed, if no OPT can have these settings."""
        super().validate()
        check_positive(self, "vocab_size", "hidden_size", "num_hidden_layers", "ffn_dim", "num_attention_heads")
        check_positive(self, "max_position_embeddings")
        check_probability(self, "dropout", "attention_dropout", "layerdrop")
        check_not_negative(self, "init_std")
        check_choice("activation_function", self.activation_function, ACTIVATIONS)
        check_divides(self, "num_attention_heads", "hidden_size")
        if self.num_hidden_layers > MAX_LAYERS:
            raise ConfigError(f"num_hidden_layers={self.num_hidden_layers}: at most {MAX_LAYERS} are supported")
        if self.word_embed_proj_dim is not None:
            check_positive(self, "word_embed_proj_dim")


TENSORS: TensorTable = {
    "embeddings.word": ("decoder.embed_tokens", ("vocab_size", "word_embed_proj_dim")),
    "embeddings.position": ("decoder.embed_positions", ()),
    "embeddings.projection": ("decoder.project_in", ("hidden_size", "word_embed_proj_dim")),
    "layers.{i}.attention.query": ("decoder.layers.{i}.self_attn.q_proj", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.key": ("decoder.layers.{i}.self_attn.k_proj", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.value": ("decoder.layers.{i}.self_attn.v_proj", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.output": ("decoder.layers.{i}.self_attn.out_proj", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.norm": ("decoder.layers.{i}.self_attn_layer_norm", ("hidden_size",)),
    "layers.{i}.feed_forward.up": ("decoder.layers.{i}.fc1", ("ffn_dim", "hidden_size")),
    "layers.{i}.feed_forward.down": ("decoder.layers.{i}.fc2", ("hidden_size", "ffn_dim")),
    "layers.{i}.feed_forward.norm": ("decoder.layers.{i}.final_layer_norm", ("hidden_size",)),
    "final_norm": ("decoder.final_layer_norm", ("hidden_size",)),
    "head.transform": ("decoder.project_out", ("word_embed_proj_dim", "hidden_size")),
    "head": ("decoder.project_out", ("word_embed_proj_dim", "hidden_size")),  # of the model without a head
}


class OPTPreTrainedModel(causal.Decoder):
    """What all OPTs share."""

    config_class = OPTConfig
    base_model_prefix = "model"
    base_table = TENSORS
    initializer_key = "init_std"

    def check(self, config: Any) -> None:
        super().check(config)
        if config._remove_final_layer_norm and config.do_layer_norm_before:
            raise ConfigError("_remove_final_layer_norm=true is not supported where do_layer_norm_before is true")
        if not config.layer_norm_elementwise_affine:
            raise ConfigError("layer_norm_elementwise_affine=false is not supported: norms have weights")

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "hidden_size": config.hidden_size,
            "num_layers": config.num_hidden_layers,
            "embeddings": {
                "vocab_size": config.vocab_size,
                "positions": config.max_position_embeddings + OFFSET,
                "position_offset": OFFSET,
                "padding": padding_row(config),
                "size": config.word_embed_proj_dim,
                "projection": _projected(config),
                "words_projected": _projected(config),
                "projection_bias": False,
            },
            "attention": {
                "heads": config.num_attention_heads,
                "head_dim": config.hidden_size // config.num_attention_heads,
                "bias": config.enable_bias,
                "output_bias": config.enable_bias,
                "causal": True,
            },
            "feed_forward": {
                "size": config.ffn_dim,
                "activation": ACTIVATIONS[config.activation_function],
                "bias": config.enable_bias,
            },
            "norm": {"kind": "layer_norm", "placement": "pre" if config.do_layer_norm_before else "post", "eps": EPS},
            "pooler": pooler,
            "head": head,
        }

    def transform_spec(self, config: Any) -> dict[str, Any] | None:
        return {"size": config.word_embed_proj_dim, "bias": False} if _projected(config) else None

    def dropout_rates(self) -> tuple[float, float, float, float]:
        if self.config.layerdrop:
            raise NotImplementedError(f"layerdrop={self.config.layerdrop}: training without it is what is supported")
        return self.config.dropout, self.config.attention_dropout, 0.0, 0.0

    def embedding_dropout(self) -> float:
        return 0.0


def _projected(config: Any) -> bool:
    return bool(config.word_embed_proj_dim != config.hidden_size)


class OPTModel(causal.DecoderModel, OPTPreTrainedModel):
    """OPT without a head: token ids in, hidden states out, a BaseModelOutputWithPast.

    The last hidden states are `config.word_embed_proj_dim` wide.
    """

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        # the layer before the head is in the core's words a head itself
        outputs = {"reads": "tokens", "outputs": config.word_embed_proj_dim, "bias": False}
        return super().blueprint(config, pooler, outputs if _projected(config) else None)

    def outputs(
        self, inputs: dict[str, Any], last: Any, pooled: Any, logits: Any, hidden: Any = None, attentions: Any = None
    ) -> Any:
        if logits is not None:
            last, hidden = logits, hidden and (*hidden[:-1], logits)
        return super().outputs(inputs, last, pooled, None, hidden, attentions)


class _Head(causal.DecoderHead, OPTPreTrainedModel):
    def outputs(
        self, inputs: dict[str, Any], last: Any, pooled: Any, logits: Any, hidden: Any = None, attentions: Any = None
    ) -> Any:
        if hidden is not None and _projected(self.config):
            raise NotImplementedError("output_hidden_states where word_embed_proj_dim is not hidden_size: OPTModel has them")
        return super().outputs(inputs, last, pooled, logits, hidden, attentions)


class OPTForCausalLM(causal.CausalLM, _Head):
    head_table = {"head": ("lm_head", ("vocab_size", "word_embed_proj_dim"))}


class OPTForSequenceClassification(causal.SequenceClassification, _Head):
    head_table = {"head": ("score", ("num_labels", "word_embed_proj_dim"))}
