"""What encoder-decoders share: an encoder reads input_ids, a decoder that attends to what it made reads decoder_input_ids.

An architecture's file makes a class of one of these and its own base. Its blueprint is the decoder's, with the encoder's as "source".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from . import losses, modeling_heads
from .cache_utils import DynamicCache, checked_cache, prefill
from .errors import InputError
from .losses import Loss, LossOptions
from .model_inputs import encoder_inputs, integer_array
from .modeling_generation import GenerativeModel
from .modeling_utils import PreTrainedModel, Weights, with_loss

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ._native import Recording

__all__ = ["ConditionalGeneration", "Encoder", "Seq2Seq", "Seq2SeqModel"]

_REFUSED = ("cache_position", "head_mask", "decoder_head_mask", "cross_attn_head_mask")


class Seq2Seq(PreTrainedModel):
    """An encoder and a decoder."""

    input_names: ClassVar[tuple[str, ...]] = (
        "input_ids",
        "attention_mask",
        "decoder_input_ids",
        "decoder_attention_mask",
        "inputs_embeds",
        "decoder_inputs_embeds",
        "encoder_outputs",
    )

    def forward(  # type: ignore[override]  # transformers' order of arguments
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        decoder_input_ids: Any = None,
        decoder_attention_mask: Any = None,
        encoder_outputs: Any = None,
        past_key_values: Any = None,
        inputs_embeds: Any = None,
        decoder_inputs_embeds: Any = None,
        labels: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **others: Any,
    ) -> Any:
        """Run the encoder on B rows of Ts tokens and the decoder on B rows of T.

        input_ids, attention_mask (B, Ts): the encoder's; or encoder_outputs: what `get_encoder()` returned, or a tuple that begins with
        last hidden states (B, Ts, H); then the encoder does not run. decoder_input_ids, decoder_attention_mask (B, T): the decoder's;
        without them the labels moved one place to the right. inputs_embeds, decoder_inputs_embeds: in place of ids.
        past_key_values: a `DynamicCache` that holds the decoder's earlier tokens and what it attends to; use_cache: whether the output
        has one; None: what the configuration says. labels (B, T): as the class says.

        Returns the output class of the model, or with `return_dict=False` the tuple of its values; errors as in `PreTrainedModel.forward`.
        """
        for name in _REFUSED:
            if others.pop(name, None) is not None:
                raise NotImplementedError(f"{type(self).__name__}.forward: {name} is not supported")
        targets = self.label_arguments(labels, others)
        if others:
            raise TypeError(f"{type(self).__name__}.forward has no argument {', '.join(map(repr, others))}")
        if past_key_values is not None:
            checked_cache(past_key_values, self)
        config = self.config
        attentions = bool(config.output_attentions if output_attentions is None else output_attentions)
        hidden = bool(config.output_hidden_states if output_hidden_states is None else output_hidden_states)
        given = {"input_ids": input_ids, "decoder_input_ids": decoder_input_ids, "labels": labels}
        given["decoder_attention_mask"] = decoder_attention_mask
        if decoder_inputs_embeds is None:
            decoder_input_ids = self.complete(given)["decoder_input_ids"]
        if (decoder_input_ids is None) == (decoder_inputs_embeds is None):
            raise InputError("You must specify exactly one of decoder_input_ids or decoder_inputs_embeds")
        held = past_key_values is not None and past_key_values.get_seq_length() > 0
        encoded, source = encoder_outputs, None
        if not held or encoder_outputs is not None:
            if encoded is None:
                encoded = self.encode(input_ids, attention_mask, inputs_embeds, hidden, attentions)
            source = None if held else (_states(encoded), _mask(attention_mask))
        if past_key_values is None and (config.use_cache if use_cache is None else use_cache) and targets is None:
            past_key_values = DynamicCache(self)
        inputs = {"input_ids": decoder_input_ids, "attention_mask": decoder_attention_mask}
        inputs["inputs_embeds"] = decoder_inputs_embeds
        last, _, logits, states, own, cross = self.core.forward(
            **encoder_inputs(inputs, self.embedding_size),
            compute_padding=False,
            selected=self.read_tokens(given | {"decoder_input_ids": decoder_input_ids}),
            output_hidden_states=hidden,
            output_attentions=attentions,
            cache=None if past_key_values is None else past_key_values.core,
            source=source,
            encode=False,
        )
        made = {
            "past_key_values": past_key_values,
            "decoder_hidden_states": _tuple(states),
            "decoder_attentions": _tuple(own),
            "cross_attentions": _tuple(cross),
            "encoder_last_hidden_state": None if encoded is None else _states(encoded),
            "encoder_hidden_states": getattr(encoded, "hidden_states", None),
            "encoder_attentions": getattr(encoded, "attentions", None),
        }
        output = self.answer(last, logits, made)
        if targets is not None:
            output = with_loss(output, self.loss(output, targets, given, LossOptions()).value)
        return output if (config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def encode(
        self, input_ids: Any, attention_mask: Any, inputs_embeds: Any = None, hidden: bool = False, attentions: bool = False
    ) -> Any:
        """The encoder alone: a BaseModelOutput."""
        from .modeling_outputs import BaseModelOutput

        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "inputs_embeds": inputs_embeds}
        last, _, _, states, own, _ = self.core.forward(
            **encoder_inputs(inputs, self.embedding_size),
            compute_padding=False,
            selected=None,
            output_hidden_states=hidden,
            output_attentions=attentions,
            cache=None,
            source=None,
            encode=True,
        )
        return BaseModelOutput(last, _tuple(states), _tuple(own))

    def get_encoder(self) -> Encoder:
        """The encoder as a function of input_ids and attention_mask."""
        return Encoder(self)

    def complete(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch with decoder_input_ids: those given, or made of the labels."""
        if batch.get("decoder_input_ids") is not None or batch.get("labels") is None:
            return batch
        return batch | {"decoder_input_ids": self.prepare_decoder_input_ids_from_labels(batch["labels"])}

    def prepare_decoder_input_ids_from_labels(self, labels: Any) -> NDArray[np.int64]:
        """Labels (B, T) moved one place to the right behind `decoder_start_token_id`, `pad_token_id` for -100."""
        config = self.config
        return shift_tokens_right(labels, config.pad_token_id, self.start_token_id(config))

    def start_token_id(self, config: Any) -> int:
        """What a decoder begins with."""
        start = getattr(config, "decoder_start_token_id", None)
        if start is None:
            raise InputError("config.decoder_start_token_id is None: it is what the decoder's input begins with")
        return int(start)

    def answer(self, last: Any, logits: Any, made: dict[str, Any]) -> Any:
        """What the core returned, as one of `modeling_outputs`."""
        raise NotImplementedError(f"{type(self).__name__} is a base class")

    # --- train --------------------------------------------------------------------------------
    def record(
        self, inputs: dict[str, Any], *, selected: Any, dropout_seed: int | None, gradient_checkpointing: bool
    ) -> tuple[Any, Recording]:
        self.refuse_unknown(inputs)
        for name in ("inputs_embeds", "decoder_inputs_embeds", "encoder_outputs"):
            if inputs.get(name) is not None:
                raise NotImplementedError(f"an encoder-decoder learns from input_ids and decoder_input_ids, not from {name}")
        if inputs.get("decoder_input_ids") is None:
            raise InputError("decoder_input_ids are missing, and there are no labels to make them of")
        own = {"input_ids": inputs["decoder_input_ids"], "attention_mask": inputs.get("decoder_attention_mask")}
        arrays = encoder_inputs(own, self.embedding_size)
        arrays.pop("inputs_embeds")
        source = encoder_inputs({key: inputs.get(key) for key in ("input_ids", "attention_mask")}, self.embedding_size)
        token_ids, source_ids = arrays.pop("input_ids"), source["input_ids"]
        assert token_ids is not None and source_ids is not None
        selected = self.read_tokens(inputs) if selected is None else selected
        last, _, logits, encoded, recording = self.core.record(
            token_ids,
            **arrays,
            compute_padding=False,
            selected=None if selected is None else integer_array("selected", selected),
            dropout=self.dropout(dropout_seed),
            gradient_checkpointing=gradient_checkpointing,
            source=(source_ids, source["attention_mask"]),
        )
        return self.answer(last, logits, {"encoder_last_hidden_state": encoded}), recording


