"""Chats as text: the Jinja templates that come with models.

Templates are code that a stranger wrote. They run in Jinja's sandbox, and see plain data only.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

# Where a text of the assistant begins and ends in a chat
Spans = list[tuple[int, int]]

# Older versions of Jinja have holes in their sandbox.
_NEEDED = (3, 1, 6)
_TAG = "CONTINUE_FINAL_MESSAGE_TAG "
# Names under which a message's reasoning may come; templates read the first, or "thinking"
_REASONING = ("reasoning_content", "thinking", "reasoning")


def render(
    chats: Sequence[Sequence[Any]],
    template: str,
    *,
    tools: Sequence[Any] | None = None,
    documents: Sequence[Any] | None = None,
    add_generation_prompt: bool = False,
    continue_final_message: bool | str = False,
    **variables: Any,
) -> tuple[list[str], list[Spans]]:
    """The text of each chat, and the spans in it that the template marks with `{% generation %}`.

    With `continue_final_message` (the name of a field, or True for "content") a text ends where that of its last
    message does. Raises ImportError without jinja2, jinja2's own errors for a template that fails, and ValueError or
    TypeError for chats that do not fit.
    """
    compiled = _compile(template)
    for document in documents or ():
        if not isinstance(document, dict):
            raise TypeError("Documents should be a list of dicts with 'title' and 'text' keys!")
    shared = {
        "tools": None if tools is None else [_plain(_schema(tool)) for tool in tools],
        "documents": _plain(documents),
        "add_generation_prompt": add_generation_prompt,
        **_plain(variables),
    }
    field = "content" if continue_final_message is True else continue_final_message
    texts, spans = [], []
    for chat in chats:
        messages = _messages(chat)
        last = _tag_last(messages, field, template) if field else None
        text, marked = _run(compiled, {**shared, "messages": messages})
        texts.append(text if last is None else _cut_at_tag(text, last))
        spans.append(marked)
    return texts, spans


def _messages(chat: Any) -> list[dict[str, Any]]:
    messages = _plain(getattr(chat, "messages", chat))
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            raise TypeError(f"Chat messages should be dicts, dataclasses or pydantic models, but got {message!r}.")
        # many templates would write "None" where they leave out what is missing
        message = {name: value for name, value in message.items() if value is not None}
        reasoning = next((message[name] for name in _REASONING if name in message), None)
        if reasoning is not None:
            message = {"thinking": reasoning, **message, "reasoning_content": reasoning}
        messages[i] = message
    return messages  # type: ignore[no-any-return]


def _schema(tool: Any) -> dict[str, Any]:
    if isinstance(tool, dict):
        return tool
    if callable(tool):
        raise NotImplementedError("a JSON schema is not made of a function yet: pass the tool's schema as a dict")
    raise ValueError(f"a tool should be a JSON schema (a dict), not {type(tool).__name__}")


def _plain(value: Any) -> Any:
    """The same in JSON's types. Methods of any other would be open to a template; of such objects it sees the name."""
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind.__str__(value) if kind is str else kind(value)
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {_plain(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain, value)) if type(value) in (list, tuple) else list(map(_plain, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if callable(getattr(value, "model_dump", None)):
        return _plain(value.model_dump())
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        return _plain(value.item())
    return f"<{type(value).__name__}>"


# --- continuing the last message ---


def _tag_last(messages: list[dict[str, Any]], field: str, template: str) -> str:
    """Mark the end of the last message's text; returns the text."""
    if not messages:
        raise ValueError("continue_final_message is set but the conversation is empty!")
    last = messages[-1]
    if field not in last:
        raise ValueError(f'continue_final_message is set but the final message has no "{field}" to continue!')
    text = last[field]
    names = [name for name in _REASONING if last.get(name) == text] if field in _REASONING else [field]
    if not any(name in template for name in names):
        raise ValueError(f'continue_final_message is set to "{field}" but the chat template does not read that')
    if isinstance(text, str):
        last.update(dict.fromkeys(names, text + _TAG))
        return text
    for block in reversed(text):
        if "text" in block:
            found: str = block["text"]
            block["text"] = found + _TAG
            return found
    raise ValueError("continue_final_message is set but we could not find any text to continue in the final message!")


def _cut_at_tag(text: str, last: str) -> str:
    if last.strip() not in text or _TAG.strip() not in text:
        raise ValueError(
            "continue_final_message is set but the final message does not appear in the chat after applying the chat "
            f"template! Final message to continue: {last.strip()}\nRendered chat:\n{text}"
        )
    end = text.rindex(_TAG.strip())
    # a template that strips messages took the tag's space along, and what is before the tag counts as stripped too
    return text[:end] if text.startswith(_TAG, end) else text[:end].rstrip()


# --- Jinja ---

# The name under which the tag `generation` finds what a run has rendered
_TRACK = "_track"


class _Track:
    """The text of one run until now, and the spans found in it."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.spans: Spans = []


def _run(template: jinja2.Template, variables: dict[str, Any]) -> tuple[str, Spans]:
    track = _Track()
    for block in template.generate({**variables, _TRACK: track}):
        track.blocks.append(block)
    return "".join(track.blocks), track.spans


@functools.lru_cache(maxsize=32)
def _compile(template: str) -> jinja2.Template:
    return _environment().from_string(template)


@functools.lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    try:
        import jinja2
        import jinja2.ext
        import jinja2.sandbox
    except ImportError:
        raise ImportError("chat templates need jinja2: pip install ferroformer[chat]") from None
    version = tuple(int(part) for part in jinja2.__version__.split(".")[:3] if part.isdigit())
    if version < _NEEDED:
        raise ImportError(f"chat templates need jinja2>=3.1.6, whose sandbox is tight; found {jinja2.__version__}")

    class Generation(jinja2.ext.Extension):  # type: ignore[misc]
        """`{% generation %}...{% endgeneration %}` marks what the assistant says."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            call = self.call_method("_mark", [jinja2.nodes.ContextReference()])
            return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

        def _mark(self, context: Any, caller: Any) -> str:
            text: str = caller()
            track = context.get(_TRACK)
            if isinstance(track, _Track):
                start = sum(map(len, track.blocks))
                track.spans.append((start, start + len(text)))
            return text

    class Namespace(jinja2.utils.Namespace):  # type: ignore[misc]
        """Keeps no name that the sandbox would not read back."""

        def __init__(*args: Any, **kwargs: Any) -> None:
            for name in dict(*args[1:], **kwargs):
                _check_name(name)
            jinja2.utils.Namespace.__init__(*args, **kwargs)

        def __setitem__(self, name: str, value: Any) -> None:
            _check_name(name)
            super().__setitem__(name, value)

    def _check_name(name: Any) -> None:
        if str(name).startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a chat template cannot store {name!r} in a namespace")

    def raise_exception(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    extensions = [Generation, jinja2.ext.loopcontrols]
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=extensions
    )
    environment.filters["tojson"] = _to_json
    environment.globals.update(
        raise_exception=raise_exception, strftime_now=_strftime_now, dict=_Dict(), namespace=Namespace
    )
    return environment


class _Dict:
    """`dict` for templates: no more of the class than this is open to them."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Unlike Jinja's, it escapes nothing for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _strftime_now(format: str) -> str:
    from datetime import datetime

    return datetime.now().strftime(format)
