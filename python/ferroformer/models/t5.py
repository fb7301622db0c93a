"""T5 (Raffel et al. 2019, https://arxiv.org/abs/1910.10683): an encoder and a decoder without positions, with a bias for each distance
between two tokens, which all layers share, RMS norms before the sub-layers and no biases. T5 1.1 has gated feed-forwards.
"""

from __future__ import annotations

from typing import Any

from .. import modeling_heads
from .. import modeling_seq2seq as seq2seq
from .. import modeling_seq2seq_heads as heads
from ..config_values import check_choice, check_not_negative, check_positive, check_probability
from ..configuration_utils import PreTrainedConfig
from ..errors import ConfigError
from ..modeling_utils import PreTrainedModel, Weights
from ..tensor_match import TensorTable, checkpoint_name
from .bart import CLASSIFIER, SPAN
from .bert import ACTIVATIONS, MAX_LAYERS

__all__ = [
    "T5Config",
    "T5EncoderModel",
    "T5ForConditionalGeneration",
    "T5ForQuestionAnswering",
    "T5ForSequenceClassification",
    "T5ForTokenClassification",
    "T5Model",
]


class T5Config(PreTrainedConfig):
    """The settings of a T5; names and defaults are those of transformers (t5-small)."""

    model_type = "t5"
    attribute_map = {
        "hidden_size": "d_model",
        "num_attention_heads": "num_heads",
        "num_hidden_layers": "num_layers",
        "head_dim": "d_kv",
    }

    vocab_size: int = 32128
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 2048
    num_layers: int = 6
    num_decoder_layers: int | None = None
    num_heads: int = 8
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    dropout_rate: float = 0.1
    layer_norm_epsilon: float = 1e-6
    initializer_factor: float = 1.0
    feed_forward_proj: str = "relu"
    is_encoder_decoder: bool = True
    use_cache: bool = True
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1
    classifier_dropout: float = 0.0
    is_decoder: bool = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**self.implied(kwargs) | kwargs | {"tie_word_embeddings": True})
        if self.num_decoder_layers is None:
            self.num_decoder_layers = self.num_layers

    def implied(self, given: dict[str, Any]) -> dict[str, Any]:
        """The settings that others decide, where these are not given themselves."""
        kind, activation = self._feed_forward(given.get("feed_forward_proj", type(self).feed_forward_proj))
        if (kind, activation) == ("gated", "gelu"):
            activation = "gelu_new"  # what T5 1.1 means by it
        # the first T5 shared the head's weights with the words, and scaled what it read; transformers shares always
        scaled = given.get("tie_word_embeddings") is not False
        return {"dense_act_fn": activation, "is_gated_act": kind == "gated", "scale_decoder_outputs": scaled}

    @staticmethod
    def _feed_forward(name: Any) -> tuple[str, str]:
        kind, _, activation = str(name).rpartition("-")
        return kind, activation

    def validate(self) -> None:
        """Raise ConfigError, which names key, value and what is allowed, if no T5 can have these settings."""
        super().validate()
        check_positive(self, "vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads")
        check_probability(self, "dropout_rate", "classifier_dropout")
        check_not_negative(self, "layer_norm_epsilon", "initializer_factor")
        kind, activation = self._feed_forward(self.feed_forward_proj)
        if kind not in ("", "gated"):
            raise ConfigError(f"feed_forward_proj={self.feed_forward_proj!r}: an activation is needed, or 'gated-' and one")
        check_choice("feed_forward_proj", activation, ACTIVATIONS)
        check_choice("dense_act_fn", self.dense_act_fn, ACTIVATIONS)
        if self.num_decoder_layers is not None:
            check_positive(self, "num_decoder_layers")
        for key in ("num_layers", "num_decoder_layers"):
            if (getattr(self, key) or 0) > MAX_LAYERS:
                raise ConfigError(f"{key}={getattr(self, key)}: at most {MAX_LAYERS} are supported")
        # a bucket for a single distance on either side, and distances beyond those that have one
        buckets, distance = self.relative_attention_num_buckets, self.relative_attention_max_distance
        if buckets < 4:
            raise ConfigError(f"relative_attention_num_buckets={buckets}: at least 4 are needed")
        if distance <= buckets // 2:
            raise ConfigError(
                f"relative_attention_max_distance={distance}: more than half of "
                f"relative_attention_num_buckets={buckets} is needed"
            )


