"""`pipeline("text-classification", "path-or-hub-id")`: from texts to answers in one call. A file for each task.

Every name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy_names import lazy_names

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

_NAMES = {
    "base": "Pipeline PipelineException",
    "factory": "get_supported_tasks pipeline",
    "feature_extraction": "FeatureExtractionPipeline",
    "fill_mask": "FillMaskPipeline",
    "pt_utils": "KeyDataset KeyPairDataset",
    "question_answering": "QuestionAnsweringPipeline",
    "sentence_similarity": "SentenceSimilarityPipeline",
    "text2text_generation": "SummarizationPipeline Text2TextGenerationPipeline TranslationPipeline",
    "text_classification": "ClassificationFunction TextClassificationPipeline",
    "text_generation": "TextGenerationPipeline",
    "token_classification": "AggregationStrategy NerPipeline TokenClassificationPipeline",
    "zero_shot_classification": "ZeroShotClassificationPipeline",
}

__getattr__, __dir__, __all__ = lazy_names(__name__, _NAMES)
