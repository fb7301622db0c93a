"""`generate`: text out of models. Settings, processors, criteria, streamers, and the loops that choose tokens.

Every name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy_names import lazy_names

if TYPE_CHECKING:
    from .configuration import GenerationConfig as GenerationConfig
    from .configuration import GenerationMode as GenerationMode
    from .logits_process import EncoderRepetitionPenaltyLogitsProcessor as EncoderRepetitionPenaltyLogitsProcessor
    from .logits_process import ExponentialDecayLengthPenalty as ExponentialDecayLengthPenalty
    from .logits_process import ForcedBOSTokenLogitsProcessor as ForcedBOSTokenLogitsProcessor
    from .logits_process import ForcedEOSTokenLogitsProcessor as ForcedEOSTokenLogitsProcessor
    from .logits_process import InfNanRemoveLogitsProcessor as InfNanRemoveLogitsProcessor
    from .logits_process import LogitNormalization as LogitNormalization
    from .logits_process import LogitsProcessor as LogitsProcessor
    from .logits_process import LogitsProcessorList as LogitsProcessorList
    from .logits_process import MinLengthLogitsProcessor as MinLengthLogitsProcessor
    from .logits_process import MinNewTokensLengthLogitsProcessor as MinNewTokensLengthLogitsProcessor
    from .logits_process import PrefixConstrainedLogitsProcessor as PrefixConstrainedLogitsProcessor
    from .logits_process import RepetitionPenaltyLogitsProcessor as RepetitionPenaltyLogitsProcessor
    from .logits_process import SuppressTokensAtBeginLogitsProcessor as SuppressTokensAtBeginLogitsProcessor
    from .logits_process import SuppressTokensLogitsProcessor as SuppressTokensLogitsProcessor
    from .logits_warpers import MinPLogitsWarper as MinPLogitsWarper
    from .logits_warpers import TemperatureLogitsWarper as TemperatureLogitsWarper
    from .logits_warpers import TopKLogitsWarper as TopKLogitsWarper
    from .logits_warpers import TopPLogitsWarper as TopPLogitsWarper
    from .logits_warpers import TypicalLogitsWarper as TypicalLogitsWarper
    from .ngrams import EncoderNoRepeatNGramLogitsProcessor as EncoderNoRepeatNGramLogitsProcessor
    from .ngrams import NoRepeatNGramLogitsProcessor as NoRepeatNGramLogitsProcessor
    from .outputs import GenerateBeamDecoderOnlyOutput as GenerateBeamDecoderOnlyOutput
    from .outputs import GenerateBeamEncoderDecoderOutput as GenerateBeamEncoderDecoderOutput
    from .outputs import GenerateDecoderOnlyOutput as GenerateDecoderOnlyOutput
    from .outputs import GenerateEncoderDecoderOutput as GenerateEncoderDecoderOutput
    from .sequence_bias import NoBadWordsLogitsProcessor as NoBadWordsLogitsProcessor
    from .sequence_bias import SequenceBiasLogitsProcessor as SequenceBiasLogitsProcessor
    from .stop_strings import StopStringCriteria as StopStringCriteria
    from .stopping_criteria import EosTokenCriteria as EosTokenCriteria
    from .stopping_criteria import MaxLengthCriteria as MaxLengthCriteria
    from .stopping_criteria import MaxTimeCriteria as MaxTimeCriteria
    from .stopping_criteria import StoppingCriteria as StoppingCriteria
    from .stopping_criteria import StoppingCriteriaList as StoppingCriteriaList
    from .streamers import BaseStreamer as BaseStreamer
    from .streamers import TextIteratorStreamer as TextIteratorStreamer
    from .streamers import TextStreamer as TextStreamer
    from .utils import GenerationMixin as GenerationMixin

_NAMES = {
    "configuration": "GenerationConfig GenerationMode",
    "logits_process": """
        EncoderRepetitionPenaltyLogitsProcessor ExponentialDecayLengthPenalty ForcedBOSTokenLogitsProcessor
        ForcedEOSTokenLogitsProcessor InfNanRemoveLogitsProcessor LogitNormalization LogitsProcessor LogitsProcessorList
        MinLengthLogitsProcessor MinNewTokensLengthLogitsProcessor PrefixConstrainedLogitsProcessor
        RepetitionPenaltyLogitsProcessor SuppressTokensAtBeginLogitsProcessor SuppressTokensLogitsProcessor
    """,
    "logits_warpers": "MinPLogitsWarper TemperatureLogitsWarper TopKLogitsWarper TopPLogitsWarper TypicalLogitsWarper",
    "ngrams": "EncoderNoRepeatNGramLogitsProcessor NoRepeatNGramLogitsProcessor",
    "outputs": """
        GenerateBeamDecoderOnlyOutput GenerateBeamEncoderDecoderOutput GenerateDecoderOnlyOutput
        GenerateEncoderDecoderOutput
    """,
    "sequence_bias": "NoBadWordsLogitsProcessor SequenceBiasLogitsProcessor",
    "stop_strings": "StopStringCriteria",
    "stopping_criteria": "EosTokenCriteria MaxLengthCriteria MaxTimeCriteria StoppingCriteria StoppingCriteriaList",
    "streamers": "BaseStreamer TextIteratorStreamer TextStreamer",
    "utils": "GenerationMixin",
}

__getattr__, __dir__, __all__ = lazy_names(__name__, _NAMES)
