"""ELECTRA (Clark et al. 2020, https://arxiv.org/abs/2003.10555): BERT with word vectors of a size of their own, without a pooler;
the discriminator tells which words were replaced, the generator guesses masked ones.
"""

from __future__ import annotations

from typing import Any

from .. import losses
from .. import modeling_heads as heads
from ..config_values import check_choice, check_positive, check_probability
from ..errors import ConfigError
from ..losses import Loss, LossOptions
from ..modeling_utils import PreTrainedModel
from .bert import ACTIVATIONS, ANSWERS, CLASSIFIER, EMBEDDINGS, LAYERS, BertConfig, encoder_blueprint, refuse_variants
from .roberta import FIRST_TOKEN_CLASSIFIER

__all__ = [
    "ElectraConfig",
    "ElectraForMaskedLM",
    "ElectraForMultipleChoice",
    "ElectraForPreTraining",
    "ElectraForQuestionAnswering",
    "ElectraForSequenceClassification",
    "ElectraForTokenClassification",
    "ElectraModel",
]


class ElectraConfig(BertConfig):
    """The settings of an ELECTRA model; names and defaults are those of transformers."""

    model_type = "electra"

    embedding_size: int = 128
    hidden_size: int = 256
    num_attention_heads: int = 4
    intermediate_size: int = 1024
    summary_type: str = "first"
    summary_use_proj: bool = True
    summary_activation: str | None = "gelu"
    summary_last_dropout: float = 0.1

    def validate(self) -> None:
        """As EncoderConfig."""
        super().validate()
        check_positive(self, "embedding_size")
        check_probability(self, "summary_last_dropout")


class ElectraPreTrainedModel(PreTrainedModel):
    """What all ELECTRAs share."""

    config_class = ElectraConfig
    base_model_prefix = "electra"
    base_table = EMBEDDINGS | LAYERS | {"embeddings.projection": ("embeddings_project", ("hidden_size", "embedding_size"))}

    def check(self, config: Any) -> None:
        super().check(config)
        refuse_variants(config)

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        size, projection = config.embedding_size, config.embedding_size != config.hidden_size
        return encoder_blueprint(config, pooler, head, size=size, projection=projection)


class ElectraModel(heads.WithoutPooler, ElectraPreTrainedModel):
    """ELECTRA without a head: token ids in, hidden states out, a BaseModelOutput."""


class ElectraForSequenceClassification(heads.SequenceClassification, ElectraPreTrainedModel):
    head_table = FIRST_TOKEN_CLASSIFIER

    def pooler_spec(self, config: Any) -> dict[str, Any]:
        return {"activation": "gelu", "dropout": True}


class ElectraForMultipleChoice(heads.MultipleChoice, ElectraPreTrainedModel):
    head_table = CLASSIFIER | {"pooler": ("sequence_summary.summary", ("hidden_size", "hidden_size"))}

    def check(self, config: Any) -> None:
        super().check(config)
        if (config.summary_type, config.summary_use_proj) != ("first", True):
            found = f"summary_type={config.summary_type!r:.200}, summary_use_proj={config.summary_use_proj}"
            raise ConfigError(f"{found}: only 'first' and True are supported")
        check_choice("summary_activation", config.summary_activation, ACTIVATIONS)

    def pooler_spec(self, config: Any) -> dict[str, Any]:
        return {"activation": ACTIVATIONS[config.summary_activation]}

    def dropout_rates(self) -> tuple[float, float, float, float]:
        hidden, attention, *_ = super().dropout_rates()
        return hidden, attention, self.config.summary_last_dropout, 0.0


class ElectraForTokenClassification(heads.TokenClassification, ElectraPreTrainedModel):
    head_table = CLASSIFIER


class ElectraForQuestionAnswering(heads.QuestionAnswering, ElectraPreTrainedModel):
    head_table = ANSWERS


class ElectraForMaskedLM(heads.MaskedLM, ElectraPreTrainedModel):
    head_table = {
        "embeddings.word.bias": ("generator_lm_head.bias", ()),
        "head": ("generator_lm_head", ()),
        "head.transform": ("generator_predictions.dense", ("embedding_size", "hidden_size")),
        "head.norm": ("generator_predictions.LayerNorm", ("embedding_size",)),
    }
    tied_tensors = ("generator_lm_head.weight",)

    def transform_spec(self, config: Any) -> dict[str, Any]:
        return {"activation": "gelu", "size": config.embedding_size, "norm": {"eps": config.layer_norm_eps}}


class ElectraForPreTraining(heads.HeadModel, ElectraPreTrainedModel):
    """Whether each token was replaced: one number for each token, positive if so.

    labels: (B, T), 1 for replaced tokens and 0 for others; those of masked tokens do not count (binary cross-entropy).
    """

    head_table = {
        "head": ("discriminator_predictions.dense_prediction", ()),
        "head.transform": ("discriminator_predictions.dense", ("hidden_size", "hidden_size")),
    }
    reads = "tokens"
    head_dropout = False
    output_class = "ElectraForPreTrainingOutput"

    def num_outputs(self, config: Any) -> int:
        return 1

    def transform_spec(self, config: Any) -> dict[str, Any]:
        return {"activation": ACTIVATIONS[config.hidden_act]}

    def outputs(self, inputs: dict[str, Any], last: Any, pooled: Any, logits: Any, *rest: Any) -> Any:
        return super().outputs(inputs, last, pooled, logits[:, :, 0], *rest)

    def loss(self, outputs: Any, labels: dict[str, Any], inputs: dict[str, Any], options: LossOptions) -> Loss:
        return losses.replaced(outputs.logits, labels["labels"], inputs.get("attention_mask"), options)

    def loss_gradients(self, gradient: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"logits": gradient[:, :, None]}
