"""The files beside a sentence-transformers model: modules.json and what each module's folder says.

The types of modules have had three spellings ("sentence_transformers.models.Pooling", "….modules.Pooling", …); the
last word is what counts. A model without modules.json is a transformer with mean pooling.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

from .config_files import read_config_file, read_json, write_text
from .errors import CorruptModelError
from .hub import find_file, plain_name

SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")

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


class Pooling(NamedTuple):
    """How token vectors become one vector."""

    modes: tuple[str, ...] = ("mean",)
    include_prompt: bool = True


class SentenceFiles(NamedTuple):
    """What the files of a sentence-transformers model say."""

    transformer_folder: str
    pooling: Pooling
    normalize: bool
    max_seq_length: int | None
    do_lower_case: bool
    settings: dict[str, Any]


def read_sentence_files(name_or_path: str | os.PathLike[str], **where: Any) -> SentenceFiles:
    """Read them; `where` as in `hub.find_file`.

    Raises NotImplementedError for a module that is not supported, CorruptModelError for a malformed file.
    """

    def read(filename: str, subfolder: str = "") -> dict[str, Any]:
        path = find_file(name_or_path, filename, required=False, subfolder=subfolder, **where)
        return {} if path is None else read_config_file(path)

    folders = _module_folders(name_or_path, where)
    folder = folders["Transformer"]
    limits = read("sentence_bert_config.json", folder)
    return SentenceFiles(
        transformer_folder=folder,
        pooling=_pooling(read("config.json", folders["Pooling"])) if "Pooling" in folders else Pooling(),
        normalize="Normalize" in folders,
        max_seq_length=limits.get("max_seq_length"),
        do_lower_case=bool(limits.get("do_lower_case", False)),
        settings=read("config_sentence_transformers.json"),
    )


def write_sentence_files(directory: str | os.PathLike[str], files: SentenceFiles, width: int) -> None:
    """Write what `read_sentence_files` reads; the transformer's own files lie in the directory itself."""
    kinds = ["Transformer", "Pooling"] + ["Normalize"] * files.normalize
    folders = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    modules = [
        {"idx": i, "name": str(i), "path": folders[kind], "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    limits = {"max_seq_length": files.max_seq_length, "do_lower_case": files.do_lower_case}
    pooling = {old: new in files.pooling.modes for old, new in _OLD_POOLING_KEYS.items()}
    for kind in kinds:
        os.makedirs(os.path.join(directory, folders[kind]), exist_ok=True)
    for name, content in {
        "modules.json": modules,
        "sentence_bert_config.json": limits,
        "config_sentence_transformers.json": files.settings,
        os.path.join("1_Pooling", "config.json"): pooling
        | {"word_embedding_dimension": width, "include_prompt": files.pooling.include_prompt},
    }.items():
        write_text(os.path.join(directory, name), json.dumps(content, indent=2) + "\n")


def _module_folders(name_or_path: str | os.PathLike[str], where: dict[str, Any]) -> dict[str, str]:
    """Kind of module -> its folder; the kinds are Transformer, Pooling and perhaps Normalize, in this order."""
    path = find_file(name_or_path, "modules.json", required=False, **where)
    if path is None:
        import logging

        logging.getLogger(__name__).warning("%s has no modules.json: using mean pooling", name_or_path)
        return {"Transformer": ""}
    modules = read_json(path)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise CorruptModelError(f"{path}: must hold a list of modules")
    folders = {_kind(module, path): _folder(module.get("path", ""), path) for module in modules}
    if list(folders) not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise NotImplementedError(f"{path}: the modules {', '.join(folders)} in this order are not supported")
    return folders


def _kind(module: dict[str, Any], source: object) -> str:
    spelling = str(module.get("type"))
    kind = spelling.rpartition(".")[2]
    if kind not in ("Transformer", "Pooling", "Normalize"):
        raise NotImplementedError(f"{source}: the module {spelling!r:.200} is not supported yet")
    return kind


def _folder(path: object, source: object) -> str:
    """A folder inside the model's; the empty name is the model's own."""
    return "" if path == "" else plain_name(path, source)


def _pooling(settings: dict[str, Any]) -> Pooling:
    mode = settings.get("pooling_mode")
    if mode is None:
        asked = {new for old, new in _OLD_POOLING_KEYS.items() if settings.get(old)}
        # the old default, of files that name no mode at all
        asked = asked if any(old in settings for old in _OLD_POOLING_KEYS) else {"mean"}
    else:
        asked = set([mode] if isinstance(mode, str) else mode)
    modes = tuple(mode for mode in _POOLING_MODES if mode in asked)
    if not modes or len(modes) != len(asked):
        raise CorruptModelError(f"pooling modes {sorted(asked)}: one or more of {', '.join(_POOLING_MODES)} are needed")
    return Pooling(modes, bool(settings.get("include_prompt", True)))
