"""BART (Lewis et al. 2019, https://arxiv.org/abs/1910.13461): an encoder and a decoder as BERT and GPT are, with norms after the sums and
learned positions that begin at the third row of their table.

What its relatives share stands here too: MBart, Marian, Pegasus, M2M100 and Blenderbot differ in norms and positions.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from .. import modeling_seq2seq as seq2seq
from .. import modeling_seq2seq_heads as heads
from ..config_values import check_choice, check_not_negative, check_positive, check_probability
from ..configuration_utils import PreTrainedConfig
from ..errors import ConfigError
from ..tensor_match import TensorTable
from .bert import ACTIVATIONS, MAX_LAYERS, padding_row

__all__ = [
    "BartConfig",
    "BartForConditionalGeneration",
    "BartForQuestionAnswering",
    "BartForSequenceClassification",
    "BartModel",
]

EPS = 1e-5  # of all norms: no setting
OFFSET = 2  # of learned positions: no setting


class EncoderDecoderConfig(PreTrainedConfig):
    """The settings that BART and its relatives share."""

    attribute_map: ClassVar[dict[str, str]] = {
        "num_attention_heads": "encoder_attention_heads",
        "hidden_size": "d_model",
        "num_hidden_layers": "encoder_layers",
    }

    vocab_size: int = 50265
    max_position_embeddings: int = 1024
    encoder_layers: int = 12
    encoder_ffn_dim: int = 4096
    encoder_attention_heads: int = 16
    decoder_layers: int = 12
    decoder_ffn_dim: int = 4096
    decoder_attention_heads: int = 16
    encoder_layerdrop: float = 0.0
    decoder_layerdrop: float = 0.0
    activation_function: str = "gelu"
    d_model: int = 1024
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    init_std: float = 0.02
    scale_embedding: bool = False
    use_cache: bool = True
    is_encoder_decoder: bool = True
    tie_word_embeddings: bool = True

    def validate(self) -> None:
        """Raise ConfigError, which names key, value and what is allowed, if no such model can have these settings."""
        super().validate()
        sides = [f"{side}_{key}" for side in ("encoder", "decoder") for key in ("layers", "ffn_dim", "attention_heads")]
        check_positive(self, "vocab_size", "max_position_embeddings", "d_model", *sides)
        drops = ("dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop", "decoder_layerdrop")
        check_probability(self, *drops)
        check_not_negative(self, "init_std")
        check_choice("activation_function", self.activation_function, ACTIVATIONS)
        for side in ("encoder", "decoder"):
            if (layers := getattr(self, f"{side}_layers")) > MAX_LAYERS:
                raise ConfigError(f"{side}_layers={layers}: at most {MAX_LAYERS} are supported")


class BartConfig(EncoderDecoderConfig):
    """The settings of a BART model; names and defaults are those of transformers (bart-large)."""

    model_type = "bart"

    classifier_dropout: float | None = 0.0
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | None = 2
    forced_eos_token_id: int | list[int] | None = 2
    is_decoder: bool = False

    def _set_labels(self, num_labels: int | None) -> None:
        super()._set_labels(3 if self.id2label is None and num_labels is None else num_labels)

    def to_diff_dict(self) -> dict[str, Any]:
        """As PreTrainedConfig, with labels always: without them a file means three."""
        return super().to_diff_dict() | {"id2label": self.id2label, "label2id": self.label2id}


def _side(slots: str, names: str) -> TensorTable:
    """Where the encoder's tensors or the decoder's belong."""
    square = ("d_model", "d_model")
    table: TensorTable = {
        "embeddings.position": ("embed_positions", ()),
        "embeddings.norm": ("layernorm_embedding", ("d_model",)),
        "layers.{i}.feed_forward.up": ("layers.{i}.fc1", (f"{names}_ffn_dim", "d_model")),
        "layers.{i}.feed_forward.down": ("layers.{i}.fc2", ("d_model", f"{names}_ffn_dim")),
        "layers.{i}.feed_forward.norm": ("layers.{i}.final_layer_norm", ("d_model",)),
        "final_norm": ("layer_norm", ("d_model",)),
    }
    for attention, name in (("attention", "self_attn"), ("cross_attention", "encoder_attn")):
        for part in ("query", "key", "value"):
            table[f"layers.{{i}}.{attention}.{part}"] = (f"layers.{{i}}.{name}.{part[0]}_proj", square)
        table[f"layers.{{i}}.{attention}.output"] = (f"layers.{{i}}.{name}.out_proj", square)
        table[f"layers.{{i}}.{attention}.norm"] = (f"layers.{{i}}.{name}_layer_norm", ("d_model",))
    return {f"{slots}{slot}": (f"{names}.{name}", keys) for slot, (name, keys) in table.items()}


_WORDS = ("vocab_size", "d_model")
SHARED: TensorTable = {"embeddings.word": ("shared", _WORDS)}
OWN: TensorTable = {
    "embeddings.word": ("decoder.embed_tokens", _WORDS),
    "source.embeddings.word": ("encoder.embed_tokens", _WORDS),
}
# transformers' buffers
BIASES = ("head.bias", "embeddings.word.bias")
POSITIONS = ("embeddings.position.weight", "source.embeddings.position.weight")


class EncoderDecoder(seq2seq.Seq2Seq):
    """What BART and its relatives share."""

    base_model_prefix = "model"
    initializer_key = "init_std"
    buffer_slots = BIASES
    placement: ClassVar[str] = "pre"
    embedding_norm: ClassVar[bool] = False
    # what old checkpoints hold and nobody reads
    unused: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        shared = self.shares_words(config)
        words = SHARED if shared else OWN
        # of the one kind or the other, as the configuration says; transformers saves the other's too
        self.base_table = _side("", "decoder") | _side("source.", "encoder") | words
        other = [f"{name}.weight" for name, _ in (OWN if shared else SHARED).values()]
        tied = ("lm_head.weight",) if config.tie_word_embeddings else ()
        self.tied_tensors = (*other, *tied, *self.unused)
        self.fixed_slots = BIASES + (POSITIONS if "sines" in self.positions(config) else ())
        super().__init__(config, *args, **kwargs)

    def check(self, config: Any) -> None:
        super().check(config)
        for side in ("encoder", "decoder"):
            if config.d_model % (count := getattr(config, f"{side}_attention_heads")):
                raise ConfigError(f"d_model={config.d_model} is not a multiple of {side}_attention_heads={count}")

    def shares_words(self, config: Any) -> bool:
        """Whether encoder and decoder have one table of words."""
        return bool(config.tie_word_embeddings)

    def positions(self, config: Any) -> dict[str, Any]:
        """What embeddings are made of beside words: learned positions, which count columns."""
        return {"positions": config.max_position_embeddings}

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        source = self.side(config, "encoder", {"shared": self.shares_words(config)}, {})
        decoder = self.side(config, "decoder", {}, {"causal": True})
        return decoder | {"source": source, "pooler": pooler, "head": head}

    def side(self, config: Any, name: str, embeddings: dict[str, Any], attention: dict[str, Any]) -> dict[str, Any]:
        """The encoder or the decoder."""
        count = getattr(config, f"{name}_attention_heads")
        activation = ACTIVATIONS[config.activation_function]
        return {
            "hidden_size": config.d_model,
            "num_layers": getattr(config, f"{name}_layers"),
            "embeddings": {
                "vocab_size": config.vocab_size,
                "padding": padding_row(config),
                "factor": {"value": math.sqrt(config.d_model)} if config.scale_embedding else None,
                "norm": {"eps": EPS} if self.embedding_norm else None,
            }
            | self.positions(config)
            | embeddings,
            "attention": {"heads": count, "head_dim": config.d_model // count} | attention,
            "feed_forward": {"size": getattr(config, f"{name}_ffn_dim"), "activation": activation},
            "norm": {"kind": "layer_norm", "placement": self.placement, "eps": EPS},
            "pooler": None,
            "head": None,
        }

    def dropout_rates(self) -> tuple[float, float, float, float]:
        for key in ("encoder_layerdrop", "decoder_layerdrop"):
            if rate := getattr(self.config, key):
                raise NotImplementedError(f"{key}={rate}: training without it is what is supported: set config.{key} = 0.0")
        return self.config.dropout, self.config.attention_dropout, 0.0, 0.0

    def inner_dropout_rates(self) -> tuple[float, float]:
        return self.config.activation_dropout, 0.0


class Generation(seq2seq.ConditionalGeneration):
    """The head of BART and its relatives: word embeddings, and a bias that no training changes."""

    head_bias = True
    head_table = {
        "head": ("lm_head", _WORDS),
    } | {slot: ("final_logits_bias", ("vocab_size",)) for slot in BIASES}

    def head(self, config: Any) -> dict[str, Any]:
        return super().head(config) | {"fixed_bias": self.head_bias}


CLASSIFIER: TensorTable = {
    "head.transform": ("classification_head.dense", ("d_model", "d_model")),
    "head": ("classification_head.out_proj", ("num_labels", "d_model")),
}
SPAN: TensorTable = {"head": ("qa_outputs", ("num_labels", "d_model"))}


class BartPreTrainedModel(heads.SameText, EncoderDecoder):
    """What all BARTs share."""

    config_class: ClassVar[type[PreTrainedConfig]] = BartConfig
    placement = "post"
    embedding_norm = True
    # the version of the library that BART was trained with
    unused = ("encoder.version", "decoder.version")

    def positions(self, config: Any) -> dict[str, Any]:
        rows = config.max_position_embeddings + OFFSET
        return {"positions": rows, "position_offset": OFFSET, "position_columns": True}


class BartModel(seq2seq.Seq2SeqModel, BartPreTrainedModel):
    """BART without a head: token ids in, the decoder's hidden states out, a Seq2SeqModelOutput.

    Without decoder_input_ids these are input_ids, moved one place to the right.
    """


class BartForConditionalGeneration(Generation, BartPreTrainedModel):
    """BART that writes: a Seq2SeqLMOutput."""


class BartForSequenceClassification(heads.SequenceClassification, BartPreTrainedModel):
    """BART that labels a row: a Seq2SeqSequenceClassifierOutput."""

    head_table = CLASSIFIER


class BartForQuestionAnswering(heads.QuestionAnswering, BartPreTrainedModel):
    """BART that finds an answer: a Seq2SeqQuestionAnsweringModelOutput."""

    head_table = SPAN

    def __init__(self, config: Any, **kwargs: Any) -> None:
        config.num_labels = 2  # without any, a BART's are three; transformers sets them here too
        super().__init__(config, **kwargs)
