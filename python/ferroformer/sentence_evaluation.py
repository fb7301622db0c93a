"""`EmbeddingSimilarityEvaluator`: how well similarities of embeddings agree with human scores; names and results as in
sentence-transformers."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .sentence_similarity import SIMILARITIES, row_by_row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["EmbeddingSimilarityEvaluator"]


class EmbeddingSimilarityEvaluator:
    """Pearson's and Spearman's correlation of similarities of text pairs with scores, whatever their scale.

    similarity_fn_names: of cosine, dot, euclidean, manhattan; main_similarity: the one that counts, and alone if no others are named;
    neither: the model's own. `primary_metric` is Spearman's of the main one, or "spearman_max" of several.
    name: put before the names of metrics. write_csv: a line is added to similarity_evaluation_NAME_results.csv in output_path.
    """

    greater_is_better = True

    def __init__(
        self,
        sentences1: Sequence[str],
        sentences2: Sequence[str],
        scores: Sequence[float],
        batch_size: int = 16,
        main_similarity: str | None = None,
        similarity_fn_names: Sequence[str] | None = None,
        name: str = "",
        show_progress_bar: bool = False,
        write_csv: bool = True,
        *,
        truncate_dim: int | None = None,
    ) -> None:
        if not len(sentences1) == len(sentences2) == len(scores) or len(scores) < 2:
            found = f"{len(sentences1)}, {len(sentences2)} and {len(scores)}"
            raise InputError(f"sentences1, sentences2 and scores need the same length of at least 2; they have {found}")
        asked = similarity_fn_names or ([main_similarity] if main_similarity else [])
        for one in asked:
            if one not in SIMILARITIES:
                raise ValueError(f"similarity {one!r}: one of {', '.join(SIMILARITIES)} is needed")
        if main_similarity and main_similarity not in asked:
            raise ValueError(f"main_similarity={main_similarity!r} is not among similarity_fn_names={list(asked)}")
        self.sentences1, self.sentences2, self.scores = list(sentences1), list(sentences2), list(scores)
        self.similarity_fn_names, self.main_similarity = list(asked), main_similarity
        self.name, self.write_csv = name, write_csv
        self._encoding = {"batch_size": batch_size, "show_progress_bar": show_progress_bar, "truncate_dim": truncate_dim}
        self.primary_metric: str | None = None

    @classmethod
    def from_input_examples(cls, examples: Iterable[Any], **kwargs: Any) -> EmbeddingSimilarityEvaluator:
        """Of examples with two texts and a label each."""
        listed = list(examples)
        return cls([e.texts[0] for e in listed], [e.texts[1] for e in listed], [e.label for e in listed], **kwargs)

    def __call__(
        self, model: Any, output_path: str | os.PathLike[str] | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """{name of a metric: value}, among them `primary_metric`."""
        names = self.similarity_fn_names or [model.similarity_fn_name]
        both = [model.encode(texts, **self._encoding) for texts in (self.sentences1, self.sentences2)]
        metrics: dict[str, float] = {}
        for name in names:
            similarities = row_by_row(name)(*both)
            metrics[f"pearson_{name}"] = _pearson(self.scores, similarities)
            metrics[f"spearman_{name}"] = _pearson(_ranks(self.scores), _ranks(similarities))
        if output_path is not None and self.write_csv:
            self._write(output_path, {"epoch": epoch, "steps": steps} | _turned(metrics))
        if len(names) > 1:
            for kind in ("pearson", "spearman"):
                metrics[f"{kind}_max"] = max(metrics[f"{kind}_{name}"] for name in names)
        prefix = f"{self.name}_" if self.name else ""
        self.primary_metric = f"{prefix}spearman_{self.main_similarity or ('max' if len(names) > 1 else names[0])}"
        return {prefix + name: value for name, value in metrics.items()}

    def _write(self, folder: str | os.PathLike[str], row: dict[str, float]) -> None:
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, f"similarity_evaluation{'_' if self.name else ''}{self.name}_results.csv")
        new = not os.path.exists(path)
        with open(path, "a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerows(([list(row)] if new else []) + [list(row.values())])


def _turned(metrics: dict[str, float]) -> dict[str, float]:
    """As sentence-transformers heads its columns: "cosine_pearson"."""
    return {"_".join(reversed(name.split("_"))): value for name, value in metrics.items()}


def _pearson(x: Any, y: Any) -> float:
    """Correlation, in float64; NaN if one of the two does not vary."""
    import numpy as np

    a, b = (np.asarray(values, np.float64) - np.mean(values, dtype=np.float64) for values in (x, y))
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else float("nan")


def _ranks(values: Any) -> NDArray[np.float64]:
    """From 1 up; equal values share the mean of their ranks."""
    import numpy as np

    _, place, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place], np.float64)