class Encoder:
    """An encoder-decoder's encoder."""

    def __init__(self, model: Seq2Seq) -> None:
        self.model = model

    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        inputs_embeds: Any = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        return_dict: bool = True,
    ) -> Any:
        output = self.model.encode(input_ids, attention_mask, inputs_embeds, output_hidden_states, output_attentions)
        return output if return_dict else output.to_tuple()


class Seq2SeqModel(modeling_heads.WithoutPooler, Seq2Seq):
    """An encoder-decoder without a head: the decoder's hidden states out."""

    def answer(self, last: Any, logits: Any, made: dict[str, Any]) -> Any:
        from .modeling_outputs import Seq2SeqModelOutput

        return Seq2SeqModelOutput(last_hidden_state=last, **made)


class ConditionalGeneration(modeling_heads.HeadModel, Seq2Seq, GenerativeModel):
    """The words of an answer: one number for each word of the vocabulary after each of the decoder's tokens.

    labels: (B, T) integers in 0..vocab_size-1, and -100 for those that do not count; without decoder_input_ids these are made of them.
    """

    reads = "tokens"
    head_dropout = False
    head_bias: ClassVar[bool] = False
    optional_slots: ClassVar[tuple[str, ...]] = ("head.",)

    def head(self, config: Any) -> dict[str, Any]:
        return super().head(config) | {"tied": bool(config.tie_word_embeddings), "bias": self.head_bias}

    def num_outputs(self, config: Any) -> int:
        return int(config.vocab_size)

    def answer(self, last: Any, logits: Any, made: dict[str, Any]) -> Any:
        from .modeling_outputs import Seq2SeqLMOutput

        return Seq2SeqLMOutput(logits=logits, **made)

    def loss(self, outputs: Any, labels: dict[str, Any], inputs: dict[str, Any], options: LossOptions) -> Loss:
        targets = labels["labels"]
        if outputs.logits.ndim == 2:  # of the tokens that have a label alone
            targets = losses.counted(targets)
        return losses.cross_entropy(outputs.logits, targets, options)

    def num_items(self, labels: dict[str, Any]) -> int:
        return losses.count_labels(labels["labels"])

    def selected(self, labels: dict[str, Any]) -> Any:
        return losses.labelled(labels["labels"])

    def prefill(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        copies: int = 1,
        decoder_input_ids: Any = None,
        decoder_attention_mask: Any = None,
        past_key_values: DynamicCache | None = None,
        **model_inputs: Any,
    ) -> tuple[DynamicCache, NDArray[np.float32]]:
        """What `generate` begins with: see `generation/decoding_state.py`."""
        held = past_key_values is not None and past_key_values.get_seq_length() > 0
        source = None if held else (_states(self.encode(input_ids, attention_mask)), _mask(attention_mask))
        return prefill(self, decoder_input_ids, decoder_attention_mask, copies, past_key_values, source=source)


