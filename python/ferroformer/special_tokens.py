"""Special and added tokens of a tokenizer, and the attributes that name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ._native import Tokenizer
from .added_token import AddedToken

Token = str | AddedToken


class SpecialTokens:
    """`tok.pad_token`, `tok.pad_token_id`, ... read and write the special tokens; an unset one is None.

    Assigning a token does not add it to the vocabulary; `add_special_tokens` does both. Adding tokens replaces the
    tokenizer behind the object, so a call in another thread sees the vocabulary before or after it, never half of it.
    """

    SPECIAL_TOKENS_ATTRIBUTES: list[str] = [
        "bos_token",
        "eos_token",
        "unk_token",
        "sep_token",
        "pad_token",
        "cls_token",
        "mask_token",
    ]

    _tokenizer: Tokenizer
    _special_tokens_map: dict[str, Token | None]
    _extra_special_tokens: list[Token]

    bos_token: str | None
    eos_token: str | None
    unk_token: str | None
    sep_token: str | None
    pad_token: str | None
    cls_token: str | None
    mask_token: str | None
    bos_token_id: int | None
    eos_token_id: int | None
    unk_token_id: int | None
    sep_token_id: int | None
    pad_token_id: int | None
    cls_token_id: int | None
    mask_token_id: int | None
    extra_special_tokens: list[str]
    extra_special_tokens_ids: list[int]

    def _take_special_tokens(self, kwargs: dict[str, Any]) -> None:
        """Move the special tokens out of the arguments of a constructor.

        Besides the seven named ones that is every `*_token` and the entries of a dict of `extra_special_tokens`:
        tokens that a model has a name of its own for.
        """
        own = dict(kwargs.pop("model_specific_special_tokens", None) or {})
        extra = kwargs.pop("extra_special_tokens", None) or []
        if isinstance(extra, Mapping):
            own.update(extra)
            extra = []
        if not isinstance(extra, (list, tuple)):
            raise TypeError("extra_special_tokens must be a list/tuple of tokens or a dict of named tokens")
        named = {name: kwargs.pop(name, None) for name in self.SPECIAL_TOKENS_ATTRIBUTES}
        own.update({k: kwargs.pop(k) for k in list(kwargs) if k.endswith("_token") and isinstance(kwargs[k], Token)})
        for name, token in [*named.items(), *own.items()]:
            if token is not None and not isinstance(token, Token):
                raise TypeError(f"Special token {name} has to be either str or AddedToken but got: {type(token)}")
        self.SPECIAL_TOKENS_ATTRIBUTES = self.SPECIAL_TOKENS_ATTRIBUTES + [k for k in own if k not in named]
        self._special_tokens_map = {**named, **own}
        self._extra_special_tokens = list(extra)

    def __getattr__(self, name: str) -> Any:
        token_name, is_id = _split_id(name)
        if token_name == "extra_special_tokens":
            tokens = [str(token) for token in self.__dict__.get("_extra_special_tokens", [])]
            return self.convert_tokens_to_ids(tokens) if is_id else tokens
        if token_name not in self.SPECIAL_TOKENS_ATTRIBUTES:
            raise AttributeError(f"{type(self).__name__} has no attribute {name}")
        token = self.__dict__.get("_special_tokens_map", {}).get(token_name)
        if token is None:
            return None
        return self.convert_tokens_to_ids(str(token)) if is_id else str(token)

    def __setattr__(self, name: str, value: Any) -> None:
        token_name, is_id = _split_id(name)
        if token_name == "extra_special_tokens":
            tokens = list(value or [])
            self._extra_special_tokens = self.convert_ids_to_tokens(tokens) if is_id else tokens
        elif token_name in self.SPECIAL_TOKENS_ATTRIBUTES:
            token = self.convert_ids_to_tokens(value) if is_id and value is not None else value
            if token is not None and not isinstance(token, Token):
                raise ValueError(f"Cannot set a non-string value as the {token_name}")
            self._special_tokens_map[token_name] = token
        else:
            super().__setattr__(name, value)

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """The named special tokens that are set."""
        return {name: str(token) for name, token in self._special_tokens_map.items() if token is not None}

    @property
    def all_special_tokens(self) -> list[str]:
        named = self.special_tokens_map.values()
        return list(dict.fromkeys([*named, *self.extra_special_tokens]))

    @property
    def all_special_ids(self) -> list[int]:
        return list(map(self.convert_tokens_to_ids, self.all_special_tokens))

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        return {id: AddedToken(**token) for id, token in self._tokenizer.added_tokens()}

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        return {token["content"]: id for id, token in self._tokenizer.added_tokens()}

    def get_added_vocab(self) -> dict[str, int]:
        return self.added_tokens_encoder

    def add_tokens(self, new_tokens: Token | Sequence[Token], special_tokens: bool = False) -> int:
        """Add tokens to the vocabulary; those that it already has are only matched first. Returns how many are new
        to the added tokens. The embeddings of a model have to be resized to `len(tokenizer)`."""
        if isinstance(new_tokens, Token):
            new_tokens = [new_tokens]
        tokens = [token if isinstance(token, AddedToken) else AddedToken(token) for token in new_tokens]
        if special_tokens:
            tokens = [token.as_special() for token in tokens]
        if not tokens:
            return 0
        self._tokenizer, added = self._tokenizer.with_added_tokens([token.to_dict() for token in tokens])
        return added

    def add_special_tokens(
        self,
        special_tokens_dict: Mapping[str, Token | Sequence[Token]],
        replace_extra_special_tokens: bool = True,
    ) -> int:
        """Name special tokens ({"pad_token": "[PAD]", "extra_special_tokens": [...]}) and add them to the vocabulary.

        Returns how many were new. ValueError for an unknown name or a value that is no token.
        """
        tokens: list[Token] = []
        for name, value in special_tokens_dict.items():
            if name in ("extra_special_tokens", "additional_special_tokens"):
                tokens += self._name_extra_tokens(name, value, replace_extra_special_tokens)
            elif name not in self.SPECIAL_TOKENS_ATTRIBUTES:
                allowed = [*self.SPECIAL_TOKENS_ATTRIBUTES, "extra_special_tokens"]
                raise ValueError(f"Key {name} is not a valid special token. Valid keys are: {allowed}")
            elif not isinstance(value, Token):
                raise ValueError(f"Token {value} for key {name} should be a str or an AddedToken instance")
            else:
                setattr(self, name, value)
                tokens.append(value)
        return self.add_tokens(tokens, special_tokens=True)

    def _name_extra_tokens(self, name: str, value: Any, replace: bool) -> list[Token]:
        if not isinstance(value, (list, tuple)) or not all(isinstance(token, Token) for token in value):
            raise ValueError(f"Tokens {value} for key {name} should all be str or AddedToken instances")
        if replace:
            new = list(value)
            self._extra_special_tokens = new or self._extra_special_tokens
        else:
            new = [token for token in value if str(token) not in self.extra_special_tokens]
            self._extra_special_tokens = self._extra_special_tokens + new
        return new

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """The id of a token, or the ids of a list of tokens; that of `unk_token` for one outside the vocabulary."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        token_id = self._tokenizer.token_to_id(tokens)
        if token_id is None and self.unk_token is not None:
            return self._tokenizer.token_to_id(self.unk_token)
        return token_id

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """The token of an id, or the tokens of a sequence of ids; None for an id outside the vocabulary."""
        if isinstance(ids, int):
            return self._tokenizer.id_to_token(ids)
        skip = set(self.all_special_ids) if skip_special_tokens else set()
        return [self._tokenizer.id_to_token(int(id)) for id in ids if int(id) not in skip]


def _split_id(name: str) -> tuple[str, bool]:
    for suffix in ("_ids", "_id"):
        if name.endswith(suffix):
            return name[: -len(suffix)], True
    return name, False
