"""Tokenizers of BERT's kind: text split at white space and punctuation, then WordPiece."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from ..added_token import AddedToken
from ..config_files import write_text
from ..tokenization_sections import (
    BERT_PRE_TOKENIZER,
    WORD_PIECE_DECODER,
    Section,
    bert_normalizer,
    roberta_processing,
)
from ..tokenization_vocabulary import Vocab, VocabularyTokenizer


class WordPieceTokenizer(VocabularyTokenizer):
    """Built from a vocabulary and the options of BERT's normalizer, which win over a `tokenizer.json`.

    `strip_accents=None` strips them if `do_lower_case`.
    """

    vocab_files_names = {"vocab_file": "vocab.txt", "tokenizer_file": "tokenizer.json"}
    pre_tokenizer: ClassVar[Section] = BERT_PRE_TOKENIZER
    # whether the normalizer puts spaces around Chinese characters where `tokenize_chinese_chars` asks for it
    chinese_apart: ClassVar[bool] = True

    def __init__(
        self,
        vocab: Vocab,
        *,
        unk_token: str | AddedToken,
        do_lower_case: bool,
        tokenize_chinese_chars: bool,
        strip_accents: bool | None,
        **kwargs: Any,
    ) -> None:
        self.do_lower_case = do_lower_case
        self.tokenize_chinese_chars = tokenize_chinese_chars
        self.strip_accents = strip_accents
        super().__init__(
            vocab,
            {"type": "WordPiece", "unk_token": str(unk_token)},
            {
                "normalizer": bert_normalizer(
                    do_lower_case, strip_accents, tokenize_chinese_chars and self.chinese_apart
                ),
                "pre_tokenizer": self.pre_tokenizer,
                "decoder": WORD_PIECE_DECODER,
            },
            unk_token=unk_token,
            do_lower_case=do_lower_case,
            tokenize_chinese_chars=tokenize_chinese_chars,
            strip_accents=strip_accents,
            **kwargs,
        )

    def save_vocabulary(
        self, save_directory: str | os.PathLike[str], filename_prefix: str | None = None
    ) -> tuple[str, ...]:
        """Write `vocab.txt`, the tokens by rising id; returns its path."""
        vocab = self._tokenizer.vocabulary(False)
        path = os.path.join(save_directory, f"{filename_prefix}-vocab.txt" if filename_prefix else "vocab.txt")
        write_text(path, "".join(f"{token}\n" for token in sorted(vocab, key=vocab.__getitem__)))
        return (path,)


class BertTokenizer(WordPieceTokenizer):
    """`vocab` is {token: id}, the path of a `vocab.txt`, or what such a file holds."""

    model_input_names = ["input_ids", "token_type_ids", "attention_mask"]

    def __init__(
        self,
        vocab: Vocab | None = None,
        do_lower_case: bool = True,
        unk_token: str | AddedToken = "[UNK]",
        sep_token: str | AddedToken = "[SEP]",
        pad_token: str | AddedToken = "[PAD]",
        cls_token: str | AddedToken = "[CLS]",
        mask_token: str | AddedToken = "[MASK]",
        tokenize_chinese_chars: bool = True,
        strip_accents: bool | None = None,
        *,
        vocab_file: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> None:
        vocab = vocab_file if vocab is None else vocab
        if vocab is None:
            named = (pad_token, unk_token, cls_token, sep_token, mask_token)
            vocab = {str(token): i for i, token in enumerate(named)}
        super().__init__(
            vocab,
            do_lower_case=do_lower_case,
            unk_token=unk_token,
            sep_token=sep_token,
            pad_token=pad_token,
            cls_token=cls_token,
            mask_token=mask_token,
            tokenize_chinese_chars=tokenize_chinese_chars,
            strip_accents=strip_accents,
            **kwargs,
        )
        cls, sep = str(cls_token), str(sep_token)
        self._set_template([cls, "$A", sep], [cls, "$A", sep, ("$B", 1), (sep, 1)])


class DistilBertTokenizer(BertTokenizer):
    """BERT's tokenizer for a model without token types."""

    model_input_names = ["input_ids", "attention_mask"]


class ConvBertTokenizer(BertTokenizer):
    """BERT's tokenizer."""


class MPNetTokenizer(WordPieceTokenizer):
    """BERT's normalizer and WordPiece with RoBERTa's special tokens; `<mask>` takes the space before it along."""

    model_input_names = ["input_ids", "attention_mask"]

    def __init__(
        self,
        vocab: Vocab | None = None,
        do_lower_case: bool = True,
        bos_token: str | AddedToken = "<s>",
        eos_token: str | AddedToken = "</s>",
        sep_token: str | AddedToken = "</s>",
        cls_token: str | AddedToken = "<s>",
        unk_token: str | AddedToken = "[UNK]",
        pad_token: str | AddedToken = "<pad>",
        mask_token: str | AddedToken = "<mask>",
        tokenize_chinese_chars: bool = True,
        strip_accents: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            {} if vocab is None else vocab,
            do_lower_case=do_lower_case,
            bos_token=_added(bos_token),
            eos_token=_added(eos_token),
            sep_token=_added(sep_token),
            cls_token=_added(cls_token),
            unk_token=_added(unk_token),
            pad_token=_added(pad_token),
            mask_token=_added(mask_token, lstrip=True),
            tokenize_chinese_chars=tokenize_chinese_chars,
            strip_accents=strip_accents,
            **kwargs,
        )
        sep, cls = (str(sep_token), self.sep_token_id), (str(cls_token), self.cls_token_id)
        self._tokenizer = self._tokenizer.with_post_processor(roberta_processing(sep, cls, True, False))


def _added(token: str | AddedToken, lstrip: bool = False) -> AddedToken:
    return token if isinstance(token, AddedToken) else AddedToken(token, lstrip=lstrip)


BertTokenizerFast = BertTokenizer
DistilBertTokenizerFast = DistilBertTokenizer
ElectraTokenizer = ElectraTokenizerFast = BertTokenizer
MobileBertTokenizer = MobileBertTokenizerFast = BertTokenizer
