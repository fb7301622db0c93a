"""RoFormer's tokenizer: BERT's, whose words are those that jieba finds in Chinese."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..segmented_tokenizer import MARKED_WORDS, SegmentedTokenizer
from ..tokenization_sections import BERT_PRE_TOKENIZER
from .bert_tokenizer import BertTokenizer

__all__ = ["RoFormerTokenizer", "RoFormerTokenizerFast"]


class RoFormerTokenizer(BertTokenizer):
    """BERT's tokenizer for a vocabulary with words of several Chinese characters; those that it lacks are cut into characters.

    Files have BERT's own way of cutting in place of jieba's, which no tokenizer.json can name. Raises ImportError without rjieba.
    """

    model_input_names = ["input_ids", "attention_mask"]
    pre_tokenizer = MARKED_WORDS
    chinese_apart = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _tokenize("", hmm=False)
        super().__init__(*args, **kwargs)
        strips = self.do_lower_case if self.strip_accents is None else self.strip_accents
        words = _Words(self._tokenizer.vocabulary(False))
        self._tokenizer = SegmentedTokenizer(  # type: ignore[assignment]
            self._tokenizer, words, self.do_lower_case, strips, BERT_PRE_TOKENIZER
        )


class _Words:
    """Where jieba's words begin and end, as far as the vocabulary has them."""

    def __init__(self, vocabulary: dict[str, int]) -> None:
        self._vocabulary = vocabulary

    def __call__(self, text: str) -> Iterator[tuple[int, int]]:
        for token, start, end in _tokenize(text, hmm=False):
            if token in self._vocabulary:
                yield start, end
                continue
            for word in _characters_apart(token).split():
                yield start, start + len(word)
                start += len(word)


# What BERT takes for Chinese
_CHINESE = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def _characters_apart(text: str) -> str:
    return "".join(f" {c} " if any(first <= ord(c) <= last for first, last in _CHINESE) else c for c in text)


def _tokenize(text: str, hmm: bool) -> Any:
    try:
        import rjieba
    except ImportError:
        raise ImportError("RoFormer's tokenizer needs rjieba: pip install ferroformer[roformer]") from None
    return rjieba.tokenize(text, hmm=hmm)


RoFormerTokenizerFast = RoFormerTokenizer