ENCODER: TensorTable = {
    "relative": (
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
        ("relative_attention_num_buckets", "num_heads"),
    ),
    "layers.{i}.relative": (
        "encoder.block.{i}.layer.0.SelfAttention.relative_attention_bias",
        ("relative_attention_num_buckets", "num_heads"),
    ),
    "layers.{i}.attention.query": ("encoder.block.{i}.layer.0.SelfAttention.q", ()),
    "layers.{i}.attention.key": ("encoder.block.{i}.layer.0.SelfAttention.k", ()),
    "layers.{i}.attention.value": ("encoder.block.{i}.layer.0.SelfAttention.v", ()),
    "layers.{i}.attention.output": ("encoder.block.{i}.layer.0.SelfAttention.o", ()),
    "layers.{i}.attention.norm": ("encoder.block.{i}.layer.0.layer_norm", ("d_model",)),
    "layers.{i}.feed_forward.gate": ("encoder.block.{i}.layer.1.DenseReluDense.wi_0", ("d_ff", "d_model")),
    "layers.{i}.feed_forward.up": ("encoder.block.{i}.layer.1.DenseReluDense.wi", ("d_ff", "d_model")),
    "layers.{i}.feed_forward.down": ("encoder.block.{i}.layer.1.DenseReluDense.wo", ("d_model", "d_ff")),
    "layers.{i}.feed_forward.norm": ("encoder.block.{i}.layer.1.layer_norm", ("d_model",)),
    "final_norm": ("encoder.final_layer_norm", ("d_model",)),
}


def _of_decoder(name: str) -> str:
    return name.replace("encoder.", "decoder.").replace("layer.1.", "layer.2.")


DECODER: TensorTable = {slot: (_of_decoder(name), keys) for slot, (name, keys) in ENCODER.items()} | {
    "layers.{i}.cross_attention.query": ("decoder.block.{i}.layer.1.EncDecAttention.q", ()),
    "layers.{i}.cross_attention.key": ("decoder.block.{i}.layer.1.EncDecAttention.k", ()),
    "layers.{i}.cross_attention.value": ("decoder.block.{i}.layer.1.EncDecAttention.v", ()),
    "layers.{i}.cross_attention.output": ("decoder.block.{i}.layer.1.EncDecAttention.o", ()),
    "layers.{i}.cross_attention.norm": ("decoder.block.{i}.layer.1.layer_norm", ("d_model",)),
}
WORDS: TensorTable = {
    "embeddings.word": ("shared", ("vocab_size", "d_model")),
    "source.embeddings.word": ("encoder.embed_tokens", ("vocab_size", "d_model")),
}
BOTH = WORDS | DECODER | {f"source.{slot}": entry for slot, entry in ENCODER.items()}


def _gated(table: TensorTable, config: Any) -> TensorTable:
    """The names of a checkpoint whose feed-forwards are gated, if they are."""
    if not config.is_gated_act:
        return table
    return {slot: (f"{name}_1" if name.endswith(".wi") else name, keys) for slot, (name, keys) in table.items()}


class T5PreTrainedModel(PreTrainedModel):
    """What all T5s share."""

    config_class = T5Config
    base_model_prefix = "transformer"
    base_table = BOTH
    stand_ins = {"embeddings.word.weight": "source.embeddings.word.weight"}
    initializer_key = "initializer_factor"
    # tensors that hold the words once more, and a bias that some checkpoints have and nothing reads
    tied_tensors: tuple[str, ...] = (
        "encoder.embed_tokens.weight",
        "decoder.embed_tokens.weight",
        "lm_head.weight",
        "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
    )
    # whether each layer has biases of its own
    bias_by_layer = False
    # whether random weights of a head are as wide as words
    wide_head = True

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        self.base_table = _gated(type(self).base_table, config)
        super().__init__(config, *args, **kwargs)

    def _saved_name(self, slot: str) -> str:
        return checkpoint_name(slot, self.tensor_table)  # under a head too there is no prefix

    def stack(self, config: Any, layers: int, decodes: bool) -> dict[str, Any]:
        """The encoder or the decoder, without words."""
        return {
            "hidden_size": config.d_model,
            "num_layers": layers,
            "attention": {
                "heads": config.num_heads,
                "head_dim": config.d_kv,
                "bias": False,
                "output_bias": False,
                "causal": decodes,
                "relative": {
                    "buckets": config.relative_attention_num_buckets,
                    "max_distance": config.relative_attention_max_distance,
                    "bidirectional": not decodes,
                    "by_layer": self.bias_by_layer,
                },
            },
            "feed_forward": {
                "size": config.d_ff,
                "activation": ACTIVATIONS[config.dense_act_fn],
                "gated": config.is_gated_act,
                "bias": False,
            },
            "norm": {"kind": "rms_norm", "placement": "pre", "eps": config.layer_norm_epsilon},
            "layers": [{"scale": 1.0}] * layers,
            "pooler": None,
            "head": None,
        }

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        words = {"vocab_size": config.vocab_size}
        encoder = self.stack(config, config.num_layers, False) | {"embeddings": words | {"shared": True}}
        decoder = self.stack(config, config.num_decoder_layers, True)
        return decoder | {"embeddings": words, "source": encoder, "head": head}

    def spreads(self, config: Any, slots: dict[str, tuple[int, ...]]) -> dict[str, float]:
        """Products of independent inputs with a variance of 1 have it too; scores, which are not scaled, by the queries' weights."""
        spreads = {}
        for slot, shape in slots.items():
            inputs = config.d_model if "relative." in slot else shape[-1]
            inputs *= config.d_kv if ".query." in slot else 1
            if len(shape) == 2 and "embeddings." not in slot and not (slot == "head.weight" and self.wide_head):
                spreads[slot] = config.initializer_factor * inputs**-0.5
        return spreads

    def dropout_rates(self) -> tuple[float, float, float, float]:
        rate = self.config.dropout_rate
        return rate, rate, 0.0, 0.0

    def inner_dropout_rates(self) -> tuple[float, float]:
        return self.config.dropout_rate, self.config.dropout_rate


