"""A text that answers a text: the tasks of encoder-decoders, as version 4 of transformers has them."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

from .base import Row
from .generation import GenerationPipeline, ReturnType, Written

__all__ = ["SummarizationPipeline", "Text2TextGenerationPipeline", "TranslationPipeline"]


class Text2TextGenerationPipeline(GenerationPipeline):
    """pipe("a text") -> [{"generated_text"}], one for each of `num_return_sequences`. A list of texts with one each gives a list
    of dicts.

    return_tensors: True for {"generated_token_ids"}. clean_up_tokenization_spaces: for decoding, False by default.
    truncation: for the tokenizer. stop_sequence: a text whose first token ends what is written.
    Others are `generate`'s. Unless somebody says otherwise up to 256 tokens are written, the best of 4 beams.
    What the configuration's `task_specific_params` say for the task holds too: settings, and a `prefix` of each text.
    """

    kinds = ("ForConditionalGeneration", "ForSeq2SeqLM", "MTModel")
    defaults = {"max_new_tokens": 256, "num_beams": 4}
    padding_side = "right"
    counts_prompt = False
    return_name: ClassVar[str] = "generated"

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        results = super().__call__(inputs, **kwargs)
        one_each = isinstance(inputs, list) and all(isinstance(item, str) for item in inputs)
        if one_each and all(len(result) == 1 for result in results):
            return [result[0] for result in results]
        return results

    def parameters(
        self,
        return_tensors: bool | None = None,
        return_text: bool | None = None,
        return_type: Any = None,
        clean_up_tokenization_spaces: bool | None = None,
        truncation: Any = None,
        stop_sequence: str | None = None,
        **generate_kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if return_tensors is not None and return_type is None:
            return_type = ReturnType.TENSORS if return_tensors else ReturnType.NEW_TEXT
        for name in ("assistant_model", "assistant_tokenizer"):
            if generate_kwargs.get(name) is not None:
                raise NotImplementedError(f"{name}: drafts of another model are not supported")
        if stop_sequence is not None:
            ids = self.tokenizer(stop_sequence, add_special_tokens=False)["input_ids"]
            if not ids:
                raise ValueError(f"stop_sequence={stop_sequence!r}: a text with a token is needed")
            if len(ids) > 1:
                warnings.warn(
                    "Stopping on a multiple token sequence is not yet supported on transformers. The first token of the stop "
                    "sequence will be used as the stop sequence string in the interim.",
                    stacklevel=3,
                )
            generate_kwargs["eos_token_id"] = ids[0]
        postprocess = {"return_type": return_type, "clean_up_tokenization_spaces": clean_up_tokenization_spaces}
        preprocess = {} if truncation is None else {"truncation": truncation}
        return preprocess, {name: value for name, value in postprocess.items() if value is not None}, generate_kwargs

    def preprocess(self, item: Any, truncation: Any = False) -> list[Row]:
        """One row, whose notes are arguments of `generate` that are its own."""
        if not isinstance(item, str):
            raise TypeError(f"{self.task}: a text is needed, not {type(item).__name__}")
        return self._row(self.tokenizer((self.prefix or "") + item, truncation=truncation))

    def _row(self, encoded: Any) -> list[Row]:
        own = {name: encoded[name] for name in ("forced_bos_token_id",) if name in encoded}
        return [Row({"input_ids": list(encoded["input_ids"])}, own)]

    def compute(self, rows: list[Row], **given: Any) -> list[Written]:
        said = self._said(self._settings(given))
        for row in rows:
            self.check_inputs(len(row.inputs["input_ids"]), said.get("min_length", 0), said.get("max_length"))
        return super().compute(rows, **(rows[0].notes | given))

    def check_inputs(self, input_length: int, min_length: int, max_length: int | None) -> None:
        """Warn where lengths look like a mistake."""

    def postprocess(
        self,
        rows: list[Row],
        kept: list[Written],
        return_type: Any = ReturnType.NEW_TEXT,
        clean_up_tokenization_spaces: bool = False,
    ) -> list[dict[str, Any]]:
        sequences = kept[0]["sequences"]
        if ReturnType(return_type) is ReturnType.TENSORS:
            return [{f"{self.return_name}_token_ids": ids} for ids in sequences]
        return [{f"{self.return_name}_text": self._decoded(ids, clean_up_tokenization_spaces)} for ids in sequences]


class SummarizationPipeline(Text2TextGenerationPipeline):
    """pipe("a long text") -> [{"summary_text"}]. Arguments are those of text2text-generation."""

    return_name = "summary"

    def check_inputs(self, input_length: int, min_length: int, max_length: int | None) -> None:
        if max_length is None:
            return
        if max_length < min_length:
            _logger().warning("Your min_length=%d must be inferior than your max_length=%d.", min_length, max_length)
        if input_length < max_length:
            _logger().warning(
                "Your max_length is set to %d, but your input_length is only %d. Since this is a summarization task, where "
                "outputs shorter than the input are typically wanted, you might consider decreasing max_length manually, "
                "e.g. summarizer('...', max_length=%d)",
                max_length,
                input_length,
                input_length // 2,
            )


class TranslationPipeline(Text2TextGenerationPipeline):
    """pipe("a text") -> [{"translation_text"}]. Arguments are those of text2text-generation.

    src_lang, tgt_lang: the languages of models for many, in the words of their tokenizers; a task such as
    "translation_en_to_fr" names them too.
    """

    return_name = "translation"

    def parameters(  # type: ignore[override]
        self, src_lang: str | None = None, tgt_lang: str | None = None, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        preprocess, postprocess, compute = super().parameters(**kwargs)
        languages = {"src_lang": src_lang, "tgt_lang": tgt_lang}
        return preprocess | {k: v for k, v in languages.items() if v is not None}, postprocess, compute

    def preprocess(
        self, item: Any, truncation: Any = False, src_lang: str | None = None, tgt_lang: str | None = None
    ) -> list[Row]:
        build = getattr(self.tokenizer, "_build_translation_inputs", None)
        if build is None:
            return super().preprocess(item, truncation)
        if not isinstance(item, str):
            raise TypeError(f"{self.task}: a text is needed, not {type(item).__name__}")
        parts = self.task.split("_")
        if src_lang is None and tgt_lang is None and len(parts) == 4:
            src_lang, tgt_lang = parts[1], parts[3]
        return self._row(build(item, truncation=truncation, src_lang=src_lang, tgt_lang=tgt_lang))

    def check_inputs(self, input_length: int, min_length: int, max_length: int | None) -> None:
        if max_length is not None and input_length > 0.9 * max_length:
            _logger().warning(
                "Your input_length: %d is bigger than 0.9 * max_length: %d. You might consider increasing your max_length "
                "manually, e.g. translator('...', max_length=400)",
                input_length,
                max_length,
            )


def _logger() -> Any:
    import logging

    return logging.getLogger(__name__)
