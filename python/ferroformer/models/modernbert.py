"""ModernBERT (Warner et al. 2024, https://arxiv.org/abs/2412.13663): norms before attention and feed-forward, rotary positions, a gated
feed-forward network, few biases; most layers attend to a window around each token.
"""

from __future__ import annotations

from typing import Any

from .. import modeling_heads as heads
from ..config_values import check_choice, check_not_negative, check_positive, check_probability
from ..configuration_utils import PreTrainedConfig
from ..errors import ConfigError
from ..modeling_utils import PreTrainedModel
from ..rope import rope_parameters, rotation
from ..tensor_match import TensorTable
from .bert import ACTIVATIONS, CLASSIFIER, MAX_LAYERS, padding_row

__all__ = [
    "ModernBertConfig",
    "ModernBertForMaskedLM",
    "ModernBertForMultipleChoice",
    "ModernBertForQuestionAnswering",
    "ModernBertForSequenceClassification",
    "ModernBertForTokenClassification",
    "ModernBertModel",
]

FULL, WINDOW = "full_attention", "sliding_attention"


class ModernBertConfig(PreTrainedConfig):
    """The settings of a ModernBERT model; names and defaults are those of transformers (ModernBERT-base)."""

    model_type = "modernbert"

    vocab_size: int = 50368
    hidden_size: int = 768
    intermediate_size: int = 1152
    num_hidden_layers: int = 22
    num_attention_heads: int = 12
    hidden_activation: str = "gelu"
    max_position_embeddings: int = 8192
    initializer_range: float = 0.02
    initializer_cutoff_factor: float = 2.0
    norm_eps: float = 1e-5
    norm_bias: bool = False
    pad_token_id: int | None = 50283
    eos_token_id: int | list[int] | None = 50282
    bos_token_id: int | None = 50281
    cls_token_id: int | None = 50281
    sep_token_id: int | None = 50282
    attention_bias: bool = False
    attention_dropout: float = 0.0
    layer_types: list[str] | None = None
    rope_parameters: dict[str, Any] | None = None
    local_attention: int = 128
    embedding_dropout: float = 0.0
    mlp_bias: bool = False
    mlp_dropout: float = 0.0
    decoder_bias: bool = True
    classifier_pooling: str = "cls"
    classifier_dropout: float = 0.0
    classifier_bias: bool = False
    classifier_activation: str = "gelu"
    deterministic_flash_attn: bool = False
    sparse_prediction: bool = False
    sparse_pred_ignore_index: int = -100
    tie_word_embeddings: bool = True

    def __init__(self, **kwargs: Any) -> None:
        scaling = kwargs.pop("rope_scaling", None)
        thetas = {FULL: kwargs.pop("global_rope_theta", 160000.0), WINDOW: kwargs.pop("local_rope_theta", 10000.0)}
        super().__init__(**kwargs)
        given = self.rope_parameters or {}
        for kind in given:
            check_choice("rope_parameters", kind, thetas)
        positions = self.max_position_embeddings
        self.rope_parameters = {
            kind: rope_parameters(given.get(kind), scaling, theta, positions) for kind, theta in thetas.items()
        }
        if self.layer_types is None:
            every = kwargs.get("global_attn_every_n_layers", 3)
            if not isinstance(every, int) or every < 1:
                raise ConfigError(f"global_attn_every_n_layers={every!r:.200}: an integer of at least 1 is needed")
            self.layer_types = [WINDOW if i % every else FULL for i in range(self.num_hidden_layers)]

    def validate(self) -> None:
        """Raise ConfigError, which names key, value and what is allowed, if no ModernBERT can have these settings."""
        super().validate()
        check_positive(self, "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        check_positive(self, "local_attention")
        check_not_negative(self, "norm_eps", "initializer_range")
        check_probability(self, "attention_dropout", "embedding_dropout", "mlp_dropout", "classifier_dropout")
        check_choice("hidden_activation", self.hidden_activation, ACTIVATIONS)
        check_choice("classifier_activation", self.classifier_activation, ACTIVATIONS)
        check_choice("classifier_pooling", self.classifier_pooling, ("cls", "mean"))
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"The hidden size ({self.hidden_size}) is not a multiple of the number of attention heads "
                f"({self.num_attention_heads})"
            )
        if self.num_hidden_layers > MAX_LAYERS:
            raise ConfigError(f"num_hidden_layers={self.num_hidden_layers}: at most {MAX_LAYERS} are supported")
        for kind in self.layer_types or ():
            check_choice("layer_types", kind, (FULL, WINDOW))
        if self.layer_types is not None and len(self.layer_types) != self.num_hidden_layers:
            found = f"layer_types has {len(self.layer_types)} entries"
            raise ConfigError(f"{found}, num_hidden_layers is {self.num_hidden_layers}")


