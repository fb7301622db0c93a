"""MobileBERT (Sun et al. 2020, https://arxiv.org/abs/2004.02984): a deep, narrow BERT. A layer makes a narrow stream of what it reads,
works on that with attention and several feed-forward networks, and adds what comes of it to what it read; "norms" may be weights and
biases alone; a word is embedded by what its neighbours are, too.

The embedding of a token at the end of a text sees the word that stands in padding, in transformers as here: the vectors of a row depend on
how it is padded.
"""

from __future__ import annotations

from typing import Any

from .. import modeling_heads as heads
from ..config_values import check_choice, check_positive, check_probability
from ..errors import ConfigError
from ..modeling_utils import PreTrainedModel
from ..tensor_match import TensorTable
from .bert import (
    ACTIVATIONS,
    ANSWERS,
    CLASSIFIER,
    EMBEDDINGS,
    LAYERS,
    POOLER,
    PREDICTIONS,
    BertForMaskedLM,
    BertForNextSentencePrediction,
    SizedConfig,
    encoder_blueprint,
)

__all__ = [
    "MobileBertConfig",
    "MobileBertForMaskedLM",
    "MobileBertForMultipleChoice",
    "MobileBertForNextSentencePrediction",
    "MobileBertForPreTraining",
    "MobileBertForQuestionAnswering",
    "MobileBertForSequenceClassification",
    "MobileBertForTokenClassification",
    "MobileBertModel",
]

NORMS = {"layer_norm": "layer_norm", "no_norm": "affine"}
# of torch's LayerNorm: transformers gives layer_norm_eps to some of the norms and none to others
EPS = 1e-5
# A bound, as MAX_LAYERS; the published model has 4.
MAX_FEED_FORWARDS = 64


class MobileBertConfig(SizedConfig):
    """The settings of a MobileBERT model; names and defaults are those of transformers."""

    model_type = "mobilebert"

    hidden_size: int = 512
    num_hidden_layers: int = 24
    num_attention_heads: int = 4
    intermediate_size: int = 512
    hidden_act: str = "relu"
    hidden_dropout_prob: float = 0.0
    type_vocab_size: int = 2
    embedding_size: int = 128
    trigram_input: bool = True
    use_bottleneck: bool = True
    intra_bottleneck_size: int = 128
    use_bottleneck_attention: bool = False
    key_query_shared_bottleneck: bool = True
    num_feedforward_networks: int = 4
    normalization_type: str = "no_norm"
    classifier_activation: bool = True
    classifier_dropout: float | None = None

    # the width that the others make; files have it too
    true_hidden_size: int | None = None

    def validate(self) -> None:
        """As SizedConfig."""
        super().validate()
        check_positive(self, "type_vocab_size", "embedding_size", "intra_bottleneck_size", "num_feedforward_networks")
        check_probability(self, "classifier_dropout")
        check_choice("normalization_type", self.normalization_type, NORMS)
        if self.num_feedforward_networks > MAX_FEED_FORWARDS:
            found = f"num_feedforward_networks={self.num_feedforward_networks}"
            raise ConfigError(f"{found}: at most {MAX_FEED_FORWARDS} are supported")
        if self.true_hidden_size is None:
            self.true_hidden_size = stream_size(self)
        if self.true_hidden_size != stream_size(self):
            name = "intra_bottleneck_size" if self.use_bottleneck else "hidden_size"
            raise ConfigError(f"true_hidden_size={self.true_hidden_size}: it is {name}, {stream_size(self)}")
        if attention_reads(self) == "input" and self.hidden_size != self.intra_bottleneck_size:
            raise ConfigError(
                f"hidden_size={self.hidden_size}, intra_bottleneck_size={self.intra_bottleneck_size}: they are the same where "
                "key_query_shared_bottleneck and use_bottleneck_attention are false, for queries and keys are made of what a layer reads"
            )

    def check_heads(self) -> None:
        """Raise ConfigError unless all heads together are the stream's width."""
        size = stream_size(self)
        if size % self.num_attention_heads:
            name = "intra_bottleneck_size" if self.use_bottleneck else "hidden_size"
            raise ConfigError(f"{name}={size} is not a multiple of num_attention_heads={self.num_attention_heads}")


def stream_size(config: Any) -> int:
    """The width of what sub-layers add to."""
    return int(config.intra_bottleneck_size if config.use_bottleneck else config.hidden_size)


def attention_reads(config: Any) -> str | None:
    """What queries, keys and values are made of in a layer with a bottleneck."""
    if not config.use_bottleneck:
        return None
    if config.use_bottleneck_attention:
        return "stream"
    return "second" if config.key_query_shared_bottleneck else "input"


def _projected(config: Any) -> bool:
    return bool(config.trigram_input or config.embedding_size != config.hidden_size)