def has_own_head(weights: Weights, head: str, words: str) -> bool:
    """Whether a checkpoint holds weights of a head that are not those of the word embeddings. Then transformers does not share them either,
    whatever the configuration says."""
    if weights.packed is not None:
        from ._native import Checkpoint

        return any(name.startswith("head") for name in Checkpoint([weights.packed]).names())
    checkpoint = weights.checkpoint
    if checkpoint is None or not {head, words} <= set(checkpoint.names()):
        return False
    return checkpoint.shape(head) != checkpoint.shape(words) or not checkpoint.equal(head, words)


def shift_tokens_right(ids: Any, pad_token_id: Any, start_token_id: int) -> NDArray[np.int64]:
    """Ids (B, T) moved one place to the right behind a first one, -100 as padding. InputError without a pad_token_id."""
    import numpy as np

    ids = integer_array("labels", ids)
    if pad_token_id is None:
        raise InputError("config.pad_token_id is None: it stands in the decoder's input where a label is -100")
    shifted = np.concatenate((np.full((len(ids), 1), start_token_id), ids[:, :-1]), axis=1)
    return np.where(shifted == losses.IGNORED, pad_token_id, shifted).astype(np.int64)


def _states(encoded: Any) -> NDArray[np.float32]:
    import numpy as np

    states = encoded[0] if isinstance(encoded, (tuple, list)) else getattr(encoded, "last_hidden_state", encoded)
    states = np.ascontiguousarray(states, np.float32)
    if states.ndim != 3:
        raise InputError(f"encoder_outputs: last hidden states must have the shape (B, Ts, H), got {states.shape}")
    return states


def _mask(mask: Any) -> NDArray[np.int64] | None:
    return None if mask is None else integer_array("attention_mask", mask)


def _tuple(arrays: list[Any] | None) -> tuple[Any, ...] | None:
    return None if arrays is None else tuple(arrays)
