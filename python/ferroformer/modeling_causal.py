"""What decoders share, whatever the architecture: a forward pass without a cache, the head that predicts the next word, the head that
reads the last token of a row.

An architecture's file makes a class of one of these and its own base, as with `modeling_heads`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from . import losses, modeling_heads
from .cache_utils import DynamicCache
from .errors import InputError
from .losses import Loss, LossOptions
from .model_inputs import encoder_inputs
from .modeling_generation import GenerativeModel
from .modeling_utils import PreTrainedModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
            others["past_key_values"] = _checked_cache(past_key_values, self)
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


class CausalLM(DecoderHead, GenerativeModel):
    """The word after each token: one number for each word of the vocabulary.

    The head's weights are the word embeddings, if `config.tie_word_embeddings` says so. labels: (B, T) integers in
    0..vocab_size-1, and -100 for those that do not count; each is predicted at the token before its own, so `labels=input_ids` is
    what a text teaches. InputError for a label that counts where the token before it is masked, for nothing is computed there.
    logits_to_keep: the logits of the last so many columns alone (0: of all), of the columns that an array (K,) or of those that an
    array (B, K) names for each row; with an array (B, T) of bools of these alone, (M, vocabulary). Not with labels.
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

    def inputs(self, *arrays: Any, others: dict[str, Any]) -> dict[str, Any]:
        kept = others.pop("logits_to_keep", 0)
        everything = isinstance(kept, int) and kept == 0
        return super().inputs(*arrays, others=others) | {"logits_to_keep": None if everything else kept}

    def read_tokens(self, inputs: dict[str, Any]) -> Any:
        if inputs.get("logits_to_keep") is None:
            return None
        return _Kept(inputs, self.embedding_size).selected

    def outputs(self, inputs: dict[str, Any], last: Any, pooled: Any, logits: Any, *rest: Any) -> Any:
        if inputs.get("logits_to_keep") is not None:
            logits = _Kept(inputs, self.embedding_size).spread(logits)
        return super().outputs(inputs, last, pooled, logits, *rest)

    def loss(self, outputs: Any, labels: dict[str, Any], inputs: dict[str, Any], options: LossOptions) -> Loss:
        if inputs.get("logits_to_keep") is not None:
            raise InputError("logits_to_keep and labels: a loss is of the logits of all tokens")
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


class _Kept:
    """The places whose logits `logits_to_keep` asks for."""

    def __init__(self, inputs: dict[str, Any], embedding_size: int) -> None:
        import numpy as np

        arrays = encoder_inputs(inputs, embedding_size)
        ids, mask = arrays["input_ids"], arrays["attention_mask"]
        shape = (arrays["inputs_embeds"] if ids is None else ids).shape[:2]  # type: ignore[union-attr]
        self.places = _places(inputs["logits_to_keep"], *shape)
        # (B, T): those of them that are not masked
        self.selected = np.zeros(shape, np.int64)
        self.selected[self.places] = 1 if mask is None else mask[self.places]

    def spread(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (M, V) of the selected tokens, to their places; zeros at those that are masked."""
        import numpy as np

        number = self.selected.cumsum().reshape(self.selected.shape) - 1
        there = self.selected[self.places] == 1
        spread = np.zeros((*there.shape, logits.shape[-1]), np.float32)
        spread[there] = logits[number[self.places][there]]
        return spread


def _places(kept: Any, rows: int, width: int) -> tuple[NDArray[Any], ...]:
    """Rows and columns, of one shape. Raises InputError, TypeError."""
    import numpy as np

    array = np.asarray(kept)
    if array.dtype.kind not in "iub":
        raise TypeError(f"logits_to_keep must be an integer or an array of integers or bools, got dtype {array.dtype}")
    fits = array.ndim < 2 or array.ndim == 2 and len(array) == rows
    if array.dtype.kind == "b":
        fits = array.shape in ((width,), (rows, width))
    if not fits:
        raise InputError(f"logits_to_keep has the shape {array.shape}; the input ({rows}, {width})")
    if array.ndim == 2 and array.dtype.kind == "b":
        return np.nonzero(array)
    try:
        columns = np.arange(width)[-int(array) :] if array.ndim == 0 else np.arange(width)[array]
    except IndexError:
        raise InputError(f"logits_to_keep names a column that a row of {width} tokens has not: {kept!r:.200}") from None
    return tuple(np.broadcast_arrays(np.arange(rows)[:, None], columns))


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


def _checked_cache(cache: Any, model: PreTrainedModel) -> DynamicCache:
    if not isinstance(cache, DynamicCache):
        raise TypeError(f"past_key_values must be a DynamicCache, as a model returns it, got {type(cache).__name__}")
    if cache.model.core is not model.core:
        raise InputError("past_key_values are those of another model")
    return cache


def _last_columns(mask: Any, main: Any) -> Any:
    """Of a mask that has the tokens before too, the columns of the new ones."""
    import numpy as np

    if mask is None or np.ndim(mask) != 2 or np.ndim(main) < 2:
        return mask
    return np.asarray(mask)[:, -np.shape(main)[1] :]


def _output(name: str) -> Any:
    from . import modeling_outputs

    return getattr(modeling_outputs, name)
