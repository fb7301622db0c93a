"""SentencePiece models: `spiece.model`, `sentencepiece.bpe.model`, `spm.model`, `tokenizer.model`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ._native import Tokenizer, sentence_piece_outline
from .added_token import AddedToken
from .tokenization_sections import decoders, normalizers, precompiled, replace, unmark_spaces

# (the file, tokens before its pieces, how many pieces those replace, tokens after them), each token with its score
ArrangedPieces = tuple[bytes, list[tuple[str, float]], int, list[tuple[str, float]]]

_NAMED = ("bos", "eos", "unk")


class SentencePieceModel:
    """The content of a model file. Raises TokenizerError if it is not one or damaged.

    `outline` has "model_type" ("Unigram" or "BPE"), "byte_fallback", and "unk_id", "unk_piece" and the same of bos and
    eos.
    """

    def __init__(self, content: bytes) -> None:
        outline, charsmap = sentence_piece_outline(content)
        self.content = content
        self.outline: dict[str, Any] = json.loads(outline)
        self._charsmap = charsmap

    @property
    def charsmap(self) -> str | None:
        """The compiled map of characters, in base64."""
        import base64

        return base64.b64encode(self._charsmap).decode() or None

    @property
    def added_tokens(self) -> list[AddedToken]:
        """The control symbols, and those that a user defined when the model was trained."""
        tokens = self.outline["added_tokens"]
        return [AddedToken(token, normalized=False, special=special) for token, special in tokens]

    def arranged(
        self, before: Sequence[str | tuple[str, float]] = (), skip: int = 0, after: Sequence[str] = ()
    ) -> ArrangedPieces:
        """The pieces with the first `skip` of them replaced by `before`, and `after` at the end. The score of a token
        is 0 if it is not given."""
        return self.content, _scored(before), skip, _scored(after)


def as_it_stands(
    model: SentencePieceModel, added_tokens: Mapping[int, AddedToken]
) -> tuple[Tokenizer, dict[str, str]]:
    """The tokenizer that a model describes by itself, and the names of its special tokens.

    NotImplementedError where `added_tokens` (by id) give pieces other names.
    """
    said = model.outline
    fallback = {"byte_fallback": said["byte_fallback"]}
    if said["model_type"] == "Unigram":
        options = {"type": "Unigram", "unk_id": said["unk_id"], **fallback}
    else:
        options = {"type": "BPE", "unk_token": said["unk_piece"], "fuse_unk": True, **fallback}
    sections = {
        "normalizer": normalizers(*precompiled(model.charsmap), replace(" ", "▁")),
        "pre_tokenizer": None,
        "decoder": decoders(*unmark_spaces(said["byte_fallback"])),
    }
    backend = Tokenizer.assemble(model.arranged(), json.dumps(options), json.dumps(sections))
    for id, token in added_tokens.items():
        if backend.id_to_token(id) not in (None, str(token)) and backend.token_to_id(str(token)) is None:
            raise NotImplementedError(
                f"added_tokens_decoder names token {id} {str(token)!r}, which is the piece {backend.id_to_token(id)!r} in "
                "the SentencePiece model; renaming pieces is not there yet"
            )
    return backend, {f"{name}_token": said[f"{name}_piece"] for name in _NAMED if said[f"{name}_id"] >= 0}


def _scored(tokens: Sequence[str | tuple[str, float]]) -> list[tuple[str, float]]:
    return [(token, 0.0) if isinstance(token, str) else token for token in tokens]
