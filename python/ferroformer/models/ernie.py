"""ERNIE 2.0 and 3.0 (Sun et al. 2020, https://arxiv.org/abs/1907.12412): BERT with a further table of embeddings, one for each task of
its pre-training.
"""

from __future__ import annotations

from typing import Any

from ..config_values import check_positive
from ..modeling_utils import PreTrainedModel
from .. import modeling_heads as heads
from .bert import (
    ACTIVATIONS,
    ANSWERS,
    CLASSIFIER,
    EMBEDDINGS,
    LAYERS,
    POOLER,
    PREDICTIONS,
    BertConfig,
    encoder_blueprint,
    refuse_variants,
)

__all__ = [
    "ErnieConfig",
    "ErnieForMaskedLM",
    "ErnieForMultipleChoice",
    "ErnieForNextSentencePrediction",
    "ErnieForPreTraining",
    "ErnieForQuestionAnswering",
    "ErnieForSequenceClassification",
    "ErnieForTokenClassification",
    "ErnieModel",
]


class ErnieConfig(BertConfig):
    """The settings of an ERNIE model; names and defaults are those of transformers."""

    model_type = "ernie"

    task_type_vocab_size: int = 3
    use_task_id: bool = False

    def validate(self) -> None:
        """As EncoderConfig."""
        super().validate()
        check_positive(self, "task_type_vocab_size")


class ErniePreTrainedModel(PreTrainedModel):
    """What all ERNIEs share. `forward` takes `task_type_ids` too, (B, T), zeros by default, where `config.use_task_id`."""

    config_class = ErnieConfig
    base_model_prefix = "ernie"
    base_table = EMBEDDINGS | LAYERS | POOLER | {
        "embeddings.task_type": ("embeddings.task_type_embeddings", ("task_type_vocab_size", "hidden_size"))
    }
    input_names = (*PreTrainedModel.input_names, "task_type_ids")

    def check(self, config: Any) -> None:
        super().check(config)
        refuse_variants(config)

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        tasks = config.task_type_vocab_size if config.use_task_id else None
        return encoder_blueprint(config, pooler, head, task_types=tasks)


class ErnieModel(heads.WithPooler, ErniePreTrainedModel):
    """ERNIE without a head: token ids in, hidden states and a pooled vector out, a BaseModelOutputWithPooling."""


class ErnieForSequenceClassification(heads.SequenceClassification, ErniePreTrainedModel):
    head_table = CLASSIFIER


class ErnieForTokenClassification(heads.TokenClassification, ErniePreTrainedModel):
    head_table = CLASSIFIER


class ErnieForQuestionAnswering(heads.QuestionAnswering, ErniePreTrainedModel):
    head_table = ANSWERS


class ErnieForMultipleChoice(heads.MultipleChoice, ErniePreTrainedModel):
    head_table = CLASSIFIER


class ErnieForNextSentencePrediction(heads.NextSentencePrediction, ErniePreTrainedModel):
    head_table = {"head": ("cls.seq_relationship", ())}


class ErnieForMaskedLM(heads.MaskedLM, ErniePreTrainedModel):
    head_table = PREDICTIONS
    tied_tensors = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")

    def transform_spec(self, config: Any) -> dict[str, Any]:
        return {"activation": ACTIVATIONS[config.hidden_act], "norm": {"eps": config.layer_norm_eps}}


class ErnieForPreTraining(heads.PreTraining, ErniePreTrainedModel):
    head_table = ErnieForMaskedLM.head_table | {"second_head": ("cls.seq_relationship", ())}
    tied_tensors = ErnieForMaskedLM.tied_tensors
    transform_spec = ErnieForMaskedLM.transform_spec
    label_names = ("labels", "next_sentence_label")
    output_class = "ErnieForPreTrainingOutput"
