"""AutoTokenizer: the tokenizer class that the files of a model ask for."""

from __future__ import annotations

import importlib
import os
from typing import Any

from ..config_files import read_config_file
from ..hub import HUB_ARGUMENTS, find_file
from ..tokenization_files import TOKENIZER_CONFIG_FILE, TOKENIZER_FILE
from ..tokenization_utils import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from .tokenizer_names import CLASS_OF_MODEL_TYPE, KNOWN_CLASSES, MISNAMED

_BERT, _BYTES = "bert_tokenizer", "byte_level_tokenizers"
_PIECES, _FALLBACK = "sentence_piece_tokenizers", "byte_fallback_tokenizers"
_TRANSLATION = "translation_tokenizers"

# The module of a class, and its name there if it is another
_CLASSES = {
    "AlbertTokenizer": (_PIECES,),
    "BartTokenizer": (_BYTES,),
    "BertTokenizer": (_BERT,),
    "BlenderbotTokenizer": (_BYTES,),
    "CamembertTokenizer": (_PIECES,),
    "CodeGenTokenizer": (_BYTES,),
    "ConvBertTokenizer": (_BERT,),
    "DebertaTokenizer": (_BYTES,),
    "DebertaV2Tokenizer": (_PIECES,),
    "DistilBertTokenizer": (_BERT,),
    "ElectraTokenizer": (_BERT,),
    "GPT2Tokenizer": (_BYTES,),
    "GPTNeoXTokenizer": (_BYTES,),
    "GemmaTokenizer": (_FALLBACK,),
    "LEDTokenizer": (_BYTES, "RobertaTokenizer"),
    "LayoutLMTokenizer": (_BERT, "BertTokenizer"),
    "LlamaTokenizer": (_FALLBACK,),
    "LongformerTokenizer": (_BYTES, "RobertaTokenizer"),
    "LxmertTokenizer": (_BERT, "BertTokenizer"),
    "M2M100Tokenizer": ("m2m_100_tokenizer",),
    "MBart50Tokenizer": (_TRANSLATION,),
    "MBartTokenizer": (_TRANSLATION,),
    "MPNetTokenizer": (_BERT,),
    "MarianTokenizer": ("marian_tokenizer",),
    "MobileBertTokenizer": (_BERT, "BertTokenizer"),
    "MvpTokenizer": (_BYTES, "RobertaTokenizer"),
    "NllbTokenizer": (_TRANSLATION,),
    "PegasusTokenizer": (_PIECES,),
    "Qwen2Tokenizer": (_BYTES,),
    "RoFormerTokenizer": ("roformer_tokenizer",),
    "RobertaTokenizer": (_BYTES,),
    "SqueezeBertTokenizer": (_BERT, "BertTokenizer"),
    "T5Tokenizer": (_PIECES,),
    "XLMRobertaTokenizer": (_PIECES,),
}
_GENERIC = "TokenizersBackend"


