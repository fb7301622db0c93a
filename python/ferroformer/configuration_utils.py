"""`PreTrainedConfig`: the settings of a model, read from and written to config.json as transformers does.

A subclass lists its keys as annotated class attributes; the value is the default:

    class BertConfig(PreTrainedConfig):
        model_type = "bert"
        hidden_size: int = 768

Keys that a class does not list are kept as attributes and saved again. `attribute_map` gives a key a second name
under which it is read and written.
"""

from __future__ import annotations

import copy
import os
from typing import Any, ClassVar, TypeVar

from .config_files import dump_config, read_config_file, write_text
from .config_values import Kind, check_kind, dtype_name, listed_keys
from .errors import ConfigError
from .hub import CONFIG_NAME, HUB_ARGUMENTS, find_file

__all__ = ["PreTrainedConfig", "PretrainedConfig"]

# config.json files are written in this version's format, and say so.
TRANSFORMERS_VERSION = "5.23.0"

# Arguments that configure the load and not the model; a config file or call may carry them, a config does not.
_LOADING_KEYS = {"attn_implementation", "experts_implementation", "_commit_hash"}
_INTERNAL_KEYS = {"_attn_implementation_internal", "_experts_implementation_internal"}

# Old config files mix in settings of text generation, which live in generation_config.json now.
_GENERATION_KEYS = set(
    """assistant_confidence_threshold assistant_lookbehind bad_words_ids begin_suppress_tokens diversity_penalty
    do_sample early_stopping encoder_no_repeat_ngram_size encoder_repetition_penalty epsilon_cutoff eta_cutoff
    exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id length_penalty max_length min_length
    no_repeat_ngram_size num_assistant_tokens num_assistant_tokens_schedule num_beam_groups num_beams
    num_return_sequences output_scores remove_invalid_values repetition_penalty return_dict_in_generate
    suppress_tokens target_lookbehind temperature top_k top_p typical_p use_cache""".split()
)

# Overrides that a constructor must see beside the file's own values, because one key's value decides another's.
_CONSTRUCTOR_OVERRIDES = {"num_labels", "output_attentions", "torch_dtype", "dtype", "name_or_path"}

Self = TypeVar("Self", bound="PreTrainedConfig")


