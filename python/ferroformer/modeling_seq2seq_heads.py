"""Encoder-decoders that judge a text: encoder and decoder read the same, and a head reads what the decoder makes of it.

An architecture's file makes a class of one of these and its own base, whose `head_table` names the head's tensors.
"""

from __future__ import annotations

from typing import Any, ClassVar

from . import modeling_heads
from .errors import InputError
from .losses import Loss, LossOptions
from .model_inputs import integer_array
from .modeling_seq2seq import Seq2Seq

__all__ = ["QuestionAnswering", "SameText", "SequenceClassification"]


class SameText(Seq2Seq):
    """An encoder-decoder whose decoder, without decoder_input_ids, reads input_ids, moved one place to the right."""

    def complete(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch = super().complete(batch)
        if any(batch.get(name) is not None for name in ("decoder_input_ids", "decoder_inputs_embeds")):
            return batch
        if batch.get("input_ids") is None:
            raise InputError("without decoder_input_ids these are made of input_ids, which are missing too")
        return batch | {"decoder_input_ids": self.prepare_decoder_input_ids_from_labels(batch["input_ids"])}


class SequenceClassification(modeling_heads.SequenceClassification, SameText):
    """A label, several, or numbers for each row: two linear layers on what the decoder makes of the row's last eos_token_id.

    labels: as in `modeling_heads.SequenceClassification`. Raises InputError unless all rows have as many eos_token_id, and one at least.
    """

    reads = "tokens"
    optional_slots: ClassVar[tuple[str, ...]] = ("head.",)

    def transform_spec(self, config: Any) -> dict[str, Any]:
        return {"activation": "tanh"}

    def complete(self, batch: dict[str, Any]) -> dict[str, Any]:
        # labels are no words
        return super().complete(batch | {"labels": None}) | {"labels": batch.get("labels")}

    def read_tokens(self, inputs: dict[str, Any]) -> Any:
        import numpy as np

        if inputs.get("input_ids") is None:
            raise NotImplementedError(f"{type(self).__name__} reads input_ids: their eos_token_id says where")
        ids, eos = integer_array("input_ids", inputs["input_ids"]), self.config.eos_token_id
        if not isinstance(eos, int):
            raise InputError(f"config.eos_token_id={eos!r}: one id is needed, where the label is read")
        counts = (ids == eos).sum(1)
        if (counts == 0).any() or (counts != counts[0]).any():
            raise InputError(
                f"input_ids have {counts.tolist()} eos_token_id={eos} in their rows: as many in each, and one at least, are needed"
            )
        last = ids.shape[1] - 1 - (ids == eos)[:, ::-1].argmax(1)
        read = (np.arange(ids.shape[1]) == last[:, None]).astype(np.int64)
        mask = inputs.get("decoder_attention_mask")
        if mask is not None and not (np.asarray(mask)[read == 1] == 1).all():
            raise InputError("decoder_attention_mask is 0 where a row's last eos_token_id stands: the label is read there")
        return read

    def answer(self, last: Any, logits: Any, made: dict[str, Any]) -> Any:
        from .modeling_outputs import Seq2SeqSequenceClassifierOutput

        return Seq2SeqSequenceClassifierOutput(logits=logits, **made)

    def dropout_rates(self) -> tuple[float, float, float, float]:
        if rate := self.config.classifier_dropout:
            raise NotImplementedError(f"classifier_dropout={rate}: training without it is what is supported")
        return super().dropout_rates()


class QuestionAnswering(modeling_heads.QuestionAnswering, SameText):
    """Where in each row an answer begins and ends: two numbers for each of the decoder's tokens.

    start_positions, end_positions: as in `modeling_heads.QuestionAnswering`. The loss is of all logits: NotImplementedError with zeros in
    decoder_attention_mask, where nothing is computed.
    """

    loss_reads_padding = False

    def forward(  # type: ignore[override]  # transformers' order of arguments
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        decoder_input_ids: Any = None,
        decoder_attention_mask: Any = None,
        encoder_outputs: Any = None,
        start_positions: Any = None,
        end_positions: Any = None,
        **others: Any,
    ) -> Any:
        """Run encoder and decoder: inputs, options and errors as in `Seq2Seq.forward`; labels as the class says."""
        return Seq2Seq.forward(
            self,
            input_ids,
            attention_mask,
            decoder_input_ids,
            decoder_attention_mask,
            encoder_outputs,
            start_positions=start_positions,
            end_positions=end_positions,
            **others,
        )

    def answer(self, last: Any, logits: Any, made: dict[str, Any]) -> Any:
        from .modeling_outputs import Seq2SeqQuestionAnsweringModelOutput

        return Seq2SeqQuestionAnsweringModelOutput(None, logits[:, :, 0], logits[:, :, 1], **made)

    def loss(self, outputs: Any, labels: dict[str, Any], inputs: dict[str, Any], options: LossOptions) -> Loss:
        import numpy as np

        mask = inputs.get("decoder_attention_mask")
        if mask is not None and not np.all(np.asarray(mask) == 1):
            raise NotImplementedError("a loss with zeros in decoder_attention_mask: it would be of logits that are not computed")
        return super().loss(outputs, labels, inputs, options)
