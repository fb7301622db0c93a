"""BERT (Devlin et al. 2018, https://arxiv.org/abs/1810.04805): an encoder with learned absolute positions,
layer norm after each residual sum, and a tanh pooler on the first token.

In this file, from top to bottom: the configuration; the blueprint that it implies; where each tensor of a
checkpoint belongs; the model, alone and under its heads.
"""

from __future__ import annotations

from typing import Any, ClassVar

from .. import losses
from ..config_values import check_choice, check_positive, check_probability
from ..configuration_utils import PreTrainedConfig
from ..errors import ConfigError, InputError
from ..losses import Loss, LossOptions
from ..model_inputs import merge_choices
from ..modeling_utils import PreTrainedModel
from ..tensor_match import TensorTable

__all__ = [
    "BertConfig",
    "BertForMaskedLM",
    "BertForMultipleChoice",
    "BertForNextSentencePrediction",
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

# A logit that no argmax takes; what transformers' pipeline gives to tokens that cannot be an answer.
UNREACHABLE = -10000.0


class BertConfig(PreTrainedConfig):
    """The settings of a BERT model; names and defaults are those of transformers (bert-base-uncased)."""

    model_type = "bert"

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    use_cache: bool = True
    classifier_dropout: float | None = None
    is_decoder: bool = False
    add_cross_attention: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    tie_word_embeddings: bool = True

    def validate(self) -> None:
        """Raise ConfigError, which names key, value and what is allowed, if no BERT can have these settings."""
        super().validate()
        check_positive(self, "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
        check_positive(self, "intermediate_size", "max_position_embeddings", "type_vocab_size")
        check_probability(self, "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
        check_choice("hidden_act", self.hidden_act, ACTIVATIONS)
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"The hidden size ({self.hidden_size}) is not a multiple of the number of attention heads "
                f"({self.num_attention_heads})"
            )
        if self.num_hidden_layers > MAX_LAYERS:
            raise ConfigError(f"num_hidden_layers={self.num_hidden_layers}: at most {MAX_LAYERS} are supported")
        for key in ("layer_norm_eps", "initializer_range"):
            if not 0 <= getattr(self, key) < float("inf"):
                raise ConfigError(f"{key}={getattr(self, key)}: a finite number >= 0 is needed")


def check_supported(config: BertConfig) -> None:
    """Refuse variants that carry BERT's name and compute something else: an error is better than a wrong vector."""
    position = getattr(config, "position_embedding_type", "absolute")
    if position not in ("absolute", None):
        raise ConfigError(f"position_embedding_type={position!r:.200} is not supported: BERT has 'absolute' positions")
    for key in ("is_decoder", "add_cross_attention"):
        if getattr(config, key):
            raise ConfigError(f"{key}=true is not supported for model_type 'bert': only encoders are")
    if getattr(config, "auto_map", None):
        raise ConfigError(
            f"auto_map={config.auto_map!r:.200}: this checkpoint's model is code of its own under model_type 'bert'; "
            "ferroformer runs no code from checkpoints, and computing it as a plain BERT would give wrong results"
        )


def blueprint(config: BertConfig, pooler: bool, head: dict[str, Any] | None = None) -> dict[str, Any]:
    """The ingredients of this BERT in the compiled core's words."""
    norm = {"eps": config.layer_norm_eps}
    return {
        "hidden_size": config.hidden_size,
        "num_layers": config.num_hidden_layers,
        "embeddings": {
            "vocab_size": config.vocab_size,
            "positions": config.max_position_embeddings,
            "token_types": config.type_vocab_size,
            # as torch's nn.Embedding(padding_idx), which learns nothing for it
            "padding": None if (config.pad_token_id or 0) < 0 else config.pad_token_id,
            "norm": norm,
        },
        "attention": {
            "heads": config.num_attention_heads,
            "head_dim": config.hidden_size // config.num_attention_heads,
        },
        "feed_forward": {"size": config.intermediate_size, "activation": ACTIVATIONS[config.hidden_act]},
        "norm": norm | {"kind": "layer_norm", "placement": "post"},
        "pooler": {"activation": "tanh"} if pooler else None,
        "head": head,
    }


# slot -> (name in a checkpoint, the configuration keys that the weight's shape comes from); `{i}` is the layer
TENSORS: TensorTable = {
    "embeddings.word": ("embeddings.word_embeddings", ("vocab_size", "hidden_size")),
    "embeddings.position": ("embeddings.position_embeddings", ("max_position_embeddings", "hidden_size")),
    "embeddings.token_type": ("embeddings.token_type_embeddings", ("type_vocab_size", "hidden_size")),
    "embeddings.norm": ("embeddings.LayerNorm", ("hidden_size",)),
    "layers.{i}.attention.query": ("encoder.layer.{i}.attention.self.query", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.key": ("encoder.layer.{i}.attention.self.key", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.value": ("encoder.layer.{i}.attention.self.value", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.output": ("encoder.layer.{i}.attention.output.dense", ("hidden_size", "hidden_size")),
    "layers.{i}.attention.norm": ("encoder.layer.{i}.attention.output.LayerNorm", ("hidden_size",)),
    "layers.{i}.feed_forward.up": ("encoder.layer.{i}.intermediate.dense", ("intermediate_size", "hidden_size")),
    "layers.{i}.feed_forward.down": ("encoder.layer.{i}.output.dense", ("hidden_size", "intermediate_size")),
    "layers.{i}.feed_forward.norm": ("encoder.layer.{i}.output.LayerNorm", ("hidden_size",)),
    "pooler": ("pooler.dense", ("hidden_size", "hidden_size")),
}


class BertModel(PreTrainedModel):
    """BERT without a head: token ids in, hidden states and a pooled vector out.

    `BertModel(config, seed=0)` has random weights; `BertModel.from_pretrained(path)` reads a checkpoint.
    With `add_pooling_layer=False` there is no pooler, and `pooler_output` is None.
    """

    config_class = BertConfig
    base_model_prefix = "bert"
    tensor_table = TENSORS
    optional_slots = ("pooler.",)
    config: BertConfig

    def __init__(self, config: BertConfig, add_pooling_layer: bool = True, **kwargs: Any) -> None:
        config.validate()
        check_supported(config)
        super().__init__(config, blueprint(config, add_pooling_layer), **kwargs)

    def dropout_rates(self) -> tuple[float, float, float]:
        return dropout_rates(self.config)

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        inputs_embeds: Any = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Run the model on B rows of T tokens.

        input_ids (B, T): integers (lists, numpy arrays, anything with `__array__`); or else
        inputs_embeds (B, T, H): floats that stand in for the word embeddings.
        attention_mask (B, T): 1 for tokens, 0 for padding, which is never computed; default: all ones.
        token_type_ids, position_ids (B, T) or (1, T): default zeros, and 0..T-1.

        Returns a BaseModelOutputWithPooling, or with `return_dict=False` the tuple of its values. Where the mask
        is zero the hidden states are zeros; the pooler reads the first token of a row that is not masked.

        Raises InputError (a ValueError) for shapes and values, TokenIdError (an IndexError too) for ids outside
        their table, TypeError for arrays of the wrong dtype.
        """
        return self.run(
            _inputs(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds),
            {},
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            return_dict=return_dict,
        )


def dropout_rates(config: BertConfig) -> tuple[float, float, float]:
    """Of hidden states, of attention's probabilities, of what a classifier reads."""
    head = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
    return config.hidden_dropout_prob, config.attention_probs_dropout_prob, head


def _inputs(
    input_ids: Any, attention_mask: Any, token_type_ids: Any, position_ids: Any, inputs_embeds: Any
) -> dict[str, Any]:
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "token_type_ids": token_type_ids,
        "position_ids": position_ids,
        "inputs_embeds": inputs_embeds,
    }


class _BertWithHead(PreTrainedModel):
    """BERT and one linear layer, on the pooled vector of each row or on each token."""

    config_class = BertConfig
    base_model_prefix = "bert"
    optional_slots: ClassVar[tuple[str, ...]] = ("pooler.", "head.")
    config: BertConfig
    label_names: ClassVar[tuple[str, ...]] = ("labels",)
    has_head_dropout = True
    reads = "pooled"
    output_class = "SequenceClassifierOutput"

    def __init__(self, config: BertConfig, **kwargs: Any) -> None:
        config.validate()
        check_supported(config)
        super().__init__(config, blueprint(config, self.reads == "pooled", self.head(config)), **kwargs)

    def head(self, config: BertConfig) -> dict[str, Any]:
        """The head in the compiled core's words."""
        return {"reads": self.reads, "outputs": self.num_outputs(config)}

    def num_outputs(self, config: BertConfig) -> int:
        """The outputs of the head."""
        return config.num_labels

    def outputs(
        self, inputs: dict[str, Any], last: Any, pooled: Any, logits: Any, hidden: Any = None, attentions: Any = None
    ) -> Any:
        from .. import modeling_outputs

        return getattr(modeling_outputs, self.output_class)(None, logits, hidden, attentions)

    def loss(self, outputs: Any, labels: dict[str, Any], inputs: dict[str, Any], options: LossOptions) -> Loss:
        return losses.cross_entropy(outputs.logits, labels["labels"], options)

    def num_items(self, labels: dict[str, Any]) -> int:
        return len(labels["labels"])

    def dropout_rates(self) -> tuple[float, float, float]:
        hidden, attention, head = dropout_rates(self.config)
        return hidden, attention, head if self.has_head_dropout else 0.0

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        inputs_embeds: Any = None,
        labels: Any = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Run the model on B rows of T tokens: inputs, options and errors as in BertModel; `labels` as the class says.

        Returns the class's `output_class`, or with `return_dict=False` the tuple of its values.
        """
        return self.run(
            _inputs(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds),
            {"labels": labels},
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            return_dict=return_dict,
        )


class BertForSequenceClassification(_BertWithHead):
    """A label, several, or numbers for each row: a linear layer on the pooled vector.

    labels: (B,) integers in 0..num_labels-1 (cross-entropy); floats (B, num_labels) for several labels a row (binary
    cross-entropy) or, as `config.problem_type` "regression" and where num_labels is 1, numbers (mean squared error).
    """

    tensor_table = TENSORS | {"head": ("classifier", ("num_labels", "hidden_size"))}

    def loss(self, outputs: Any, labels: dict[str, Any], inputs: dict[str, Any], options: LossOptions) -> Loss:
        return losses.classification(self.config, outputs.logits, labels["labels"], options)


class BertForTokenClassification(_BertWithHead):
    """A label for each token: a linear layer on the last hidden states.

    labels: (B, T) integers in 0..num_labels-1, and -100 for tokens that do not count, among them all that are masked.
    """

    tensor_table = TENSORS | {"head": ("classifier", ("num_labels", "hidden_size"))}
    reads = "tokens"
    output_class = "TokenClassifierOutput"

    def loss(self, outputs: Any, labels: dict[str, Any], inputs: dict[str, Any], options: LossOptions) -> Loss:
        losses.check_masked(labels["labels"], inputs.get("attention_mask"))
        return losses.cross_entropy(outputs.logits, labels["labels"], options)

    def num_items(self, labels: dict[str, Any]) -> int:
        return losses.count_labels(labels["labels"])


class BertForNextSentencePrediction(_BertWithHead):
    """Whether the second sentence of a pair follows the first: two numbers for each row.

    labels: (B,) integers, 0 if it follows and 1 if it does not.
    """

    tensor_table = TENSORS | {"head": ("cls.seq_relationship", ())}
    output_class = "NextSentencePredictorOutput"

    def num_outputs(self, config: BertConfig) -> int:
        return 2


class BertForMultipleChoice(_BertWithHead):
    """Which of several rows fits best: one number for each, from its pooled vector.

    Inputs have one axis more, of choices: input_ids (B, choices, T); logits are (B, choices), hidden states and attentions have
    B * choices rows. labels: (B,) integers in 0..choices-1.
    """

    tensor_table = TENSORS | {"head": ("classifier", ())}
    output_class = "MultipleChoiceModelOutput"

    def num_outputs(self, config: BertConfig) -> int:
        return 1

    def prepared(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return merge_choices(inputs)

    def outputs(self, inputs: dict[str, Any], last: Any, pooled: Any, logits: Any, *rest: Any) -> Any:
        main = inputs["inputs_embeds"] if inputs["input_ids"] is None else inputs["input_ids"]
        return super().outputs(inputs, last, pooled, logits.reshape(len(main), -1), *rest)


class BertForQuestionAnswering(_BertWithHead):
    """Where in each row an answer begins and ends: two numbers for each token.

    start_positions, end_positions: (B,) integers; those outside of 0..T-1 do not count. As transformers has it, the loss is of
    the logits of masked tokens too. Without labels these are not computed, and are -10000.
    """

    tensor_table = TENSORS | {"head": ("qa_outputs", ("num_labels", "hidden_size"))}
    label_names = ("start_positions", "end_positions")
    loss_reads_padding = True
    reads = "tokens"
    has_head_dropout = False

    def num_outputs(self, config: BertConfig) -> int:
        if config.num_labels != 2:
            raise ConfigError(f"num_labels={config.num_labels}: question answering has 2, the start and the end")
        return 2

    def outputs(
        self, inputs: dict[str, Any], last: Any, pooled: Any, logits: Any, hidden: Any = None, attentions: Any = None
    ) -> Any:
        from ..modeling_outputs import QuestionAnsweringModelOutput

        return QuestionAnsweringModelOutput(None, logits[:, :, 0], logits[:, :, 1], hidden, attentions)

    def num_items(self, labels: dict[str, Any]) -> int:
        return len(labels["start_positions"])

    def loss(self, outputs: Any, labels: dict[str, Any], inputs: dict[str, Any], options: LossOptions) -> Loss:
        return losses.span(outputs.start_logits, outputs.end_logits, labels, options)

    def forward(  # type: ignore[override]  # other labels
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        inputs_embeds: Any = None,
        start_positions: Any = None,
        end_positions: Any = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Run the model on B rows of T tokens: inputs, options and errors as in BertModel; labels as the class says.

        Returns a QuestionAnsweringModelOutput, or with `return_dict=False` the tuple of its values.
        """
        if (start_positions is None) != (end_positions is None):
            raise InputError("start_positions and end_positions belong together: one of them is missing")
        output = self.run(
            _inputs(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds),
            {"start_positions": start_positions, "end_positions": end_positions},
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            return_dict=True,
        )
        if start_positions is None and attention_mask is not None:
            import numpy as np

            padding = np.asarray(attention_mask) == 0
            output.start_logits[padding] = output.end_logits[padding] = UNREACHABLE
        return self._answer(output, return_dict)


class BertForMaskedLM(_BertWithHead):
    """The words that stand where words were masked: one number for each word of the vocabulary, for each token.

    The head's weights are the word embeddings. labels: (B, T) integers in 0..vocab_size-1, and -100 for tokens that do not
    count, among them all that are masked out.
    """

    tensor_table = TENSORS | {
        "embeddings.word.bias": ("cls.predictions.bias", ()),
        "head.transform": ("cls.predictions.transform.dense", ("hidden_size", "hidden_size")),
        "head.norm": ("cls.predictions.transform.LayerNorm", ("hidden_size",)),
    }
    tied_tensors = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")
    optional_slots = ("head.", "embeddings.word.bias")
    reads = "tokens"
    has_head_dropout = False
    output_class = "MaskedLMOutput"

    def head(self, config: BertConfig) -> dict[str, Any]:
        if not config.tie_word_embeddings:
            raise ConfigError("tie_word_embeddings=False: the head of BertForMaskedLM shares the word embeddings")
        transform = {"activation": ACTIVATIONS[config.hidden_act], "eps": config.layer_norm_eps}
        return {"reads": "tokens", "outputs": config.vocab_size, "transform": transform, "tied": True}

    def loss(self, outputs: Any, labels: dict[str, Any], inputs: dict[str, Any], options: LossOptions) -> Loss:
        wanted = labels["labels"]
        losses.check_masked(wanted, inputs.get("attention_mask"))
        if outputs.logits.ndim == 2:  # of labelled tokens alone
            wanted = losses.counted(wanted)
        return losses.cross_entropy(outputs.logits, wanted, options)

    def num_items(self, labels: dict[str, Any]) -> int:
        return losses.count_labels(labels["labels"])

    def selected(self, labels: dict[str, Any]) -> Any:
        return losses.labelled(labels["labels"])
