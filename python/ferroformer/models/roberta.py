"""RoBERTa (Liu et al. 2019, https://arxiv.org/abs/1907.11692): BERT with positions that are counted over the tokens that are no
padding, from `pad_token_id + 1` on, and classifiers with a layer of their own on the first token. XLM-RoBERTa and CamemBERT
are the same under other names.
"""

from __future__ import annotations

from typing import Any

from .. import modeling_heads as heads
from ..errors import ConfigError
from ..modeling_utils import PreTrainedModel
from ..tensor_match import TensorTable
from .bert import (
    ANSWERS,
    CLASSIFIER,
    EMBEDDINGS,
    LAYERS,
    POOLER,
    BertConfig,
    encoder_blueprint,
    padding_row,
    refuse_variants,
)

__all__ = [
    "RobertaConfig",
    "RobertaForMaskedLM",
    "RobertaForMultipleChoice",
    "RobertaForQuestionAnswering",
    "RobertaForSequenceClassification",
    "RobertaForTokenClassification",
    "RobertaModel",
]


class RobertaConfig(BertConfig):
    """The settings of a RoBERTa model; names and defaults are those of transformers."""

    model_type = "roberta"

    vocab_size: int = 50265
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2


# a dense layer and tanh on the first token, then the labels
FIRST_TOKEN_CLASSIFIER: TensorTable = {
    "pooler": ("classifier.dense", ("hidden_size", "hidden_size")),
    "head": ("classifier.out_proj", ("num_labels", "hidden_size")),
}
LM_HEAD: TensorTable = {
    "embeddings.word.bias": ("lm_head.bias", ()),
    "head.weight": ("lm_head.decoder.weight", ()),
    "head.bias": ("lm_head.decoder.bias", ()),
    "head.transform": ("lm_head.dense", ("hidden_size", "hidden_size")),
    "head.norm": ("lm_head.layer_norm", ("hidden_size",)),
}


class RobertaPreTrainedModel(PreTrainedModel):
    """What all RoBERTas share."""

    config_class = RobertaConfig
    base_model_prefix = "roberta"
    base_table = EMBEDDINGS | LAYERS | POOLER

    def check(self, config: Any) -> None:
        super().check(config)
        refuse_variants(config)
        if padding_row(config) is None:
            raise ConfigError(f"pad_token_id={config.pad_token_id}: positions are counted from it, so it is needed")

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        return encoder_blueprint(config, pooler, head, padding_position=padding_row(config))


class RobertaModel(heads.WithPooler, RobertaPreTrainedModel):
    """RoBERTa without a head: token ids in, hidden states and a pooled vector out, a BaseModelOutputWithPooling.

    With `add_pooling_layer=False` there is no pooler, and `pooler_output` is None.
    """


class RobertaForSequenceClassification(heads.SequenceClassification, RobertaPreTrainedModel):
    head_table = FIRST_TOKEN_CLASSIFIER

    def pooler_spec(self, config: Any) -> dict[str, Any]:
        return {"activation": "tanh", "dropout": True}


class RobertaForTokenClassification(heads.TokenClassification, RobertaPreTrainedModel):
    head_table = CLASSIFIER


class RobertaForQuestionAnswering(heads.QuestionAnswering, RobertaPreTrainedModel):
    head_table = ANSWERS


class RobertaForMultipleChoice(heads.MultipleChoice, RobertaPreTrainedModel):
    head_table = CLASSIFIER

    def dropout_rates(self) -> tuple[float, float, float, float]:
        hidden, attention, *_ = super().dropout_rates()
        return hidden, attention, hidden, 0.0


class RobertaForMaskedLM(heads.MaskedLM, RobertaPreTrainedModel):
    head_table = LM_HEAD
    tied_tensors = ("lm_head.decoder.weight", "lm_head.decoder.bias")

    def transform_spec(self, config: Any) -> dict[str, Any]:
        return {"activation": "gelu", "norm": {"eps": config.layer_norm_eps}}
