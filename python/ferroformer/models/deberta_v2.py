"""DeBERTa-v2 and v3 (He et al. 2020 and 2021, https://arxiv.org/abs/2006.03654, https://arxiv.org/abs/2111.09543): BERT whose attention
multiplies queries and keys with vectors of their distance too, instead of adding positions to the embeddings.
"""

from __future__ import annotations

from typing import Any

from .. import losses
from .. import modeling_heads as heads
from ..config_values import check_choice, check_probability
from ..errors import ConfigError
from ..losses import Loss, LossOptions
from ..modeling_utils import PreTrainedModel
from ..tensor_match import TensorTable
from .bert import (
    ACTIVATIONS,
    ANSWERS,
    CLASSIFIER,
    EMBEDDINGS,
    LAYERS,
    PREDICTIONS,
    EncoderConfig,
    encoder_blueprint,
    refuse_variants,
)

__all__ = [
    "DebertaV2Config",
    "DebertaV2ForMaskedLM",
    "DebertaV2ForMultipleChoice",
    "DebertaV2ForQuestionAnswering",
    "DebertaV2ForSequenceClassification",
    "DebertaV2ForTokenClassification",
    "DebertaV2Model",
]


class DebertaV2Config(EncoderConfig):
    """The settings of a DeBERTa-v2 or v3 model; names and defaults are those of transformers."""

    model_type = "deberta-v2"

    vocab_size: int = 128100
    hidden_size: int = 1536
    num_hidden_layers: int = 24
    num_attention_heads: int = 24
    intermediate_size: int = 6144
    type_vocab_size: int = 0
    layer_norm_eps: float = 1e-7
    relative_attention: bool = False
    max_relative_positions: int = -1
    position_biased_input: bool = True
    pos_att_type: str | list[str] | None = None
    pooler_dropout: float = 0.0
    pooler_hidden_act: str = "gelu"
    legacy: bool = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(self.pos_att_type, str):
            self.pos_att_type = [kind.strip() for kind in self.pos_att_type.lower().split("|")]
        self.pooler_hidden_size = kwargs.get("pooler_hidden_size", self.hidden_size)

    def validate(self) -> None:
        """As EncoderConfig."""
        super().validate()
        check_probability(self, "pooler_dropout")
        check_choice("pooler_hidden_act", self.pooler_hidden_act, ACTIVATIONS)
        if isinstance(self.pos_att_type, list):
            for kind in self.pos_att_type:
                check_choice("pos_att_type", kind, ("c2p", "p2c"))


def distances(config: Any, buckets: int = -1, shared: bool = False, norm: bool = False) -> dict[str, Any] | None:
    """What attention does with distances, in the compiled core's words."""
    kinds = config.pos_att_type or []
    if not config.relative_attention or not kinds:
        return None
    farthest = config.max_relative_positions
    farthest = config.max_position_embeddings if farthest < 1 else farthest
    return {
        "span": buckets if buckets > 0 else farthest,
        "max_distance": farthest if buckets > 0 else 0,
        "keys": "c2p" in kinds,
        "queries": "p2c" in kinds,
        "shared": shared,
        "norm": {"eps": config.layer_norm_eps} if norm else None,
    }


