"""What a model returns: numpy arrays under names, in a fixed order."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "BaseModelOutputWithPast",
    "BaseModelOutputWithPastAndCrossAttentions",
    "BaseModelOutputWithPooling",
    "CausalLMOutputWithCrossAttentions",
    "CausalLMOutputWithPast",
    "MaskedLMOutput",
    "ModelOutput",
    "MultipleChoiceModelOutput",
    "NextSentencePredictorOutput",
    "QuestionAnsweringModelOutput",
    "Seq2SeqLMOutput",
    "Seq2SeqModelOutput",
    "Seq2SeqQuestionAnsweringModelOutput",
    "Seq2SeqSequenceClassifierOutput",
    "SequenceClassifierOutput",
    "SequenceClassifierOutputWithPast",
    "TokenClassifierOutput",
]


class ModelOutput(OrderedDict[str, Any]):
    """An ordered dict of the fields that are not None, which are attributes too and can be indexed like a tuple.

    Iteration yields names, as in a dict; `to_tuple()` gives the values. Subclasses are dataclasses.
    """

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            value = getattr(self, field.name)
            if value is not None:
                super().__setitem__(field.name, value)

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self, key, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if value is not None and name in type(self).__dataclass_fields__:  # type: ignore[attr-defined]
            super().__setitem__(name, value)
        super().__setattr__(name, value)

    def to_tuple(self) -> tuple[Any, ...]:
        """The values that are not None."""
        return tuple(self[name] for name in self.keys())

    def __reduce__(self) -> Any:
        return type(self), tuple(getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(f"the fields of {type(self).__name__} are fixed")

    __delitem__ = pop = popitem = setdefault = update = clear = _refuse


@dataclass(eq=False, repr=False)
class BaseModelOutputWithPooling(ModelOutput):
    """What an encoder returns; all arrays are float32.

    last_hidden_state (B, T, H): zeros where the attention mask is zero.
    pooler_output (B, H): None for a model without a pooling layer.
    hidden_states: with `output_hidden_states` a tuple of layers + 1 arrays (B, T, H), the embeddings first.
    attentions: with `output_attentions` a tuple with one array (B, heads, T, T) per layer, after the softmax.
    """

    last_hidden_state: NDArray[np.float32] | None = None
    pooler_output: NDArray[np.float32] | None = None
    hidden_states: tuple[NDArray[np.float32], ...] | None = None
    attentions: tuple[NDArray[np.float32], ...] | None = None


@dataclass(eq=False, repr=False)
class BaseModelOutput(ModelOutput):
    """What an encoder without a pooler returns; the fields are those of BaseModelOutputWithPooling."""

    last_hidden_state: NDArray[np.float32] | None = None
    hidden_states: tuple[NDArray[np.float32], ...] | None = None
    attentions: tuple[NDArray[np.float32], ...] | None = None


@dataclass(eq=False, repr=False)
class _HeadOutput(ModelOutput):
    """What a model with a head returns; hidden_states and attentions as in BaseModelOutputWithPooling."""

    loss: np.float32 | None = None
    logits: NDArray[np.float32] | None = None
    hidden_states: tuple[NDArray[np.float32], ...] | None = None
    attentions: tuple[NDArray[np.float32], ...] | None = None


class SequenceClassifierOutput(_HeadOutput):
    """logits (B, num_labels): before the softmax; loss: with `labels`."""


class TokenClassifierOutput(_HeadOutput):
    """logits (B, T, num_labels): before the softmax, zeros where the mask is zero; loss: with `labels`."""


class MaskedLMOutput(_HeadOutput):
    """logits (B, T, vocabulary): before the softmax, zeros where the mask is zero; loss: with `labels`."""


@dataclass(eq=False, repr=False)
class QuestionAnsweringModelOutput(ModelOutput):
    """What a model that marks answers returns; hidden_states and attentions as in BaseModelOutputWithPooling.

    start_logits, end_logits (B, T): before the softmax; loss: with `start_positions` and `end_positions`.
    """

    loss: np.float32 | None = None
    start_logits: NDArray[np.float32] | None = None
    end_logits: NDArray[np.float32] | None = None
    hidden_states: tuple[NDArray[np.float32], ...] | None = None
    attentions: tuple[NDArray[np.float32], ...] | None = None


class MultipleChoiceModelOutput(_HeadOutput):
    """logits (B, choices): before the softmax; loss: with `labels`."""


class NextSentencePredictorOutput(_HeadOutput):
    """logits (B, 2): that the second sentence follows the first, that it does not; loss: with `labels`."""


class ElectraForPreTrainingOutput(_HeadOutput):
    """logits (B, T): positive where a token was replaced, zeros where the mask is zero; loss: with `labels`."""


@dataclass(eq=False, repr=False)
class BertForPreTrainingOutput(ModelOutput):
    """prediction_logits (B, T, vocabulary) and seq_relationship_logits (B, 2): before the softmax; loss: with both labels."""

    loss: np.float32 | None = None
    prediction_logits: NDArray[np.float32] | None = None
    seq_relationship_logits: NDArray[np.float32] | None = None
    hidden_states: tuple[NDArray[np.float32], ...] | None = None
    attentions: tuple[NDArray[np.float32], ...] | None = None


class ErnieForPreTrainingOutput(BertForPreTrainingOutput):
    """As BertForPreTrainingOutput."""


class MobileBertForPreTrainingOutput(BertForPreTrainingOutput):
    """As BertForPreTrainingOutput."""


@dataclass(eq=False, repr=False)
class AlbertForPreTrainingOutput(ModelOutput):
    """prediction_logits (B, T, vocabulary) and sop_logits (B, 2): before the softmax; loss: with both labels."""

    loss: np.float32 | None = None
    prediction_logits: NDArray[np.float32] | None = None
    sop_logits: NDArray[np.float32] | None = None
    hidden_states: tuple[NDArray[np.float32], ...] | None = None
    attentions: tuple[NDArray[np.float32], ...] | None = None


@dataclass(eq=False, repr=False)
class BaseModelOutputWithPast(ModelOutput):
    """What a decoder returns; last_hidden_state, hidden_states and attentions as in BaseModelOutputWithPooling.

    past_key_values: the `DynamicCache` that holds these tokens, with `use_cache`.
    """

    last_hidden_state: NDArray[np.float32] | None = None
    past_key_values: Any = None
    hidden_states: tuple[NDArray[np.float32], ...] | None = None
    attentions: tuple[NDArray[np.float32], ...] | None = None


@dataclass(eq=False, repr=False)
class BaseModelOutputWithPastAndCrossAttentions(BaseModelOutputWithPast):
    """As BaseModelOutputWithPast; cross_attentions: of a decoder that reads an encoder, which this is not."""

    cross_attentions: tuple[NDArray[np.float32], ...] | None = None


@dataclass(eq=False, repr=False)
class _DecoderOutput(ModelOutput):
    """What a decoder with a head returns; the other fields as in BaseModelOutputWithPast."""

    loss: np.float32 | None = None
    logits: NDArray[np.float32] | None = None
    past_key_values: Any = None
    hidden_states: tuple[NDArray[np.float32], ...] | None = None
    attentions: tuple[NDArray[np.float32], ...] | None = None


class CausalLMOutputWithPast(_DecoderOutput):
    """logits (B, T, vocabulary), or of `logits_to_keep` alone: of the word after each token, before the softmax, zeros where the mask
    is zero; loss: with `labels`."""


@dataclass(eq=False, repr=False)
class CausalLMOutputWithCrossAttentions(_DecoderOutput):
    """As CausalLMOutputWithPast; cross_attentions: of a decoder that reads an encoder, which this is not."""

    cross_attentions: tuple[NDArray[np.float32], ...] | None = None


class SequenceClassifierOutputWithPast(_DecoderOutput):
    """logits (B, num_labels): before the softmax; loss: with `labels`."""


@dataclass(eq=False, repr=False)
class Seq2SeqModelOutput(ModelOutput):
    """What an encoder-decoder returns; all arrays are float32, zeros where a mask is zero.

    last_hidden_state (B, T, H): the decoder's. past_key_values: the `DynamicCache` that holds its tokens, with `use_cache`.
    decoder_hidden_states, encoder_hidden_states: with `output_hidden_states` tuples of layers + 1 arrays, (B, T, H) and (B, Ts, H).
    decoder_attentions, cross_attentions, encoder_attentions: with `output_attentions` tuples with one array per layer, after the
    softmax: (B, heads, T, T), (B, heads, T, Ts), (B, heads, Ts, Ts). encoder_last_hidden_state (B, Ts, H).
    """

    last_hidden_state: NDArray[np.float32] | None = None
    past_key_values: Any = None
    decoder_hidden_states: tuple[NDArray[np.float32], ...] | None = None
    decoder_attentions: tuple[NDArray[np.float32], ...] | None = None
    cross_attentions: tuple[NDArray[np.float32], ...] | None = None
    encoder_last_hidden_state: NDArray[np.float32] | None = None
    encoder_hidden_states: tuple[NDArray[np.float32], ...] | None = None
    encoder_attentions: tuple[NDArray[np.float32], ...] | None = None


@dataclass(eq=False, repr=False)
class _Seq2SeqHeadOutput(ModelOutput):
    """What an encoder-decoder with a head returns; the other fields as in Seq2SeqModelOutput."""

    loss: np.float32 | None = None
    logits: NDArray[np.float32] | None = None
    past_key_values: Any = None
    decoder_hidden_states: tuple[NDArray[np.float32], ...] | None = None
    decoder_attentions: tuple[NDArray[np.float32], ...] | None = None
    cross_attentions: tuple[NDArray[np.float32], ...] | None = None
    encoder_last_hidden_state: NDArray[np.float32] | None = None
    encoder_hidden_states: tuple[NDArray[np.float32], ...] | None = None
    encoder_attentions: tuple[NDArray[np.float32], ...] | None = None


class Seq2SeqLMOutput(_Seq2SeqHeadOutput):
    """logits (B, T, vocabulary): of the word after each of the decoder's tokens, before the softmax; loss: with `labels`."""


class Seq2SeqSequenceClassifierOutput(_Seq2SeqHeadOutput):
    """logits (B, num_labels): before the softmax; loss: with `labels`."""


@dataclass(eq=False, repr=False)
class Seq2SeqQuestionAnsweringModelOutput(ModelOutput):
    """What an encoder-decoder that marks answers returns; the other fields as in Seq2SeqModelOutput.

    start_logits, end_logits (B, T): before the softmax; loss: with `start_positions` and `end_positions`.
    """

    loss: np.float32 | None = None
    start_logits: NDArray[np.float32] | None = None
    end_logits: NDArray[np.float32] | None = None
    past_key_values: Any = None
    decoder_hidden_states: tuple[NDArray[np.float32], ...] | None = None
    decoder_attentions: tuple[NDArray[np.float32], ...] | None = None
    cross_attentions: tuple[NDArray[np.float32], ...] | None = None
    encoder_last_hidden_state: NDArray[np.float32] | None = None
    encoder_hidden_states: tuple[NDArray[np.float32], ...] | None = None
    encoder_attentions: tuple[NDArray[np.float32], ...] | None = None