class PreTrainedConfig:
    """The settings of a model; see the module's description. Equal if all settings are.

    Raises ConfigError (a ValueError) if a listed key holds a value of the wrong type or out of its range.
    """

    model_type: ClassVar[str] = ""
    attribute_map: ClassVar[dict[str, str]] = {}
    # whether the code that checkpoints of this type carry computes what is computed here
    code_is_known: ClassVar[bool] = False
    _kinds: ClassVar[dict[str, Kind]] = {}

    transformers_version: str | None = None
    architectures: list[str] | None = None
    output_hidden_states: bool | None = False
    return_dict: bool | None = True
    dtype: Any = None
    chunk_size_feed_forward: int = 0
    is_encoder_decoder: bool = False
    id2label: dict[int, str] | None = None
    label2id: dict[str, int] | None = None
    problem_type: str | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._kinds = cls._kinds | listed_keys(cls)

    def __init__(self, **kwargs: Any) -> None:
        for key in self._kinds:
            setattr(self, key, kwargs.pop(key, copy.copy(getattr(type(self), key))))
        torch_dtype = kwargs.pop("torch_dtype", None)
        self.dtype = self.dtype if self.dtype is not None else torch_dtype
        self.name_or_path = str(kwargs.pop("name_or_path", ""))
        self.output_attentions = kwargs.pop("output_attentions", False)
        self._set_labels(kwargs.get("num_labels"))
        for key, value in kwargs.items():
            if key not in _GENERATION_KEYS | _LOADING_KEYS | _INTERNAL_KEYS:
                setattr(self, key, value)
        self.validate()

    def _set_labels(self, num_labels: int | None) -> None:
        if self.id2label is None:
            self.num_labels = 2 if num_labels is None else num_labels
            return
        if num_labels is not None and num_labels != len(self.id2label):
            _logger().warning(
                "num_labels=%s does not fit id2label, which has %d labels: the labels are replaced",
                num_labels,
                len(self.id2label),
            )
        try:
            # JSON knows only strings as keys
            self.id2label = {int(index): label for index, label in self.id2label.items()}
        except (AttributeError, TypeError, ValueError):
            raise ConfigError(f"id2label={self.id2label!r}: a dict from an index to a label is needed") from None

    def validate(self) -> None:
        """Check every listed key; models do so again before they are built. Raises ConfigError."""
        for key, kind in self._kinds.items():
            self.__dict__[key] = check_kind(key, self.__dict__[key], kind)
        if self.problem_type == "single_label_classification" and self.num_labels == 1:
            raise ConfigError(
                'problem_type="single_label_classification" requires num_labels > 1: use num_labels=2 for two '
                'classes, or problem_type="regression" for one number'
            )

    # --- attributes ---------------------------------------------------------------------------
    def __setattr__(self, key: str, value: Any) -> None:
        super().__setattr__(self.attribute_map.get(key, key), value)

    def __getattr__(self, key: str) -> Any:
        # reached only when there is no such attribute: an alias is never stored under its own name
        if key in self.attribute_map:
            return getattr(self, self.attribute_map[key])
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {key!r}")

    @property
    def name_or_path(self) -> str:
        """Where the configuration was loaded from."""
        return self._name_or_path

    @name_or_path.setter
    def name_or_path(self, value: object) -> None:
        self._name_or_path = str(value)

    @property
    def num_labels(self) -> int:
        """The number of labels; setting another number replaces `id2label` and `label2id`."""
        return len(self.id2label or {})

    @num_labels.setter
    def num_labels(self, num_labels: int) -> None:
        if self.id2label is None or self.num_labels != num_labels:
            self.id2label = {index: f"LABEL_{index}" for index in range(num_labels)}
            self.label2id = {label: index for index, label in self.id2label.items()}

    @property
    def torch_dtype(self) -> Any:
        """The old name of `dtype`."""
        return self.dtype

    @torch_dtype.setter
    def torch_dtype(self, value: Any) -> None:
        self.dtype = value

    @property
    def use_return_dict(self) -> bool | None:
        """The old name of `return_dict`."""
        return self.return_dict

    def update(self, config_dict: dict[str, Any]) -> None:
        """Set every attribute that the dict names."""
        for key, value in config_dict.items():
            setattr(self, key, value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PreTrainedConfig) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]  # mutable, and equal by value

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"

    # --- out ----------------------------------------------------------------------------------
    def to_dict(self) -> dict[str, Any]:
        """All settings, defaults included."""
        settings = copy.deepcopy(self.__dict__)
        settings |= {"model_type": self.model_type, "transformers_version": TRANSFORMERS_VERSION}
        return settings | {"dtype": dtype_name(self.dtype)}

    def to_diff_dict(self) -> dict[str, Any]:
        """The settings that say something: a class's own keys always, common keys if they differ from the default."""
        common = PreTrainedConfig().to_dict()
        own = {key: getattr(type(self), key) for key in self._kinds if getattr(type(self), key) is not None}
        return {
            key: value
            for key, value in self.to_dict().items()
            if key != "_name_or_path"
            and (
                key not in common
                or key == "transformers_version"
                or value != common[key]
                or value != own.get(key, value)
            )
        }

    def to_json_string(self, use_diff: bool = True) -> str:
        """The text of config.json; with `use_diff` without the common keys that hold their defaults."""
        return dump_config(self.to_diff_dict() if use_diff else self.to_dict())

    def to_json_file(self, json_file_path: str | os.PathLike[str], use_diff: bool = True) -> None:
        """Write the JSON text; the file is replaced as a whole or not at all."""
        write_text(json_file_path, self.to_json_string(use_diff))

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """Write config.json into a directory, which is created if need be."""
        self.validate()
        os.makedirs(save_directory, exist_ok=True)
        self.to_json_file(os.path.join(save_directory, CONFIG_NAME))

    # --- in -----------------------------------------------------------------------------------
    @classmethod
    def from_pretrained(
        cls: type[Self], pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> Any:
        """Read config.json of a directory or of a repository on the hub, or a JSON file.

        Keyword arguments: those of `hub.find_file`; overrides of settings; with `return_unused_kwargs=True` the
        result is (config, the arguments that are no settings), otherwise those are ignored.

        Raises ConfigError, ConfigFileError (an OSError too: not JSON), FileNotFoundError, NotADirectoryError.
        """
        config_dict, kwargs = cls.get_config_dict(pretrained_model_name_or_path, **kwargs)
        model_type = config_dict.get("model_type")
        if model_type is not None and model_type != cls.model_type:
            _logger().warning(
                "You are using a model of type `%s` to instantiate a model of type `%s`. This may be expected if "
                "they share a part of the architecture, and is an error otherwise.",
                model_type,
                cls.model_type,
            )
        return cls.from_dict(config_dict, **kwargs)

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """(what the config file says, the keyword arguments that did not serve to find it)."""
        where = {key: kwargs.pop(key) for key in (*HUB_ARGUMENTS, "subfolder") if key in kwargs}
        path = os.path.expanduser(pretrained_model_name_or_path)
        if not os.path.isfile(path):
            found = find_file(pretrained_model_name_or_path, CONFIG_NAME, required=True, **where)
            assert found is not None  # it is required
            path = found
        return read_config_file(path), kwargs

    @classmethod
    def from_dict(cls: type[Self], config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """From settings and overrides; `return_unused_kwargs` as in `from_pretrained`."""
        return_unused_kwargs = kwargs.pop("return_unused_kwargs", False)
        early = {key: value for key, value in kwargs.items() if key in _CONSTRUCTOR_OVERRIDES}
        if "dtype" in early or "torch_dtype" in early:
            early["dtype"] = early.get("dtype", early.pop("torch_dtype", None))
            if early["dtype"] == "auto":
                del early["dtype"]
        config = cls(**{key: value for key, value in config_dict.items() if key != "model_type"} | early)
        unused = {}
        for key, value in kwargs.items():
            if key in _CONSTRUCTOR_OVERRIDES | _LOADING_KEYS:
                continue
            if hasattr(config, key):
                setattr(config, key, value)
            else:
                unused[key] = value
        config.validate()
        return (config, unused) if return_unused_kwargs else config

    @classmethod
    def from_json_file(cls: type[Self], json_file: str | os.PathLike[str]) -> Self:
        """From the path of a JSON file."""
        config: Self = cls.from_dict(read_config_file(json_file))
        return config


PretrainedConfig = PreTrainedConfig


def check_no_code(config: PreTrainedConfig) -> None:
    """Refuse a checkpoint that carries another model's code under a known name: an error is better than a wrong vector."""
    if getattr(config, "auto_map", None) and not config.code_is_known:
        raise ConfigError(
            f"auto_map={config.auto_map!r:.200}: this checkpoint's model is code of its own under model_type "
            f"{config.model_type!r}; ferroformer runs no code from checkpoints, and computing it as what its model_type says "
            "could give wrong results"
        )


PreTrainedConfig._kinds = listed_keys(PreTrainedConfig)


def _logger() -> Any:
    import logging

    return logging.getLogger(__name__)
