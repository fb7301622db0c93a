"""BERT's tokenizer: text split at white space and punctuation, then WordPiece."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from .._native import Tokenizer
from ..added_token import AddedToken
from ..config_files import write_text
from ..tokenization_files import Description, TokenizerFiles, read_bytes, template
from ..tokenization_utils import PreTrainedTokenizerBase

if TYPE_CHECKING:
    from typing_extensions import Self


class BertTokenizer(PreTrainedTokenizerBase):
    """Built from a vocabulary and these options; where there is a `tokenizer.json`, only its vocabulary and added
    tokens are taken, so the options win over the normalizer that it describes.

    `vocab` is {token: id}, the path of a `vocab.txt`, or what such a file holds. `strip_accents=None` strips them if
    `do_lower_case`.
    """

    vocab_files_names = {"vocab_file": "vocab.txt", "tokenizer_file": "tokenizer.json"}
    model_input_names = ["input_ids", "token_type_ids", "attention_mask"]

    def __init__(
        self,
        vocab: str | os.PathLike[str] | dict[str, int] | bytes | Description | None = None,
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
        self.do_lower_case = do_lower_case
        self.tokenize_chinese_chars = tokenize_chinese_chars
        self.strip_accents = strip_accents
        vocab = vocab_file if vocab is None else vocab
        if vocab is None:
            named = (pad_token, unk_token, cls_token, sep_token, mask_token)
            vocab = {str(token): i for i, token in enumerate(named)}
        backend = Tokenizer.word_piece(
            _vocabulary(vocab),
            unk_token=str(unk_token),
            lowercase=do_lower_case,
            strip_accents=strip_accents,
            handle_chinese_chars=tokenize_chinese_chars,
        )
        super().__init__(
            backend,
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
        ids = {cls: self.cls_token_id, sep: self.sep_token_id}
        self._tokenizer = self._tokenizer.with_post_processor(template(cls, sep, ids))

    @classmethod
    def _from_files(cls, files: TokenizerFiles) -> Self:
        if files.description is None:
            return cls(files.vocab, **files.arguments)
        return cls(files.description, **{**files.description.defaults, **files.arguments})

    def save_vocabulary(
        self, save_directory: str | os.PathLike[str], filename_prefix: str | None = None
    ) -> tuple[str, ...]:
        """Write `vocab.txt`, the tokens by rising id; returns its path."""
        vocab = self._tokenizer.vocabulary(False)
        path = os.path.join(save_directory, f"{filename_prefix}-vocab.txt" if filename_prefix else "vocab.txt")
        write_text(path, "".join(f"{token}\n" for token in sorted(vocab, key=vocab.__getitem__)))
        return (path,)


class DistilBertTokenizer(BertTokenizer):
    """BERT's tokenizer for a model without token types."""

    model_input_names = ["input_ids", "attention_mask"]


def _vocabulary(vocab: str | os.PathLike[str] | dict[str, int] | bytes | Description) -> bytes | str:
    """In one of the two forms that the compiled core reads: `vocab.txt` and `tokenizer.json`."""
    if isinstance(vocab, Description):
        return vocab.text
    if isinstance(vocab, dict):
        return json.dumps({"model": {"vocab": vocab}}, ensure_ascii=False)
    return vocab if isinstance(vocab, bytes) else read_bytes(vocab)


BertTokenizerFast = BertTokenizer
DistilBertTokenizerFast = DistilBertTokenizer
ElectraTokenizer = ElectraTokenizerFast = BertTokenizer
