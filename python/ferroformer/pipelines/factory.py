"""`pipeline(task, model)`: the class of a task, its model and its tokenizer."""

from __future__ import annotations

import importlib
import os
from typing import Any, NamedTuple

from .base import Pipeline, check_device

__all__ = ["TASKS", "get_supported_tasks", "pipeline"]


class Task(NamedTuple):
    """Its class as "module:name", the auto class of its models; where none is named, the model and its revision, or for
    translation those of pairs of languages."""

    place: str
    auto_class: str
    default: tuple[str, str] | dict[str, tuple[str, str]]


_T5 = ("google-t5/t5-base", "a9723ea")


TASKS = {
    "feature-extraction": Task(
        "feature_extraction:FeatureExtractionPipeline", "AutoModel", ("distilbert/distilbert-base-cased", "6ea8117")
    ),
    "fill-mask": Task(
        "fill_mask:FillMaskPipeline", "AutoModelForMaskedLM", ("distilbert/distilroberta-base", "fb53ab8")
    ),
    "question-answering": Task(
        "question_answering:QuestionAnsweringPipeline",
        "AutoModelForQuestionAnswering",
        ("distilbert/distilbert-base-cased-distilled-squad", "564e9b5"),
    ),
    "sentence-similarity": Task(
        "sentence_similarity:SentenceSimilarityPipeline",
        "SentenceTransformer",
        ("sentence-transformers/all-MiniLM-L6-v2", "main"),
    ),
    "summarization": Task(
        "text2text_generation:SummarizationPipeline", "AutoModelForSeq2SeqLM", ("sshleifer/distilbart-cnn-12-6", "a4f8f3e")
    ),
    "text-classification": Task(
        "text_classification:TextClassificationPipeline",
        "AutoModelForSequenceClassification",
        ("distilbert/distilbert-base-uncased-finetuned-sst-2-english", "714eb0f"),
    ),
    "text-generation": Task(
        "text_generation:TextGenerationPipeline", "AutoModelForCausalLM", ("openai-community/gpt2", "607a30d")
    ),
    "text2text-generation": Task(
        "text2text_generation:Text2TextGenerationPipeline", "AutoModelForSeq2SeqLM", ("google-t5/t5-base", "a9723ea")
    ),
    "token-classification": Task(
        "token_classification:TokenClassificationPipeline",
        "AutoModelForTokenClassification",
        ("dbmdz/bert-large-cased-finetuned-conll03-english", "4c53496"),
    ),
    "translation": Task(
        "text2text_generation:TranslationPipeline",
        "AutoModelForSeq2SeqLM",
        {"en_to_fr": _T5, "en_to_de": _T5, "en_to_ro": _T5},
    ),
    "zero-shot-classification": Task(
        "zero_shot_classification:ZeroShotClassificationPipeline",
        "AutoModelForSequenceClassification",
        ("facebook/bart-large-mnli", "d7645e1"),
    ),
}
ALIASES = {"ner": "token-classification", "sentiment-analysis": "text-classification"}
# transformers' other tasks
_OTHERS = set(
    """any-to-any audio-classification automatic-speech-recognition decision depth-estimation document-question-answering
    image-classification image-feature-extraction image-segmentation image-text-to-text image-to-image image-to-text
    keypoint-matching mask-generation object-detection table-question-answering text-to-audio
    text-to-speech video-classification visual-question-answering vqa
    zero-shot-audio-classification zero-shot-image-classification zero-shot-object-detection""".split()
)
# the end of a class's name -> what models of the class are for
_TASK_OF_CLASS = {
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForConditionalGeneration": "text2text-generation",
    "MTModel": "text2text-generation",
    "ForMaskedLM": "fill-mask",
    "ForQuestionAnswering": "question-answering",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "Model": "feature-extraction",
    "SentenceTransformer": "sentence-similarity",
}


