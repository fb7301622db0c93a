"""The files beside a sentence-transformers model: modules.json and what each module's folder says.

The types of modules have had three spellings ("sentence_transformers.models.Pooling", "….base.modules.Pooling", …); the last
word is what counts. A model without modules.json is a transformer with mean pooling.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

from .config_files import read_config_file, read_json, write_text
from .errors import CorruptModelError
from .hub import find_file, plain_name

# Old spelling -> new; vectors of several modes are concatenated in this order.
_OLD_POOLING_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_POOLING_MODES = tuple(_OLD_POOLING_KEYS.values())

# What may come after the pooling, in any number and order.
_LATER_KINDS = ("Normalize", "Dense")
_PREFIXES = ("models", "sentence_transformer.modules", "base.modules", "cross_encoder.modules")

# Where the settings of the transformer's module have been.
_TRANSFORMER_FILES = tuple(
    f"sentence_{name}_config.json" for name in "bert roberta distilbert camembert albert xlm-roberta xlnet".split()
)
# Its settings of version 6, and the values that are computed; nothing means all there is by default.
_TASKS: dict[str, dict[str, tuple[Any, ...]]] = {
    task: {
        "transformer_task": (None, task),
        "module_output_name": (None, output),
        "modality_config": (None, {"text": {"method": "forward", "method_output_name": attribute}}),
        "processing_kwargs": (None, {}),
        "query_length": (None,),
        "document_length": (None,),
        "query_expansion": (None,),
        **dict.fromkeys(("model_args", "tokenizer_args", "config_args"), (None, {})),
        **dict.fromkeys(("model_kwargs", "processor_kwargs", "config_kwargs"), (None, {})),
    }
    for task, output, attribute in (
        ("feature-extraction", "token_embeddings", "last_hidden_state"),
        ("sequence-classification", "scores", "logits"),
    )
}


class Pooling(NamedTuple):
    """How token vectors become one vector: the modes' vectors end to end."""

    modes: tuple[str, ...] = ("mean",)
    include_prompt: bool = True


class Normalize(NamedTuple):
    """To length 1."""


class Transformer(NamedTuple):
    """Where the transformer lies, and what is done to texts before it."""

    folder: str = ""
    max_seq_length: int | None = None
    do_lower_case: bool = False


class SentenceFiles(NamedTuple):
    """What the files of a sentence-transformers model say; later: kind and folder of what comes after the pooling."""

    transformer: Transformer
    pooling: Pooling
    later: tuple[tuple[str, str], ...]
    settings: dict[str, Any]


def read_sentence_files(name_or_path: str | os.PathLike[str], **where: Any) -> SentenceFiles:
    """Read them; `where` as in `hub.find_file`.

    Raises NotImplementedError for a module or setting that is not supported, CorruptModelError for a malformed file.
    """
    modules = read_modules(name_or_path, **where)
    if modules is None:
        import logging

        logging.getLogger(__name__).warning("%s has no modules.json: using mean pooling", name_or_path)
        modules = [("Transformer", "")]
        pooling = Pooling()
    else:
        kinds = [kind for kind, _ in modules]
        if kinds[:2] != ["Transformer", "Pooling"] or not set(kinds[2:]) <= set(_LATER_KINDS):
            raise NotImplementedError(
                f"modules.json of {str(name_or_path)!r}: the modules {', '.join(kinds)} in this order are not supported; "
                f"Transformer, Pooling and any of {', '.join(_LATER_KINDS)} are"
            )
        pooling = _pooling(_read(name_or_path, "config.json", modules[1][1], where))
        for _, folder in modules[2:]:
            _check_names(_read(name_or_path, "config.json", folder, where), f"{folder}/config.json of {str(name_or_path)!r}")
    return SentenceFiles(
        read_transformer(name_or_path, modules[0][1], "feature-extraction", **where),
        pooling,
        tuple(modules[2:]),
        read_settings(name_or_path, "SentenceTransformer", **where),
    )


def read_modules(name_or_path: str | os.PathLike[str], **where: Any) -> list[tuple[str, str]] | None:
    """(kind, folder) of each module in modules.json; None if there is no such file."""
    path = find_file(name_or_path, "modules.json", required=False, **where)
    if path is None:
        return None
    modules = read_json(path)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise CorruptModelError(f"{path}: must hold a list of modules")
    return [(_kind(module, path), _folder(module.get("path", ""), path)) for module in modules]


