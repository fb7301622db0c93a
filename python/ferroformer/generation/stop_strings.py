"""A stopping criterion that looks for texts at the end of what was generated."""

from __future__ import annotations

import json
from typing import Any, Sequence

import numpy as np
from numpy.typing import NDArray

from .numbers import Ids
from .stopping_criteria import StoppingCriteria

__all__ = ["StopStringCriteria"]

# A token's text may depend on being the first: this stands before it and is cut off again.
_BEFORE = "abcdef"


class StopStringCriteria(StoppingCriteria):
    """One of `stop_strings` ends inside the last token, or at its end. Where tokens are bytes, bytes are compared."""

    def __init__(self, tokenizer: Any, stop_strings: str | Sequence[str]) -> None:
        self.stop_strings = (stop_strings,) if isinstance(stop_strings, str) else tuple(stop_strings)
        if not self.stop_strings or not all(isinstance(text, str) and text for text in self.stop_strings):
            raise ValueError(f"stop_strings={stop_strings!r:.200}: a text, or texts, that are not empty are needed")
        self._texts = [text.encode() for text in self.stop_strings]
        # no token that matters is further from the end, as each has a character at least
        self._reach = max(len(text) for text in self._texts)
        self._tokens = TokenBytes(tokenizer)

    def __call__(self, input_ids: Ids, scores: Any, **kwargs: Any) -> NDArray[np.bool_]:
        return np.array([self._ends(row) for row in input_ids[:, -self._reach :].tolist()], np.bool_)

    def _ends(self, ids: list[int]) -> bool:
        pieces: list[bytes] = []
        for token_id in reversed(ids):
            piece = self._tokens.of(token_id)
            if piece is None:
                break  # no token: what is before it does not belong to the same text
            pieces.append(piece)
        text, last = b"".join(reversed(pieces)), len(pieces[0]) if pieces else 0
        # a match ends behind the first byte of the last token
        return any(text.find(stop, max(len(text) - last - len(stop) + 1, 0)) >= 0 for stop in self._texts)


class TokenBytes:
    """The bytes that each token adds to a text, found out when they are asked for."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, bytes | None] = {}
        self._kind = _bytes_in_tokens(tokenizer)
        self._before = tokenizer.convert_ids_to_tokens(tokenizer(_BEFORE, add_special_tokens=False)["input_ids"])
        self._letters = {letter: byte for byte, letter in enumerate(_byte_letters())}

    def of(self, token_id: int) -> bytes | None:
        """None if there is no such token."""
        if token_id not in self._known:
            self._known[token_id] = self._bytes(token_id)
        return self._known[token_id]

    def _bytes(self, token_id: int) -> bytes | None:
        token = self._tokenizer.convert_ids_to_tokens(token_id) if token_id >= 0 else None
        if token is None:
            return None
        if self._kind == "ByteLevel" and all(letter in self._letters for letter in token):
            return bytes(self._letters[letter] for letter in token)
        if self._kind == "ByteFallback" and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            return bytes.fromhex(token[3:5])
        text: str = self._tokenizer.convert_tokens_to_string([*self._before, token])
        return text[text.index(_BEFORE) + len(_BEFORE) :].encode()


def _bytes_in_tokens(tokenizer: Any) -> str | None:
    """"ByteFallback" if some tokens are bytes ("<0x0A>"), "ByteLevel" if all letters are, None if tokens are texts."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    write = getattr(backend, "to_json", None) or getattr(backend, "to_str", None)
    said = json.dumps(json.loads(write()).get("decoder")) if write else ""
    return next((kind for kind in ("ByteFallback", "ByteLevel") if f'"type": "{kind}"' in said), None)


def _byte_letters() -> str:
    """The letter that stands for each byte in a byte-level vocabulary: its own if that is seen, else one from 256."""
    seen = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = iter(range(256, 512))
    return "".join(chr(byte if byte in seen else next(hidden)) for byte in range(256))
