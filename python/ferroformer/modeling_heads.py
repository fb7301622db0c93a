"""What models with a head share, whatever the architecture inside: the forward pass, outputs and losses of each task.

An architecture's file makes a class of one of these and its own base, and says there what the head consists of:
`head_table` names its tensors, `pooler_spec` and `transform_spec` the layers before its last.
"""

from __future__ import annotations

from typing import Any, ClassVar

from . import losses
from .errors import ConfigError
from .kept_logits import KeepsLogits
from .losses import Loss, LossOptions
from .model_inputs import merge_choices
from .modeling_utils import PreTrainedModel

__all__ = [
    "HeadModel",
    "MaskedLM",
    "MultipleChoice",
    "NextSentencePrediction",
    "PreTraining",
    "QuestionAnswering",
    "SequenceClassification",
    "TokenClassification",
    "WithPooler",
    "WithoutPooler",
]

# A logit that no argmax takes; what transformers' pipeline gives to tokens that cannot be an answer.
UNREACHABLE = -10000.0


class WithPooler(PreTrainedModel):
    """A model without a head: hidden states and a pooled vector out. With `add_pooling_layer=False` there is no pooler, and
    `pooler_output` is None."""

    optional_slots: ClassVar[tuple[str, ...]] = ("pooler.",)

    def __init__(self, config: Any, add_pooling_layer: bool = True, **kwargs: Any) -> None:
        self.check(config)
        pooler = self.pooler_spec(config) if add_pooling_layer else None
        super().__init__(config, self.blueprint(config, pooler, None), **kwargs)


class WithoutPooler(PreTrainedModel):
    """A model without a head and without a pooler: hidden states out."""

    def __init__(self, config: Any, **kwargs: Any) -> None:
        self.check(config)
        super().__init__(config, self.blueprint(config, None, None), **kwargs)

    def outputs(
        self, inputs: dict[str, Any], last: Any, pooled: Any, logits: Any, hidden: Any = None, attentions: Any = None
    ) -> Any:
        from .modeling_outputs import BaseModelOutput

        return BaseModelOutput(last, hidden, attentions)


class HeadModel(PreTrainedModel):
    """A model and one linear layer, on the pooled vector of each row or on each token."""

    optional_slots: ClassVar[tuple[str, ...]] = ("pooler.", "head.")
    label_names: ClassVar[tuple[str, ...]] = ("labels",)
    reads: ClassVar[str] = "pooled"
    output_class: ClassVar[str] = "SequenceClassifierOutput"
    head_dropout: ClassVar[bool] = True

    def __init__(self, config: Any, **kwargs: Any) -> None:
        self.check(config)
        second = self.second_head(config)
        pooler = self.pooler_spec(config) if self.reads == "pooled" or second else None
        parts = self.blueprint(config, pooler, self.head(config))
        super().__init__(config, parts | {"second_head": second}, **kwargs)

    def second_head(self, config: Any) -> dict[str, Any] | None:
        """Another head, on the pooled vector of each row, if there is one."""
        return None

    def head(self, config: Any) -> dict[str, Any]:
        """The head in the compiled core's words."""
        return {"reads": self.reads, "outputs": self.num_outputs(config), "transform": self.transform_spec(config)}

    def num_outputs(self, config: Any) -> int:
        """The outputs of the head."""
        return int(config.num_labels)

    def outputs(
        self, inputs: dict[str, Any], last: Any, pooled: Any, logits: Any, hidden: Any = None, attentions: Any = None
    ) -> Any:
        from . import modeling_outputs

        return getattr(modeling_outputs, self.output_class)(None, logits, hidden, attentions)

    def loss(self, outputs: Any, labels: dict[str, Any], inputs: dict[str, Any], options: LossOptions) -> Loss:
        return losses.cross_entropy(outputs.logits, labels["labels"], options)

    def num_items(self, labels: dict[str, Any]) -> int:
        return len(labels["labels"])

    def dropout_rates(self) -> tuple[float, float, float, float]:
        hidden, attention, head, pooler = super().dropout_rates()
        return hidden, attention, head if self.head_dropout else 0.0, pooler


class SequenceClassification(HeadModel):
    """A label, several, or numbers for each row: a linear layer on the pooled vector.

    labels: (B,) integers in 0..num_labels-1 (cross-entropy); floats (B, num_labels) for several labels a row (binary
    cross-entropy) or, as `config.problem_type` "regression" and where num_labels is 1, numbers (mean squared error).
    """

    def loss(self, outputs: Any, labels: dict[str, Any], inputs: dict[str, Any], options: LossOptions) -> Loss:
        return losses.classification(self.config, outputs.logits, labels["labels"], options)


class TokenClassification(HeadModel):
    """A label for each token: a linear layer on the last hidden states.

    labels: (B, T) integers in 0..num_labels-1, and -100 for tokens that do not count, among them all that are masked.
    """

    reads = "tokens"
    output_class = "TokenClassifierOutput"

    def loss(self, outputs: Any, labels: dict[str, Any], inputs: dict[str, Any], options: LossOptions) -> Loss:
        losses.check_masked(labels["labels"], inputs.get("attention_mask"))
        return losses.cross_entropy(outputs.logits, labels["labels"], options)

    def num_items(self, labels: dict[str, Any]) -> int:
        return losses.count_labels(labels["labels"])


class NextSentencePrediction(HeadModel):
    """Whether the second sentence of a pair follows the first: two numbers for each row.

    labels: (B,) integers, 0 if it follows and 1 if it does not.
    """

    output_class = "NextSentencePredictorOutput"

    def num_outputs(self, config: Any) -> int:
        return 2


