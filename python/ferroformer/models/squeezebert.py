"""SqueezeBERT (Iandola et al. 2020, https://arxiv.org/abs/2006.11316): BERT whose layers are convolutions that see one token
at a time, so linear layers, with weights in groups: a group of outputs reads one group of inputs.
"""

from __future__ import annotations

from typing import Any

from .. import modeling_heads as heads
from ..config_values import check_positive
from ..errors import ConfigError
from ..modeling_utils import PreTrainedModel
from ..tensor_match import TensorTable
from .bert import (
    ACTIVATIONS,
    ANSWERS,
    CLASSIFIER,
    EMBEDDINGS,
    POOLER,
    PREDICTIONS,
    EncoderConfig,
    encoder_blueprint,
    refuse_variants,
)

__all__ = [
    "SqueezeBertConfig",
    "SqueezeBertForMaskedLM",
    "SqueezeBertForMultipleChoice",
    "SqueezeBertForQuestionAnswering",
    "SqueezeBertForSequenceClassification",
    "SqueezeBertForTokenClassification",
    "SqueezeBertModel",
]


class SqueezeBertConfig(EncoderConfig):
    """The settings of a SqueezeBERT model; names and defaults are those of transformers."""

    model_type = "squeezebert"

    type_vocab_size: int = 2
    embedding_size: int = 768
    q_groups: int = 4
    k_groups: int = 4
    v_groups: int = 4
    post_attention_groups: int = 1
    intermediate_groups: int = 4
    output_groups: int = 4

    def validate(self) -> None:
        """As EncoderConfig."""
        super().validate()
        check_positive(self, "type_vocab_size", "embedding_size", *GROUPS)
        for key, sizes in GROUPS.items():
            for size in sizes:
                if getattr(self, size) % getattr(self, key):
                    raise ConfigError(f"{key}={getattr(self, key)} is no divisor of {size}={getattr(self, size)}")


# the sizes that each number of groups divides
GROUPS = {
    "q_groups": ("hidden_size",),
    "k_groups": ("hidden_size",),
    "v_groups": ("hidden_size",),
    "post_attention_groups": ("hidden_size",),
    "intermediate_groups": ("hidden_size", "intermediate_size"),
    "output_groups": ("hidden_size", "intermediate_size"),
}
LAYER = "encoder.layers.{i}"
TENSORS: TensorTable = EMBEDDINGS | POOLER | {
    "layers.{i}.attention.query": (f"{LAYER}.attention.query", ("hidden_size",)),
    "layers.{i}.attention.key": (f"{LAYER}.attention.key", ("hidden_size",)),
    "layers.{i}.attention.value": (f"{LAYER}.attention.value", ("hidden_size",)),
    "layers.{i}.attention.output": (f"{LAYER}.post_attention.conv1d", ("hidden_size",)),
    "layers.{i}.attention.norm": (f"{LAYER}.post_attention.layernorm", ("hidden_size",)),
    "layers.{i}.feed_forward.up": (f"{LAYER}.intermediate.conv1d", ("intermediate_size",)),
    "layers.{i}.feed_forward.down": (f"{LAYER}.output.conv1d", ("hidden_size",)),
    "layers.{i}.feed_forward.norm": (f"{LAYER}.output.layernorm", ("hidden_size",)),
}


class SqueezeBertPreTrainedModel(PreTrainedModel):
    """What all SqueezeBERTs share."""

    config_class = SqueezeBertConfig
    base_model_prefix = "transformer"
    base_table = TENSORS

    def check(self, config: Any) -> None:
        super().check(config)
        refuse_variants(config)
        if config.embedding_size != config.hidden_size:
            found = f"embedding_size={config.embedding_size}, hidden_size={config.hidden_size}"
            raise ConfigError(f"{found}: they are the same in a model of type 'squeezebert'")

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        parts = encoder_blueprint(config, pooler, head)
        attention = {"query": config.q_groups, "key": config.k_groups, "value": config.v_groups}
        attention["output"] = config.post_attention_groups
        feed_forward = {"up": config.intermediate_groups, "down": config.output_groups}
        for name, groups in {"attention": attention, "feed_forward": feed_forward}.items():
            parts[name] |= {"groups": groups, "stored": "convolution"}
        return parts

    def _run(self, inputs: dict[str, Any], padding: bool, hidden_states: bool | None, attentions: bool | None) -> Any:
        if self.config.output_attentions if attentions is None else attentions:
            raise NotImplementedError(
                f"output_attentions=True: transformers returns the scores of {type(self).__name__} before their softmax, "
                "which are not kept here"
            )
        return super()._run(inputs, padding, hidden_states, attentions)


class SqueezeBertModel(heads.WithPooler, SqueezeBertPreTrainedModel):
    """SqueezeBERT without a head: token ids in, hidden states and a pooled vector out, a BaseModelOutputWithPooling.

    With `add_pooling_layer=False` there is no pooler, and `pooler_output` is None.
    """


class SqueezeBertForSequenceClassification(heads.SequenceClassification, SqueezeBertPreTrainedModel):
    head_table = CLASSIFIER


class SqueezeBertForTokenClassification(heads.TokenClassification, SqueezeBertPreTrainedModel):
    head_table = CLASSIFIER


class SqueezeBertForQuestionAnswering(heads.QuestionAnswering, SqueezeBertPreTrainedModel):
    head_table = ANSWERS


class SqueezeBertForMultipleChoice(heads.MultipleChoice, SqueezeBertPreTrainedModel):
    head_table = CLASSIFIER


class SqueezeBertForMaskedLM(heads.MaskedLM, SqueezeBertPreTrainedModel):
    head_table = PREDICTIONS
    tied_tensors = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")

    def transform_spec(self, config: Any) -> dict[str, Any]:
        return {"activation": ACTIVATIONS[config.hidden_act], "norm": {"eps": config.layer_norm_eps}}
