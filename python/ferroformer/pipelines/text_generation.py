"""A text or a chat, continued."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .base import Row
from .generation import GenerationPipeline, ReturnType, Written

__all__ = ["TextGenerationPipeline"]


class Chat:
    """The messages of a chat, which are one item though they are a list."""

    def __init__(self, messages: Sequence[Mapping[str, Any]]) -> None:
        if not all(map(_is_message, messages)):
            raise ValueError("When passing chat dicts as input, each dict must have a 'role' and 'content' key.")
        self.messages = list(messages)


class TextGenerationPipeline(GenerationPipeline):
    """pipe("Once upon") -> [{"generated_text": "Once upon a time ..."}], one for each of `num_return_sequences`.

    A chat is a list of {"role", "content"}; what it gives has the model's message at its end. Where its last message is the
    assistant's, the model continues that.

    return_full_text: False for what is new alone. return_tensors: True for {"generated_token_ids"}, prompt and all.
    clean_up_tokenization_spaces, skip_special_tokens (True): for decoding.
    prefix: a text before each prompt. add_special_tokens, truncation, padding, tokenizer_encode_kwargs: for the tokenizer.
    handle_long_generation: "hole" cuts prompts on the left so that what is to be written has room.
    stop_sequence: a text or several that end what is written.
    continue_final_message, tools, documents: for chats.
    Others are `generate`'s. Unless somebody says otherwise 256 tokens are drawn at a temperature of 0.7.
    """

    kinds = ("ForCausalLM", "LMHeadModel")
    defaults = {"max_new_tokens": 256, "do_sample": True, "temperature": 0.7}
    padding_side = "left"
    counts_prompt = True

    def __call__(self, text_inputs: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return super().__call__(_with_chats(text_inputs), **kwargs)

    def parameters(
        self,
        return_full_text: bool | None = None,
        return_tensors: bool | None = None,
        return_text: bool | None = None,
        return_type: Any = None,
        clean_up_tokenization_spaces: bool | None = None,
        prefix: str | None = None,
        handle_long_generation: str | None = None,
        stop_sequence: str | list[str] | None = None,
        truncation: Any = None,
        max_length: int | None = None,
        continue_final_message: bool | None = None,
        skip_special_tokens: bool | None = None,
        tokenizer_encode_kwargs: dict[str, Any] | None = None,
        tools: Any = None,
        documents: Any = None,
        **generate_kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if handle_long_generation not in (None, "hole"):
            raise ValueError(
                f"{handle_long_generation} is not a valid value for `handle_long_generation` parameter expected [None, 'hole']"
            )
        if return_full_text is not None and return_type is None:
            for name, value in (("return_text", return_text), ("return_tensors", return_tensors)):
                if value is not None:
                    raise ValueError(f"`return_full_text` is mutually exclusive with `{name}`")
            return_type = ReturnType.FULL_TEXT if return_full_text else ReturnType.NEW_TEXT
        if return_tensors is not None and return_type is None:
            if return_text is not None:
                raise ValueError("`return_text` is mutually exclusive with `return_tensors`")
            return_type = ReturnType.TENSORS
        for name in ("assistant_model", "assistant_tokenizer"):
            if generate_kwargs.get(name) is not None:
                raise NotImplementedError(f"{name}: drafts of another model are not supported")
        both = {"continue_final_message": continue_final_message, "tools": tools}
        preprocess = both | {
            "prefix": prefix,
            "handle_long_generation": handle_long_generation,
            "add_special_tokens": generate_kwargs.pop("add_special_tokens", None),
            "padding": generate_kwargs.pop("padding", None),
            "truncation": truncation,
            "max_length": max_length,
            "tokenizer_encode_kwargs": tokenizer_encode_kwargs,
            "documents": documents,
        }
        postprocess = {
            "return_type": return_type,
            "clean_up_tokenization_spaces": clean_up_tokenization_spaces,
            "continue_final_message": continue_final_message,
            "skip_special_tokens": skip_special_tokens,
        }
        compute = dict(generate_kwargs)
        if max_length is not None:
            compute["max_length"] = max_length
        if stop_sequence is not None:
            compute["stop_strings"] = [stop_sequence] if isinstance(stop_sequence, str) else stop_sequence
            compute["tokenizer"] = self.tokenizer
        if prefix is not None:
            preprocess["prefix_length"] = self._length_of(prefix, preprocess["add_special_tokens"])
        return _given(preprocess), _given(postprocess), compute

    def stream(
        self,
        inputs: Iterable[Any],
        batch_size: int,
        ahead: bool,
        preprocess: dict[str, Any],
        postprocess: dict[str, Any],
        compute: dict[str, Any] | None = None,
    ) -> Iterator[Any]:
        settings = preprocess | {"settings": compute or {}}
        return super().stream(inputs, batch_size, ahead, settings, postprocess, compute)

    def _length_of(self, prefix: str, add_special_tokens: bool | None) -> int:
        return len(self.tokenizer(prefix, add_special_tokens=bool(add_special_tokens))["input_ids"]) if prefix else 0

    def preprocess(
        self,
        item: Any,
        prefix: str | None = None,
        prefix_length: int | None = None,
        handle_long_generation: str | None = None,
        continue_final_message: bool | None = None,
        tokenizer_encode_kwargs: dict[str, Any] | None = None,
        tools: Any = None,
        documents: Any = None,
        settings: dict[str, Any] | None = None,
        **tokenizer_kwargs: Any,
    ) -> list[Row]:
        """One row, whose notes are the prompt and how many of its tokens are the prefix's."""
        options = {name: value for name, value in tokenizer_kwargs.items() if value is not None}
        if prefix is None:
            prefix = self.prefix or ""
            prefix_length = self._length_of(prefix, options.get("add_special_tokens"))
        options.update(tokenizer_encode_kwargs or {})
        if isinstance(item, Chat):
            options.pop("add_special_tokens", None)
            encoded = self.tokenizer.apply_chat_template(
                item.messages,
                add_generation_prompt=not _continues(item, continue_final_message),
                continue_final_message=_continues(item, continue_final_message),
                tools=tools,
                documents=documents,
                **options,
            )
        elif isinstance(item, str):
            encoded = self.tokenizer(prefix + item, **options)
        else:
            raise TypeError(f"text-generation: a text or a chat is needed, not {type(item).__name__}")
        ids = list(encoded["input_ids"])
        mask = encoded.get("attention_mask")
        if mask is not None:  # padding that was asked for
            ids = [id for id, real in zip(ids, mask) if real]
        if handle_long_generation == "hole":
            ids = self._with_hole(ids, settings or {})
        return [Row({"input_ids": ids}, (item, prefix_length or 0))]

    def _with_hole(self, ids: list[int], settings: dict[str, Any]) -> list[int]:
        """The end of a prompt, so long that what is to be written fits behind it."""
        said = self._said(self._settings(settings))
        new = said.get("max_new_tokens")
        if new is None:
            new = said["max_length"] - len(ids)
            if new < 0:
                raise ValueError("We cannot infer how many new tokens are expected")
        room = self.tokenizer.model_max_length - new
        if len(ids) <= room:
            return ids
        if room <= 0:
            raise ValueError(
                "We cannot use `hole` to handle this generation the number of desired tokens exceeds the models max length"
            )
        return ids[-room:]

    def compute(self, rows: list[Row], **given: Any) -> list[Written]:
        """Total lengths, which are for rows alone, leave the prefix out."""
        _, prefix = rows[0].notes
        said = self._said(self._settings(given)) if prefix else {}
        for total, new in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
            if total in said and new not in said:
                given = given | {total: said[total] + prefix}
        if any(not row.inputs["input_ids"] for row in rows) and len(rows) > 1:
            return [written for row in rows for written in self.compute([row], **given)]
        return super().compute(rows, **given)

    def postprocess(
        self,
        rows: list[Row],
        kept: list[Written],
        return_type: Any = ReturnType.FULL_TEXT,
        clean_up_tokenization_spaces: bool | None = None,
        continue_final_message: bool | None = None,
        skip_special_tokens: bool = True,
    ) -> list[dict[str, Any]]:
        (row,), (written,) = rows, kept
        (item, _), start = row.notes, len(row.inputs["input_ids"])
        others = {name: values for name, values in written.items() if name != "sequences"}
        records = []
        for number, ids in enumerate(written["sequences"]):
            if ReturnType(return_type) is ReturnType.TENSORS:
                records.append({"generated_token_ids": ids})
                continue
            text: Any = self._decoded(ids[start:], clean_up_tokenization_spaces, skip_special_tokens)
            if ReturnType(return_type) is ReturnType.FULL_TEXT:
                text = _behind(item, text, continue_final_message)
            records.append({"generated_text": text} | {name: values[number] for name, values in others.items()})
        return records


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and "role" in value and "content" in value