class MultipleChoice(HeadModel):
    """Which of several rows fits best: one number for each, from its pooled vector.

    Inputs have one axis more, of choices: input_ids (B, choices, T); logits are (B, choices), hidden states and attentions have
    B * choices rows. labels: (B,) integers in 0..choices-1.
    """

    output_class = "MultipleChoiceModelOutput"

    def num_outputs(self, config: Any) -> int:
        return 1

    def prepared(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return merge_choices(super().prepared(inputs))

    def outputs(self, inputs: dict[str, Any], last: Any, pooled: Any, logits: Any, *rest: Any) -> Any:
        main = inputs["inputs_embeds"] if inputs["input_ids"] is None else inputs["input_ids"]
        return super().outputs(inputs, last, pooled, logits.reshape(len(main), -1), *rest)


class QuestionAnswering(HeadModel):
    """Where in each row an answer begins and ends: two numbers for each token.

    start_positions, end_positions: (B,) integers; those outside of 0..T-1 do not count. As transformers has it, the loss is of
    the logits of masked tokens too. Without labels these are not computed, and are -10000.
    """

    label_names = ("start_positions", "end_positions")
    loss_reads_padding = True
    reads = "tokens"
    head_dropout = False

    def num_outputs(self, config: Any) -> int:
        if config.num_labels != 2:
            raise ConfigError(f"num_labels={config.num_labels}: question answering has 2, the start and the end")
        return 2

    def outputs(
        self, inputs: dict[str, Any], last: Any, pooled: Any, logits: Any, hidden: Any = None, attentions: Any = None
    ) -> Any:
        from .modeling_outputs import QuestionAnsweringModelOutput

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
        **others: Any,
    ) -> Any:
        """Run the model on B rows of T tokens: inputs, options and errors as in `PreTrainedModel.forward`; labels as the class says.

        Returns a QuestionAnsweringModelOutput, or with `return_dict=False` the tuple of its values.
        """
        output = super().forward(
            input_ids,
            attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            start_positions=start_positions,
            end_positions=end_positions,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            return_dict=True,
            **others,
        )
        if start_positions is None and attention_mask is not None:
            import numpy as np

            padding = np.asarray(attention_mask) == 0
            output.start_logits[padding] = output.end_logits[padding] = UNREACHABLE
        return self._answer(output, return_dict)


class MaskedLM(KeepsLogits, HeadModel):
    """The words that stand where words were masked: one number for each word of the vocabulary, for each token.

    The head's weights are the word embeddings, unless `config.tie_word_embeddings` is False. labels: (B, T) integers in
    0..vocab_size-1, and -100 for tokens that do not count, among them all that are masked out. logits_to_keep: as `KeepsLogits` has it.
    """

    reads = "tokens"
    head_dropout = False
    output_class = "MaskedLMOutput"
    optional_slots: ClassVar[tuple[str, ...]] = ("head.", "embeddings.word.bias")
    # transformers 4 saved one bias, whether or not the weights were shared
    stand_ins: ClassVar[dict[str, str]] = {"head.bias": "embeddings.word.bias"}

    def head(self, config: Any) -> dict[str, Any]:
        return super().head(config) | {"tied": bool(config.tie_word_embeddings)}

    def num_outputs(self, config: Any) -> int:
        return int(config.vocab_size)

    def loss(self, outputs: Any, labels: dict[str, Any], inputs: dict[str, Any], options: LossOptions) -> Loss:
        return self.words_loss(outputs.logits, labels["labels"], inputs, options)

    def words_loss(self, logits: Any, labels: Any, inputs: dict[str, Any], options: LossOptions) -> Loss:
        """The cross-entropy of labelled tokens."""
        self.check_all_kept(inputs)
        losses.check_masked(labels, inputs.get("attention_mask"))
        if logits.ndim == 2:  # of labelled tokens alone
            labels = losses.counted(labels)
        return losses.cross_entropy(logits, labels, options)

    def num_items(self, labels: dict[str, Any]) -> int:
        return losses.count_labels(labels["labels"])

    def selected(self, labels: dict[str, Any]) -> Any:
        return losses.labelled(labels["labels"])


class PreTraining(MaskedLM):
    """Masked words, and two numbers for each row, from its pooled vector: whether a second text follows the first, or stands in order.

    The two labels belong together: `labels` as a MaskedLM's, and (B,) integers, 0 or 1, under the second of `label_names`. The loss is
    the sum of both.
    """

    optional_slots = ("head.", "embeddings.word.bias", "second_head.", "pooler.")

    def second_head(self, config: Any) -> dict[str, Any]:
        return {"reads": "pooled", "outputs": 2}

    def outputs(
        self, inputs: dict[str, Any], last: Any, pooled: Any, logits: Any, hidden: Any = None, attentions: Any = None
    ) -> Any:
        from . import modeling_outputs

        return getattr(modeling_outputs, self.output_class)(None, self.kept(inputs, logits), pooled, hidden, attentions)

    def loss(self, outputs: Any, labels: dict[str, Any], inputs: dict[str, Any], options: LossOptions) -> Loss:
        import numpy as np

        words, order = self.label_names
        prediction, second = [value for name, value in outputs.items() if name.endswith("_logits")]
        first = self.words_loss(prediction, labels[words], inputs, options)
        other = losses.cross_entropy(second, np.reshape(labels[order], -1))
        return Loss(np.float32(first.value + other.value), (first.gradient, other.gradient))  # type: ignore[arg-type]

    def loss_gradients(self, gradient: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"logits": gradient[0], "pooler_output": gradient[1]}
