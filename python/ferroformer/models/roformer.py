"""RoFormer (Su et al. 2021, https://arxiv.org/abs/2104.09864): BERT without positions in its embeddings; queries and keys are turned by
angles that grow with the position.
"""

from __future__ import annotations

from typing import Any

from .. import modeling_heads as heads
from ..config_values import check_positive
from ..errors import ConfigError
from ..modeling_utils import PreTrainedModel
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
from .roberta import FIRST_TOKEN_CLASSIFIER

__all__ = [
    "RoFormerConfig",
    "RoFormerForMaskedLM",
    "RoFormerForMultipleChoice",
    "RoFormerForQuestionAnswering",
    "RoFormerForSequenceClassification",
    "RoFormerForTokenClassification",
    "RoFormerModel",
]


class RoFormerConfig(EncoderConfig):
    """The settings of a RoFormer model; names and defaults are those of transformers."""

    model_type = "roformer"

    vocab_size: int = 50000
    embedding_size: int | None = None
    max_position_embeddings: int = 1536
    type_vocab_size: int = 2
    rotary_value: bool = False
    use_cache: bool = True
    is_decoder: bool = False
    add_cross_attention: bool = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.embedding_size is None:
            self.embedding_size = self.hidden_size

    def validate(self) -> None:
        """As EncoderConfig."""
        super().validate()
        check_positive(self, "type_vocab_size")
        if self.embedding_size is not None:
            check_positive(self, "embedding_size")


class RoFormerPreTrainedModel(PreTrainedModel):
    """What all RoFormers share."""

    config_class = RoFormerConfig
    base_model_prefix = "roformer"
    base_table = EMBEDDINGS | LAYERS | {
        "embeddings.projection": ("embeddings_project", ("hidden_size", "embedding_size")),
        # the angles' sines and cosines; no training changes them
        "rotary.0.weight": ("encoder.embed_positions.weight", ("max_position_embeddings",)),
    }
    base_optional_slots = ("rotary.",)
    input_names = ("input_ids", "attention_mask", "token_type_ids", "inputs_embeds")

    def check(self, config: Any) -> None:
        super().check(config)
        refuse_variants(config)
        if config.rotary_value:
            raise ConfigError("rotary_value=true is not supported: only queries and keys are turned")
        if config.hidden_size // config.num_attention_heads % 2:
            raise ConfigError(f"{config.hidden_size // config.num_attention_heads} channels of a head are no pairs")

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        size, dim = config.embedding_size, config.hidden_size // config.num_attention_heads
        sines = {"positions": config.max_position_embeddings, "pairs": dim // 2, "base": 10000.0}
        parts = encoder_blueprint(
            config, pooler, head, positions=None, size=size, projection=size != config.hidden_size
        )
        parts["attention"]["rotary"] = [{"table": sines, "interleaved": True}]
        return parts | {"layers": [{"rotary": 0}] * config.num_hidden_layers}

    def dropout_rates(self) -> tuple[float, float, float, float]:
        hidden, attention = self.config.hidden_dropout_prob, self.config.attention_probs_dropout_prob
        return hidden, attention, hidden, hidden


class RoFormerModel(heads.WithoutPooler, RoFormerPreTrainedModel):
    """RoFormer without a head: token ids in, hidden states out, a BaseModelOutput."""


class RoFormerForSequenceClassification(heads.SequenceClassification, RoFormerPreTrainedModel):
    head_table = FIRST_TOKEN_CLASSIFIER

    def pooler_spec(self, config: Any) -> dict[str, Any]:
        return {"activation": ACTIVATIONS[config.hidden_act], "dropout": True}


class RoFormerForMultipleChoice(heads.MultipleChoice, RoFormerPreTrainedModel):
    """As the class above, but that the number is made of the vector in the last column, whether a token stands there or padding: the score
    of a row depends on how far it is padded, as in transformers.
    """

    head_table = CLASSIFIER
    reads = "tokens"
    head_dropout = False
    reads_padding = loss_reads_padding = True

    def check(self, config: Any) -> None:
        super().check(config)
        # what transformers' summary of a row would read, and what it does without them
        usual = {"summary_type": "last", "summary_use_proj": False, "summary_activation": None}
        for key, value in (usual | dict.fromkeys(("summary_first_dropout", "summary_last_dropout"), 0)).items():
            if (found := getattr(config, key, value)) != value:
                raise ConfigError(f"{key}={found!r:.200} is not supported: only {value!r}")

    def outputs(self, inputs: dict[str, Any], last: Any, pooled: Any, logits: Any, *rest: Any) -> Any:
        return super().outputs(inputs, last, pooled, logits[:, -1], *rest)

    def loss_gradients(self, gradient: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        of_tokens = np.zeros((np.size(gradient), np.shape(inputs["input_ids"])[-1], 1), np.float32)
        of_tokens[:, -1, 0] = np.reshape(gradient, -1)
        return {"logits": of_tokens}


class RoFormerForTokenClassification(heads.TokenClassification, RoFormerPreTrainedModel):
    head_table = CLASSIFIER


class RoFormerForQuestionAnswering(heads.QuestionAnswering, RoFormerPreTrainedModel):
    head_table = ANSWERS


class RoFormerForMaskedLM(heads.MaskedLM, RoFormerPreTrainedModel):
    head_table = PREDICTIONS
    tied_tensors = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")

    def transform_spec(self, config: Any) -> dict[str, Any]:
        norm = {"eps": config.layer_norm_eps}
        return {"activation": ACTIVATIONS[config.hidden_act], "size": config.embedding_size, "norm": norm}
