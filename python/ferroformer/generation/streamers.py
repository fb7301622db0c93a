"""Streamers: they are handed tokens as `generate` makes them.

`put` gets the prompt first, (N, T), then each step's tokens, (N,); `end` comes last.
"""

from __future__ import annotations

from queue import Queue
from typing import Any, Iterator

__all__ = ["BaseStreamer", "TextIteratorStreamer", "TextStreamer"]

# CJK ideographs need no space behind them: https://en.wikipedia.org/wiki/CJK_Unified_Ideographs
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


class BaseStreamer:
    """Base class: override `put` and `end`."""

    def put(self, value: Any) -> None:
        """Take an array of token ids."""
        raise NotImplementedError

    def end(self) -> None:
        """Generation is over."""
        raise NotImplementedError


class TextStreamer(BaseStreamer):
    """Prints the text of one sequence as soon as whole words are there.

    skip_prompt: leave out what `generate` was given. Other arguments go to `tokenizer.decode`.
    """

    def __init__(self, tokenizer: Any, skip_prompt: bool = False, **decode_kwargs: Any) -> None:
        self.tokenizer = tokenizer
        self.skip_prompt = skip_prompt
        self.decode_kwargs = decode_kwargs
        self.token_cache: list[int] = []
        # of the text of token_cache, how much is out
        self.print_len = 0
        self.next_tokens_are_prompt = True

    def put(self, value: Any) -> None:
        """Take (n,) or (1, n) token ids; ValueError for more rows."""
        if value.ndim > 1 and len(value) > 1:
            raise ValueError("TextStreamer only supports batch size 1")
        if self.skip_prompt and self.next_tokens_are_prompt:
            self.next_tokens_are_prompt = False
            return
        self.token_cache.extend(value.reshape(-1).tolist())
        text = self.tokenizer.decode(self.token_cache, **self.decode_kwargs)
        if text.endswith("\n"):
            ready = text[self.print_len :]
            self._forget()
        else:
            # the last word may not be whole
            whole = len(text) if text and self._is_chinese_char(ord(text[-1])) else text.rfind(" ") + 1
            ready = text[self.print_len : whole]
            self.print_len += len(ready)
        self.on_finalized_text(ready)

    def end(self) -> None:
        """Hand out what is left."""
        ready = ""
        if self.token_cache:
            ready = self.tokenizer.decode(self.token_cache, **self.decode_kwargs)[self.print_len :]
            self._forget()
        self.next_tokens_are_prompt = True
        self.on_finalized_text(ready, stream_end=True)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """What to do with text that is ready; here it is printed."""
        print(text, flush=True, end="" if not stream_end else None)

    def _forget(self) -> None:
        self.token_cache = []
        self.print_len = 0

    def _is_chinese_char(self, cp: int) -> bool:
        return any(first <= cp <= last for first, last in _IDEOGRAPHS)


class TextIteratorStreamer(TextStreamer):
    """An iterator over the text, for another thread than the one that generates.

    timeout: how many seconds `next` waits for text before it raises queue.Empty; None: for ever.
    """

    def __init__(
        self, tokenizer: Any, skip_prompt: bool = False, timeout: float | None = None, **decode_kwargs: Any
    ) -> None:
        super().__init__(tokenizer, skip_prompt, **decode_kwargs)
        self.text_queue: Queue[str | None] = Queue()
        self.stop_signal = None
        self.timeout = timeout

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Hand the text to the other thread."""
        self.text_queue.put(text, timeout=self.timeout)
        if stream_end:
            self.text_queue.put(self.stop_signal, timeout=self.timeout)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        value = self.text_queue.get(timeout=self.timeout)
        if value is None:
            raise StopIteration
        return value