class AutoTokenizer:
    """Not to be instantiated: `AutoTokenizer.from_pretrained(name_or_path)` makes a tokenizer of the right class."""

    def __init__(self) -> None:
        raise OSError(
            "AutoTokenizer is designed to be instantiated using the "
            "`AutoTokenizer.from_pretrained(pretrained_model_name_or_path)` method."
        )

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], *, config: Any = None, **kwargs: Any
    ) -> PreTrainedTokenizerBase:
        """The tokenizer of a directory or hub name, of the class that transformers chooses: the `tokenizer_class` in
        `tokenizer_config.json` or `config.json`, else the one of the `model_type`, else what `tokenizer.json` says.
        `config` stands in for `config.json`.

        Other arguments as in the class's own `from_pretrained`. Raises FileNotFoundError, NotImplementedError where
        transformers has a class of its own and we do not, or ValueError where it takes code from the hub.
        """
        hub = {name: kwargs[name] for name in (*HUB_ARGUMENTS, "subfolder") if kwargs.get(name) is not None}
        source = pretrained_model_name_or_path

        def read(filename: str) -> dict[str, Any]:
            path = find_file(source, filename, required=False, **hub)
            return read_config_file(path) if path else {}

        saved = read(TOKENIZER_CONFIG_FILE)
        model = _as_dict(config) if config is not None else read("config.json")
        name, model_type = _choose(saved, model), model.get("model_type")
        if name == "LlamaTokenizer" and _is_byte_level(find_file(source, TOKENIZER_FILE, required=False, **hub)):
            name = _GENERIC
        if name == _GENERIC:
            chosen: type[PreTrainedTokenizerBase] = PreTrainedTokenizerFast
            _check_generic(source, saved, model, hub)
        elif name in _CLASSES:
            module, *other = _CLASSES[name]
            chosen = getattr(importlib.import_module(f".{module}", __package__), other[0] if other else name)
        else:
            raise NotImplementedError(
                f"{str(source)!r}: the tokenizer class {name}{f' of the model type {model_type}' if model_type else ''} is "
                f"not there yet; there are: {', '.join(_CLASSES)}. If it has a {TOKENIZER_FILE}, "
                "PreTrainedTokenizerFast.from_pretrained takes that as it stands"
            )
        return chosen.from_pretrained(source, **kwargs)


def _choose(saved: dict[str, Any], model: dict[str, Any]) -> str:
    """The name of the class. A name that nobody knows, or that stands for all, is a `tokenizer.json` as it stands."""
    model_type = str(model.get("model_type") or "")
    usual = CLASS_OF_MODEL_TYPE.get(model_type, _GENERIC)
    asked = saved.get("tokenizer_class") or model.get("tokenizer_class")
    if not asked:
        return usual
    asked = str(asked).removesuffix("Fast")
    if usual == _GENERIC and model_type in CLASS_OF_MODEL_TYPE and not _auto_map(saved):
        return _GENERIC
    if model_type in MISNAMED:
        return usual
    return asked if asked in _CLASSES or asked.removesuffix("Tokenizer") in KNOWN_CLASSES else _GENERIC


def _auto_map(saved: dict[str, Any]) -> Any:
    found = saved.get("auto_map")
    return found.get("AutoTokenizer") if isinstance(found, dict) else found


def _check_generic(
    source: str | os.PathLike[str], saved: dict[str, Any], model: dict[str, Any], hub: dict[str, Any]
) -> None:
    if _auto_map(saved) and model.get("model_type") not in CLASS_OF_MODEL_TYPE:
        raise ValueError(
            f"{str(source)!r}: its tokenizer is code that comes with the model ({_auto_map(saved)} in "
            f"{TOKENIZER_CONFIG_FILE}), and such code is never run"
        )
    names = (TOKENIZER_FILE, PreTrainedTokenizerFast.vocab_files_names["vocab_file"])
    if any(find_file(source, name, required=False, **hub) for name in names):
        return
    kind = [f"{key} {part[key]!r}" for part, key in ((saved, "tokenizer_class"), (model, "model_type")) if part.get(key)]
    if kind:
        raise ValueError(
            f"{str(source)!r}: a tokenizer of {' and '.join(kind)} cannot be read without a {' or '.join(names)}; classes "
            f"with other files: {', '.join(_CLASSES)}"
        )
    raise FileNotFoundError(
        f"no tokenizer in {str(source)!r}: there is no {' or '.join(names)}, and neither {TOKENIZER_CONFIG_FILE} nor "
        "config.json says of which family it is"
    )


def _is_byte_level(file: str | None) -> bool:
    if file is None:
        return False
    with open(file, encoding="utf-8", errors="replace") as opened:
        return '"ByteLevel"' in opened.read()


def _as_dict(config: Any) -> dict[str, Any]:
    if isinstance(config, dict):
        return config
    return {name: getattr(config, name, None) for name in ("model_type", "tokenizer_class")}
