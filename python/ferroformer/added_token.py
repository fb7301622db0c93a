"""A token that a tokenizer matches in the text before its model sees it."""

from __future__ import annotations

from typing import Any


class AddedToken:
    """A token added to a vocabulary, with the rules by which it is matched.

    `single_word`: not inside a word. `lstrip`, `rstrip`: takes the white space on that side along. `normalized`:
    matched in the normalized text (the default for tokens that are not special). `special`: may be skipped when ids
    are decoded. Equal to a string with the same content.
    """

    def __init__(
        self,
        content: str,
        single_word: bool = False,
        lstrip: bool = False,
        rstrip: bool = False,
        normalized: bool | None = None,
        special: bool = False,
    ) -> None:
        self.content = content
        self.single_word = single_word
        self.lstrip = lstrip
        self.rstrip = rstrip
        self.special = special
        self._normalized = normalized

    @property
    def normalized(self) -> bool:
        return not self.special if self._normalized is None else self._normalized

    def as_special(self) -> AddedToken:
        """The same token, special; `normalized` follows unless it was given."""
        return AddedToken(self.content, self.single_word, self.lstrip, self.rstrip, self._normalized, special=True)

    def to_dict(self) -> dict[str, Any]:
        return {
            "content": self.content,
            "single_word": self.single_word,
            "lstrip": self.lstrip,
            "rstrip": self.rstrip,
            "normalized": self.normalized,
            "special": self.special,
        }

    def __str__(self) -> str:
        return self.content

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AddedToken):
            return self.to_dict() == other.to_dict()
        return self.content == other

    def __hash__(self) -> int:
        return hash(self.content)

    def __repr__(self) -> str:
        return (
            f'AddedToken("{self.content}", rstrip={self.rstrip}, lstrip={self.lstrip}, '
            f"single_word={self.single_word}, normalized={self.normalized}, special={self.special})"
        )