TENSORS: TensorTable = {
    "embeddings.word": ("embeddings.tok_embeddings", ("vocab_size", "hidden_size")),
    "embeddings.norm": ("embeddings.norm", ("hidden_size",)),
    "layers.{i}.attention.qkv": ("layers.{i}.attn.Wqkv", ()),
    "layers.{i}.attention.output": ("layers.{i}.attn.Wo", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.norm": ("layers.{i}.attn_norm", ("hidden_size",)),
    "layers.{i}.feed_forward.gate_up": ("layers.{i}.mlp.Wi", ()),
    "layers.{i}.feed_forward.down": ("layers.{i}.mlp.Wo", ("hidden_size", "intermediate_size")),
    "layers.{i}.feed_forward.norm": ("layers.{i}.mlp_norm", ("hidden_size",)),
    "final_norm": ("final_norm", ("hidden_size",)),
}
# a dense layer, activation and norm before each task's last layer: of the pooled vector, or of each token
HEAD: TensorTable = {
    "pooler": ("head.dense", ("hidden_size", "hidden_size")),
    "pooler.norm": ("head.norm", ("hidden_size",)),
    "head.transform": ("head.dense", ("hidden_size", "hidden_size")),
    "head.norm": ("head.norm", ("hidden_size",)),
}


class ModernBertPreTrainedModel(PreTrainedModel):
    """What all ModernBERTs share."""

    config_class = ModernBertConfig
    base_model_prefix = "model"
    base_table = TENSORS
    input_names = ("input_ids", "attention_mask", "position_ids", "inputs_embeds")

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        dim, norm = config.hidden_size // config.num_attention_heads, {"eps": config.norm_eps, "bias": config.norm_bias}
        windows = {FULL: None, WINDOW: config.local_attention // 2}
        # what the first layer's attention reads has been normalised in the embeddings
        layers = [
            {"window": windows[kind], "rotary": (FULL, WINDOW).index(kind), "attention_norm": i > 0}
            for i, kind in enumerate(config.layer_types)
        ]
        return {
            "hidden_size": config.hidden_size,
            "num_layers": config.num_hidden_layers,
            "embeddings": {"vocab_size": config.vocab_size, "padding": padding_row(config), "norm": norm},
            "attention": {
                "heads": config.num_attention_heads,
                "head_dim": dim,
                "bias": config.attention_bias,
                "output_bias": config.attention_bias,
                "fused": True,
                "rotary": [
                    rotation(config.rope_parameters[kind], dim, config.max_position_embeddings) for kind in (FULL, WINDOW)
                ],
            },
            "feed_forward": {
                "size": config.intermediate_size,
                "activation": ACTIVATIONS[config.hidden_activation],
                "gated": True,
                "fused": True,
                "bias": config.mlp_bias,
            },
            "norm": norm | {"kind": "layer_norm", "placement": "pre"},
            "layers": layers,
            "pooler": pooler,
            "head": head,
        }

    def dense(self, config: Any) -> dict[str, Any]:
        """The layer before each task's last, pooled or not."""
        return {
            "activation": ACTIVATIONS[config.classifier_activation],
            "bias": config.classifier_bias,
            "norm": {"eps": config.norm_eps, "bias": config.norm_bias},
        }

    def pooler_spec(self, config: Any) -> dict[str, Any]:
        return self.dense(config) | {"reads": "first" if config.classifier_pooling == "cls" else "mean"}

    def dropout_rates(self) -> tuple[float, float, float, float]:
        config = self.config
        for key in ("attention_dropout", "embedding_dropout", "mlp_dropout"):
            if getattr(config, key):
                raise NotImplementedError(f"{key}={getattr(config, key)}: training without it is what is supported")
        return 0.0, 0.0, config.classifier_dropout, 0.0


class ModernBertModel(heads.WithoutPooler, ModernBertPreTrainedModel):
    """ModernBERT without a head: token ids in, hidden states out, a BaseModelOutput."""


class ModernBertForSequenceClassification(heads.SequenceClassification, ModernBertPreTrainedModel):
    head_table = CLASSIFIER | HEAD


class ModernBertForMultipleChoice(heads.MultipleChoice, ModernBertPreTrainedModel):
    head_table = CLASSIFIER | HEAD


class _OnTokens(ModernBertPreTrainedModel):
    def transform_spec(self, config: Any) -> dict[str, Any]:
        return self.dense(config)


class ModernBertForTokenClassification(heads.TokenClassification, _OnTokens):
    head_table = CLASSIFIER | HEAD


class ModernBertForQuestionAnswering(heads.QuestionAnswering, _OnTokens):
    head_table = CLASSIFIER | HEAD
    head_dropout = True


class ModernBertForMaskedLM(heads.MaskedLM, _OnTokens):
    head_table = HEAD | {
        "embeddings.word.bias": ("decoder.bias", ()),
        "head": ("decoder", ("vocab_size", "hidden_size")),
    }
    tied_tensors = ("decoder.weight",)

    def head(self, config: Any) -> dict[str, Any]:
        return super().head(config) | {"bias": config.decoder_bias}
