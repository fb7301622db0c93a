"""EuroBERT (Boizard et al. 2025, https://arxiv.org/abs/2503.05500): Llama, attending to both sides."""

from __future__ import annotations

from typing import Any

from .. import modeling_heads as heads
from ..config_values import check_choice
from ..modeling_utils import PreTrainedModel
from .bert import CLASSIFIER
from .llama import TENSORS, LlamaConfig, layers, rotary_blueprint

__all__ = [
    "EuroBertConfig",
    "EuroBertForMaskedLM",
    "EuroBertForSequenceClassification",
    "EuroBertForTokenClassification",
    "EuroBertModel",
]


class EuroBertConfig(LlamaConfig):
    """The settings of a EuroBERT model; names and defaults are those of transformers."""

    model_type = "eurobert"
    code_is_known = True

    vocab_size: int = 128256
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 8192
    rms_norm_eps: float = 1e-5
    pad_token_id: int | None = 128001
    bos_token_id: int | None = 128000
    eos_token_id: int | list[int] | None = 128001
    mask_token_id: int = 128002
    classifier_pooling: str = "late"

    def validate(self) -> None:
        super().validate()
        check_choice("classifier_pooling", self.classifier_pooling, ("bos", "late", "mean"))


class EuroBertPreTrainedModel(PreTrainedModel):
    """What all EuroBERTs share."""

    config_class = EuroBertConfig
    base_model_prefix = "model"
    base_table = TENSORS
    input_names = ("input_ids", "attention_mask", "position_ids", "inputs_embeds")

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        return rotary_blueprint(config, pooler, head, layers(config))

    def dropout_rates(self) -> tuple[float, float, float, float]:
        return 0.0, self.config.attention_dropout or 0.0, 0.0, 0.0


class EuroBertModel(heads.WithoutPooler, EuroBertPreTrainedModel):
    """EuroBERT without a head: token ids in, hidden states out, a BaseModelOutput."""


class EuroBertForSequenceClassification(heads.SequenceClassification, EuroBertPreTrainedModel):
    head_table = CLASSIFIER | {
        "pooler": ("dense", ("hidden_size", "hidden_size")),
        "head.transform": ("dense", ("hidden_size", "hidden_size")),
    }

    def __init__(self, config: Any, **kwargs: Any) -> None:
        # "late": each token is judged, and the mean of that taken
        self.reads = "mean" if config.classifier_pooling == "late" else "pooled"  # type: ignore[misc]
        super().__init__(config, **kwargs)

    def pooler_spec(self, config: Any) -> dict[str, Any]:
        return {"activation": "gelu", "reads": "first" if config.classifier_pooling == "bos" else "mean"}

    def transform_spec(self, config: Any) -> dict[str, Any] | None:
        return {"activation": "gelu"} if config.classifier_pooling == "late" else None


class EuroBertForTokenClassification(heads.TokenClassification, EuroBertPreTrainedModel):
    head_table = CLASSIFIER


class EuroBertForMaskedLM(heads.MaskedLM, EuroBertPreTrainedModel):
    head_table = {"head": ("lm_head", ("vocab_size", "hidden_size")), "embeddings.word.bias": ("lm_head.bias", ())}
    tied_tensors = ("lm_head.weight",)

    def head(self, config: Any) -> dict[str, Any]:
        return super().head(config) | {"bias": config.mlp_bias}
