"""CamemBERT (Martin et al. 2019, https://arxiv.org/abs/1911.03894): RoBERTa with another vocabulary."""

from __future__ import annotations

from . import roberta

__all__ = [
    "CamembertConfig",
    "CamembertForMaskedLM",
    "CamembertForMultipleChoice",
    "CamembertForQuestionAnswering",
    "CamembertForSequenceClassification",
    "CamembertForTokenClassification",
    "CamembertModel",
]


class CamembertConfig(roberta.RobertaConfig):
    """The settings of a CamemBERT model; names and defaults are those of transformers."""

    model_type = "camembert"

    vocab_size: int = 30522


class CamembertModel(roberta.RobertaModel):
    config_class = CamembertConfig


class CamembertForMaskedLM(roberta.RobertaForMaskedLM):
    config_class = CamembertConfig


class CamembertForMultipleChoice(roberta.RobertaForMultipleChoice):
    config_class = CamembertConfig


class CamembertForQuestionAnswering(roberta.RobertaForQuestionAnswering):
    config_class = CamembertConfig


class CamembertForSequenceClassification(roberta.RobertaForSequenceClassification):
    config_class = CamembertConfig


class CamembertForTokenClassification(roberta.RobertaForTokenClassification):
    config_class = CamembertConfig
