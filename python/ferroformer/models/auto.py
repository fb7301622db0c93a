"""`AutoConfig`, `AutoModel` and `AutoModelFor...`: the class that a checkpoint's `model_type` asks for.

`MODELS` is the one table of what is supported; a class is imported when it is asked for.
"""

from __future__ import annotations

import importlib
import os
from typing import Any, ClassVar, NamedTuple

from ..configuration_utils import PreTrainedConfig
from ..errors import ConfigError

__all__ = [
    "MODELS",
    "AutoConfig",
    "AutoModel",
    "AutoModelForCausalLM",
    "AutoModelForMaskedLM",
    "AutoModelForMultipleChoice",
    "AutoModelForNextSentencePrediction",
    "AutoModelForPreTraining",
    "AutoModelForQuestionAnswering",
    "AutoModelForSeq2SeqLM",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
]


class ModelType(NamedTuple):
    """Where an architecture's classes are: each a class, or "module:name" beneath ferroformer.models."""

    config: str | type[PreTrainedConfig]
    model: str | type | None
    # the task in the name of its class, "SequenceClassification" -> class
    heads: dict[str, str | type] = {}


# the tasks that most architectures have
_TASKS = ("MaskedLM", "MultipleChoice", "QuestionAnswering", "SequenceClassification", "TokenClassification")

# and those of most decoders
_DECODER_TASKS = ("CausalLM", "QuestionAnswering", "SequenceClassification", "TokenClassification")


# and those of T5, beside writing
_JUDGES = ("QuestionAnswering", "SequenceClassification", "TokenClassification")


def _entry(module: str, name: str, *tasks: str) -> ModelType:
    """Of a file whose classes are called `<name>Config`, `<name>Model` and `<name>For<task>`."""
    heads: dict[str, str | type] = {task: f"{module}:{name}For{task}" for task in tasks}
    return ModelType(f"{module}:{name}Config", f"{module}:{name}Model", heads)


def _writer(module: str, name: str, *tasks: str) -> ModelType:
    """Of an encoder-decoder, whose class that writes is called `<name>ForConditionalGeneration`."""
    known = _entry(module, name, *tasks)
    return known._replace(heads=known.heads | {"Seq2SeqLM": f"{module}:{name}ForConditionalGeneration"})