LAYER = "encoder.layer.{i}"
BOTTLENECK: TensorTable = {
    "layers.{i}.bottleneck.stream": (f"{LAYER}.bottleneck.input.dense", ("intra_bottleneck_size", "hidden_size")),
    "layers.{i}.bottleneck.stream_norm": (f"{LAYER}.bottleneck.input.LayerNorm", ("intra_bottleneck_size",)),
    "layers.{i}.bottleneck.second": (f"{LAYER}.bottleneck.attention.dense", ("intra_bottleneck_size", "hidden_size")),
    "layers.{i}.bottleneck.second_norm": (f"{LAYER}.bottleneck.attention.LayerNorm", ("intra_bottleneck_size",)),
    "layers.{i}.bottleneck.output": (f"{LAYER}.output.bottleneck.dense", ("hidden_size", "intra_bottleneck_size")),
    "layers.{i}.bottleneck.output_norm": (f"{LAYER}.output.bottleneck.LayerNorm", ("hidden_size",)),
}
# shapes that hold in every model
TENSORS: TensorTable = EMBEDDINGS | POOLER | {slot: (name, ()) for slot, (name, _) in LAYERS.items()} | BOTTLENECK | {
    "embeddings.word": ("embeddings.word_embeddings", ("vocab_size", "embedding_size")),
    "embeddings.projection": ("embeddings.embedding_transformation", ("hidden_size",)),
}
WORDS: TensorTable = PREDICTIONS | {"head.rest": ("cls.predictions.dense", ())}


def _feed_forwards(count: int) -> TensorTable:
    """The names of all feed-forward networks of a layer but the last."""
    names = {"up": "intermediate.dense", "down": "output.dense", "norm": "output.LayerNorm"}
    return {
        f"layers.{{i}}.feed_forward_{k}.{slot}": (f"{LAYER}.ffn.{k}.{name}", ())
        for k in range(count - 1)
        for slot, name in names.items()
    }


class MobileBertPreTrainedModel(PreTrainedModel):
    """What all MobileBERTs share."""

    config_class = MobileBertConfig
    base_model_prefix = "mobilebert"
    base_table = TENSORS

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        self.base_table = TENSORS | _feed_forwards(config.num_feedforward_networks)
        self.sees_padding = bool(config.trigram_input)
        super().__init__(config, *args, **kwargs)

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        kind, size, reads = NORMS[config.normalization_type], stream_size(config), attention_reads(config)
        parts = encoder_blueprint(
            config,
            pooler,
            head,
            norm={"eps": EPS, "kind": kind},
            size=config.embedding_size,
            projection=_projected(config),
            words_projected=_projected(config),
            neighbours=bool(config.trigram_input),
        )
        parts["attention"]["head_dim"] = size // config.num_attention_heads
        parts["feed_forward"]["count"] = config.num_feedforward_networks
        parts["norm"] |= {"kind": kind, "last_eps": EPS}
        return parts | {"bottleneck": {"size": size, "attention": reads} if reads else None}

    def pooler_spec(self, config: Any) -> dict[str, Any]:
        return {"activation": "tanh"} if config.classifier_activation else {"dense": False}


class MobileBertModel(heads.WithPooler, MobileBertPreTrainedModel):
    """MobileBERT without a head: token ids in, hidden states and a pooled vector out, a BaseModelOutputWithPooling.

    With `add_pooling_layer=False` there is no pooler, and `pooler_output` is None.
    """


class MobileBertForSequenceClassification(heads.SequenceClassification, MobileBertPreTrainedModel):
    head_table = CLASSIFIER


class MobileBertForTokenClassification(heads.TokenClassification, MobileBertPreTrainedModel):
    head_table = CLASSIFIER


class MobileBertForQuestionAnswering(heads.QuestionAnswering, MobileBertPreTrainedModel):
    head_table = ANSWERS


class MobileBertForMultipleChoice(heads.MultipleChoice, MobileBertPreTrainedModel):
    head_table = CLASSIFIER


class MobileBertForNextSentencePrediction(heads.NextSentencePrediction, MobileBertPreTrainedModel):
    head_table = BertForNextSentencePrediction.head_table


class MobileBertWords(heads.MaskedLM, MobileBertPreTrainedModel):
    """The head of a masked language model: where word vectors are narrower than hidden states, weights of its own read the rest."""

    head_table = WORDS
    tied_tensors = BertForMaskedLM.tied_tensors

    def check(self, config: Any) -> None:
        super().check(config)
        if config.embedding_size > config.hidden_size:
            found = f"embedding_size={config.embedding_size}, hidden_size={config.hidden_size}"
            raise ConfigError(f"{found}: word vectors are no wider than hidden states in a model that predicts words")

    def head(self, config: Any) -> dict[str, Any]:
        narrower = config.embedding_size < config.hidden_size
        return super().head(config) | {"split": config.embedding_size if narrower else None}

    def transform_spec(self, config: Any) -> dict[str, Any]:
        return {"activation": ACTIVATIONS[config.hidden_act], "norm": {"eps": config.layer_norm_eps}}


class MobileBertForMaskedLM(MobileBertWords):
    pass


class MobileBertForPreTraining(heads.PreTraining, MobileBertWords):
    head_table = WORDS | {"second_head": ("cls.seq_relationship", ())}
    label_names = ("labels", "next_sentence_label")
    output_class = "MobileBertForPreTrainingOutput"
