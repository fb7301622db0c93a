"""Nomic BERT (Nussbaum et al. 2024, https://arxiv.org/abs/2402.01613): BERT with rotary positions, a gated feed-forward network, and
without biases in its layers.
"""

from __future__ import annotations

from typing import Any

from .. import modeling_heads as heads
from ..config_values import check_positive
from ..errors import ConfigError
from ..modeling_utils import PreTrainedModel
from ..rope import rope_parameters, rotation
from ..tensor_match import TensorTable
from .bert import ACTIVATIONS, CLASSIFIER, POOLER, PREDICTIONS, EncoderConfig, padding_row, refuse_variants

__all__ = [
    "NomicBertConfig",
    "NomicBertForMaskedLM",
    "NomicBertForSequenceClassification",
    "NomicBertForTokenClassification",
    "NomicBertModel",
]


class NomicBertConfig(EncoderConfig):
    """The settings of a Nomic BERT model; names and defaults are those of transformers."""

    model_type = "nomic_bert"
    code_is_known = True

    vocab_size: int = 30528
    hidden_act: str = "silu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    max_position_embeddings: int = 2048
    type_vocab_size: int = 2
    classifier_dropout: float | None = None
    rope_parameters: dict[str, Any] | None = None
    head_dim: int | None = None

    def __init__(self, **kwargs: Any) -> None:
        scaling, theta = kwargs.pop("rope_scaling", None), kwargs.pop("rope_theta", 1000.0)
        super().__init__(**kwargs)
        self.rope_parameters = rope_parameters(self.rope_parameters, scaling, theta, self.max_position_embeddings)
        if self.head_dim is None:
            self.head_dim = self.hidden_size // self.num_attention_heads

    def validate(self) -> None:
        """As EncoderConfig."""
        super().validate()
        check_positive(self, "type_vocab_size")


LAYER = "encoder.layers.{i}"
TENSORS: TensorTable = {
    "embeddings.word": ("embeddings.word_embeddings", ("vocab_size", "hidden_size")),
    "embeddings.token_type": ("embeddings.token_type_embeddings", ("type_vocab_size", "hidden_size")),
    "embeddings.norm": ("emb_ln", ("hidden_size",)),
    "layers.{i}.attention.qkv": (f"{LAYER}.attn.Wqkv", ()),
    "layers.{i}.attention.output": (f"{LAYER}.attn.out_proj", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.norm": (f"{LAYER}.norm1", ("hidden_size",)),
    "layers.{i}.feed_forward.gate": (f"{LAYER}.mlp.fc12", ("intermediate_size", "hidden_size")),
    "layers.{i}.feed_forward.up": (f"{LAYER}.mlp.fc11", ("intermediate_size", "hidden_size")),
    "layers.{i}.feed_forward.down": (f"{LAYER}.mlp.fc2", ("hidden_size", "intermediate_size")),
    "layers.{i}.feed_forward.norm": (f"{LAYER}.norm2", ("hidden_size",)),
} | POOLER
# settings of the first checkpoints' own code, under which something else is computed
FIRST_CODES_NAMES = ("n_embd", "n_head", "n_inner", "n_layer", "activation_function")


class NomicBertPreTrainedModel(PreTrainedModel):
    """What all Nomic BERTs share."""

    config_class = NomicBertConfig
    base_model_prefix = "nomic_bert"
    base_table = TENSORS

    def check(self, config: Any) -> None:
        super().check(config)
        refuse_variants(config)
        old = [name for name in FIRST_CODES_NAMES if hasattr(config, name)]
        if old:
            raise ConfigError(f"{old[0]}={getattr(config, old[0])!r:.200}: a configuration of older code, which is not read")

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        norm, dim = {"eps": config.layer_norm_eps}, config.head_dim
        return {
            "hidden_size": config.hidden_size,
            "num_layers": config.num_hidden_layers,
            "embeddings": {
                "vocab_size": config.vocab_size,
                "token_types": config.type_vocab_size,
                "padding": padding_row(config),
                "norm": norm,
            },
            "attention": {
                "heads": config.num_attention_heads,
                "head_dim": dim,
                "bias": False,
                "output_bias": False,
                "fused": True,
                "rotary": [rotation(config.rope_parameters, dim, config.max_position_embeddings)],
            },
            "feed_forward": {
                "size": config.intermediate_size,
                "activation": ACTIVATIONS[config.hidden_act],
                "gated": True,
                "bias": False,
            },
            "norm": norm | {"kind": "layer_norm", "placement": "post"},
            "layers": [{"rotary": 0}] * config.num_hidden_layers,
            "pooler": pooler,
            "head": head,
        }


class NomicBertModel(heads.WithPooler, NomicBertPreTrainedModel):
    """Nomic BERT without a head: token ids in, hidden states out, a BaseModelOutputWithPooling; a pooled vector too with
    `add_pooling_layer=True`.
    """

    def __init__(self, config: Any, add_pooling_layer: bool = False, **kwargs: Any) -> None:
        super().__init__(config, add_pooling_layer, **kwargs)


class NomicBertForSequenceClassification(heads.SequenceClassification, NomicBertPreTrainedModel):
    head_table = CLASSIFIER


class NomicBertForTokenClassification(heads.TokenClassification, NomicBertPreTrainedModel):
    head_table = CLASSIFIER


class NomicBertForMaskedLM(heads.MaskedLM, NomicBertPreTrainedModel):
    head_table = PREDICTIONS | {"head.norm": ("cls.predictions.transform.layer_norm", ("hidden_size",))}
    tied_tensors = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")

    def transform_spec(self, config: Any) -> dict[str, Any]:
        return {"activation": ACTIVATIONS[config.hidden_act], "norm": {"eps": config.layer_norm_eps}}