def _with_chats(inputs: Any) -> Any:
    """A chat as one item, and each of several."""
    if isinstance(inputs, (str, bytes, Mapping)) or not isinstance(inputs, Iterable):
        return inputs
    if isinstance(inputs, Sequence):
        if len(inputs) and _is_message(inputs[0]):
            return Chat(inputs)
        if isinstance(inputs, (list, tuple)):
            return [_as_item(item) for item in inputs]
        return inputs
    iterator = iter(inputs)
    try:
        first = next(iterator)
    except StopIteration:
        return []
    if _is_message(first):
        return Chat([first, *iterator])
    return _chained(first, iterator)


def _chained(first: Any, others: Iterable[Any]) -> Iterable[Any]:
    yield _as_item(first)
    yield from map(_as_item, others)


def _as_item(item: Any) -> Any:
    is_chat = isinstance(item, (list, tuple)) and len(item) > 0 and _is_message(item[0])
    return Chat(item) if is_chat else item


def _continues(chat: Chat, asked: bool | None) -> bool:
    """Whether its last message is continued, as that of an assistant is."""
    return chat.messages[-1]["role"] == "assistant" if asked is None else asked


def _behind(item: Any, text: str, asked: bool | None) -> Any:
    """A prompt and what was written behind it."""
    if isinstance(item, str):
        return item + text
    *before, last = item.messages
    if _continues(item, asked):
        return [*before, {"role": last["role"], "content": last["content"] + text}]
    return [*item.messages, {"role": "assistant", "content": text}]
