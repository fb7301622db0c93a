"""Marian's tokenizer: a SentencePiece model for each of its two languages, one vocabulary for both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..added_token import AddedToken
from ..tokenization_python import Pieces, PythonBackend, dump_ids, read_ids

__all__ = ["MarianTokenizer"]


class MarianTokenizer(PythonBackend):
    """A </s>. A code such as ">>fr<<" in front of a text, which says what it is translated to, is one token.

    `source_spm` and `target_spm` are the contents of SentencePiece models, `vocab` that of `vocab.json` or {token: id};
    with `separate_vocabs` targets (`text_target`) have the ids of `target_vocab_file`.
    """

    vocab_files_names = {
        "source_spm": "source.spm",
        "target_spm": "target.spm",
        "vocab": "vocab.json",
        "target_vocab_file": "target_vocab.json",
    }
    model_input_names = ["input_ids", "attention_mask"]
    _optional_files = ("target_vocab.json",)

    def __init__(
        self,
        source_spm: bytes,
        target_spm: bytes,
        vocab: bytes | Mapping[str, int],
        target_vocab_file: bytes | Mapping[str, int] | None = None,
        source_lang: str | None = None,
        target_lang: str | None = None,
        unk_token: str | AddedToken = "<unk>",
        eos_token: str | AddedToken = "</s>",
        pad_token: str | AddedToken = "<pad>",
        model_max_length: int = 512,
        sp_model_kwargs: dict[str, Any] | None = None,
        separate_vocabs: bool = False,
        **kwargs: Any,
    ) -> None:
        if sp_model_kwargs:
            raise NotImplementedError(f"sp_model_kwargs={sp_model_kwargs!r}: texts are cut in their best way, not by chance")
        self.source_lang = source_lang
        self.target_lang = target_lang
        self.separate_vocabs = separate_vocabs
        self._source, self._target = Pieces("source.spm", source_spm), Pieces("target.spm", target_spm)
        ids = read_ids("vocab.json", vocab)
        self._target_ids = read_ids("target_vocab.json", target_vocab_file) if separate_vocabs else ids
        self._target_tokens = {id: token for token, id in self._target_ids.items()}
        self.supported_language_codes = [
            token for token in ids if not separate_vocabs and token.startswith(">>") and token.endswith("<<")
        ]
        super().__init__(
            ids,
            source_lang=source_lang,
            target_lang=target_lang,
            unk_token=unk_token,
            eos_token=eos_token,
            pad_token=pad_token,
            model_max_length=model_max_length,
            sp_model_kwargs=sp_model_kwargs or {},
            separate_vocabs=separate_vocabs,
            **kwargs,
        )

    def _pieces(self, text: str, is_target: bool) -> list[str]:
        code, text = self.remove_language_code(text)
        return code + (self._target if is_target else self._source).encode(text)

    def remove_language_code(self, text: str) -> tuple[list[str], str]:
        """(['>>fr<<'], "Hello") of ">>fr<<Hello"."""
        end = text.find("<<") + 2 if text.startswith(">>") else 0
        return ([text[:end]], text[end:]) if end >= 2 else ([], text)

    def _piece_id(self, piece: str, is_target: bool) -> int:
        ids = self._target_ids if is_target else self._tokenizer.ids
        return ids.get(piece, ids[str(self.unk_token)])

    def _piece_of(self, id: int, use_source: bool | None) -> str | None:
        """Ids that the vocabulary lacks are those of the SentencePiece model."""
        found = self._target_tokens.get(id)
        return self._model(use_source).id_to_piece(id) if found is None and id >= 0 else found

    def _model(self, use_source: bool | None) -> Pieces:
        """With one vocabulary for both, that of the source decodes where nothing else is asked for."""
        return self._source if (not self.separate_vocabs if use_source is None else use_source) else self._target

    def _specials(self, is_target: bool) -> tuple[list[int], list[int]]:
        return [], [self.eos_token_id]  # type: ignore[list-item]

    def get_special_tokens_mask(
        self,
        token_ids_0: Sequence[int],
        token_ids_1: Sequence[int] | None = None,
        already_has_special_tokens: bool = False,
    ) -> list[int]:
        """1 for special tokens but <unk>, wherever they are, and for </s> at the end."""
        special = {*self.all_special_ids} - {self.unk_token_id}
        both = [*token_ids_0] if already_has_special_tokens else [*token_ids_0, *(token_ids_1 or [])]
        return [int(id in special) for id in both] + ([] if already_has_special_tokens else [1])

    def _text(self, tokens: Sequence[str], use_source: bool | None) -> str:
        return self._joined(tokens, self._model(use_source).decode, " ").replace("▁", " ").strip()

    def get_src_vocab(self) -> dict[str, int]:
        return self.get_vocab()

    def get_tgt_vocab(self) -> dict[str, int]:
        return {**self._target_ids, **self._tokenizer.added_ids}

    def _contents(self) -> dict[str, str | bytes]:
        contents: dict[str, str | bytes] = {pieces.name: pieces.content for pieces in (self._source, self._target)}
        contents["vocab.json"] = dump_ids(self._tokenizer.ids)
        if self.separate_vocabs:
            contents["target_vocab.json"] = dump_ids(self._target_ids)
        return contents