MODELS: dict[str, ModelType] = {
    "albert": _entry("albert", "Albert", *_TASKS, "PreTraining"),
    "bart": _writer("bart", "Bart", "QuestionAnswering", "SequenceClassification"),
    "bert": _entry("bert", "Bert", *_TASKS, "NextSentencePrediction", "PreTraining"),
    "blenderbot": _writer("blenderbot", "Blenderbot"),
    "camembert": _entry("camembert", "Camembert", *_TASKS),
    "convbert": _entry("convbert", "ConvBert", *_TASKS),
    "deberta": _entry(
        "deberta", "Deberta", "MaskedLM", "QuestionAnswering", "SequenceClassification", "TokenClassification"
    ),
    "deberta-v2": _entry("deberta_v2", "DebertaV2", *_TASKS),
    "distilbert": _entry("distilbert", "DistilBert", *_TASKS),
    "electra": _entry("electra", "Electra", *_TASKS, "PreTraining"),
    "ernie": _entry("ernie", "Ernie", *_TASKS, "NextSentencePrediction", "PreTraining"),
    "eurobert": _entry("eurobert", "EuroBert", "MaskedLM", "SequenceClassification", "TokenClassification"),
    "gemma2": _entry("gemma2", "Gemma2", "CausalLM", "SequenceClassification", "TokenClassification"),
    "gpt2": ModelType(
        "gpt2:GPT2Config",
        "gpt2:GPT2Model",
        {"CausalLM": "gpt2:GPT2LMHeadModel", "SequenceClassification": "gpt2:GPT2ForSequenceClassification"},
    ),
    "gpt_neo": _entry("gpt_neo", "GPTNeo", "CausalLM", "SequenceClassification"),
    "gpt_neox": _entry("gpt_neox", "GPTNeoX", "CausalLM", "SequenceClassification"),
    "llama": _entry("llama", "Llama", *_DECODER_TASKS),
    "m2m_100": _writer("m2m_100", "M2M100"),
    "marian": ModelType("marian:MarianConfig", "marian:MarianModel", {"Seq2SeqLM": "marian:MarianMTModel"}),
    "mbart": _writer("mbart", "MBart", "QuestionAnswering", "SequenceClassification"),
    "mistral": _entry("mistral", "Mistral", *_DECODER_TASKS),
    "mobilebert": _entry("mobilebert", "MobileBert", *_TASKS, "NextSentencePrediction", "PreTraining"),
    "modernbert": _entry("modernbert", "ModernBert", *_TASKS),
    "mpnet": _entry("mpnet", "MPNet", *_TASKS),
    "mt5": _writer("mt5", "MT5", *_JUDGES),
    "nomic_bert": _entry("nomic_bert", "NomicBert", "MaskedLM", "SequenceClassification", "TokenClassification"),
    "opt": _entry("opt", "OPT", "CausalLM", "SequenceClassification"),
    "pegasus": _writer("pegasus", "Pegasus"),
    "phi": _entry("phi", "Phi", "CausalLM", "SequenceClassification"),
    "qwen2": _entry("qwen2", "Qwen2", *_DECODER_TASKS),
    "qwen3": _entry("qwen3", "Qwen3", *_DECODER_TASKS),
    "roberta": _entry("roberta", "Roberta", *_TASKS),
    "roformer": _entry("roformer", "RoFormer", *_TASKS),
    "smollm3": _entry("smollm3", "SmolLM3", *_DECODER_TASKS),
    "squeezebert": _entry("squeezebert", "SqueezeBert", *_TASKS),
    "t5": _writer("t5", "T5", *_JUDGES),
    "umt5": _writer("umt5", "UMT5", *_JUDGES),
    "xlm-roberta": _entry("xlm_roberta", "XLMRoberta", *_TASKS),
}


def load_class(place: str | type) -> Any:
    """The class itself, imported if need be."""
    if not isinstance(place, str):
        return place
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(f"ferroformer.models.{module}"), name)


def entry(model_type: object) -> ModelType:
    """The table's entry of a model type. ConfigError, with the supported ones, if there is none."""
    if isinstance(model_type, str) and model_type in MODELS:
        return MODELS[model_type]
    found = "no model_type" if model_type is None else f"model_type {model_type!r:.200}"
    raise ConfigError(f"{found}, which is not supported; supported: {', '.join(sorted(MODELS))}")


class AutoConfig:
    """Finds the configuration class of a checkpoint. Not to be instantiated."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("use AutoConfig.from_pretrained(path) or AutoConfig.for_model(model_type)")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Any:
        """As `PreTrainedConfig.from_pretrained`, of the class that the file's model_type names.

        Raises ConfigError if the model type is missing or not supported.
        """
        return_unused_kwargs = kwargs.pop("return_unused_kwargs", False)
        _refuse_remote_code(kwargs)
        settings, kwargs = PreTrainedConfig.get_config_dict(pretrained_model_name_or_path, **kwargs)
        try:
            config_class = load_class(entry(settings.get("model_type")).config)
        except ConfigError as error:
            raise ConfigError(f"config.json of {str(pretrained_model_name_or_path)!r}: {error}") from None
        return config_class.from_dict(settings, return_unused_kwargs=return_unused_kwargs, **kwargs)

    @classmethod
    def for_model(cls, model_type: str, **kwargs: Any) -> Any:
        """A configuration of the model type with these settings."""
        return load_class(entry(model_type).config)(**kwargs)

    @classmethod
    def register(cls, model_type: str, config: type[PreTrainedConfig], exist_ok: bool = False) -> None:
        """Add a model type of one's own."""
        if model_type in MODELS and not exist_ok:
            raise ValueError(f"{model_type!r} is already there; exist_ok=True replaces it")
        if config.model_type != model_type:
            raise ValueError(f"{config.__name__}.model_type is {config.model_type!r}, not {model_type!r}")
        known = MODELS.get(model_type)
        MODELS[model_type] = known._replace(config=config) if known else ModelType(config, None)