def pipeline(
    task: str | None = None,
    model: Any = None,
    config: Any = None,
    tokenizer: Any = None,
    feature_extractor: Any = None,
    image_processor: Any = None,
    processor: Any = None,
    revision: str | None = None,
    use_fast: bool = True,
    token: str | bool | None = None,
    device: Any = None,
    device_map: Any = None,
    dtype: Any = None,
    trust_remote_code: bool | None = None,
    model_kwargs: dict[str, Any] | None = None,
    pipeline_class: Any = None,
    *,
    torch_dtype: Any = None,
    local_files_only: bool = False,
    **kwargs: Any,
) -> Pipeline:
    """A function of texts: a model, its tokenizer and what is done before and after.

    task: one of `TASKS`, "sentiment-analysis", "ner", or "translation_en_to_de" for languages. Without it, what the class of the model says, or of a checkpoint
        the "architectures" in its config.json.
    model: a directory, a hub name, or a model, which comes with a `tokenizer` (for sentence-similarity a SentenceTransformer).
        None: the one that transformers takes for the task, with a warning.
    tokenizer: a tokenizer or where to read it; by default, where the model is.
    config, revision, token, local_files_only, dtype, device_map, model_kwargs: for loading, as in
        `AutoModel.from_pretrained`. dtype is float32 unless something else is asked for; "auto" goes by the checkpoint.
    device: None, -1 or "cpu". use_fast: accepted, and changes nothing.
    Others are the pipeline's: batch_size, and arguments of its call that are to be defaults.

    Raises KeyError for an unknown task, NotImplementedError for those of transformers that are not supported.
    """
    check_device(device)
    others = {"feature_extractor": feature_extractor, "image_processor": image_processor, "processor": processor}
    for name in (name for name, value in others.items() if value is not None):
        raise NotImplementedError(f"{name}: only tasks of text are supported")
    if model is None and (task is None or tokenizer is not None):
        missing = "a tokenizer is" if task is not None else "neither a task nor a model is"
        raise RuntimeError(f"Impossible to instantiate a pipeline: {missing} given without a model")
    where = {"revision": revision, "token": token, "local_files_only": local_files_only}
    where = {name: value for name, value in where.items() if value not in (None, False)}
    if model_kwargs and "cache_dir" in model_kwargs:
        where["cache_dir"] = model_kwargs["cache_dir"]
    if task is None:
        task = _task_of(model, config, where)
    entry = TASKS[_checked(task)]
    if model is None:
        model, where = _default_model(task, entry, where)
    dtype = torch_dtype if dtype is None else dtype
    arguments = where | {"dtype": dtype, "device_map": device_map, "config": config}
    if trust_remote_code:
        raise NotImplementedError("trust_remote_code=True: ferroformer never runs code from a checkpoint")
    source = model if isinstance(model, (str, os.PathLike)) else None
    if source is not None:
        model = _load_model(entry.auto_class, source, arguments | (model_kwargs or {}), where)
    if entry.auto_class != "SentenceTransformer":
        tokenizer = _tokenizer(tokenizer, source, config, where)
    chosen = pipeline_class or _class(entry)
    made: Pipeline = chosen(model, tokenizer, task=ALIASES.get(task, task), **kwargs)
    return made


def get_supported_tasks() -> list[str]:
    """The names of tasks and their aliases."""
    return sorted([*TASKS, *ALIASES])


def _checked(task: str) -> str:
    task = ALIASES.get(task, task)
    if task in TASKS:
        return task
    if task.startswith("translation_"):
        if len(parts := task.split("_")) != 4 or parts[2] != "to":
            raise KeyError(f"Invalid translation task {task}, use 'translation_XX_to_YY' format")
        return "translation"
    if task in _OTHERS:
        raise NotImplementedError(f"task {task!r}: not supported, available tasks are {get_supported_tasks()}")
    raise KeyError(f"Unknown task {task}, available tasks are {get_supported_tasks()}")


def _task_of(model: Any, config: Any, where: dict[str, Any]) -> str:
    """By the class of the model, or the classes that its configuration names."""
    names = [cls.__name__ for cls in type(model).__mro__]
    if isinstance(model, (str, os.PathLike)):
        from ..models.auto import AutoConfig

        if config is None or isinstance(config, (str, os.PathLike)):
            config = AutoConfig.from_pretrained(config or model, **where)
        names = list(config.architectures or [])
    for name in names:
        for end, task in _TASK_OF_CLASS.items():
            # a model with a head of another kind is none for feature-extraction
            if name.endswith(end) and not name.endswith("PreTrainedModel") and ("Head" not in name or end == "LMHeadModel"):
                return task
    found = ", ".join(names[:3]) or "a configuration without architectures"
    raise RuntimeError(f"the task cannot be told from {found}")


def _default_model(task: str, entry: Task, where: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    import logging

    default = entry.default
    if isinstance(default, dict):
        pair = task.removeprefix("translation_")
        if pair not in default:
            there = [f"translation_{pair}" for pair in default]
            raise ValueError(f"The task {task!r} does not provide a default model; those with one are {there}")
        default = default[pair]
    name, revision = default
    where = {"revision": revision} | where
    logging.getLogger(__name__).warning(
        "No model was supplied, defaulted to %s and revision %s (https://huggingface.co/%s).\n"
        "Using a pipeline without specifying a model name and revision in production is not recommended.",
        name, where["revision"], name,
    )  # fmt: skip
    return name, where


def _load_model(auto_class: str, source: Any, arguments: dict[str, Any], where: dict[str, Any]) -> Any:
    if auto_class == "SentenceTransformer":
        from ..sentence_transformer import SentenceTransformer

        own = {name: value for name, value in arguments.items() if name not in where and value is not None}
        renamed = {("cache_folder" if name == "cache_dir" else name): value for name, value in where.items()}
        return SentenceTransformer(source, model_kwargs=own, **renamed)
    from ..models import auto

    return getattr(auto, auto_class).from_pretrained(source, **arguments)


def _tokenizer(tokenizer: Any, source: Any, config: Any, where: dict[str, Any]) -> Any:
    from ..models.auto_tokenizer import AutoTokenizer

    if tokenizer is None:
        tokenizer = source if source is not None else config
        if not isinstance(tokenizer, (str, os.PathLike)):
            raise ValueError(
                "Impossible to guess which tokenizer to use. Please provide a PreTrainedTokenizer class or a "
                "path/identifier to a pretrained tokenizer."
            )
    if isinstance(tokenizer, tuple):
        name, options = tokenizer
        return AutoTokenizer.from_pretrained(name, **where, **options)
    if isinstance(tokenizer, (str, os.PathLike)):
        return AutoTokenizer.from_pretrained(tokenizer, **where)
    return tokenizer


def _class(entry: Task) -> Any:
    module, _, name = entry.place.partition(":")
    return getattr(importlib.import_module(f".{module}", __package__), name)
