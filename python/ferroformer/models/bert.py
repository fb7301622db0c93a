"""BERT (Devlin et al. 2018, https://arxiv.org/abs/1810.04805): an encoder with learned absolute positions,
layer norm after each residual sum, and a tanh pooler on the first token.

In this file, from top to bottom: the configuration; the blueprint that it implies; where each tensor of a
checkpoint belongs; the model, alone and under its heads.
"""

from __future__ import annotations

from typing import Any

from .. import modeling_heads as heads
from ..config_values import check_choice, check_not_negative, check_positive, check_probability
from ..configuration_utils import PreTrainedConfig
from ..errors import ConfigError
from ..modeling_utils import PreTrainedModel
from ..tensor_match import TensorTable

__all__ = [
    "BertConfig",
    "BertForMaskedLM",
    "BertForMultipleChoice",
    "BertForNextSentencePrediction",
    "BertForPreTraining",
    "BertForQuestionAnswering",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertModel",
]

# transformers has several spellings of GELU's tanh formula, which differ by rounding only.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}

# A bound that keeps a damaged config.json from asking for a billion layers; published models have up to 48.
MAX_LAYERS = 1024


class SizedConfig(PreTrainedConfig):
    """What BERT and the encoders after it have in common; names are those of transformers."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    tie_word_embeddings: bool = True

    def validate(self) -> None:
        """Raise ConfigError, which names key, value and what is allowed, if no such model can have these settings."""
        super().validate()
        check_positive(self, "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
        check_positive(self, "intermediate_size", "max_position_embeddings")
        check_probability(self, "hidden_dropout_prob", "attention_probs_dropout_prob")
        check_choice("hidden_act", self.hidden_act, ACTIVATIONS)
        self.check_heads()
        if self.num_hidden_layers > MAX_LAYERS:
            raise ConfigError(f"num_hidden_layers={self.num_hidden_layers}: at most {MAX_LAYERS} are supported")
        check_not_negative(self, "layer_norm_eps", "initializer_range")

    def check_heads(self) -> None:
        """Raise ConfigError unless all heads together are the hidden size."""
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"The hidden size ({self.hidden_size}) is not a multiple of the number of attention heads "
                f"({self.num_attention_heads})"
            )


class EncoderConfig(SizedConfig):
    """And those that nearly all of them have, too."""

    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None


class BertConfig(EncoderConfig):
    """The settings of a BERT model; names and defaults are those of transformers (bert-base-uncased)."""

    model_type = "bert"

    type_vocab_size: int = 2
    use_cache: bool = True
    classifier_dropout: float | None = None
    is_decoder: bool = False
    add_cross_attention: bool = False

    def validate(self) -> None:
        """As EncoderConfig."""
        super().validate()
        check_positive(self, "type_vocab_size")
        check_probability(self, "classifier_dropout")


def refuse_variants(config: Any) -> None:
    """Refuse what carries a known name and computes something else: an error is better than a wrong vector."""
    position = getattr(config, "position_embedding_type", "absolute")
    if position not in ("absolute", None):
        kind = f"{config.model_type!r} has 'absolute' positions"
        raise ConfigError(f"position_embedding_type={position!r:.200} is not supported: {kind}")
    for key in ("is_decoder", "add_cross_attention"):
        if getattr(config, key, False):
            raise ConfigError(f"{key}=true is not supported for model_type {config.model_type!r}: only encoders are")


def padding_row(config: Any) -> int | None:
    """The word that learns nothing from where it stands, as torch's nn.Embedding(padding_idx)."""
    return None if config.pad_token_id is None or config.pad_token_id < 0 else int(config.pad_token_id)


def encoder_blueprint(
    config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None, **embeddings: Any
) -> dict[str, Any]:
    """The ingredients of a BERT in the compiled core's words; `embeddings` are those of its embeddings that differ."""
    norm = {"eps": config.layer_norm_eps}
    return {
        "hidden_size": config.hidden_size,
        "num_layers": config.num_hidden_layers,
        "embeddings": {
            "vocab_size": config.vocab_size,
            "positions": config.max_position_embeddings,
            "token_types": getattr(config, "type_vocab_size", None),
            "padding": padding_row(config),
            "norm": norm,
        }
        | embeddings,
        "attention": {
            "heads": config.num_attention_heads,
            "head_dim": config.hidden_size // config.num_attention_heads,
        },
        "feed_forward": {"size": config.intermediate_size, "activation": ACTIVATIONS[config.hidden_act]},
        "norm": norm | {"kind": "layer_norm", "placement": "post"},
        "pooler": pooler,
        "head": head,
    }


