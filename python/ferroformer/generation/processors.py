"""The processors and criteria that settings ask for, in transformers' order."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np

from .configuration import GenerationConfig
from .logits_process import (
    EncoderRepetitionPenaltyLogitsProcessor,
    ExponentialDecayLengthPenalty,
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    InfNanRemoveLogitsProcessor,
    LogitNormalization,
    LogitsProcessorList,
    MinLengthLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    PrefixConstrainedLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)
from .logits_warpers import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)
from .ngrams import EncoderNoRepeatNGramLogitsProcessor, NoRepeatNGramLogitsProcessor
from .numbers import Ids
from .prompts import Prompts
from .sequence_bias import NoBadWordsLogitsProcessor, SequenceBiasLogitsProcessor
from .special_tokens import SpecialTokens
from .stop_strings import StopStringCriteria
from .stopping_criteria import EosTokenCriteria, MaxLengthCriteria, MaxTimeCriteria, StoppingCriteriaList
from .warnings_once import warn_once


def logits_processors(
    config: GenerationConfig,
    tokens: SpecialTokens,
    prompts: Prompts,
    copies: int,
    prefix_allowed_tokens_fn: Callable[[int, Ids], Any] | None,
    custom: list[Any],
) -> LogitsProcessorList:
    """For prompts of which each becomes `copies` rows; `custom` ones take the place of those of their class."""
    processors = [
        *_penalties(config, prompts, copies),
        *_limits(config, tokens, prompts.ids.shape[1]),
    ]
    if prefix_allowed_tokens_fn is not None:
        processors.append(PrefixConstrainedLogitsProcessor(prefix_allowed_tokens_fn, config.num_beams))
    processors += _forced(config, tokens, prompts.ids.shape[1])
    processors = _merged(processors, custom, "logits processor")
    if config.do_sample:
        processors += _warpers(config, tokens)
    if config.renormalize_logits is True:
        processors.append(LogitNormalization())
    return LogitsProcessorList(processors)


def _penalties(config: GenerationConfig, prompts: Prompts, copies: int) -> list[Any]:
    """What depends on tokens that are there."""
    processors: list[Any] = []
    encoder_ids = np.repeat(prompts.model_ids, copies, axis=0)
    if config.sequence_bias is not None:
        processors.append(SequenceBiasLogitsProcessor(config.sequence_bias))
    if config.encoder_repetition_penalty is not None and config.encoder_repetition_penalty != 1.0:
        processors.append(EncoderRepetitionPenaltyLogitsProcessor(config.encoder_repetition_penalty, encoder_ids))
    if config.repetition_penalty is not None and config.repetition_penalty != 1.0:
        padding = None if prompts.mask is None else np.repeat((prompts.mask != 0).argmax(axis=1), copies)
        processors.append(RepetitionPenaltyLogitsProcessor(config.repetition_penalty, padding))
    if config.no_repeat_ngram_size is not None and config.no_repeat_ngram_size > 0:
        processors.append(NoRepeatNGramLogitsProcessor(config.no_repeat_ngram_size))
    if config.encoder_no_repeat_ngram_size is not None and config.encoder_no_repeat_ngram_size > 0:
        processors.append(EncoderNoRepeatNGramLogitsProcessor(config.encoder_no_repeat_ngram_size, encoder_ids))
    return processors


def _limits(config: GenerationConfig, tokens: SpecialTokens, prompt_length: int) -> list[Any]:
    """What may not come, or not yet."""
    processors: list[Any] = []
    if config.bad_words_ids is not None:
        processors.append(NoBadWordsLogitsProcessor(config.bad_words_ids, tokens.eos))
    if tokens.eos is not None and (config.min_length or 0) > 0:
        processors.append(MinLengthLogitsProcessor(config.min_length, tokens.eos))
    if tokens.eos is not None and (config.min_new_tokens or 0) > 0:
        processors.append(MinNewTokensLengthLogitsProcessor(prompt_length, config.min_new_tokens, tokens.eos))
    return processors


def _forced(config: GenerationConfig, tokens: SpecialTokens, prompt_length: int) -> list[Any]:
    processors: list[Any] = []
    if config.forced_bos_token_id is not None:
        processors.append(ForcedBOSTokenLogitsProcessor(config.forced_bos_token_id))
    if config.forced_eos_token_id is not None:
        processors.append(ForcedEOSTokenLogitsProcessor(config.max_length, config.forced_eos_token_id))
    if config.remove_invalid_values is True:
        processors.append(InfNanRemoveLogitsProcessor())
    if config.exponential_decay_length_penalty is not None:
        if tokens.eos is None:
            raise ValueError("`exponential_decay_length_penalty` needs an `eos_token_id`")
        processors.append(
            ExponentialDecayLengthPenalty(config.exponential_decay_length_penalty, tokens.eos, prompt_length)
        )
    if config.suppress_tokens is not None:
        processors.append(SuppressTokensLogitsProcessor(config.suppress_tokens))
    if config.begin_suppress_tokens is not None:
        begin = prompt_length + (prompt_length <= 1 and config.forced_bos_token_id is not None)
        processors.append(SuppressTokensAtBeginLogitsProcessor(config.begin_suppress_tokens, begin))
    return processors


def _warpers(config: GenerationConfig, tokens: SpecialTokens) -> list[Any]:
    # beams need a token beside the ends
    kept = 1 if config.num_beams == 1 else 2 if tokens.eos is None else len(tokens.eos) + 1
    warpers: list[Any] = []
    if config.temperature is not None and config.temperature != 1.0:
        warpers.append(TemperatureLogitsWarper(config.temperature))
    if config.top_k is not None and config.top_k != 0:
        warpers.append(TopKLogitsWarper(config.top_k, min_tokens_to_keep=kept))
    if config.top_p is not None and config.top_p < 1.0:
        warpers.append(TopPLogitsWarper(config.top_p, min_tokens_to_keep=kept))
    if config.min_p is not None:
        warpers.append(MinPLogitsWarper(config.min_p, min_tokens_to_keep=kept))
    if config.typical_p is not None and config.typical_p < 1.0:
        warpers.append(TypicalLogitsWarper(config.typical_p, min_tokens_to_keep=kept))
    return warpers


def stopping_criteria(
    config: GenerationConfig, tokens: SpecialTokens, model_config: Any, tokenizer: Any, custom: list[Any]
) -> StoppingCriteriaList:
    """When sequences are finished; `custom` criteria take the place of those of their class."""
    positions = getattr(model_config, "max_position_embeddings", None)
    criteria: list[Any] = [MaxLengthCriteria(config.max_length, positions)]
    if config.max_time is not None:
        criteria.append(MaxTimeCriteria(config.max_time))
    if config.stop_strings is not None:
        if tokenizer is None:
            raise ValueError(
                "There are one or more stop strings, either in the arguments to `generate` or in the model's "
                "generation config, but we could not locate a tokenizer. When generating with stop strings, you must "
                "pass the model's tokenizer to the `tokenizer` argument of `generate`."
            )
        criteria.append(StopStringCriteria(tokenizer, config.stop_strings))
    if tokens.eos is not None:
        criteria.append(EosTokenCriteria(tokens.eos))
    return StoppingCriteriaList(_merged(criteria, custom, "stopping criteria"))


def _merged(built: list[Any], custom: list[Any], what: str) -> list[Any]:
    merged = []
    for default in built:
        mine = next((one for one in custom if type(one) is type(default)), None)
        if mine is not None:
            warn_once(
                f"A custom {what} of type {type(mine)} has been passed to `.generate()`, but it was also created in "
                f"`.generate()`, given its parameterization. The custom {type(mine)} will take precedence."
            )
        merged.append(default if mine is None else mine)
    return merged + [one for one in custom if not any(one is other for other in merged)]
