"""What decoders share, whatever the architecture: a forward pass without a cache, the head that predicts the next word, the head that
reads the last token of a row.

An architecture's file makes a class of one of these and its own base, as with `modeling_heads`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from . import losses, modeling_heads
from .cache_utils import DynamicCache, checked_cache
from .errors import InputError
from .kept_logits import KeepsLogits
from .losses import Loss, LossOptions
from .model_inputs import encoder_inputs
from .modeling_generation import GenerativeModel
from .modeling_utils import PreTrainedModel

__all__ = ["CausalLM", "Decoder", "DecoderModel", "SequenceClassification"]

# what transformers' decoders take and these do not
_REFUSED = ("cache_position", "encoder_hidden_states", "encoder_attention_mask", "shift_labels", "token_type_ids")


class Decoder(PreTrainedModel):
    """A model whose tokens attend to themselves and to those before them.

    Positions are the columns of a row, padding on the left included, unless `position_ids` says otherwise.
    """

    # whether what a call has seen is kept for the next, where nobody says
    remembers: ClassVar[bool] = False

    input_names: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask", "position_ids", "inputs_embeds")

    def forward(  # type: ignore[override]  # transformers' order of arguments
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        position_ids: Any = None,
        past_key_values: Any = None,
        inputs_embeds: Any = None,
        labels: Any = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        **others: Any,
    ) -> Any:
        """Run the model on B rows of T tokens: inputs, options and errors as in `PreTrainedModel.forward`; labels as the class says.

        past_key_values: a `DynamicCache` that holds the tokens before these; these are added to it, and the output has it.
        attention_mask may then be (B, tokens before + T). use_cache: whether the output has one; None: what the configuration says of a
        call without labels to a model that may go on, not of one that judges a text.
        NotImplementedError for other arguments that transformers has and this has not.
        """
        refused = {name: others.pop(name, None) for name in _REFUSED}
        for name, value in refused.items():
            if value is not None:
                raise NotImplementedError(f"{type(self).__name__}.forward: {name} is not supported")
        if past_key_values is not None:
            others["past_key_values"] = checked_cache(past_key_values, self)
            attention_mask = _last_columns(attention_mask, input_ids if inputs_embeds is None else inputs_embeds)
        elif (self.remembers and labels is None and self.config.use_cache) if use_cache is None else use_cache:
            others["past_key_values"] = DynamicCache(self)
        return super().forward(
            input_ids,
            attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            labels=labels,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            return_dict=return_dict,
            **others,
        )


    def inputs(self, *arrays: Any, others: dict[str, Any]) -> dict[str, Any]:
        cache = others.pop("past_key_values", None)
        return super().inputs(*arrays, others=others) | {"past_key_values": cache}


class DecoderModel(modeling_heads.WithoutPooler, Decoder):
    """A decoder without a head: hidden states out."""

    remembers = True

    output_class: ClassVar[str] = "BaseModelOutputWithPast"

    def outputs(
        self, inputs: dict[str, Any], last: Any, pooled: Any, logits: Any, hidden: Any = None, attentions: Any = None
    ) -> Any:
        past = inputs.get("past_key_values")
        return _output(self.output_class)(last, past, hidden_states=hidden, attentions=attentions)


class DecoderHead(modeling_heads.HeadModel, Decoder):
    """A decoder under a head on tokens."""

    reads = "tokens"
    head_dropout = False

    def outputs(
        self, inputs: dict[str, Any], last: Any, pooled: Any, logits: Any, hidden: Any = None, attentions: Any = None
    ) -> Any:
        past = inputs.get("past_key_values")
        return _output(self.output_class)(logits=logits, past_key_values=past, hidden_states=hidden, attentions=attentions)


class CausalLM(KeepsLogits, DecoderHead, GenerativeModel):
    """The word after each token: one number for each word of the vocabulary.

    The head's weights are the word embeddings, if `config.tie_word_embeddings` says so. labels: (B, T) integers in
    0..vocab_size-1, and -100 for those that do not count; each is predicted at the token before its own, so `labels=input_ids` is
    what a text teaches. InputError for a label that counts where the token before it is masked, for nothing is computed there.
    logits_to_keep: as `KeepsLogits` has it.
    """

    output_class = "CausalLMOutputWithPast"
    remembers = True
    optional_slots: ClassVar[tuple[str, ...]] = ("head.",)
    tied_tensors = ("lm_head.weight",)
    head_bias: ClassVar[bool] = False

    def head(self, config: Any) -> dict[str, Any]:
        return super().head(config) | {"tied": bool(config.tie_word_embeddings), "bias": self.head_bias}

    def num_outputs(self, config: Any) -> int:
        return int(config.vocab_size)

    def loss(self, outputs: Any, labels: dict[str, Any], inputs: dict[str, Any], options: LossOptions) -> Loss:
        self.check_all_kept(inputs)
        targets = losses.shifted(labels["labels"])
        _check_predicted(targets, inputs.get("attention_mask"))
        if outputs.logits.ndim == 2:  # of the tokens that predict a label alone
            targets = losses.counted(targets)
        return losses.cross_entropy(outputs.logits, targets, options)

    def num_items(self, labels: dict[str, Any]) -> int:
        return losses.count_labels(losses.shifted(labels["labels"]))

    def selected(self, labels: dict[str, Any]) -> Any:
        return losses.labelled(losses.shifted(labels["labels"]))


class SequenceClassification(DecoderHead, modeling_heads.SequenceClassification):
    """A label, several, or numbers for each row: a linear layer without bias on the last token that is not `config.pad_token_id`.

    Without a pad_token_id, or with inputs_embeds, that is the last column; several rows need a pad_token_id. InputError where that
    token is masked. labels: as in `modeling_heads.SequenceClassification`.
    """

    output_class = "SequenceClassifierOutputWithPast"
    optional_slots: ClassVar[tuple[str, ...]] = ("head.",)

    def head(self, config: Any) -> dict[str, Any]:
        return super().head(config) | {"bias": False}

    def read_tokens(self, inputs: dict[str, Any]) -> Any:
        import numpy as np

        arrays, padding = encoder_inputs(inputs, self.embedding_size), self.config.pad_token_id
        ids, mask = arrays["input_ids"], arrays["attention_mask"]
        rows, width = (arrays["inputs_embeds"] if ids is None else ids).shape[:2]  # type: ignore[union-attr]
        if padding is None and rows != 1:
            raise InputError(f"{rows} rows, and config.pad_token_id is None: it says where a row ends")
        last = np.full(rows, width - 1)
        if padding is not None and ids is not None:
            last = (np.arange(width) * (ids != padding)).argmax(-1)
        if mask is not None and not (there := mask[np.arange(rows), last]).all():
            row = int(np.argmin(there))
            found = f"attention_mask[{row}, {last[row]}] is 0, where the last token that is not pad_token_id={padding} stands"
            raise InputError(f"{found}: expected 1, for the label is read there")
        return (np.arange(width) == last[:, None]).astype(np.int64)


def _check_predicted(targets: Any, attention_mask: Any) -> None:
    """InputError if a label, where it is predicted, meets a token that is masked."""
    import numpy as np

    if attention_mask is None or targets.shape != np.shape(attention_mask):
        return  # shapes are checked with the logits
    wrong = (np.asarray(attention_mask) == 0) & (targets != losses.IGNORED)
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        found = f"labels[{row}, {column + 1}] is {targets[row, column]}, which the token before it would predict"
        raise InputError(f"{found}, where attention_mask is 0: expected {losses.IGNORED}")


def _last_columns(mask: Any, main: Any) -> Any:
    """Of a mask that has the tokens before too, the columns of the new ones."""
    import numpy as np

    if mask is None or np.ndim(mask) != 2 or np.ndim(main) < 2:
        return mask
    return np.asarray(mask)[:, -np.shape(main)[1] :]


def _output(name: str) -> Any:
    from . import modeling_outputs

    return getattr(modeling_outputs, name)
