"""`GenerationConfig`: the settings of `generate`, read from and written to generation_config.json."""

from __future__ import annotations

import copy
import json
import logging
import os
from typing import TYPE_CHECKING, Any, TypeVar

from ..config_files import read_config_file, write_text
from ..config_values import dtype_name
from ..configuration_utils import TRANSFORMERS_VERSION
from ..hub import CONFIG_NAME, HUB_ARGUMENTS, find_file
from ..words import Words
from .warnings_once import warn, warn_once

__all__ = ["GenerationConfig", "GenerationMode"]

Self = TypeVar("Self", bound="GenerationConfig")

GENERATION_CONFIG_NAME = "generation_config.json"

# All settings, None where nothing was said. What of them is refused: unsupported.py.
_SETTINGS = """
    max_length max_new_tokens min_length min_new_tokens early_stopping max_time stop_strings
    do_sample num_beams use_mtp
    use_cache cache_implementation cache_config max_cache_len
    temperature top_k top_p min_p top_h typical_p epsilon_cutoff eta_cutoff repetition_penalty
    encoder_repetition_penalty length_penalty no_repeat_ngram_size bad_words_ids renormalize_logits forced_bos_token_id
    forced_eos_token_id remove_invalid_values exponential_decay_length_penalty suppress_tokens begin_suppress_tokens
    sequence_bias token_healing guidance_scale watermarking_config
    num_return_sequences output_attentions output_hidden_states output_scores output_logits return_dict_in_generate
    pad_token_id bos_token_id eos_token_id
    encoder_no_repeat_ngram_size decoder_start_token_id
    is_assistant num_assistant_tokens num_assistant_tokens_schedule assistant_confidence_threshold
    prompt_lookup_num_tokens max_matching_ngram_size assistant_early_exit assistant_lookbehind target_lookbehind
    assistant_ensemble_weight speculation_type
    compile_config disable_compile continuous_batching_config
    low_memory penalty_alpha dola_layers diversity_penalty num_beam_groups constraints force_words_ids
    prefill_chunk_size
""".split()

# What holds where neither the model nor the caller says anything.
_DEFAULTS: dict[str, Any] = {
    "max_length": 20,
    "min_length": 0,
    "do_sample": False,
    "use_cache": True,
    "early_stopping": False,
    "num_beams": 1,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "typical_p": 1.0,
    "repetition_penalty": 1.0,
    "length_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "num_return_sequences": 1,
    "output_scores": False,
    "return_dict_in_generate": False,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "remove_invalid_values": False,
    "exponential_decay_length_penalty": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "encoder_repetition_penalty": 1.0,
    "num_assistant_tokens": 20,
    "num_assistant_tokens_schedule": "constant",
    "assistant_confidence_threshold": 0.4,
    "assistant_lookbehind": 10,
    "target_lookbehind": 10,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
}

# Settings that do something only where another is on, and the value with which they do nothing.
_ONLY_SAMPLING = {"temperature": 1.0, "top_p": 1.0, "min_p": None, "top_h": None, "typical_p": 1.0, "top_k": 50}
_ONLY_SAMPLING |= {"epsilon_cutoff": 0.0, "eta_cutoff": 0.0}
_ONLY_BEAMS = {"early_stopping": False, "length_penalty": 1.0}
_EXTRA_OUTPUTS = ("output_attentions", "output_hidden_states", "output_scores", "output_logits")
_CACHES = """static offloaded_static dynamic offloaded quantized paged sliding_window hybrid hybrid_chunked
    offloaded_hybrid offloaded_hybrid_chunked""".split()

# Arguments of `generate` that people put here by mistake.
_NOT_SETTINGS = (
    "logits_processor",
    "stopping_criteria",
    "prefix_allowed_tokens_fn",
    "synced_gpus",
    "assistant_model",
    "streamer",
    "negative_prompt_ids",
    "negative_prompt_attention_mask",
)
_METADATA = ("_from_model_config", "_commit_hash", "_original_object_hash", "transformers_version")


class GenerationMode(Words):
    """How tokens are chosen."""

    CONTRASTIVE_SEARCH = "contrastive_search"
    GREEDY_SEARCH = "greedy_search"
    SAMPLE = "sample"
    ASSISTED_GENERATION = "assisted_generation"
    DOLA_GENERATION = "dola_generation"
    BEAM_SEARCH = "beam_search"
    BEAM_SAMPLE = "beam_sample"
    CONSTRAINED_BEAM_SEARCH = "constrained_beam_search"
    GROUP_BEAM_SEARCH = "group_beam_search"