# slot -> (name in a checkpoint, the configuration keys that the weight's shape comes from); `{i}` is the layer
EMBEDDINGS: TensorTable = {
    "embeddings.word": ("embeddings.word_embeddings", ("vocab_size", "hidden_size")),
    "embeddings.position": ("embeddings.position_embeddings", ("max_position_embeddings", "hidden_size")),
    "embeddings.token_type": ("embeddings.token_type_embeddings", ("type_vocab_size", "hidden_size")),
    "embeddings.norm": ("embeddings.LayerNorm", ("hidden_size",)),
}
LAYERS: TensorTable = {
    "layers.{i}.attention.query": ("encoder.layer.{i}.attention.self.query", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.key": ("encoder.layer.{i}.attention.self.key", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.value": ("encoder.layer.{i}.attention.self.value", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.output": ("encoder.layer.{i}.attention.output.dense", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.norm": ("encoder.layer.{i}.attention.output.LayerNorm", ("hidden_size",)),
    "layers.{i}.feed_forward.up": ("encoder.layer.{i}.intermediate.dense", ("intermediate_size", "hidden_size")),
    "layers.{i}.feed_forward.down": ("encoder.layer.{i}.output.dense", ("hidden_size", "intermediate_size")),
    "layers.{i}.feed_forward.norm": ("encoder.layer.{i}.output.LayerNorm", ("hidden_size",)),
}
POOLER: TensorTable = {"pooler": ("pooler.dense", ("hidden_size", "hidden_size"))}
CLASSIFIER: TensorTable = {"head": ("classifier", ("num_labels", "hidden_size"))}
ANSWERS: TensorTable = {"head": ("qa_outputs", ("num_labels", "hidden_size"))}
# the head of a masked language model; its last layer is there by itself, with a bias of its own, where it does not share the word
# embeddings
PREDICTIONS: TensorTable = {
    "embeddings.word.bias": ("cls.predictions.bias", ()),
    "head.weight": ("cls.predictions.decoder.weight", ()),
    "head.bias": ("cls.predictions.decoder.bias", ()),
    "head.transform": ("cls.predictions.transform.dense", ("hidden_size", "hidden_size")),
    "head.norm": ("cls.predictions.transform.LayerNorm", ("hidden_size",)),
}


class BertPreTrainedModel(PreTrainedModel):
    """What all BERTs share."""

    config_class = BertConfig
    base_model_prefix = "bert"
    base_table = EMBEDDINGS | LAYERS | POOLER

    def check(self, config: Any) -> None:
        super().check(config)
        refuse_variants(config)

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        return encoder_blueprint(config, pooler, head)


class BertModel(heads.WithPooler, BertPreTrainedModel):
    """BERT without a head: token ids in, hidden states and a pooled vector out, a BaseModelOutputWithPooling.

    `BertModel(config, seed=0)` has random weights; `BertModel.from_pretrained(path)` reads a checkpoint.
    With `add_pooling_layer=False` there is no pooler, and `pooler_output` is None.
    """


class BertForSequenceClassification(heads.SequenceClassification, BertPreTrainedModel):
    head_table = CLASSIFIER


class BertForTokenClassification(heads.TokenClassification, BertPreTrainedModel):
    head_table = CLASSIFIER


class BertForQuestionAnswering(heads.QuestionAnswering, BertPreTrainedModel):
    head_table = ANSWERS


class BertForMultipleChoice(heads.MultipleChoice, BertPreTrainedModel):
    head_table = CLASSIFIER


class BertForNextSentencePrediction(heads.NextSentencePrediction, BertPreTrainedModel):
    head_table = {"head": ("cls.seq_relationship", ())}


class BertForMaskedLM(heads.MaskedLM, BertPreTrainedModel):
    head_table = PREDICTIONS
    tied_tensors = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")

    def transform_spec(self, config: Any) -> dict[str, Any]:
        return {"activation": ACTIVATIONS[config.hidden_act], "norm": {"eps": config.layer_norm_eps}}


class BertForPreTraining(heads.PreTraining, BertPreTrainedModel):
    head_table = BertForMaskedLM.head_table | {"second_head": ("cls.seq_relationship", ())}
    tied_tensors = BertForMaskedLM.tied_tensors
    transform_spec = BertForMaskedLM.transform_spec
    label_names = ("labels", "next_sentence_label")
    output_class = "BertForPreTrainingOutput"
