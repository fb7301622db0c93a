"""M2M100's tokenizer: SentencePiece's pieces with ids of their own, and a language in front of each text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..added_token import AddedToken
from ..batch_encoding import BatchEncoding
from ..errors import InputError
from ..tokenization_python import Pieces, PythonBackend, dump_ids, read_ids

__all__ = ["M2M100Tokenizer"]

_LANGUAGES = {
    "m2m100": (
        "af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu ha he hi hr ht hu hy id "
        "ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my ne nl no ns oc or pa pl ps pt ro ru sd si "
        "sk sl so sq sr ss su sv sw ta th tl tn tr uk ur uz vi wo xh yi yo zh zu"
    ).split(),
    "wmt21": "en ha is ja cs ru zh de".split(),
}


class M2M100Tokenizer(PythonBackend):
    """__en__ A </s>: the language is `src_lang`, and of what the model is to answer with (`text_target`) `tgt_lang`.

    `vocab_file` and `spm_file` are the contents of `vocab.json` and of a SentencePiece model. Languages come behind the
    vocabulary: `get_lang_id("fr")` is what `generate` takes as `forced_bos_token_id`.
    """

    vocab_files_names = {"vocab_file": "vocab.json", "spm_file": "sentencepiece.bpe.model"}
    model_input_names = ["input_ids", "attention_mask"]

    def __init__(
        self,
        vocab_file: bytes | Mapping[str, int],
        spm_file: bytes,
        src_lang: str | None = None,
        tgt_lang: str | None = None,
        bos_token: str | AddedToken = "<s>",
        eos_token: str | AddedToken = "</s>",
        sep_token: str | AddedToken = "</s>",
        pad_token: str | AddedToken = "<pad>",
        unk_token: str | AddedToken = "<unk>",
        language_codes: str = "m2m100",
        sp_model_kwargs: dict[str, Any] | None = None,
        num_madeup_words: int = 8,
        **kwargs: Any,
    ) -> None:
        if sp_model_kwargs:
            raise NotImplementedError(f"sp_model_kwargs={sp_model_kwargs!r}: texts are cut in their best way, not by chance")
        if language_codes not in _LANGUAGES:
            raise InputError(f"language_codes={language_codes!r}: one of {list(_LANGUAGES)} is needed")
        self.language_codes = language_codes
        self.num_madeup_words = num_madeup_words
        languages = _LANGUAGES[language_codes]
        ids = read_ids("vocab.json", vocab_file)
        self.lang_code_to_token = {code: f"__{code}__" for code in languages}
        self.lang_code_to_id = {code: len(ids) + place for place, code in enumerate(languages)}
        self.lang_token_to_id = {f"__{code}__": id for code, id in self.lang_code_to_id.items()}
        self.id_to_lang_token = {id: token for token, id in self.lang_token_to_id.items()}
        self._model = Pieces("sentencepiece.bpe.model", spm_file)
        self._src_lang = "en" if src_lang is None else src_lang
        self.tgt_lang = tgt_lang
        self.get_lang_id(self._src_lang)
        super().__init__(
            ids,
            src_lang=src_lang,
            tgt_lang=tgt_lang,
            bos_token=bos_token,
            eos_token=eos_token,
            sep_token=sep_token,
            unk_token=unk_token,
            pad_token=pad_token,
            language_codes=language_codes,
            sp_model_kwargs=sp_model_kwargs or {},
            num_madeup_words=num_madeup_words,
            **kwargs,
        )

    @property
    def src_lang(self) -> str:
        return self._src_lang

    @src_lang.setter
    def src_lang(self, new_src_lang: str) -> None:
        self.get_lang_id(new_src_lang)
        self._src_lang = new_src_lang

    def get_lang_token(self, lang: str) -> str:
        if lang not in self.lang_code_to_token:
            raise InputError(f"language {lang!r}: not known, allowed are {', '.join(self.lang_code_to_token)}")
        return self.lang_code_to_token[lang]

    def get_lang_id(self, lang: str) -> int:
        return self.lang_token_to_id[self.get_lang_token(lang)]

    @property
    def prefix_tokens(self) -> list[int]:
        return self._specials(False)[0]

    @property
    def suffix_tokens(self) -> list[int]:
        return self._specials(False)[1]

    def _pieces(self, text: str, is_target: bool) -> list[str]:
        return self._model.encode(text)

    def _piece_id(self, piece: str, is_target: bool) -> int:
        language = self.lang_token_to_id.get(piece)
        return super()._piece_id(piece, is_target) if language is None else language

    def _piece_of(self, id: int, use_source: bool | None) -> str | None:
        return self.id_to_lang_token.get(id) or self._tokenizer.tokens.get(id, self.unk_token)

    def _specials(self, is_target: bool) -> tuple[list[int], list[int]]:
        language = self.tgt_lang if is_target else self._src_lang
        if language is None:
            raise InputError("text_target: the tokenizer's tgt_lang is not set")
        return [self.get_lang_id(language)], [self.eos_token_id]  # type: ignore[list-item]

    def _text(self, tokens: Sequence[str], use_source: bool | None) -> str:
        return self._joined(tokens, self._model.decode, "").strip()

    def _build_translation_inputs(
        self, raw_inputs: Any, src_lang: str | None = None, tgt_lang: str | None = None, **kwargs: Any
    ) -> BatchEncoding:
        """What `generate` takes: texts of one language, and the first token of the other."""
        if src_lang is None or tgt_lang is None:
            raise ValueError("Translation requires a `src_lang` and a `tgt_lang` for this model")
        self.src_lang = src_lang
        inputs = self(raw_inputs, add_special_tokens=True, **kwargs)
        inputs["forced_bos_token_id"] = self.get_lang_id(tgt_lang)
        return inputs

    def _contents(self) -> dict[str, str | bytes]:
        return {"vocab.json": dump_ids(self._tokenizer.ids), self._model.name: self._model.content}