class AutoModel:
    """Finds the model class of a checkpoint. Not to be instantiated."""

    _task: ClassVar[str | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        name = type(self).__name__
        raise TypeError(f"use {name}.from_pretrained(path) or {name}.from_config(config)")

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        config: PreTrainedConfig | str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """As `PreTrainedModel.from_pretrained`, of the class that the configuration's model_type names."""
        _refuse_remote_code(kwargs)
        if not isinstance(config, PreTrainedConfig):
            from ..hub import HUB_ARGUMENTS

            where = {key: kwargs[key] for key in (*HUB_ARGUMENTS, "subfolder") if key in kwargs}
            config = AutoConfig.from_pretrained(config or pretrained_model_name_or_path, **where)
        return cls._model_class(config).from_pretrained(pretrained_model_name_or_path, config=config, **kwargs)

    @classmethod
    def from_config(cls, config: PreTrainedConfig, **kwargs: Any) -> Any:
        """A model of this configuration with random weights."""
        return cls._model_class(config)(config, **kwargs)

    @classmethod
    def register(cls, config_class: type[PreTrainedConfig], model_class: type, exist_ok: bool = False) -> None:
        """Name the model class of a configuration class that is registered with AutoConfig."""
        known = entry(config_class.model_type)
        if cls._place(known) is not None and not exist_ok:
            raise ValueError(f"{config_class.model_type!r} has a model class; exist_ok=True replaces it")
        if cls._task is None:
            known = known._replace(model=model_class)
        else:
            known = known._replace(heads=known.heads | {cls._task: model_class})
        MODELS[config_class.model_type] = known

    @classmethod
    def _place(cls, known: ModelType) -> str | type | None:
        return known.model if cls._task is None else known.heads.get(cls._task)

    @classmethod
    def _model_class(cls, config: Any) -> Any:
        place = cls._place(entry(config.model_type))
        if place is None:
            kind = f"{config.model_type!r} has no model class for {cls.__name__}"
            raise ConfigError(f"model_type {kind}; {cls.__name__}.register adds one")
        return load_class(place)


class AutoModelForCausalLM(AutoModel):
    """`AutoModel` for models that predict the next word."""

    _task = "CausalLM"


class AutoModelForMaskedLM(AutoModel):
    """`AutoModel` for models that guess masked words."""

    _task = "MaskedLM"


class AutoModelForMultipleChoice(AutoModel):
    """`AutoModel` for models that choose between rows."""

    _task = "MultipleChoice"


class AutoModelForNextSentencePrediction(AutoModel):
    """`AutoModel` for models that say whether a sentence follows another."""

    _task = "NextSentencePrediction"


class AutoModelForPreTraining(AutoModel):
    """`AutoModel` for models as they were first trained: some of them as masked language models and nothing else."""

    _task = "PreTraining"
    _masked: ClassVar[tuple[str, ...]] = (
        "camembert",
        "deberta",
        "deberta-v2",
        "distilbert",
        "mpnet",
        "roberta",
        "squeezebert",
        "xlm-roberta",
    )

    @classmethod
    def _place(cls, known: ModelType) -> str | type | None:
        masked = [MODELS.get(name) for name in cls._masked]
        return known.heads.get("MaskedLM") if known in masked else super()._place(known)


class AutoModelForQuestionAnswering(AutoModel):
    """`AutoModel` for models that mark answers."""

    _task = "QuestionAnswering"


class AutoModelForSeq2SeqLM(AutoModel):
    """`AutoModel` for models that write an answer to a text."""

    _task = "Seq2SeqLM"


class AutoModelForSequenceClassification(AutoModel):
    """`AutoModel` for models that label rows."""

    _task = "SequenceClassification"


class AutoModelForTokenClassification(AutoModel):
    """`AutoModel` for models that label tokens."""

    _task = "TokenClassification"


def _refuse_remote_code(kwargs: dict[str, Any]) -> None:
    if kwargs.pop("trust_remote_code", False):
        raise NotImplementedError("trust_remote_code=True: ferroformer never runs code from a checkpoint")
