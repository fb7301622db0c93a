"""Tokenizers of GPT-2's kind: text split by a pattern, then merges of bytes (BPE)."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from ..added_token import AddedToken
from ..config_files import write_text
from ..tokenization_sections import Section, byte_level, pre_tokenizers, roberta_processing
from ..tokenization_vocabulary import Merges, Vocab, VocabularyTokenizer


class ByteLevelTokenizer(VocabularyTokenizer):
    """Built from {token: id} and a list of pairs that are merged, or from `vocab.json` and `merges.txt`.

    With `add_prefix_space` the first word of a text is read as if a space were before it.
    """

    vocab_files_names = {"vocab_file": "vocab.json", "merges_file": "merges.txt", "tokenizer_file": "tokenizer.json"}
    model_input_names = ["input_ids", "attention_mask"]

    def __init__(
        self,
        vocab: Vocab,
        merges: Merges | None,
        *,
        add_prefix_space: bool,
        normalizer: Section | None = None,
        pre_tokenizer: Section | None = None,
        **kwargs: Any,
    ) -> None:
        self.add_prefix_space = add_prefix_space
        words = pre_tokenizer or byte_level(add_prefix_space)
        super().__init__(
            vocab,
            {"type": "BPE"},
            {"normalizer": normalizer, "pre_tokenizer": words, "decoder": byte_level()},
            merges=merges,
            add_prefix_space=add_prefix_space,
            **kwargs,
        )

    def save_vocabulary(
        self, save_directory: str | os.PathLike[str], filename_prefix: str | None = None
    ) -> tuple[str, ...]:
        """Write `vocab.json` and `merges.txt`; returns their paths."""
        model = json.loads(self._tokenizer.to_json())["model"]
        start = os.path.join(save_directory, f"{filename_prefix}-" if filename_prefix else "")
        merges = (pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"])
        write_text(f"{start}vocab.json", json.dumps(model["vocab"], ensure_ascii=False))
        write_text(f"{start}merges.txt", "".join(["#version: 0.2\n", *(f"{pair}\n" for pair in merges)]))
        return f"{start}vocab.json", f"{start}merges.txt"


class GPT2Tokenizer(ByteLevelTokenizer):
    """Puts nothing around a text, unless `add_bos_token` or `add_eos_token` is set."""

    def __init__(
        self,
        vocab: Vocab | None = None,
        merges: Merges | None = None,
        errors: str = "replace",
        unk_token: str | AddedToken | None = "<|endoftext|>",
        bos_token: str | AddedToken | None = "<|endoftext|>",
        eos_token: str | AddedToken | None = "<|endoftext|>",
        pad_token: str | AddedToken | None = None,
        add_prefix_space: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            {} if vocab is None else vocab,
            merges,
            errors=errors,
            unk_token=unk_token,
            bos_token=bos_token,
            eos_token=eos_token,
            pad_token=pad_token,
            add_prefix_space=add_prefix_space,
            **kwargs,
        )


class RobertaTokenizer(ByteLevelTokenizer):
    """<s> A </s>, or <s> A </s></s> B </s>. With `trim_offsets` the offsets of a word leave the space before it out."""

    def __init__(
        self,
        vocab: Vocab | None = None,
        merges: Merges | None = None,
        errors: str = "replace",
        bos_token: str | AddedToken = "<s>",
        eos_token: str | AddedToken = "</s>",
        sep_token: str | AddedToken = "</s>",
        cls_token: str | AddedToken = "<s>",
        unk_token: str | AddedToken = "<unk>",
        pad_token: str | AddedToken = "<pad>",
        mask_token: str | AddedToken = "<mask>",
        add_prefix_space: bool = False,
        trim_offsets: bool = True,
        **kwargs: Any,
    ) -> None:
        self.trim_offsets = trim_offsets
        named = (pad_token, unk_token, cls_token, sep_token, mask_token)
        super().__init__(
            {str(token): i for i, token in enumerate(named)} if vocab is None else vocab,
            merges,
            errors=errors,
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
        sep, cls = (str(sep_token), self.sep_token_id), (str(cls_token), self.cls_token_id)
        processor = roberta_processing(sep, cls, trim_offsets, add_prefix_space)
        self._tokenizer = self._tokenizer.with_post_processor(processor)


class DebertaTokenizer(ByteLevelTokenizer):
    """[CLS] A [SEP], or [CLS] A [SEP] [SEP] B [SEP]."""

    model_input_names = ["input_ids", "attention_mask", "token_type_ids"]

    def __init__(
        self,
        vocab: Vocab | None = None,
        merges: Merges | None = None,
        errors: str = "replace",
        bos_token: str | AddedToken = "[CLS]",
        eos_token: str | AddedToken = "[SEP]",
        sep_token: str | AddedToken = "[SEP]",
        cls_token: str | AddedToken = "[CLS]",
        unk_token: str | AddedToken = "[UNK]",
        pad_token: str | AddedToken = "[PAD]",
        mask_token: str | AddedToken = "[MASK]",
        add_prefix_space: bool = False,
        **kwargs: Any,
    ) -> None:
        named = (unk_token, cls_token, sep_token, pad_token, mask_token)
        super().__init__(
            {str(token): i for i, token in enumerate(named)} if vocab is None else vocab,
            merges,
            errors=errors,
            bos_token=bos_token,
            eos_token=eos_token,
            unk_token=unk_token,
            sep_token=sep_token,
            cls_token=cls_token,
            pad_token=pad_token,
            mask_token=mask_token,
            add_prefix_space=add_prefix_space,
            **kwargs,
        )
        cls, sep = str(cls_token), str(sep_token)
        self._set_template([cls, "$A", sep], [cls, "$A", sep, sep, "$B", sep])


class GPTNeoXTokenizer(ByteLevelTokenizer):
    """Puts nothing around a text, whatever a `tokenizer.json` says, unless `add_bos_token` or `add_eos_token` is set."""

    def __init__(
        self,
        vocab: Vocab | None = None,
        merges: Merges | None = None,
        errors: str = "replace",
        unk_token: str | AddedToken = "<|endoftext|>",
        bos_token: str | AddedToken = "<|endoftext|>",
        eos_token: str | AddedToken = "<|endoftext|>",
        pad_token: str | AddedToken = "<|padding|>",
        add_prefix_space: bool = False,
        trim_offsets: bool = True,
        **kwargs: Any,
    ) -> None:
        self.trim_offsets = trim_offsets
        super().__init__(
            {str(unk_token): 0, str(pad_token): 1} if vocab is None else vocab,
            merges,
            normalizer={"type": "NFC"},
            pre_tokenizer=byte_level(add_prefix_space, trim_offsets),
            errors=errors,
            unk_token=unk_token,
            bos_token=bos_token,
            eos_token=eos_token,
            pad_token=pad_token,
            add_prefix_space=add_prefix_space,
            trim_offsets=trim_offsets,
            **kwargs,
        )
        self._put_around()


# Contractions; a word with one sign before it; a digit; other signs with the line ends behind them; white space
_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Qwen2Tokenizer(ByteLevelTokenizer):
    """Splits words as Qwen does, digit by digit."""

    def __init__(
        self,
        vocab: Vocab | None = None,
        merges: Merges | None = None,
        unk_token: str | AddedToken | None = "<|endoftext|>",
        bos_token: str | AddedToken | None = None,
        eos_token: str | AddedToken | None = "<|endoftext|>",
        pad_token: str | AddedToken | None = "<|endoftext|>",
        add_prefix_space: bool | None = None,
        **kwargs: Any,
    ) -> None:
        split = {"type": "Split", "pattern": {"Regex": _QWEN2_WORDS}, "behavior": "Isolated", "invert": False}
        add_prefix_space = bool(add_prefix_space)
        super().__init__(
            {"<|endoftext|>": 0} if vocab is None else vocab,
            merges,
            normalizer={"type": "NFC"},
            pre_tokenizer=pre_tokenizers(split, byte_level(add_prefix_space, use_regex=False)),
            unk_token=unk_token,
            bos_token=bos_token,
            eos_token=eos_token,
            pad_token=pad_token,
            add_prefix_space=add_prefix_space,
            **kwargs,
        )
        self.add_tokens([AddedToken(token, special=True) for token in self.all_special_tokens])


class BlenderbotTokenizer(ByteLevelTokenizer):
    """Reads the first word of a text as if a space were before it. What goes around a text a `tokenizer.json` says."""

    def __init__(
        self,
        bos_token: str | AddedToken = "<s>",
        eos_token: str | AddedToken = "</s>",
        sep_token: str | AddedToken = "</s>",
        cls_token: str | AddedToken = "<s>",
        unk_token: str | AddedToken = "<unk>",
        pad_token: str | AddedToken = "<pad>",
        mask_token: str | AddedToken = "<mask>",
        add_prefix_space: bool = True,
        vocab: Vocab | None = None,
        merges: Merges | None = None,
        **kwargs: Any,
    ) -> None:
        named = (bos_token, pad_token, eos_token, unk_token, mask_token)
        if isinstance(mask_token, str):
            mask_token = AddedToken(mask_token, lstrip=True, normalized=False)
        super().__init__(
            {str(token): i for i, token in enumerate(named)} if vocab is None else vocab,
            merges,
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


class CodeGenTokenizer(GPT2Tokenizer):
    """As GPT-2's; offsets of a word have the space before it. `decode(..., truncate_before_pattern=[...])` ends a program
    at the first match of a pattern, and before a second `print` or `def` at the start of a line."""

    def __init__(
        self,
        vocab: Vocab | None = None,
        merges: Merges | None = None,
        unk_token: str | AddedToken = "<|endoftext|>",
        bos_token: str | AddedToken = "<|endoftext|>",
        eos_token: str | AddedToken = "<|endoftext|>",
        pad_token: str | AddedToken | None = None,
        add_prefix_space: bool = False,
        return_token_type_ids: bool = False,
        **kwargs: Any,
    ) -> None:
        self.return_token_type_ids = return_token_type_ids
        super().__init__(
            vocab,
            merges,
            unk_token=unk_token,
            bos_token=bos_token,
            eos_token=eos_token,
            pad_token=pad_token,
            add_prefix_space=add_prefix_space,
            return_token_type_ids=return_token_type_ids,
            **kwargs,
        )
        if return_token_type_ids:
            self.model_input_names.append("token_type_ids")

    def decode(self, token_ids: Any, *args: Any, truncate_before_pattern: list[str] | None = None, **kwargs: Any) -> Any:
        decoded = super().decode(token_ids, *args, **kwargs)
        return self.truncate(decoded, truncate_before_pattern) if truncate_before_pattern else decoded

    @staticmethod
    def truncate(completion: str, truncate_before_pattern: list[str]) -> str:
        for start in ("^print", "^def"):
            places = [match.start() for match in re.finditer(start, completion, re.MULTILINE)]
            completion = completion[: places[1]] if len(places) > 1 else completion
        found = (re.search(pattern, completion, re.MULTILINE) for pattern in truncate_before_pattern)
        return completion[: min((match.start() for match in found if match), default=len(completion))]


BlenderbotTokenizerFast = BlenderbotTokenizer
CodeGenTokenizerFast = CodeGenTokenizer
GPT2TokenizerFast = GPT2Tokenizer
GPTNeoXTokenizerFast = GPTNeoXTokenizer
Qwen2TokenizerFast = Qwen2Tokenizer
RobertaTokenizerFast = RobertaTokenizer
BartTokenizer = BartTokenizerFast = RobertaTokenizer
DebertaTokenizerFast = DebertaTokenizer