class GenerationConfig:
    """Settings for `generate`, each an attribute; None: the model's own, or the default, holds.

    docs/generation.md says what each one does. Settings that are unknown are kept as attributes and saved again.
    Raises ValueError for values that no call can have; what may be meant otherwise is logged as a warning.
    """

    def __init__(self, **kwargs: Any) -> None:
        said = set(kwargs)
        for name in _SETTINGS:
            setattr(self, name, kwargs.pop(name, None))
        self._from_model_config = kwargs.pop("_from_model_config", None)
        self.transformers_version = kwargs.pop("transformers_version", None)
        kwargs.pop("_commit_hash", None)
        # a model's configuration holds much that is not meant for here
        if not self._from_model_config:
            for name, value in kwargs.items():
                setattr(self, name, value)
        elif kwargs.get("force_bos_token_to_be_generated", False):
            self.forced_bos_token_id = self.bos_token_id
        self.validate(user_set_attributes=said)

    if TYPE_CHECKING:  # settings are attributes that no line assigns by name

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: Any) -> None: ...

    def __hash__(self) -> int:
        return hash(self.to_json_string(ignore_metadata=True))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GenerationConfig):
            return False
        return self.to_json_string(False, ignore_metadata=True) == other.to_json_string(False, ignore_metadata=True)

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string(ignore_metadata=True)}"

    # --- meaning ------------------------------------------------------------------------------
    def get_generation_mode(self, assistant_model: Any = None) -> GenerationMode:
        """How these settings choose tokens."""
        mode = self._base_mode()
        assisted = assistant_model is not None or self.use_mtp or self.assistant_early_exit is not None
        if assisted or self.prompt_lookup_num_tokens is not None:
            if mode in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE):
                return GenerationMode.ASSISTED_GENERATION
            warn(
                "assisted generation (`prompt_lookup_num_tokens`, `assistant_model`, `use_mtp`) is only supported with "
                f"greedy search and sampling; the mode is {mode.value}, so it is ignored."
            )
        if self.dola_layers is not None and mode in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE):
            return GenerationMode.DOLA_GENERATION
        return mode

    def _base_mode(self) -> GenerationMode:
        if self.constraints is not None or self.force_words_ids is not None:
            return GenerationMode.CONSTRAINED_BEAM_SEARCH
        if self.num_beams is None or self.num_beams == 1:
            if self.do_sample is True:
                return GenerationMode.SAMPLE
            contrastive = (self.top_k or 0) > 1 and (self.penalty_alpha or 0) > 0
            return GenerationMode.CONTRASTIVE_SEARCH if contrastive else GenerationMode.GREEDY_SEARCH
        if (self.num_beam_groups or 1) > 1:
            return GenerationMode.GROUP_BEAM_SEARCH
        return GenerationMode.BEAM_SAMPLE if self.do_sample is True else GenerationMode.BEAM_SEARCH

    @staticmethod
    def _get_default_generation_params() -> dict[str, Any]:
        return copy.copy(_DEFAULTS)

    def validate(self, strict: bool = False, user_set_attributes: set[str] | None = None) -> None:
        """ValueError for values that cannot be. What has no effect is logged, or with `strict` a ValueError too.

        user_set_attributes: only these settings are complained of as having no effect; None: all.
        """
        self._check_values()
        minor = self._without_effect(user_set_attributes)
        if not minor:
            return
        details = "\n".join(f"- `{name}`: {text}" for name, text in minor.items())
        details += (
            "\nIf you're using a pretrained model, note that some of these attributes may be set through the model's "
            "`generation_config.json` file."
        )
        if strict:
            raise ValueError("GenerationConfig is invalid: \n" + details)
        warn_once(f"The following generation flags are not valid and may be ignored: {list(minor)}.")
        logging.getLogger("ferroformer.generation").info(details)

    def _check_values(self) -> None:
        if self.early_stopping not in (None, True, False, "never"):
            raise ValueError(f"`early_stopping` must be a boolean or 'never', but is {self.early_stopping}.")
        if self.max_new_tokens is not None and self.max_new_tokens <= 0:
            raise ValueError(f"`max_new_tokens` must be greater than 0, but is {self.max_new_tokens}.")
        if self.cache_implementation is not None and self.cache_implementation not in _CACHES:
            raise ValueError(
                f"Invalid `cache_implementation` ({self.cache_implementation}). Choose one of: {', '.join(_CACHES)}"
            )
        if (self.num_return_sequences or 1) > 1:
            if (self.num_beams or 1) == 1 and not self.do_sample:
                raise ValueError(
                    "Greedy methods (do_sample != True) without beam search do not support `num_return_sequences` "
                    f"different than 1 (got {self.num_return_sequences})."
                )
            if (self.num_beams or 1) > 1 and self.num_return_sequences > self.num_beams:
                raise ValueError(
                    f"`num_return_sequences` ({self.num_return_sequences}) has to be smaller or equal to `num_beams` "
                    f"({self.num_beams})."
                )
        self._check_forced()
        for name in _NOT_SETTINGS:
            if name in self.__dict__:
                raise ValueError(
                    f"Argument `{name}` is not a valid argument of `GenerationConfig`. It should be passed to "
                    "`generate()` (or a pipeline) directly."
                )

    def _check_forced(self) -> None:
        if self.suppress_tokens is None:
            return
        for name in ("forced_bos_token_id", "forced_eos_token_id"):
            forced = getattr(self, name)
            tokens = set() if forced is None else {forced} if isinstance(forced, int) else set(forced)
            if tokens and tokens <= set(self.suppress_tokens):
                raise ValueError(
                    f"Every token in `{name}` ({sorted(tokens)}) is also in `suppress_tokens`: no token would be left. "
                    "To prevent an early end use `min_new_tokens`."
                )

    def _without_effect(self, user_set: set[str] | None) -> dict[str, str]:
        """What is set and does nothing, and why."""
        minor = {}
        if self.pad_token_id is not None and self.pad_token_id < 0:
            minor["pad_token_id"] = f"`pad_token_id` should be positive but got {self.pad_token_id}."
        if self.do_sample is not True:
            for name in self._set_in_vain(_ONLY_SAMPLING, "do_sample", user_set):
                minor[name] = (
                    f"`do_sample` is not set to `True`. However, `{name}` is set to `{getattr(self, name)}` -- this "
                    "flag is only used in sample-based generation modes. You should set `do_sample=True` or unset it."
                )
        if self.num_beams is None or self.num_beams == 1:
            for name in self._set_in_vain(_ONLY_BEAMS, "num_beams", user_set):
                minor[name] = (
                    f"`num_beams` is set to {self.num_beams}. However, `{name}` is set to `{getattr(self, name)}` -- "
                    "this flag is only used in beam-based generation modes. You should set `num_beams>1` or unset it."
                )
        if self.use_cache is False:
            for name in ("cache_implementation", "cache_config"):
                if getattr(self, name) is not None:
                    minor[name] = f"`use_cache` is `False`, so `{name}` has no effect."
        if self.return_dict_in_generate is not True:
            for name in _EXTRA_OUTPUTS:
                if getattr(self, name) is True:
                    minor[name] = f"`return_dict_in_generate` is not `True`, so `{name}` is ignored."
        return minor

    def _set_in_vain(self, table: dict[str, Any], switch: str, user_set: set[str] | None) -> list[str]:
        said = user_set or set()
        set_ones = [name for name, idle in table.items() if getattr(self, name) not in (None, idle)]
        return [name for name in set_ones if name in said or switch not in said]

    def update(self, defaults_only: bool = False, allow_custom_entries: bool = False, **kwargs: Any) -> dict[str, Any]:
        """Set attributes that are there; returns the arguments that are none.

        defaults_only: only those that are None; allow_custom_entries: make those that are not there.
        """
        used = set()
        for name, value in kwargs.items():
            there = name in self.__dict__
            if (there and (not defaults_only or getattr(self, name) is None)) or (not there and allow_custom_entries):
                setattr(self, name, value)
                used.add(name)
        self.validate(user_set_attributes=used)
        return {name: value for name, value in kwargs.items() if name not in used}

    # --- out ----------------------------------------------------------------------------------
    def to_dict(self) -> dict[str, Any]:
        """All settings, those that are None too."""
        hidden = ("_commit_hash", "_original_object_hash")
        settings = {name: copy.deepcopy(value) for name, value in self.__dict__.items() if name not in hidden}
        settings["transformers_version"] = TRANSFORMERS_VERSION
        if settings.get("dtype") is not None:
            settings["dtype"] = dtype_name(settings["dtype"])
        return settings

    def to_diff_dict(self) -> dict[str, Any]:
        """The settings that differ from those of `GenerationConfig()`."""
        plain = GenerationConfig().to_dict()
        return {
            name: value
            for name, value in self.to_dict().items()
            if name not in plain or name == "transformers_version" or value != plain[name]
        }

    def to_json_string(
        self, use_diff: bool = True, ignore_metadata: bool = False, keys_to_pop: list[str] | None = None
    ) -> str:
        """The text of generation_config.json; with `use_diff` only what differs from the defaults."""
        settings = self.to_diff_dict() if use_diff else self.to_dict()
        for name in [*(keys_to_pop or ()), *(_METADATA if ignore_metadata else ())]:
            settings.pop(name, None)
        return json.dumps(_with_text_keys(settings), indent=2, sort_keys=True) + "\n"

    def to_json_file(
        self, json_file_path: str | os.PathLike[str], use_diff: bool = True, keys_to_pop: list[str] | None = None
    ) -> None:
        """Write the JSON text; the file is replaced as a whole or not at all."""
        write_text(json_file_path, self.to_json_string(use_diff, keys_to_pop=keys_to_pop))

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], config_file_name: str | os.PathLike[str] | None = None
    ) -> None:
        """Write generation_config.json into a directory, which is created if need be.

        Raises ValueError if settings have no effect, unless they were read like that and not changed.
        """
        changed = self.__dict__.get("_original_object_hash") != hash(self)
        try:
            self.validate(strict=changed)
        except ValueError as error:
            raise ValueError(f"{error}\n\nFix these issues to save the configuration.") from None
        os.makedirs(save_directory, exist_ok=True)
        name = GENERATION_CONFIG_NAME if config_file_name is None else config_file_name
        self.to_json_file(os.path.join(save_directory, name), keys_to_pop=["compile_config"])

    # --- in -----------------------------------------------------------------------------------
    @classmethod
    def from_pretrained(
        cls: type[Self],
        pretrained_model_name: str | os.PathLike[str],
        config_file_name: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Read generation_config.json of a directory or of a repository on the hub.

        Keyword arguments: `subfolder` and those of `hub.find_file`; overrides of settings; with
        `return_unused_kwargs=True` the result is (config, the arguments that are no settings).

        Raises FileNotFoundError, NotADirectoryError, ConfigFileError (an OSError: not JSON), ValueError.
        """
        where = {name: kwargs.pop(name) for name in (*HUB_ARGUMENTS, "subfolder") if name in kwargs}
        name = GENERATION_CONFIG_NAME if config_file_name is None else os.fspath(config_file_name)
        path = find_file(pretrained_model_name, name, required=True, **where)
        assert path is not None  # it is required
        settings = read_config_file(path)
        if kwargs.pop("_from_model_config", False):
            return cls.from_model_config(settings)
        found = cls.from_dict(settings, **kwargs)
        config = found[0] if isinstance(found, tuple) else found
        config._original_object_hash = hash(config)
        return found

    @classmethod
    def of_model(cls: type[Self], name_or_path: str | os.PathLike[str], **where: Any) -> Self:
        """What a model has: its generation_config.json, or if there is none what config.json says of generating."""
        try:
            config: Self = cls.from_pretrained(name_or_path, **where)
        except FileNotFoundError:
            config = cls.from_pretrained(name_or_path, CONFIG_NAME, _from_model_config=True, **where)
        return config

    @classmethod
    def from_dict(cls: type[Self], config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """From settings and overrides; `return_unused_kwargs` as in `from_pretrained`."""
        return_unused_kwargs = kwargs.pop("return_unused_kwargs", False)
        config = cls(**{**config_dict, **kwargs})
        unused = config.update(**kwargs)
        return (config, unused) if return_unused_kwargs else config

    @classmethod
    def from_model_config(cls: type[Self], model_config: Any) -> Self:
        """From a model's configuration, or the dict of its config.json, which used to hold these settings too."""
        settings = dict(model_config) if isinstance(model_config, dict) else model_config.to_dict()
        settings.pop("_from_model_config", None)
        said = {name: value for name, value in settings.items() if value is not None}
        config: Self = cls.from_dict(said, _from_model_config=True)
        parts = [settings[name] for name in ("decoder", "generator", "text_config") if settings.get(name)]
        inner, plain = (parts or [settings])[0], GenerationConfig()
        for name in config.to_dict():
            if name in inner and getattr(config, name) == getattr(plain, name):
                setattr(config, name, inner[name])
        if not config.return_dict_in_generate and any(getattr(config, name) for name in _EXTRA_OUTPUTS):
            config.return_dict_in_generate = True
        config._original_object_hash = hash(config)
        return config


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _with_text_keys(item) for key, item in value.items()}
    return [_with_text_keys(item) for item in value] if isinstance(value, list) else value
