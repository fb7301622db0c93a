"""XLM-RoBERTa (Conneau et al. 2019, https://arxiv.org/abs/1911.02116): RoBERTa with another vocabulary."""

from __future__ import annotations

from . import roberta

__all__ = [
    "XLMRobertaConfig",
    "XLMRobertaForMaskedLM",
    "XLMRobertaForMultipleChoice",
    "XLMRobertaForQuestionAnswering",
    "XLMRobertaForSequenceClassification",
    "XLMRobertaForTokenClassification",
    "XLMRobertaModel",
]


class XLMRobertaConfig(roberta.RobertaConfig):
    """The settings of a XLM-RoBERTa model; names and defaults are those of transformers."""

    model_type = "xlm-roberta"

    vocab_size: int = 30522


class XLMRobertaModel(roberta.RobertaModel):
    config_class = XLMRobertaConfig


class XLMRobertaForMaskedLM(roberta.RobertaForMaskedLM):
    config_class = XLMRobertaConfig


class XLMRobertaForMultipleChoice(roberta.RobertaForMultipleChoice):
    config_class = XLMRobertaConfig


class XLMRobertaForQuestionAnswering(roberta.RobertaForQuestionAnswering):
    config_class = XLMRobertaConfig


class XLMRobertaForSequenceClassification(roberta.RobertaForSequenceClassification):
    config_class = XLMRobertaConfig


class XLMRobertaForTokenClassification(roberta.RobertaForTokenClassification):
    config_class = XLMRobertaConfig