class T5Model(seq2seq.Seq2SeqModel, T5PreTrainedModel):
    """T5 without a head: the decoder's hidden states out, a Seq2SeqModelOutput."""


class T5ForConditionalGeneration(seq2seq.ConditionalGeneration, T5PreTrainedModel):
    """T5 that writes. The head's weights are the word embeddings, unless a checkpoint holds others, as those of T5 1.1 do.

    labels: as in `modeling_seq2seq.ConditionalGeneration`. tied: whether the head's weights are the words'; None: what the checkpoint
    holds.
    """

    head_table: TensorTable = {"head": ("lm_head", ("vocab_size", "d_model"))}

    def __init__(self, config: Any, tied: bool | None = None, _weights: Weights = Weights(), **kwargs: Any) -> None:
        own = seq2seq.has_own_head(_weights, "lm_head.weight", "shared.weight")
        self.tied = bool(config.tie_word_embeddings and not own) if tied is None else tied
        super().__init__(config, _weights=_weights, **kwargs)

    def own_arguments(self) -> dict[str, Any]:
        return {"tied": self.tied}

    def scaled(self, config: Any) -> bool:
        """Whether what the head reads is scaled."""
        return bool(config.scale_decoder_outputs)

    def head(self, config: Any) -> dict[str, Any]:
        factor = config.d_model**-0.5 if self.scaled(config) else None
        return super().head(config) | {"tied": self.tied, "factor": factor}


class T5ForSequenceClassification(heads.SequenceClassification, T5PreTrainedModel):
    """T5 that labels a row: a Seq2SeqSequenceClassifierOutput."""

    head_table = CLASSIFIER
    wide_head = False

    def _saved_name(self, slot: str) -> str:
        return PreTrainedModel._saved_name(self, slot)


class T5ForQuestionAnswering(heads.QuestionAnswering, T5PreTrainedModel):
    """T5 that finds an answer: a Seq2SeqQuestionAnsweringModelOutput."""

    head_table = SPAN
    wide_head = False


class T5Encoder(T5PreTrainedModel):
    """The encoder of a T5 alone."""

    base_table = WORDS | ENCODER
    tied_tensors = ("encoder.embed_tokens.weight", "decoder.", "lm_head.weight")
    input_names = ("input_ids", "attention_mask", "inputs_embeds")

    def blueprint(self, config: Any, pooler: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any]:
        embeddings = {"vocab_size": config.vocab_size}
        return self.stack(config, config.num_layers, False) | {"embeddings": embeddings, "head": head}


class T5EncoderModel(modeling_heads.WithoutPooler, T5Encoder):
    """The encoder of a T5 alone: token ids in, hidden states out, a BaseModelOutput."""


class T5ForTokenClassification(modeling_heads.TokenClassification, T5Encoder):
    """The encoder of a T5, which labels tokens: a TokenClassifierOutput."""

    head_table: TensorTable = {"head": ("classifier", ("num_labels", "d_model"))}
    optional_slots = ("head.",)

    def _saved_name(self, slot: str) -> str:
        return PreTrainedModel._saved_name(self, slot)

    def dropout_rates(self) -> tuple[float, float, float, float]:
        rate = self.config.dropout_rate
        return rate, rate, self.config.classifier_dropout, 0.0
