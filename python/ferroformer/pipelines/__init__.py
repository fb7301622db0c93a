"""`pipeline("text-classification", "path-or-hub-id")`: from texts to answers in one call. A file for each task.

Every name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import Pipeline as Pipeline
    from .base import PipelineException as PipelineException
    from .factory import get_supported_tasks as get_supported_tasks
    from .factory import pipeline as pipeline
    from .feature_extraction import FeatureExtractionPipeline as FeatureExtractionPipeline
    from .fill_mask import FillMaskPipeline as FillMaskPipeline
    from .pt_utils import KeyDataset as KeyDataset
    from .pt_utils import KeyPairDataset as KeyPairDataset
    from .question_answering import QuestionAnsweringPipeline as QuestionAnsweringPipeline
    from .sentence_similarity import SentenceSimilarityPipeline as SentenceSimilarityPipeline
    from .text2text_generation import SummarizationPipeline as SummarizationPipeline
    from .text2text_generation import Text2TextGenerationPipeline as Text2TextGenerationPipeline
    from .text2text_generation import TranslationPipeline as TranslationPipeline
    from .text_classification import ClassificationFunction as ClassificationFunction
    from .text_classification import TextClassificationPipeline as TextClassificationPipeline
    from .text_generation import TextGenerationPipeline as TextGenerationPipeline
    from .token_classification import AggregationStrategy as AggregationStrategy
    from .token_classification import NerPipeline as NerPipeline
    from .token_classification import TokenClassificationPipeline as TokenClassificationPipeline
    from .zero_shot_classification import ZeroShotClassificationPipeline as ZeroShotClassificationPipeline

_MODULES = {
    "AggregationStrategy": "token_classification",
    "ClassificationFunction": "text_classification",
    "FeatureExtractionPipeline": "feature_extraction",
    "FillMaskPipeline": "fill_mask",
    "KeyDataset": "pt_utils",
    "KeyPairDataset": "pt_utils",
    "NerPipeline": "token_classification",
    "Pipeline": "base",
    "PipelineException": "base",
    "QuestionAnsweringPipeline": "question_answering",
    "SentenceSimilarityPipeline": "sentence_similarity",
    "SummarizationPipeline": "text2text_generation",
    "Text2TextGenerationPipeline": "text2text_generation",
    "TextClassificationPipeline": "text_classification",
    "TextGenerationPipeline": "text_generation",
    "TokenClassificationPipeline": "token_classification",
    "TranslationPipeline": "text2text_generation",
    "ZeroShotClassificationPipeline": "zero_shot_classification",
    "get_supported_tasks": "factory",
    "pipeline": "factory",
}

__all__ = [
    "AggregationStrategy",
    "ClassificationFunction",
    "FeatureExtractionPipeline",
    "FillMaskPipeline",
    "KeyDataset",
    "KeyPairDataset",
    "NerPipeline",
    "Pipeline",
    "PipelineException",
    "QuestionAnsweringPipeline",
    "SentenceSimilarityPipeline",
    "SummarizationPipeline",
    "Text2TextGenerationPipeline",
    "TextClassificationPipeline",
    "TextGenerationPipeline",
    "TokenClassificationPipeline",
    "TranslationPipeline",
    "ZeroShotClassificationPipeline",
    "get_supported_tasks",
    "pipeline",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value
