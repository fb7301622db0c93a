"""ConvBERT (Jiang et al. 2020, https://arxiv.org/abs/2008.02496): ELECTRA with some heads of attention replaced by
convolutions, whose kernels are made for each token from the words around it; its feed-forward networks may have weights in groups.

A convolution sees what stands in padding, in transformers as here: the vectors of a row depend on how it is padded.
"""

from __future__ import annotations

from typing import Any

from .. import modeling_heads as heads
from ..config_values import check_choice, check_positive, check_probability
from ..errors import ConfigError
from ..modeling_utils import PreTrainedModel
from ..tensor_match import TensorTable
from .bert import ACTIVATIONS, ANSWERS, CLASSIFIER, EMBEDDINGS, LAYERS, EncoderConfig, encoder_blueprint, refuse_variants
from .electra import ElectraForMaskedLM
from .roberta import FIRST_TOKEN_CLASSIFIER

__all__ = [
    "ConvBertConfig",
    "ConvBertForMaskedLM",
    "ConvBertForMultipleChoice",
    "ConvBertForQuestionAnswering",
    "ConvBertForSequenceClassification",
    "ConvBertForTokenClassification",
    "ConvBertModel",
]


class ConvBertConfig(EncoderConfig):
    """The settings of a ConvBERT model; names and defaults are those of transformers."""

    model_type = "convbert"

    type_vocab_size: int = 2
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    embedding_size: int = 768
    head_ratio: int = 2
    conv_kernel_size: int = 9
    num_groups: int = 1
    classifier_dropout: float | None = None
    is_decoder: bool = False
    add_cross_attention: bool = False

    def validate(self) -> None:
        """As EncoderConfig."""
        super().validate()
        check_positive(self, "type_vocab_size", "embedding_size", "conv_kernel_size", "num_groups")
        check_probability(self, "classifier_dropout")
        if self.conv_kernel_size % 2 == 0:
            raise ConfigError(f"conv_kernel_size={self.conv_kernel_size}: an odd number, a token and as many to either side")
        for key in ("hidden_size", "intermediate_size"):
            if getattr(self, key) % self.num_groups:
                raise ConfigError(f"num_groups={self.num_groups} is no divisor of {key}={getattr(self, key)}")

    def check_heads(self) -> None:
        """Each head of attention stands beside one of a convolution."""
        check_positive(self, "head_ratio")
        if self.hidden_size % (2 * attention_heads(self)):
            raise ConfigError(
                f"The hidden size ({self.hidden_size}) is not a multiple of twice the number of attention heads left, "
                f"{attention_heads(self)} (num_attention_heads={self.num_attention_heads}, head_ratio={self.head_ratio})"
            )


def attention_heads(config: Any) -> int:
    """The heads of attention that the convolution leaves, and of which it has as many."""
    return max(1, int(config.num_attention_heads // config.head_ratio))


SELF = "encoder.layer.{i}.attention.self"
TENSORS: TensorTable = EMBEDDINGS | LAYERS | {
    "embeddings.projection": ("embeddings_project", ("hidden_size", "embedding_size")),
    "layers.{i}.attention.query": (f"{SELF}.query", ()),
    "layers.{i}.attention.key": (f"{SELF}.key", ()),
    "layers.{i}.attention.value": (f"{SELF}.value", ()),
    "layers.{i}.attention.convolution.depth": (f"{SELF}.key_conv_attn_layer.depthwise", ("hidden_size",)),
    "layers.{i}.attention.convolution.point": (f"{SELF}.key_conv_attn_layer.pointwise", ()),
    "layers.{i}.attention.convolution.point.bias": (f"{SELF}.key_conv_attn_layer.bias", ()),
    "layers.{i}.attention.convolution.kernel": (f"{SELF}.conv_kernel_layer", ()),
    "layers.{i}.attention.convolution.value": (f"{SELF}.conv_out_layer", ()),
}


class ConvBertPreTrainedModel(PreTrainedModel):
    """What all ConvBERTs share."""

    config_class = ConvBertConfig
    base_model_prefix = "convbert"
    base_table = TENSORS
    reads_padding = True

    def check(self, config: Any) -> None:
        super().check(config)
        refuse_variants(config)

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        size, projection = config.embedding_size, config.embedding_size != config.hidden_size
        parts = encoder_blueprint(config, pooler, head, size=size, projection=projection)
        count = attention_heads(config)
        parts["attention"] = {
            "heads": count,
            "head_dim": config.hidden_size // count // 2,
            "convolution": {"kernel": config.conv_kernel_size},
        }
        if config.num_groups > 1:
            groups = {"up": config.num_groups, "down": config.num_groups}
            parts["feed_forward"] |= {"groups": groups, "stored": "groups"}
        return parts


class ConvBertModel(heads.WithoutPooler, ConvBertPreTrainedModel):
    """ConvBERT without a head: token ids in, hidden states out, a BaseModelOutput."""


class ConvBertForSequenceClassification(heads.SequenceClassification, ConvBertPreTrainedModel):
    head_table = FIRST_TOKEN_CLASSIFIER

    def pooler_spec(self, config: Any) -> dict[str, Any]:
        return {"activation": ACTIVATIONS[config.hidden_act], "dropout": True}


class ConvBertForMultipleChoice(heads.MultipleChoice, ConvBertPreTrainedModel):
    """Reads the last column of each row, padding or not, as transformers does; with `summary_type="first"` the first token,
    and with `summary_use_proj` through a dense layer."""

    head_table = CLASSIFIER | {"pooler": ("sequence_summary.summary", ("hidden_size", "hidden_size"))}

    def check(self, config: Any) -> None:
        super().check(config)
        check_choice("summary_type", getattr(config, "summary_type", "last"), ("first", "last"))
        activation = getattr(config, "summary_activation", None)
        if activation:
            check_choice("summary_activation", activation, ACTIVATIONS)
        projected = getattr(config, "summary_use_proj", False)
        if projected and getattr(config, "summary_proj_to_labels", False):
            raise ConfigError("summary_proj_to_labels=true is not supported: the classifier reads hidden_size numbers")
        if activation and not projected:
            raise ConfigError(f"summary_activation={activation!r} is supported with summary_use_proj alone")

    def pooler_spec(self, config: Any) -> dict[str, Any]:
        activation = getattr(config, "summary_activation", None)
        return {
            "reads": getattr(config, "summary_type", "last"),
            "dense": bool(getattr(config, "summary_use_proj", False)),
            "activation": ACTIVATIONS[activation] if activation else None,
            "dropout": True,
        }

    def dropout_rates(self) -> tuple[float, float, float, float]:
        hidden, attention, *_ = super().dropout_rates()
        last, first = (getattr(self.config, f"summary_{place}_dropout", 0.0) for place in ("last", "first"))
        return hidden, attention, last, first


class ConvBertForTokenClassification(heads.TokenClassification, ConvBertPreTrainedModel):
    head_table = CLASSIFIER


class ConvBertForQuestionAnswering(heads.QuestionAnswering, ConvBertPreTrainedModel):
    head_table = ANSWERS


class ConvBertForMaskedLM(heads.MaskedLM, ConvBertPreTrainedModel):
    head_table = ElectraForMaskedLM.head_table
    tied_tensors = ElectraForMaskedLM.tied_tensors
    transform_spec = ElectraForMaskedLM.transform_spec
