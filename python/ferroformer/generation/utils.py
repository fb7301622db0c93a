"""`GenerationMixin`: what gives a model `generate`."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Callable

import numpy as np

from ..errors import InputError
from .beam_search import Beams, beam_search
from .configuration import GenerationConfig, GenerationMode
from .decoding import Record, Rules, decode
from .lengths import defaulted, settle_lengths
from .numbers import log_softmax
from .outputs import (
    GenerateBeamDecoderOnlyOutput,
    GenerateBeamEncoderDecoderOutput,
    GenerateDecoderOnlyOutput,
    GenerateEncoderDecoderOutput,
)
from .processors import logits_processors, stopping_criteria as criteria_of
from .prompt_lookup import Lookup, decode_with_lookup
from .prompts import Prompts, decoder_prompts, encoder_decoder_prompts, given_ids
from .sampling import Sampler, row_seeds
from .special_tokens import SpecialTokens, special_tokens
from .unsupported import ARGUMENTS, SETTINGS, refuse
from .warnings_once import warn_once

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .decoding_state import DecodingState

__all__ = ["GenerationMixin"]

_BEAM_MODES = (GenerationMode.BEAM_SEARCH, GenerationMode.BEAM_SAMPLE)
_COUNTS = """max_length max_new_tokens min_length min_new_tokens num_beams num_return_sequences top_k
    no_repeat_ngram_size encoder_no_repeat_ngram_size prompt_lookup_num_tokens max_matching_ngram_size""".split()


class GenerationMixin:
    """`generate` for a model that is a `decoding_state.GenerativeModel`."""

    config: Any
    generation_config: GenerationConfig

    def generate(
        self,
        inputs: Any = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: list[Any] | None = None,
        stopping_criteria: list[Any] | None = None,
        prefix_allowed_tokens_fn: Callable[[int, NDArray[np.int64]], Any] | None = None,
        synced_gpus: bool | None = None,
        assistant_model: Any = None,
        streamer: Any = None,
        negative_prompt_ids: Any = None,
        negative_prompt_attention_mask: Any = None,
        custom_generate: Any = None,
        *,
        seed: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Continue B prompts; of an encoder-decoder, answer B inputs.

        inputs (B, T), or input_ids: integers; without them a prompt is `bos_token_id`. attention_mask (B, T): 0 for
        padding, which belongs on the left of a decoder's prompts; it is never computed.
        Settings, which docs/generation.md lists, are keyword arguments or a `generation_config`. What neither says is
        the model's `generation_config`'s, then the default. Other keyword arguments go to the model.
        logits_processor, stopping_criteria: lists of callables on numpy arrays, which see every row at every step.
        prefix_allowed_tokens_fn(prompt number, (L,) ids so far) -> ids that may follow.
        streamer: has `put(ids)` and `end()`. tokenizer: needed for `stop_strings`.
        seed: with `do_sample`, an integer, or one for each prompt; None: numpy's global generator gives one for each
        prompt (`set_seed`). What a sequence draws depends on the seed of its prompt and on which of that prompt's
        `num_return_sequences` it is, not on its company, on threads or on how prompts are split into batches. An
        integer gives prompt i a seed made of it and of i: a prompt alone draws as if it were the first of a batch.

        Returns int64 (B * num_return_sequences, L): prompts and what follows, `pad_token_id` behind what ended early;
        of an encoder-decoder what the decoder said, its start included. With `return_dict_in_generate=True` one of
        `outputs`.

        Raises ValueError for settings that cannot be and for arguments that are none, NotImplementedError by name for
        what transformers has beyond this, InputError for arrays, TypeError for dtypes.
        """
        refuse(
            {
                "synced_gpus": synced_gpus,
                "assistant_model": assistant_model,
                "negative_prompt_ids": negative_prompt_ids,
                "negative_prompt_attention_mask": negative_prompt_attention_mask,
                "custom_generate": custom_generate,
                **kwargs,
            },
            ARGUMENTS,
        )
        given = {name: value for name, value in kwargs.items() if name not in ARGUMENTS}
        tokenizer = given.pop("tokenizer", None)
        default = defaulted(given, generation_config, self.generation_config)
        config, given = self._settled(generation_config, given)
        mode = config.get_generation_mode()
        self._check_call(config, mode, streamer, given)

        prompts, tokens = self._prompts(config, inputs, given)
        settle_lengths(config, self.config, prompts.ids.shape[1], default)
        copies = max(config.num_beams, config.num_return_sequences)
        if streamer is not None:
            streamer.put(np.repeat(prompts.ids, copies, axis=0))
        custom = list(logits_processor or ())
        criteria = criteria_of(config, tokens, self.config, tokenizer, list(stopping_criteria or ()))
        rules = Rules(
            logits_processors(config, tokens, prompts, copies, prefix_allowed_tokens_fn, custom),
            criteria,
            self._sampler(config, mode, len(prompts.ids), seed),
            streamer,
            _padding(criteria, tokens),
            may_shrink=not (custom or config.return_dict_in_generate),
        )
        if mode in _BEAM_MODES:
            return self._beam_search(prompts, config, tokens, rules)
        return self._decode(prompts, config, tokens, rules, mode == GenerationMode.ASSISTED_GENERATION)

    # --- settings -----------------------------------------------------------------------------
    def _settled(
        self, config: GenerationConfig | None, given: dict[str, Any]
    ) -> tuple[GenerationConfig, dict[str, Any]]:
        """The settings of a call, and the arguments that are none."""
        if config is None:
            self._check_config()
        settled = GenerationConfig() if config is None else copy.deepcopy(config)
        settled.update(**self.generation_config.to_dict(), defaults_only=True, allow_custom_entries=True)
        settled.update(**GenerationConfig._get_default_generation_params(), defaults_only=True)
        others = settled.update(**given)
        twice = set(given) - set(others)
        if config is not None and twice:
            warn_once(
                f"Passing `generation_config` together with generation-related arguments=({sorted(twice)}) is "
                "deprecated and will be removed in future versions. Please pass either a `generation_config` object OR "
                "all generation parameters explicitly, but not both."
            )
        return settled, others

    def _check_config(self) -> None:
        """ValueError for settings that were put into the model's configuration, where they would do nothing."""
        declared = getattr(type(self.config), "_kinds", {})
        names = [name for name in GenerationConfig._get_default_generation_params() if name != "use_cache"]
        found = {name: getattr(self.config, name, None) for name in names if name not in declared}
        found = {name: value for name, value in found.items() if value is not None}
        if found:
            raise ValueError(
                "You have modified the pretrained model configuration to control generation. We detected the following "
                f"values set - {found}. This strategy to control generation is not supported anymore. Please use and "
                "modify `model.generation_config`."
            )

    def _check_call(self, config: GenerationConfig, mode: GenerationMode, streamer: Any, given: dict[str, Any]) -> None:
        refuse(config.__dict__, SETTINGS)
        for name in _COUNTS:
            value = getattr(config, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer))):
                raise ValueError(f"`{name}` has to be an integer, but is {value!r:.200}")
        for name in ("num_beams", "num_return_sequences"):
            if getattr(config, name) < 1:
                raise ValueError(f"`{name}` has to be 1 at least, but is {getattr(config, name)}")
        unused = [name for name, value in given.items() if value is not None and name not in self._model_arguments()]
        if unused:
            raise ValueError(
                f"The following `model_kwargs` are not used by the model: {unused} (note: typos in the generate "
                "arguments will also show up in this list)"
            )
        if mode in _BEAM_MODES and streamer is not None:
            raise ValueError(
                "`streamer` cannot be used with beam search (yet!). Make sure that `num_beams` is set to 1."
            )
        if mode == GenerationMode.ASSISTED_GENERATION:
            if config.num_return_sequences > 1:
                raise ValueError(
                    "num_return_sequences has to be 1 when doing assisted generate, but is "
                    f"{config.num_return_sequences}."
                )
            if not config.use_cache:
                raise ValueError("assisted generate requires `use_cache=True`")

    def _model_arguments(self) -> set[str]:
        model: Any = self
        return {model.main_input_name, "attention_mask", "past_key_values", *model.input_names}

    # --- the call's parts ---------------------------------------------------------------------
    def _prompts(
        self, config: GenerationConfig, inputs: Any, given: dict[str, Any]
    ) -> tuple[Prompts, SpecialTokens]:
        given = {name: value for name, value in given.items() if value is not None}
        encoder_decoder = bool(self.config.is_encoder_decoder)
        model: Any = self
        ids = given_ids(model, inputs, given, config.bos_token_id)
        tokens = special_tokens(config, encoder_decoder, "attention_mask" in given, len(ids))
        prepare = encoder_decoder_prompts if encoder_decoder else decoder_prompts
        return prepare(ids, given, tokens), tokens

    def _sampler(self, config: GenerationConfig, mode: GenerationMode, prompts: int, seed: Any) -> Sampler | None:
        if not config.do_sample:
            return None
        return Sampler(row_seeds(seed, prompts, 1 if mode in _BEAM_MODES else config.num_return_sequences))

    def _prefilled(self, prompts: Prompts, copies: int) -> tuple[DecodingState, NDArray[np.float32]]:
        model: Any = self
        state, logits = model.prefill(prompts.model_ids, prompts.model_mask, copies=copies, **prompts.inputs)
        rows = len(prompts.ids) * copies
        return state, logits if len(logits) == rows else np.repeat(logits, rows // len(logits), axis=0)

    def _decode(
        self, prompts: Prompts, config: GenerationConfig, tokens: SpecialTokens, rules: Rules, lookup: bool
    ) -> Any:
        copies, record = config.num_return_sequences, _record(config)
        ids = np.repeat(prompts.ids, copies, axis=0)
        if lookup and len(ids) > 1:
            raise InputError("assisted generate is only supported for batch_size = 1")
        # out of the hand that gives it: a step holds its logits alone, which are many megabytes
        state, *first = self._prefilled(prompts, copies)
        if lookup:
            guesses = Lookup(
                config.prompt_lookup_num_tokens, config.max_matching_ngram_size, config.max_length, tokens.eos
            )
            held = int(prompts.lengths[0])
            sequences = decode_with_lookup(state, first.pop(), ids, held, rules, record, guesses)
        else:
            sequences = decode(state, first.pop(), ids, rules, record)
        if rules.streamer is not None:
            rules.streamer.end()
        if not config.return_dict_in_generate:
            return sequences
        encoder_decoder = self.config.is_encoder_decoder
        output: Any = GenerateEncoderDecoderOutput if encoder_decoder else GenerateDecoderOnlyOutput
        return output(sequences, record.scores, record.logits, past_key_values=state if config.use_cache else None)

    def _beam_search(
        self, prompts: Prompts, config: GenerationConfig, tokens: SpecialTokens, rules: Rules
    ) -> Any:
        record, eos = _record(config), tokens.eos
        # 0 counts as no padding here, as in transformers
        fill = -1 if eos is None else tokens.pad or int(eos[0])
        beams = Beams(
            config.num_beams,
            config.num_return_sequences,
            config.length_penalty,
            config.early_stopping,
            config.max_length,
            0 if eos is None else len(eos),
            fill,
        )
        state, *first = self._prefilled(prompts, config.num_beams)
        found = beam_search(state, first.pop(), prompts.ids, rules, record, beams)
        if not config.return_dict_in_generate:
            return found.ids
        encoder_decoder = self.config.is_encoder_decoder
        output: Any = GenerateBeamEncoderDecoderOutput if encoder_decoder else GenerateBeamDecoderOnlyOutput
        return output(
            found.ids,
            found.scores if config.output_scores else None,
            record.scores,
            record.logits,
            found.origins,
            past_key_values=state if config.use_cache else None,
        )

    # --- afterwards ---------------------------------------------------------------------------
    def compute_transition_scores(
        self,
        sequences: NDArray[np.int64],
        scores: tuple[NDArray[np.float32], ...],
        beam_indices: NDArray[np.integer[Any]] | None = None,
        normalize_logits: bool = False,
    ) -> NDArray[np.float32]:
        """The score of each generated token, (N, steps), from what `generate` returned; 0 behind the end of a beam.

        normalize_logits: logarithms of probabilities in place of the scores themselves.
        """
        stacked = np.stack(scores)  # (steps, rows, V)
        if normalize_logits:
            stacked = log_softmax(stacked.reshape(-1, stacked.shape[-1])).reshape(stacked.shape)
        if beam_indices is None:
            beam_indices = np.broadcast_to(np.arange(stacked.shape[1])[:, None], (stacked.shape[1], len(scores)))
        longest = int((beam_indices >= 0).sum(axis=-1).max())
        origins = beam_indices[:, :longest]
        tokens = sequences[:, sequences.shape[1] - longest :]
        found: NDArray[np.float32] = stacked[np.arange(longest), np.maximum(origins, 0), tokens]
        found[origins < 0] = 0
        return found


def _padding(criteria: list[Any], tokens: SpecialTokens) -> int | None:
    """What finished sequences are filled up with; None if no criterion is an end of sequence: then they go on."""
    if not any(hasattr(criterion, "eos_token_id") for criterion in criteria):
        return None
    if tokens.pad is None:
        raise ValueError("`pad_token_id` has to be defined where a stopping criterion has an `eos_token_id`.")
    return tokens.pad


def _record(config: GenerationConfig) -> Record:
    kept = bool(config.return_dict_in_generate)
    return Record(kept and bool(config.output_scores), kept and bool(config.output_logits))
