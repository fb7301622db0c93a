"""How alike sentences are to another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .base import Pipeline

__all__ = ["SentenceSimilarityPipeline"]


class SentenceSimilarityPipeline(Pipeline):
    """pipe({"source_sentence": "a text", "sentences": ["another", "a third"]}) -> the cosine of each to the first, [0.8, 0.1].

    The model is a SentenceTransformer. pipe(source_sentence, sentences) says the same.
    """

    def _check_model(self) -> None:
        if not hasattr(self.model, "encode"):
            raise TypeError(f"sentence-similarity needs a SentenceTransformer, not a {type(self.model).__name__}")
        self.tokenizer = self.tokenizer or self.model.tokenizer

    def __call__(self, inputs: Any, sentences: Any = None, **kwargs: Any) -> Any:
        if sentences is not None:
            inputs = {"source_sentence": inputs, "sentences": sentences}
        return super().__call__(inputs, **kwargs)

    def parameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {}, {}

    def stream(
        self,
        inputs: Iterable[Any],
        batch_size: int,
        ahead: bool,
        preprocess: dict[str, Any],
        postprocess: dict[str, Any],
        compute: dict[str, Any] | None = None,
    ) -> Iterator[Any]:
        from ..sentence_similarity import row_by_row

        for item in inputs:
            source, sentences = _texts(item)
            vectors = self.model.encode([source, *sentences], batch_size=batch_size, show_progress_bar=False)
            # row by row: what a matrix product says of a row may depend on how many there are
            yield row_by_row("cosine")(vectors[:1], vectors[1:]).tolist()

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        self.model.save_pretrained(save_directory, **kwargs)

    @property
    def dtype(self) -> Any:
        return self.model[0].auto_model.dtype


def _texts(item: Any) -> tuple[str, list[str]]:
    if not isinstance(item, Mapping) or not {"source_sentence", "sentences"} <= set(item):
        raise ValueError('a dict {"source_sentence": a text, "sentences": a list of texts} is needed')
    source, sentences = item["source_sentence"], item["sentences"]
    if not isinstance(source, str) or isinstance(sentences, str) or not all(isinstance(s, str) for s in sentences):
        raise ValueError('"source_sentence" is one text, "sentences" a list of texts')
    return source, list(sentences)