def read_transformer(name_or_path: str | os.PathLike[str], folder: str, task: str, **where: Any) -> Transformer:
    """The settings of the transformer's module, which must be one for `task`."""
    for name in _TRANSFORMER_FILES:
        settings = _read(name_or_path, name, folder, where)
        if settings:
            break
    for key, allowed in _TASKS[task].items():
        if settings.get(key) not in allowed:
            raise NotImplementedError(
                f"{name} of {str(name_or_path)!r}: {key}={settings[key]!r:.200} is not supported; here it is one of {allowed}"
            )
    return Transformer(folder, settings.get("max_seq_length"), bool(settings.get("do_lower_case", False)))


def read_settings(name_or_path: str | os.PathLike[str], model_type: str, **where: Any) -> dict[str, Any]:
    """config_sentence_transformers.json, which must be of such a model."""
    name = "config_sentence_transformers.json"
    settings = _read(name_or_path, name, "", where)
    found = settings.get("model_type", model_type)
    if found != model_type:
        raise NotImplementedError(f"{name} of {str(name_or_path)!r}: model_type {found!r:.200}; here it is {model_type!r}")
    for key in ("default_prompt_name", "similarity_fn_name", "activation_fn"):
        if not isinstance(settings.get(key), (str, type(None))):
            raise CorruptModelError(f"{name} of {str(name_or_path)!r}: {key}={settings[key]!r:.200}: a string is needed")
    prompts = settings.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, (str, type(None))) for text in prompts.values()):
        raise CorruptModelError(f"{name} of {str(name_or_path)!r}: prompts={prompts!r:.200}: an object of texts is needed")
    return settings


def write_modules(directory: str | os.PathLike[str], kinds: list[str], contents: dict[str, Any]) -> list[str]:
    """Write modules.json and the files of `contents`, named after their folders; returns each module's folder.

    The transformer's own files lie in the directory itself.
    """
    folders = ["" if kind == "Transformer" else f"{i}_{kind}" for i, kind in enumerate(kinds)]
    modules = [
        {"idx": i, "name": str(i), "path": folder, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, folder) in enumerate(zip(kinds, folders))
    ]
    for folder in folders:
        os.makedirs(os.path.join(directory, folder), exist_ok=True)
    for name, content in {"modules.json": modules, **contents}.items():
        write_text(os.path.join(directory, name), json.dumps(content, indent=2) + "\n")
    return folders


def pooling_settings(pooling: Pooling, width: int) -> dict[str, Any]:
    """As every version reads them; an order of modes that is not the old one is for version 6 alone."""
    settings: dict[str, Any] = {old: new in pooling.modes for old, new in _OLD_POOLING_KEYS.items()}
    if pooling.modes != _old_modes(settings):
        settings = {"pooling_mode": list(pooling.modes)}
    return {"word_embedding_dimension": width, **settings, "include_prompt": pooling.include_prompt}


def _read(name_or_path: str | os.PathLike[str], filename: str, folder: str, where: dict[str, Any]) -> dict[str, Any]:
    path = find_file(name_or_path, filename, required=False, subfolder=folder, **where)
    return {} if path is None else read_config_file(path)


def _kind(module: dict[str, Any], source: object) -> str:
    spelling = str(module.get("type"))
    place, _, kind = spelling.rpartition(".")
    if kind not in ("Transformer", "Pooling", *_LATER_KINDS) or not place.startswith(
        tuple(f"sentence_transformers.{prefix}" for prefix in _PREFIXES)
    ):
        raise NotImplementedError(f"{source}: the module {spelling!r:.200} is not supported")
    return kind


def _folder(path: object, source: object) -> str:
    """A folder inside the model's; the empty name is the model's own."""
    return "" if path == "" else plain_name(path, source)


def _check_names(settings: dict[str, Any], source: str) -> None:
    """What a module after the pooling reads and writes."""
    for key in ("module_input_name", "module_output_name"):
        if settings.get(key) not in (None, "sentence_embedding"):
            raise NotImplementedError(f"{source}: {key}={settings[key]!r:.200}: only 'sentence_embedding' is supported")


def _pooling(settings: dict[str, Any]) -> Pooling:
    mode = settings.get("pooling_mode")
    if mode is None:
        modes = _old_modes(settings) or ("mean",)
    else:
        modes = (mode,) if isinstance(mode, str) else tuple(mode) if isinstance(mode, list) else ()
    if not modes or not all(isinstance(mode, str) and mode in _POOLING_MODES for mode in modes):
        raise CorruptModelError(f"pooling modes {mode!r:.200}: one or more of {', '.join(_POOLING_MODES)} are needed")
    return Pooling(modes, bool(settings.get("include_prompt", True)))


def _old_modes(settings: dict[str, Any]) -> tuple[str, ...]:
    return tuple(new for old, new in _OLD_POOLING_KEYS.items() if settings.get(old))
