"""Tokenizers of SentencePiece's kind: words that begin with "▁", cut into the most probable pieces (Unigram)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..added_token import AddedToken
from ..sentence_piece_model import ArrangedPieces, SentencePieceModel
from ..tokenization_sections import (
    WHITESPACE_SPLIT,
    Section,
    metaspace,
    normalizers,
    pre_tokenizers,
    precompiled,
    replace,
)
from ..tokenization_files import TokenizerFiles
from ..tokenization_vocabulary import Vocab, VocabularyTokenizer, charsmap

if TYPE_CHECKING:
    from typing_extensions import Self

Special = str | AddedToken


class UnigramTokenizer(VocabularyTokenizer):
    """Built from [(token, score)] in the order of their ids, or from a SentencePiece model.

    `unk` says which of them is the unknown one: by its id, its name, or both if the name may be missing.
    """

    model_input_names = ["input_ids", "attention_mask"]

    def __init__(
        self,
        vocab: Vocab | ArrangedPieces,
        unk: Section,
        *,
        normalizer: Sequence[Section],
        words: Section | None = WHITESPACE_SPLIT,
        prepend_scheme: str,
        **kwargs: Any,
    ) -> None:
        spaces = metaspace(prepend_scheme)
        super().__init__(
            vocab,
            {"type": "Unigram", **unk},
            {
                "normalizer": normalizers(*normalizer) if len(normalizer) > 1 else next(iter(normalizer), None),
                "pre_tokenizer": pre_tokenizers(*filter(None, [words]), spaces),
                "decoder": spaces,
            },
            **kwargs,
        )


class AlbertTokenizer(UnigramTokenizer):
    """[CLS] A [SEP], or [CLS] A [SEP] B [SEP]. `keep_accents=False` strips them."""

    vocab_files_names = {"vocab_file": "spiece.model", "tokenizer_file": "tokenizer.json"}

    def __init__(
        self,
        vocab: Vocab | None = None,
        do_lower_case: bool = True,
        keep_accents: bool = False,
        bos_token: Special = "[CLS]",
        eos_token: Special = "[SEP]",
        unk_token: Special = "<unk>",
        sep_token: Special = "[SEP]",
        pad_token: Special = "<pad>",
        cls_token: Special = "[CLS]",
        mask_token: Special = "[MASK]",
        add_prefix_space: bool = True,
        trim_offsets: bool = True,
        **kwargs: Any,
    ) -> None:
        self.do_lower_case = do_lower_case
        self.keep_accents = keep_accents
        self.add_prefix_space = add_prefix_space
        self.trim_offsets = trim_offsets
        normalizer = [replace("``", '"'), replace("''", '"')]
        if not keep_accents:
            normalizer += [{"type": "NFKD"}, {"type": "StripAccents"}]
        if do_lower_case:
            normalizer.append({"type": "Lowercase"})
        named = (pad_token, unk_token, cls_token, sep_token, mask_token)
        cls, sep = str(cls_token), str(sep_token)
        super().__init__(
            _scored(named) if vocab is None else vocab,
            {"unk_id": 1},
            around=([cls, "$A", sep], [cls, "$A", sep, ("$B", 1), (sep, 1)]),
            normalizer=[*normalizer, *precompiled(charsmap(vocab))],
            prepend_scheme="always" if add_prefix_space else "never",
            do_lower_case=do_lower_case,
            keep_accents=keep_accents,
            bos_token=bos_token,
            eos_token=eos_token,
            sep_token=sep_token,
            cls_token=cls_token,
            unk_token=unk_token,
            pad_token=pad_token,
            mask_token=mask_token,
            add_prefix_space=add_prefix_space,
            trim_offsets=trim_offsets,
            **kwargs,
        )


class XLMRobertaTokenizer(UnigramTokenizer):
    """<s> A </s>, or <s> A </s></s> B </s>."""

    vocab_files_names = {"vocab_file": "sentencepiece.bpe.model", "tokenizer_file": "tokenizer.json"}

    def __init__(
        self,
        vocab: Vocab | None = None,
        add_prefix_space: bool = True,
        bos_token: Special = "<s>",
        eos_token: Special = "</s>",
        sep_token: Special = "</s>",
        cls_token: Special = "<s>",
        unk_token: Special = "<unk>",
        pad_token: Special = "<pad>",
        mask_token: Special = "<mask>",
        **kwargs: Any,
    ) -> None:
        self.add_prefix_space = add_prefix_space
        first = [str(token) for token in (bos_token, pad_token, eos_token, unk_token)]
        pieces: Vocab | ArrangedPieces = _scored([*first, mask_token]) if vocab is None else vocab
        if isinstance(vocab, SentencePieceModel):
            pieces = vocab.arranged(first, 3, [str(mask_token)])
        super().__init__(
            pieces,
            {"unk_id": 3},
            normalizer=precompiled(charsmap(vocab)),
            prepend_scheme="always" if add_prefix_space else "never",
            bos_token=bos_token,
            eos_token=eos_token,
            sep_token=sep_token,
            cls_token=cls_token,
            unk_token=unk_token,
            pad_token=pad_token,
            mask_token=mask_token,
            add_prefix_space=add_prefix_space,
            **kwargs,
        )
        bos, eos = str(bos_token), str(eos_token)
        self._set_template([bos, "$A", eos], [bos, "$A", eos, eos, "$B", eos])


class CamembertTokenizer(UnigramTokenizer):
    """<s> A </s>, or <s> A </s></s> B </s>; `<mask>` takes the space before it along."""

    vocab_files_names = {"vocab_file": "sentencepiece.bpe.model", "tokenizer_file": "tokenizer.json"}

    def __init__(
        self,
        bos_token: Special = "<s>",
        eos_token: Special = "</s>",
        sep_token: Special = "</s>",
        cls_token: Special = "<s>",
        unk_token: Special = "<unk>",
        pad_token: Special = "<pad>",
        mask_token: Special = "<mask>",
        additional_special_tokens: Sequence[Special] | None = None,
        add_prefix_space: bool = True,
        vocab: Vocab | None = None,
        **kwargs: Any,
    ) -> None:
        self.add_prefix_space = add_prefix_space
        used = _scored(["<s>NOTUSED", pad_token, "</s>NOTUSED", unk_token])
        first = [*used, ("<unk>NOTUSED", -100.0)]
        pieces: Vocab | ArrangedPieces = _scored([*first, mask_token]) if vocab is None else vocab
        if isinstance(vocab, SentencePieceModel):
            pieces = vocab.arranged(first, 1, [str(mask_token)])
        if additional_special_tokens is None:
            additional_special_tokens = ["<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"]
        super().__init__(
            pieces,
            {"unk_token": str(unk_token), "unk_id": 0},
            normalizer=precompiled(charsmap(vocab)),
            prepend_scheme="always" if add_prefix_space else "never",
            bos_token=bos_token,
            eos_token=eos_token,
            sep_token=sep_token,
            cls_token=cls_token,
            unk_token=unk_token,
            pad_token=pad_token,
            mask_token=AddedToken(mask_token, lstrip=True, special=True) if isinstance(mask_token, str) else mask_token,
            additional_special_tokens=additional_special_tokens,
            add_prefix_space=add_prefix_space,
            **kwargs,
        )
        bos, eos = str(bos_token), str(eos_token)
        self._set_template([bos, "$A", eos], [bos, "$A", eos, eos, "$B", eos])


class DebertaV2Tokenizer(UnigramTokenizer):
    """[CLS] A [SEP], or [CLS] A [SEP] B [SEP]. `split_by_punct` cuts at each punctuation mark."""

    vocab_files_names = {"vocab_file": "spm.model", "tokenizer_file": "tokenizer.json"}
    model_input_names = ["input_ids", "attention_mask", "token_type_ids"]

    def __init__(
        self,
        vocab: Vocab | None = None,
        do_lower_case: bool = False,
        split_by_punct: bool = False,
        bos_token: Special = "[CLS]",
        eos_token: Special = "[SEP]",
        unk_token: Special = "[UNK]",
        sep_token: Special = "[SEP]",
        pad_token: Special = "[PAD]",
        cls_token: Special = "[CLS]",
        mask_token: Special = "[MASK]",
        add_prefix_space: bool = True,
        unk_id: int = 1,
        **kwargs: Any,
    ) -> None:
        self.do_lower_case = do_lower_case
        self.split_by_punct = split_by_punct
        self.add_prefix_space = add_prefix_space
        named = (pad_token, unk_token, bos_token, eos_token, sep_token, cls_token, mask_token)
        lowercase: list[Section] = [{"type": "Lowercase"}] if do_lower_case else []
        super().__init__(
            _scored(named) if vocab is None else vocab,
            {"unk_token": str(unk_token), "unk_score": 0.0, "unk_id": unk_id},
            normalizer=[
                *lowercase,
                replace(r"\s{2,}|[\n\r\t]", " ", regex=True),
                {"type": "NFC"},
                {"type": "Strip", "strip_left": False, "strip_right": True},
            ],
            words={"type": "Punctuation", "behavior": "Isolated"} if split_by_punct else None,
            prepend_scheme="always" if add_prefix_space else "first",
            bos_token=bos_token,
            eos_token=eos_token,
            unk_token=unk_token,
            sep_token=sep_token,
            cls_token=cls_token,
            pad_token=pad_token,
            mask_token=mask_token,
            unk_id=unk_id,
            do_lower_case=do_lower_case,
            split_by_punct=split_by_punct,
            add_prefix_space=add_prefix_space,
            **kwargs,
        )
        cls, sep = str(cls_token), str(sep_token)
        self._set_template([cls, "$A", sep], [cls, "$A", sep, ("$B", 1), (sep, 1)])


class T5Tokenizer(UnigramTokenizer):
    """A </s>, or A </s> B </s>. The last `extra_ids` tokens are <extra_id_99> to <extra_id_0>."""

    vocab_files_names = {"vocab_file": "spiece.model", "tokenizer_file": "tokenizer.json"}

    def __init__(
        self,
        vocab: Vocab | None = None,
        eos_token: Special = "</s>",
        unk_token: Special = "<unk>",
        pad_token: Special = "<pad>",
        extra_ids: int = 100,
        additional_special_tokens: Sequence[Special] | None = None,
        **kwargs: Any,
    ) -> None:
        self.extra_ids = extra_ids
        extra = [f"<extra_id_{i}>" for i in range(extra_ids)]
        given = [token for token in additional_special_tokens or [] if "<extra_id_" in str(token)]
        if given and extra_ids > 0 and extra_ids != len(given):
            raise ValueError(
                f"Both extra_ids ({extra_ids}) and additional_special_tokens ({additional_special_tokens}) are provided "
                "to T5Tokenizer. In this case the additional_special_tokens must include the extra_ids tokens"
            )
        first = [str(token) for token in (pad_token, eos_token, unk_token)]
        pieces: Vocab | ArrangedPieces = _scored([*first, ("▁", -2.0), *extra[::-1]]) if vocab is None else vocab
        if isinstance(vocab, SentencePieceModel):
            pieces = vocab.arranged(after=extra[::-1])
        super().__init__(
            pieces,
            {"unk_id": 2},
            normalizer=precompiled(charsmap(vocab)),
            prepend_scheme="always",
            eos_token=eos_token,
            unk_token=unk_token,
            pad_token=pad_token,
            extra_ids=extra_ids,
            additional_special_tokens=[*(additional_special_tokens or []), *([] if given else extra)],
            **kwargs,
        )
        eos = str(eos_token)
        self._set_template(["$A", eos], ["$A", eos, "$B", eos])

    def get_sentinel_tokens(self) -> list[str]:
        return [token for token in self.extra_special_tokens if token.startswith("<extra_id_")]

    def get_sentinel_token_ids(self) -> list[int]:
        return [self.convert_tokens_to_ids(token) for token in self.get_sentinel_tokens()]


class PegasusTokenizer(UnigramTokenizer):
    """A </s>, or A B </s>. The first tokens are for training alone: `mask_token_sent` stands for a sentence, and there are
    <unk_2> to <unk_102>."""

    vocab_files_names = {"vocab_file": "spiece.model", "tokenizer_file": "tokenizer.json"}

    def __init__(
        self,
        vocab: Vocab | ArrangedPieces | None = None,
        pad_token: Special = "<pad>",
        eos_token: Special = "</s>",
        unk_token: Special = "<unk>",
        mask_token: Special = "<mask_2>",
        mask_token_sent: str | None = "<mask_1>",
        additional_special_tokens: Sequence[Special] | None = None,
        offset: int = 103,
        map_of_characters: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.offset = offset
        self.mask_token_sent = mask_token_sent
        given = [str(token) for token in additional_special_tokens or ()]
        sentence = [] if mask_token_sent is None or mask_token_sent in given else [mask_token_sent]
        found = map_of_characters or (None if isinstance(vocab, tuple) else charsmap(vocab))
        clean = precompiled(found) or [replace(r"\n", " ", regex=True)]
        super().__init__(
            _scored([unk_token, pad_token, eos_token, mask_token]) if vocab is None else vocab,
            {"unk_token": str(unk_token), "unk_score": 0.0, "unk_id": 0},
            normalizer=[*clean, replace(" {2,}", " ", regex=True)],
            words=None,
            prepend_scheme="always",
            pad_token=pad_token,
            eos_token=eos_token,
            unk_token=unk_token,
            mask_token=mask_token,
            mask_token_sent=mask_token_sent,
            offset=offset,
            additional_special_tokens=[*sentence, *(f"<unk_{i}>" for i in range(2, offset))],
            **kwargs,
        )
        eos = str(eos_token)
        self._set_template(["$A", eos], ["$A", "$B", eos])

    @classmethod
    def _from_files(cls, files: TokenizerFiles) -> Self:
        """The pieces of a SentencePiece model come behind the tokens for training, which are in the order of the files:
        those that no file names are the other way round (transformers has them so)."""
        if files.description is not None:
            return super()._from_files(files)
        model, said = SentencePieceModel(files.vocab or b""), files.arguments
        masks = dict.fromkeys(str(said.get(name, other)) for name, other in _PEGASUS_MASKS.items())
        before = [str(said.get("pad_token", "<pad>")), str(said.get("eos_token", "</s>")), *masks]
        numbered: list[Special | tuple[str, float]] = [(f"<unk_{i}>", -100.0) for i in range(2, said.get("offset", 103))]
        pieces = model.arranged([*_scored([*before, *numbered])], 2)
        return cls(**{"additional_special_tokens": model.added_tokens, **said}, vocab=pieces, map_of_characters=model.charsmap)


_PEGASUS_MASKS = {"mask_token": "<mask_1>", "mask_token_sent": "<mask_2>"}


def _scored(tokens: Sequence[Special | tuple[str, float]]) -> list[tuple[str, float]]:
    return [token if isinstance(token, tuple) else (str(token), 0.0) for token in tokens]


AlbertTokenizerFast = AlbertTokenizer
XLMRobertaTokenizerFast = XLMRobertaTokenizer
CamembertTokenizerFast = CamembertTokenizer
DebertaV2TokenizerFast = DebertaV2Tokenizer
T5TokenizerFast = T5Tokenizer
PegasusTokenizerFast = PegasusTokenizer
