"""Tokenizers of Llama's kind: SentencePiece's BPE, with bytes for characters that no piece has."""

from __future__ import annotations

from typing import Any

from ..added_token import AddedToken
from ..tokenization_sections import decoders, metaspace, replace, unmark_spaces
from ..tokenization_vocabulary import Merges, Vocab, VocabularyTokenizer

Special = str | AddedToken


class LlamaTokenizer(VocabularyTokenizer):
    """`legacy=False` reads only the first word of a text as if a space were before it, not those behind added tokens."""

    vocab_files_names = {"vocab_file": "tokenizer.model", "tokenizer_file": "tokenizer.json"}
    model_input_names = ["input_ids", "attention_mask"]
    padding_side = "left"

    def __init__(
        self,
        vocab: Vocab | None = None,
        merges: Merges | None = None,
        clean_up_tokenization_spaces: bool = False,
        unk_token: Special = "<unk>",
        bos_token: Special = "<s>",
        eos_token: Special = "</s>",
        use_default_system_prompt: bool = False,
        legacy: bool = False,
        add_prefix_space: bool | None = None,
        **kwargs: Any,
    ) -> None:
        self.add_prefix_space = prefix = add_prefix_space is None or add_prefix_space
        self.legacy = legacy
        self.use_default_system_prompt = use_default_system_prompt
        named = (unk_token, bos_token, eos_token)
        strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
        super().__init__(
            {str(token): i for i, token in enumerate(named)} if vocab is None else vocab,
            {"type": "BPE", "fuse_unk": True, "byte_fallback": True},
            {
                "normalizer": None,
                "pre_tokenizer": metaspace(("always" if legacy else "first") if prefix else "never", split=False),
                "decoder": decoders(*unmark_spaces(True), *strip),
            },
            merges=merges,
            clean_up_tokenization_spaces=clean_up_tokenization_spaces,
            unk_token=unk_token,
            bos_token=bos_token,
            eos_token=eos_token,
            use_default_system_prompt=use_default_system_prompt,
            add_prefix_space=add_prefix_space,
            **kwargs,
        )


class GemmaTokenizer(VocabularyTokenizer):
    """Reads `tokenizer.json` alone."""

    vocab_files_names = {"tokenizer_file": "tokenizer.json"}
    model_input_names = ["input_ids", "attention_mask"]
    padding_side = "left"

    def __init__(
        self,
        vocab: Vocab | None = None,
        merges: Merges | None = None,
        unk_token: Special = "<unk>",
        bos_token: Special = "<bos>",
        eos_token: Special = "<eos>",
        pad_token: Special = "<pad>",
        mask_token: Special = "<mask>",
        **kwargs: Any,
    ) -> None:
        named = (pad_token, eos_token, bos_token, unk_token, mask_token)
        split = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
        super().__init__(
            {str(token): i for i, token in enumerate(named)} if vocab is None else vocab,
            {"type": "BPE", "unk_token": str(unk_token), "fuse_unk": True, "byte_fallback": True},
            {
                "normalizer": replace(" ", "▁"),
                "pre_tokenizer": split,
                "decoder": decoders(*unmark_spaces(True)),
            },
            merges=merges,
            unk_token=unk_token,
            bos_token=bos_token,
            eos_token=eos_token,
            pad_token=pad_token,
            mask_token=mask_token,
            **kwargs,
        )


LlamaTokenizerFast = LlamaTokenizer
GemmaTokenizerFast = GemmaTokenizer
