"""DistilBERT (Sanh et al. 2019, https://arxiv.org/abs/1910.01108): BERT with half of the layers, without token types and pooler."""

from __future__ import annotations

from typing import Any

from .. import modeling_heads as heads
from ..config_values import check_choice, check_not_negative, check_positive, check_probability
from ..configuration_utils import PreTrainedConfig
from ..errors import ConfigError
from ..modeling_utils import PreTrainedModel
from ..tensor_match import TensorTable
from .bert import ACTIVATIONS, ANSWERS, CLASSIFIER, MAX_LAYERS, padding_row

__all__ = [
    "DistilBertConfig",
    "DistilBertForMaskedLM",
    "DistilBertForMultipleChoice",
    "DistilBertForQuestionAnswering",
    "DistilBertForSequenceClassification",
    "DistilBertForTokenClassification",
    "DistilBertModel",
]


class DistilBertConfig(PreTrainedConfig):
    """The settings of a DistilBERT model; names and defaults are those of transformers."""

    model_type = "distilbert"
    attribute_map = {"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}

    vocab_size: int = 30522
    max_position_embeddings: int = 512
    sinusoidal_pos_embds: bool = False
    n_layers: int = 6
    n_heads: int = 12
    dim: int = 768
    hidden_dim: int = 3072
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation: str = "gelu"
    initializer_range: float = 0.02
    qa_dropout: float = 0.1
    seq_classif_dropout: float = 0.2
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = None
    bos_token_id: int | None = None
    tie_word_embeddings: bool = True

    def validate(self) -> None:
        """Raise ConfigError, which names key, value and what is allowed, if no DistilBERT can have these settings."""
        super().validate()
        check_positive(self, "vocab_size", "max_position_embeddings", "n_layers", "n_heads", "dim", "hidden_dim")
        check_probability(self, "dropout", "attention_dropout", "qa_dropout", "seq_classif_dropout")
        check_not_negative(self, "initializer_range")
        check_choice("activation", self.activation, ACTIVATIONS)
        if self.dim % self.n_heads:
            raise ConfigError(f"dim={self.dim} is not a multiple of n_heads={self.n_heads}")
        if self.n_layers > MAX_LAYERS:
            raise ConfigError(f"n_layers={self.n_layers}: at most {MAX_LAYERS} are supported")


TENSORS: TensorTable = {
    "embeddings.word": ("embeddings.word_embeddings", ("vocab_size", "dim")),
    "embeddings.position": ("embeddings.position_embeddings", ("max_position_embeddings", "dim")),
    "embeddings.norm": ("embeddings.LayerNorm", ("dim",)),
    "layers.{i}.attention.query": ("transformer.layer.{i}.attention.q_lin", ("dim", "dim")),
    "layers.{i}.attention.key": ("transformer.layer.{i}.attention.k_lin", ("dim", "dim")),
    "layers.{i}.attention.value": ("transformer.layer.{i}.attention.v_lin", ("dim", "dim")),
    "layers.{i}.attention.output": ("transformer.layer.{i}.attention.out_lin", ("dim", "dim")),
    "layers.{i}.attention.norm": ("transformer.layer.{i}.sa_layer_norm", ("dim",)),
    "layers.{i}.feed_forward.up": ("transformer.layer.{i}.ffn.lin1", ("hidden_dim", "dim")),
    "layers.{i}.feed_forward.down": ("transformer.layer.{i}.ffn.lin2", ("dim", "hidden_dim")),
    "layers.{i}.feed_forward.norm": ("transformer.layer.{i}.output_layer_norm", ("dim",)),
}
# a dense layer and ReLU on the first token, then the labels
FIRST_TOKEN_CLASSIFIER: TensorTable = CLASSIFIER | {"pooler": ("pre_classifier", ("dim", "dim"))}
EPS = 1e-12  # of all norms: no setting


class DistilBertPreTrainedModel(PreTrainedModel):
    """What all DistilBERTs share."""

    config_class = DistilBertConfig
    base_model_prefix = "distilbert"
    base_table = TENSORS
    input_names = ("input_ids", "attention_mask", "position_ids", "inputs_embeds")

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "hidden_size": config.dim,
            "num_layers": config.n_layers,
            "embeddings": {
                "vocab_size": config.vocab_size,
                "positions": config.max_position_embeddings,
                "padding": padding_row(config),
                "norm": {"eps": EPS},
            },
            "attention": {"heads": config.n_heads, "head_dim": config.dim // config.n_heads},
            "feed_forward": {"size": config.hidden_dim, "activation": ACTIVATIONS[config.activation]},
            "norm": {"kind": "layer_norm", "placement": "post", "eps": EPS},
            "pooler": pooler,
            "head": head,
        }

    def dropout_rates(self) -> tuple[float, float, float, float]:
        config = self.config
        return config.dropout, config.attention_dropout, config.dropout, 0.0


class DistilBertModel(heads.WithoutPooler, DistilBertPreTrainedModel):
    """DistilBERT without a head: token ids in, hidden states out, a BaseModelOutput."""


class _OnFirstToken(DistilBertPreTrainedModel):
    head_table = FIRST_TOKEN_CLASSIFIER

    def pooler_spec(self, config: Any) -> dict[str, Any]:
        return {"activation": "relu"}

    def dropout_rates(self) -> tuple[float, float, float, float]:
        config = self.config
        return config.dropout, config.attention_dropout, config.seq_classif_dropout, 0.0


class DistilBertForSequenceClassification(heads.SequenceClassification, _OnFirstToken):
    pass


class DistilBertForMultipleChoice(heads.MultipleChoice, _OnFirstToken):
    pass


class DistilBertForTokenClassification(heads.TokenClassification, DistilBertPreTrainedModel):
    head_table = CLASSIFIER


class DistilBertForQuestionAnswering(heads.QuestionAnswering, DistilBertPreTrainedModel):
    head_table = ANSWERS
    head_dropout = True

    def dropout_rates(self) -> tuple[float, float, float, float]:
        config = self.config
        return config.dropout, config.attention_dropout, config.qa_dropout, 0.0


class DistilBertForMaskedLM(heads.MaskedLM, DistilBertPreTrainedModel):
    head_table = {
        "embeddings.word.bias": ("vocab_projector.bias", ()),
        "head": ("vocab_projector", ()),
        "head.transform": ("vocab_transform", ("dim", "dim")),
        "head.norm": ("vocab_layer_norm", ("dim",)),
    }
    tied_tensors = ("vocab_projector.weight",)

    def transform_spec(self, config: Any) -> dict[str, Any]:
        return {"activation": ACTIVATIONS[config.activation], "norm": {"eps": EPS}}
