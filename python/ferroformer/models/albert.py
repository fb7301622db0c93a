"""ALBERT (Lan et al. 2019, https://arxiv.org/abs/1909.11942): BERT with small word vectors that are projected, and layers in groups that
share their weights.
"""

from __future__ import annotations

from typing import Any

from .. import modeling_heads as heads
from ..config_values import check_positive, check_probability
from ..errors import ConfigError
from ..modeling_utils import PreTrainedModel
from ..tensor_match import TensorTable
from .bert import ACTIVATIONS, ANSWERS, CLASSIFIER, EMBEDDINGS, EncoderConfig, encoder_blueprint, refuse_variants

__all__ = [
    "AlbertConfig",
    "AlbertForMaskedLM",
    "AlbertForMultipleChoice",
    "AlbertForPreTraining",
    "AlbertForQuestionAnswering",
    "AlbertForSequenceClassification",
    "AlbertForTokenClassification",
    "AlbertModel",
]


class AlbertConfig(EncoderConfig):
    """The settings of an ALBERT model; names and defaults are those of transformers (albert-xxlarge)."""

    model_type = "albert"

    vocab_size: int = 30000
    embedding_size: int = 128
    hidden_size: int = 4096
    num_hidden_groups: int = 1
    num_attention_heads: int = 64
    intermediate_size: int = 16384
    inner_group_num: int = 1
    hidden_act: str = "gelu_new"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    type_vocab_size: int = 2
    classifier_dropout_prob: float = 0.1
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 3

    def validate(self) -> None:
        """As EncoderConfig."""
        super().validate()
        check_positive(self, "embedding_size", "num_hidden_groups", "inner_group_num", "type_vocab_size")
        check_probability(self, "classifier_dropout_prob")
        if self.num_hidden_groups > self.num_hidden_layers:
            raise ConfigError(
                f"num_hidden_groups={self.num_hidden_groups} is more than num_hidden_layers={self.num_hidden_layers}"
            )


def group_firsts(config: Any) -> list[int]:
    """Of each layer: the first layer of its group, whose weights it has."""
    groups = [int(i / (config.num_hidden_layers / config.num_hidden_groups)) for i in range(config.num_hidden_layers)]
    return [groups.index(group) for group in groups]


# `{i}` is the group
LAYER = "encoder.albert_layer_groups.{i}.albert_layers.0"
TENSORS: TensorTable = EMBEDDINGS | {
    "embeddings.projection": ("encoder.embedding_hidden_mapping_in", ("hidden_size", "embedding_size")),
    "layers.{i}.attention.query": (f"{LAYER}.attention.query", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.key": (f"{LAYER}.attention.key", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.value": (f"{LAYER}.attention.value", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.output": (f"{LAYER}.attention.dense", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.norm": (f"{LAYER}.attention.LayerNorm", ("hidden_size",)),
    "layers.{i}.feed_forward.up": (f"{LAYER}.ffn", ("intermediate_size", "hidden_size")),
    "layers.{i}.feed_forward.down": (f"{LAYER}.ffn_output", ("hidden_size", "intermediate_size")),
    "layers.{i}.feed_forward.norm": (f"{LAYER}.full_layer_layer_norm", ("hidden_size",)),
    "pooler": ("pooler", ("hidden_size", "hidden_size")),
}


class AlbertPreTrainedModel(PreTrainedModel):
    """What all ALBERTs share."""

    config_class = AlbertConfig
    base_model_prefix = "albert"
    base_table = TENSORS

    def check(self, config: Any) -> None:
        super().check(config)
        refuse_variants(config)
        if config.inner_group_num != 1:
            raise ConfigError(f"inner_group_num={config.inner_group_num}: only 1 is supported, one layer in a group")

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        firsts = group_firsts(config)
        layers = [{} if first == i else {"shares": first} for i, first in enumerate(firsts)]
        parts = encoder_blueprint(config, pooler, head, size=config.embedding_size, projection=True)
        return parts | {"layers": layers}

    def dropout_rates(self) -> tuple[float, float, float, float]:
        config = self.config
        return config.hidden_dropout_prob, config.attention_probs_dropout_prob, config.classifier_dropout_prob, 0.0


class AlbertModel(heads.WithPooler, AlbertPreTrainedModel):
    """ALBERT without a head: token ids in, hidden states and a pooled vector out, a BaseModelOutputWithPooling.

    With `add_pooling_layer=False` there is no pooler, and `pooler_output` is None.
    """


class AlbertForSequenceClassification(heads.SequenceClassification, AlbertPreTrainedModel):
    head_table = CLASSIFIER


class AlbertForTokenClassification(heads.TokenClassification, AlbertPreTrainedModel):
    head_table = CLASSIFIER


class AlbertForQuestionAnswering(heads.QuestionAnswering, AlbertPreTrainedModel):
    head_table = ANSWERS


class AlbertForMultipleChoice(heads.MultipleChoice, AlbertPreTrainedModel):
    head_table = CLASSIFIER


class AlbertForMaskedLM(heads.MaskedLM, AlbertPreTrainedModel):
    head_table = {
        "embeddings.word.bias": ("predictions.bias", ()),
        "head.weight": ("predictions.decoder.weight", ()),
        "head.bias": ("predictions.decoder.bias", ()),
        "head.transform": ("predictions.dense", ("embedding_size", "hidden_size")),
        "head.norm": ("predictions.LayerNorm", ("embedding_size",)),
    }
    tied_tensors = ("predictions.decoder.weight", "predictions.decoder.bias")

    def transform_spec(self, config: Any) -> dict[str, Any]:
        size, norm = config.embedding_size, {"eps": config.layer_norm_eps}
        return {"activation": ACTIVATIONS[config.hidden_act], "size": size, "norm": norm}


class AlbertForPreTraining(heads.PreTraining, AlbertPreTrainedModel):
    head_table = AlbertForMaskedLM.head_table | {"second_head": ("sop_classifier.classifier", ())}
    tied_tensors = AlbertForMaskedLM.tied_tensors
    transform_spec = AlbertForMaskedLM.transform_spec
    label_names = ("labels", "sentence_order_label")
    output_class = "AlbertForPreTrainingOutput"