ATTENTION = "encoder.layer.{i}.attention.self"
TENSORS: TensorTable = EMBEDDINGS | LAYERS | {
    "relative": ("encoder.rel_embeddings", ()),
    "relative.norm": ("encoder.LayerNorm", ("hidden_size",)),
    "layers.{i}.attention.query": (f"{ATTENTION}.query_proj", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.key": (f"{ATTENTION}.key_proj", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.value": (f"{ATTENTION}.value_proj", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.position_key": (f"{ATTENTION}.pos_key_proj", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.position_query": (f"{ATTENTION}.pos_query_proj", ("hidden_size", "hidden_size")),
}
# a dense layer on the first token, then the labels
POOLED_CLASSIFIER: TensorTable = CLASSIFIER | {"pooler": ("pooler.dense", ("pooler_hidden_size", "hidden_size"))}
# the head of a masked language model where `legacy` is false; its last layer is always the word embeddings
NEWER_PREDICTIONS: TensorTable = {
    "embeddings.word.bias": ("lm_predictions.lm_head.bias", ()),
    "head.transform": ("lm_predictions.lm_head.dense", ("hidden_size", "hidden_size")),
    "head.norm": ("lm_predictions.lm_head.LayerNorm", ("hidden_size",)),
}


class DebertaV2PreTrainedModel(PreTrainedModel):
    """What all DeBERTa-v2s share."""

    config_class = DebertaV2Config
    base_model_prefix = "deberta"
    base_table = TENSORS

    def check(self, config: Any) -> None:
        super().check(config)
        refuse_variants(config)
        for key in ("embedding_size", "attention_head_size", "pooler_hidden_size"):
            usual = config.hidden_size // config.num_attention_heads if key == "attention_head_size" else config.hidden_size
            if getattr(config, key, usual) != usual:
                raise ConfigError(f"{key}={getattr(config, key)!r:.200} is not supported: {usual} is what hidden_size says")
        if getattr(config, "conv_kernel_size", 0) > 0:
            raise ConfigError(f"conv_kernel_size={config.conv_kernel_size} is not supported: only models without a convolution")

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        positions = config.max_position_embeddings if config.position_biased_input else None
        tables = {"positions": positions, "token_types": config.type_vocab_size or None}
        parts = encoder_blueprint(config, pooler, head, masked=True, **tables)
        factor = 1 + len(set(config.pos_att_type or []))
        attention = {"disentangled": self.distances(config), "scale_factor": factor}
        return parts | {"attention": parts["attention"] | attention}

    def distances(self, config: Any) -> dict[str, Any] | None:
        """As the function of this name."""
        norms = [name.strip() for name in str(getattr(config, "norm_rel_ebd", "none")).lower().split("|")]
        shared = bool(getattr(config, "share_att_key", False))
        return distances(config, getattr(config, "position_buckets", -1), shared, "layer_norm" in norms)

    def prepared(self, inputs: dict[str, Any]) -> dict[str, Any]:
        # without a table of types those that a tokenizer gives say nothing
        return super().prepared(inputs) | ({} if self.config.type_vocab_size else {"token_type_ids": None})

    def pooler_spec(self, config: Any) -> dict[str, Any]:
        return {"activation": ACTIVATIONS[config.pooler_hidden_act], "dropout": True}

    def dropout_rates(self) -> tuple[float, float, float, float]:
        config = self.config
        head = getattr(config, "cls_dropout", None)
        hidden = config.hidden_dropout_prob
        return hidden, config.attention_probs_dropout_prob, hidden if head is None else head, config.pooler_dropout


class DebertaV2Model(heads.WithoutPooler, DebertaV2PreTrainedModel):
    """DeBERTa-v2 without a head: token ids in, hidden states out, a BaseModelOutput."""


class DebertaV2ForSequenceClassification(heads.SequenceClassification, DebertaV2PreTrainedModel):
    """As the class above; where `config.problem_type` is None, integers (B,) below 0 do not count, and labels (B, num_labels) are
    shares of each label, for cross-entropy."""

    head_table = POOLED_CLASSIFIER

    def loss(self, outputs: Any, labels: dict[str, Any], inputs: dict[str, Any], options: LossOptions) -> Loss:
        if self.config.problem_type is not None or self.config.num_labels == 1:
            return super().loss(outputs, labels, inputs, options)
        return losses.labels_or_shares(outputs.logits, labels["labels"], options)

    def num_items(self, labels: dict[str, Any]) -> int:
        if self.config.problem_type is not None or self.config.num_labels == 1:
            return super().num_items(labels)
        return losses.count_rows(labels["labels"])


class DebertaV2ForMultipleChoice(heads.MultipleChoice, DebertaV2PreTrainedModel):
    head_table = POOLED_CLASSIFIER


class DebertaV2ForTokenClassification(heads.TokenClassification, DebertaV2PreTrainedModel):
    head_table = CLASSIFIER

    def dropout_rates(self) -> tuple[float, float, float, float]:
        hidden, attention, *_ = super().dropout_rates()
        return hidden, attention, hidden, 0.0


class DebertaV2ForQuestionAnswering(heads.QuestionAnswering, DebertaV2PreTrainedModel):
    head_table = ANSWERS


class DebertaV2ForMaskedLM(heads.MaskedLM, DebertaV2PreTrainedModel):
    head_table = PREDICTIONS
    tied_tensors: tuple[str, ...] = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")

    def __init__(self, config: Any, **kwargs: Any) -> None:
        if not config.legacy:
            self.head_table, self.tied_tensors = NEWER_PREDICTIONS, ()
        super().__init__(config, **kwargs)

    def head(self, config: Any) -> dict[str, Any]:
        return super().head(config) | ({} if config.legacy else {"tied": True})

    def transform_spec(self, config: Any) -> dict[str, Any]:
        return {"activation": ACTIVATIONS[config.hidden_act], "norm": {"eps": config.layer_norm_eps}}
