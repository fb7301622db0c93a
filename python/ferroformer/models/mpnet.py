"""MPNet (Song et al. 2020, https://arxiv.org/abs/2004.09297): BERT without token types, with RoBERTa's positions and a bias for each
distance between two tokens, which all layers share.
"""

from __future__ import annotations

from typing import Any

from .. import modeling_heads as heads
from ..errors import ConfigError
from ..modeling_utils import PreTrainedModel
from ..tensor_match import TensorTable
from .bert import ANSWERS, CLASSIFIER, EMBEDDINGS, LAYERS, POOLER, EncoderConfig, encoder_blueprint, refuse_variants
from .roberta import FIRST_TOKEN_CLASSIFIER, LM_HEAD

__all__ = [
    "MPNetConfig",
    "MPNetForMaskedLM",
    "MPNetForMultipleChoice",
    "MPNetForQuestionAnswering",
    "MPNetForSequenceClassification",
    "MPNetForTokenClassification",
    "MPNetModel",
]


class MPNetConfig(EncoderConfig):
    """The settings of an MPNet model; names and defaults are those of transformers."""

    model_type = "mpnet"

    vocab_size: int = 30527
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    relative_attention_num_buckets: int = 32

    def validate(self) -> None:
        """As EncoderConfig."""
        super().validate()
        if self.relative_attention_num_buckets != BUCKETS:
            found = self.relative_attention_num_buckets
            raise ConfigError(f"relative_attention_num_buckets={found}: {BUCKETS} is what MPNet computes with")


BUCKETS = 32
MAX_DISTANCE = 128  # beyond which all distances are in one bucket: no setting
ATTENTION = "encoder.layer.{i}.attention"
TENSORS: TensorTable = EMBEDDINGS | LAYERS | POOLER | {
    "relative": ("encoder.relative_attention_bias", ("relative_attention_num_buckets", "num_attention_heads")),
    "layers.{i}.attention.query": (f"{ATTENTION}.attn.q", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.key": (f"{ATTENTION}.attn.k", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.value": (f"{ATTENTION}.attn.v", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.output": (f"{ATTENTION}.attn.o", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.norm": (f"{ATTENTION}.LayerNorm", ("hidden_size",)),
}


class MPNetPreTrainedModel(PreTrainedModel):
    """What all MPNets share."""

    config_class = MPNetConfig
    base_model_prefix = "mpnet"
    base_table = TENSORS
    input_names = ("input_ids", "attention_mask", "position_ids", "inputs_embeds")

    def check(self, config: Any) -> None:
        super().check(config)
        refuse_variants(config)

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        # padding is word 1 whatever the configuration says
        parts = encoder_blueprint(config, pooler, head, token_types=None, padding=1, padding_position=1)
        relative = {"buckets": config.relative_attention_num_buckets, "max_distance": MAX_DISTANCE}
        return parts | {"attention": parts["attention"] | {"relative": relative}}


class MPNetModel(heads.WithPooler, MPNetPreTrainedModel):
    """MPNet without a head: token ids in, hidden states and a pooled vector out, a BaseModelOutputWithPooling.

    With `add_pooling_layer=False` there is no pooler, and `pooler_output` is None.
    """


class MPNetForSequenceClassification(heads.SequenceClassification, MPNetPreTrainedModel):
    head_table = FIRST_TOKEN_CLASSIFIER

    def pooler_spec(self, config: Any) -> dict[str, Any]:
        return {"activation": "tanh", "dropout": True}


class MPNetForTokenClassification(heads.TokenClassification, MPNetPreTrainedModel):
    head_table = CLASSIFIER


class MPNetForQuestionAnswering(heads.QuestionAnswering, MPNetPreTrainedModel):
    head_table = ANSWERS


class MPNetForMultipleChoice(heads.MultipleChoice, MPNetPreTrainedModel):
    head_table = CLASSIFIER


class MPNetForMaskedLM(heads.MaskedLM, MPNetPreTrainedModel):
    head_table = LM_HEAD
    tied_tensors = ("lm_head.decoder.weight", "lm_head.decoder.bias")

    def transform_spec(self, config: Any) -> dict[str, Any]:
        return {"activation": "gelu", "norm": {"eps": config.layer_norm_eps}}
