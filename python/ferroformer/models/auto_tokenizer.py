"""AutoTokenizer: the tokenizer class that the files of a model ask for."""

from __future__ import annotations

import os
from typing import Any

from ..config_files import read_config_file
from ..hub import HUB_ARGUMENTS, find_file
from ..tokenization_files import TOKENIZER_CONFIG_FILE, TOKENIZER_FILE
from ..tokenization_utils import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from .bert_tokenizer import BertTokenizer, DistilBertTokenizer

# By `tokenizer_class` without "Fast". A class that is not here is read from its tokenizer.json as it stands.
TOKENIZER_CLASSES: dict[str, type[PreTrainedTokenizerBase]] = {
    "BertTokenizer": BertTokenizer,
    "ConvBertTokenizer": BertTokenizer,
    "DistilBertTokenizer": DistilBertTokenizer,
    "ElectraTokenizer": BertTokenizer,
    "LayoutLMTokenizer": BertTokenizer,
    "MobileBertTokenizer": BertTokenizer,
    "SqueezeBertTokenizer": BertTokenizer,
    "PreTrainedTokenizer": PreTrainedTokenizerFast,
    "TokenizersBackend": PreTrainedTokenizerFast,
}

# By `model_type`, for directories whose files name no class
MODEL_TYPE_CLASSES: dict[str, type[PreTrainedTokenizerBase]] = dict.fromkeys(
    ("bert", "convbert", "distilbert", "electra", "ernie", "layoutlm", "megatron-bert", "mobilebert", "nomic_bert",
     "squeezebert"),
    BertTokenizer,
)  # fmt: skip


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
        """The tokenizer of a directory or hub name, of the class that `tokenizer_class` in `tokenizer_config.json`
        or `config.json` names, else the one of the `model_type`. `config` stands in for `config.json`.

        Other arguments as in the class's own `from_pretrained`. Raises FileNotFoundError, or ValueError where the
        class is not known and there is no `tokenizer.json`.
        """
        hub = {name: kwargs[name] for name in (*HUB_ARGUMENTS, "subfolder") if kwargs.get(name) is not None}
        source = pretrained_model_name_or_path

        def read(filename: str) -> dict[str, Any]:
            path = find_file(source, filename, required=False, **hub)
            return read_config_file(path) if path else {}

        model = _as_dict(config) if config is not None else read("config.json")
        name = read(TOKENIZER_CONFIG_FILE).get("tokenizer_class") or model.get("tokenizer_class")
        model_type = model.get("model_type")
        if name is not None:
            chosen = TOKENIZER_CLASSES.get(str(name).removesuffix("Fast"))
        else:
            chosen = MODEL_TYPE_CLASSES.get(str(model_type))
        if chosen is None:
            if find_file(source, TOKENIZER_FILE, required=False, **hub) is None:
                _refuse(source, name, model_type)
            chosen = PreTrainedTokenizerFast
        return chosen.from_pretrained(source, **kwargs)


def _as_dict(config: Any) -> dict[str, Any]:
    if isinstance(config, dict):
        return config
    return {name: getattr(config, name, None) for name in ("model_type", "tokenizer_class")}


def _refuse(source: object, name: object, model_type: object) -> None:
    if name is None and model_type is None:
        raise FileNotFoundError(
            f"no tokenizer in {str(source)!r}: there is no {TOKENIZER_FILE}, and neither {TOKENIZER_CONFIG_FILE} nor "
            "config.json says of which family it is"
        )
    family = f"tokenizer class {name!r}" if name else f"model type {model_type!r}"
    known = ", ".join(sorted(MODEL_TYPE_CLASSES))
    raise ValueError(
        f"{str(source)!r}: the vocabulary files of {family} cannot be read yet without a {TOKENIZER_FILE}; families "
        f"that can: {known}"
    )
