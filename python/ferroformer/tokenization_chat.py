"""Tokenizing chats by the template that comes with a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .tokenization_call import CallableTokenizer
from .tokenization_options import PaddingStrategy, TensorType


class ChatTokenizer(CallableTokenizer):
    """`tokenizer.apply_chat_template(messages)`, for tokenizers with a `chat_template`: Jinja's text, or several by
    name."""

    chat_template: str | dict[str, str] | None

    def get_chat_template(self, chat_template: str | None = None, tools: Sequence[Any] | None = None) -> str:
        """The template that a call uses: the one given, by text or by name, else the tokenizer's own."""
        own = self.chat_template
        if isinstance(own, dict):
            if chat_template is not None:
                return own.get(chat_template, chat_template)
            name = "tool_use" if tools is not None and "tool_use" in own else "default"
            if name not in own:
                raise ValueError(
                    "This model has multiple chat templates with no default specified! Please either pass a chat template "
                    "or the name of the template you wish to use to the `chat_template` argument. Available template "
                    f"names are {sorted(own)}."
                )
            return own[name]
        if chat_template is None and own is None:
            raise ValueError(
                "Cannot use chat template functions because tokenizer.chat_template is not set and no template argument "
                "was passed!"
            )
        return chat_template if chat_template is not None else own  # type: ignore[return-value]

    def apply_chat_template(
        self,
        conversation: Any,
        tools: Sequence[Any] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool | str = False,
        tokenize: bool = True,
        sanitize_control_tokens: bool = False,
        padding: bool | str | PaddingStrategy = False,
        truncation: bool = False,
        max_length: int | None = None,
        return_tensors: str | TensorType | None = None,
        return_dict: bool = True,
        return_assistant_tokens_mask: bool = False,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """The tokens of a chat, which is a list of {"role": ..., "content": ...}, or of a list of chats.

        A BatchEncoding; ids alone with `return_dict=False`; the text with `tokenize=False`. `add_generation_prompt` asks
        the template for the start of an answer; `continue_final_message` leaves the last message open.
        `return_assistant_tokens_mask` adds "assistant_masks": 1 for tokens in the template's `{% generation %}`. Other
        keyword arguments are variables of the template.

        Raises ValueError for chats and arguments that do not fit, and ImportError without jinja2
        (`ferroformer[chat]`).
        """
        if sanitize_control_tokens:
            raise NotImplementedError("sanitize_control_tokens=True is not there yet")
        masked = return_assistant_tokens_mask
        if masked and not (return_dict and tokenize):
            raise ValueError("`return_assistant_tokens_mask=True` requires `return_dict=True` and `tokenize=True`")
        if continue_final_message and (add_generation_prompt or masked):
            other = "add_generation_prompt" if add_generation_prompt else "return_assistant_tokens_mask"
            raise ValueError(f"continue_final_message and {other} are not compatible")
        template = self.get_chat_template(chat_template, tools)
        if isinstance(conversation, (list, tuple)) and not conversation:
            raise ValueError("Cannot apply chat template to an empty conversation. Provide at least one message.")
        batched = isinstance(conversation, (list, tuple)) and (
            isinstance(conversation[0], (list, tuple)) or hasattr(conversation[0], "messages")
        )
        from .chat_template import render

        texts, spans = render(
            conversation if batched else [conversation],
            template,
            tools=tools,
            documents=documents,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            **{**self.special_tokens_map, **kwargs},
        )
        if not tokenize:
            return texts if batched else texts[0]
        encoding = self(
            texts if batched else texts[0],
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            add_special_tokens=False,
            return_tensors=return_tensors,
            **(tokenizer_kwargs or {}),
        )
        if masked:
            lengths = [len(row) for row in encoding.encodings or ()]
            masks = [_mask(encoding, row, length, spans[row]) for row, length in enumerate(lengths)]
            encoding["assistant_masks"] = masks if batched or return_tensors else masks[0]
            if return_tensors:
                encoding.convert_to_tensors(return_tensors)
        return encoding if return_dict else encoding["input_ids"]


def _mask(encoding: Any, row: int, length: int, spans: list[tuple[int, int]]) -> list[int]:
    mask = [0] * length
    for start, end in spans:
        first, last = encoding.char_to_token(row, start), encoding.char_to_token(row, end - 1)
        if first is None:  # cut off
            break
        stop = last + 1 if last else length
        mask[first:stop] = [1] * (stop - first)
    return mask
