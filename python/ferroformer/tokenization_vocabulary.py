"""Tokenizers that are built from a vocabulary."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ._native import Tokenizer
from .sentence_piece_model import ArrangedPieces, SentencePieceModel
from .tokenization_files import Description, TokenizerFiles, read_bytes
from .tokenization_sections import Section, TemplateItem, template
from .tokenization_utils import PreTrainedTokenizerBase

if TYPE_CHECKING:
    from typing_extensions import Self

# What a constructor takes: {token: id} or [(token, score)], the path of a file or what it holds
Vocab = (
    str | os.PathLike[str] | dict[str, int] | list[tuple[str, float]] | bytes | Description | SentencePieceModel
)
# A path, what the file holds, or the pairs themselves
Merges = str | os.PathLike[str] | bytes | list[tuple[str, str]]


class VocabularyTokenizer(PreTrainedTokenizerBase):
    """The normalizer and all that follows it are the class's; where there is a `tokenizer.json`, only its vocabulary,
    added tokens and map of characters are taken, and its post-processor if the class has none of its own.

    `model` are the options of the model, `sections` the other parts of a `tokenizer.json`. `around` is what is put
    around a text and around a pair if there is none.
    """

    def __init__(
        self,
        vocab: Vocab | ArrangedPieces,
        model: Section,
        sections: dict[str, Section | None],
        *,
        merges: Merges | None = None,
        around: tuple[Sequence[TemplateItem], Sequence[TemplateItem]] | None = None,
        **kwargs: Any,
    ) -> None:
        for name in ("vocab_file", "merges_file"):
            if kwargs.pop(name, None) is not None:
                raise TypeError(f"{type(self).__name__} takes no {name}; its from_pretrained(path) reads files")
        backend = Tokenizer.assemble(_native_vocabulary(vocab, merges), json.dumps(model), json.dumps(sections))
        post_processor = None
        if isinstance(vocab, Description) and vocab.sections["post_processor"] is not None:
            post_processor = json.dumps(vocab.sections["post_processor"])
        elif around is not None:
            post_processor = template(*around, backend.token_to_id)
        if post_processor is not None:
            backend = backend.with_post_processor(post_processor)
        super().__init__(backend, has_post_processor=post_processor is not None, **kwargs)

    @classmethod
    def _from_files(cls, files: TokenizerFiles) -> Self:
        arguments: dict[str, Any] = {"vocab": files.vocab, **files.arguments}
        if files.description is not None:
            arguments = {**files.description.sides, **files.arguments, "vocab": files.description}
        elif files.merges is not None:
            arguments["merges"] = files.merges
        elif cls.vocab_files_names["vocab_file"].endswith(".model"):
            model = SentencePieceModel(files.vocab or b"")
            found = {"unk_id": model.outline["unk_id"], "additional_special_tokens": model.added_tokens}
            arguments.update(found, vocab=model)
        return cls(**arguments)


def charsmap(vocab: Vocab | None) -> str | None:
    """The compiled map of characters that comes with a vocabulary, in base64."""
    if isinstance(vocab, SentencePieceModel):
        return vocab.charsmap
    return vocab.charsmap if isinstance(vocab, Description) else None


def _native_vocabulary(vocab: Vocab | ArrangedPieces, merges: Merges | None) -> Any:
    """In one of the forms that the compiled core reads."""
    if isinstance(vocab, Description):
        return vocab.text
    if isinstance(vocab, SentencePieceModel):
        return vocab.arranged()
    if isinstance(vocab, (dict, list)):
        model = {"vocab": vocab} if merges is None else {"vocab": vocab, "merges": merges}
        return json.dumps({"model": model}, ensure_ascii=False)
    if isinstance(vocab, tuple):
        return vocab
    content = vocab if isinstance(vocab, bytes) else read_bytes(vocab)
    if merges is None:
        return content
    if isinstance(merges, list):
        raise TypeError("merges must be a file if vocab is one")
    return content, merges if isinstance(merges, bytes) else read_bytes(merges)
