"""What `SentenceTransformer` and `CrossEncoder` share: loading by name, prompts, the longest text, progress."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from .errors import InputError
from .hub import HUB_ARGUMENTS
from .sentence_modules import Transformer

__all__ = ["SentenceModel", "Source", "check_call", "check_constructor", "progress"]

# Bare names that are models of transformers' first years; all others belong to an organization on the hub.
_BARE_NAMES = set(
    """albert-base-v1 albert-base-v2 albert-large-v1 albert-large-v2 albert-xlarge-v1 albert-xlarge-v2 albert-xxlarge-v1
    albert-xxlarge-v2 bert-base-cased bert-base-cased-finetuned-mrpc bert-base-chinese bert-base-german-cased
    bert-base-german-dbmdz-cased bert-base-german-dbmdz-uncased bert-base-multilingual-cased bert-base-multilingual-uncased
    bert-base-uncased bert-large-cased bert-large-cased-whole-word-masking
    bert-large-cased-whole-word-masking-finetuned-squad bert-large-uncased bert-large-uncased-whole-word-masking
    bert-large-uncased-whole-word-masking-finetuned-squad camembert-base distilbert-base-cased
    distilbert-base-cased-distilled-squad distilbert-base-german-cased distilbert-base-multilingual-cased
    distilbert-base-uncased distilbert-base-uncased-distilled-squad distilbert-base-uncased-finetuned-sst-2-english
    distilroberta-base roberta-base roberta-base-openai-detector roberta-large roberta-large-mnli
    roberta-large-openai-detector t5-11b t5-3b t5-base t5-large t5-small xlm-roberta-base xlm-roberta-large""".split()
)


class Source(NamedTuple):
    """A model's name or directory, and where to look for it (`hub.find_file`)."""

    path: str | os.PathLike[str]
    where: dict[str, Any]

    @classmethod
    def of(
        cls,
        name_or_path: str | os.PathLike[str],
        organization: str,
        cache_folder: str | os.PathLike[str] | None,
        local_files_only: bool,
        revision: str | None,
        token: str | bool | None,
    ) -> Source:
        """A bare name that is no directory is one of the organization's."""
        cache = cache_folder or os.environ.get("SENTENCE_TRANSFORMERS_HOME")
        values = (cache, False, local_files_only, revision, token)
        return cls(_full_name(name_or_path, organization), dict(zip(HUB_ARGUMENTS, values, strict=True)))

    def load(
        self,
        auto_model: Any,
        transformer: Transformer,
        model_kwargs: dict[str, Any] | None,
        processor_kwargs: dict[str, Any] | None,
        config_kwargs: dict[str, Any] | None,
        adjust: Any = None,
    ) -> tuple[Any, Any]:
        """(model, tokenizer); adjust(config) is called before the model is made."""
        import inspect

        from .models.auto import AutoConfig
        from .models.auto_tokenizer import AutoTokenizer

        where = {**self.where, "subfolder": transformer.folder}
        config = AutoConfig.from_pretrained(self.path, **where, **(config_kwargs or {}))
        if adjust is not None:
            adjust(config)
        # no sentence embedding reads the pooled vector
        model_class = auto_model._model_class(config)
        poolerless = auto_model._task is None and "add_pooling_layer" in inspect.signature(model_class).parameters
        arguments = {**({"add_pooling_layer": False} if poolerless else {}), **(model_kwargs or {})}
        model = model_class.from_pretrained(self.path, config=config, **where, **arguments)
        tokenizer = AutoTokenizer.from_pretrained(self.path, config=model.config, **where, **(processor_kwargs or {}))
        if transformer.do_lower_case:
            _lower_case(tokenizer)
        return model, tokenizer


class SentenceModel:
    """A transformer, its tokenizer, prompts, and the number of tokens after which a text is cut."""

    _model: Any
    tokenizer: Any
    prompts: dict[str, str]
    default_prompt_name: str | None
    _max_seq_length: int

    def _set_prompts(
        self, names: tuple[str, ...], saved: dict[str, Any], prompts: dict[str, str] | None, default: str | None
    ) -> None:
        """names: those that always exist, empty if nothing else is said."""
        merged = {**dict.fromkeys(names), **(saved.get("prompts") or {}), **(prompts or {})}
        self.prompts = {name: text or "" for name, text in merged.items()}
        self.default_prompt_name = default or saved.get("default_prompt_name")
        if self.default_prompt_name is not None:
            self._prompt(self.default_prompt_name, None)

    def _prompt(self, name: str | None, prompt: str | None) -> str:
        if prompt is not None:
            return prompt
        name = name or self.default_prompt_name
        if name is None:
            return ""
        if name not in self.prompts:
            raise ValueError(f"prompt_name={name!r} is none of the prompts {sorted(self.prompts)}")
        return self.prompts[name]

    def _positions(self) -> int | None:
        """How many tokens the model has positions for; None if any number."""
        positions = getattr(self._model.config, "max_position_embeddings", None)
        return positions if isinstance(positions, int) and positions > 0 else None

    def _longest(self) -> int:
        return int(min(self.tokenizer.model_max_length, self._positions() or self.tokenizer.model_max_length))

    def get_max_seq_length(self) -> int:
        """The number of tokens after which a text is cut."""
        return self.max_seq_length

    @property
    def max_seq_length(self) -> int:
        """The number of tokens, special ones included, after which a text is cut."""
        return self._max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        positions = self._positions()
        if not isinstance(value, int) or not 1 <= value <= (positions or value):
            allowed = f"an integer from 1 to {positions}" if positions else "a positive integer"
            raise InputError(f"max_seq_length={value!r}: {allowed} is needed")
        self._max_seq_length = self.tokenizer.model_max_length = value

    @property
    def device(self) -> str:
        """Always "cpu"."""
        return "cpu"


def check_constructor(device: object, backend: str, trust_remote_code: bool, modules: object) -> None:
    """Arguments of which there is but one value here."""
    _check_device(device)
    if backend != "torch":
        raise NotImplementedError(f"backend={backend!r}: ferroformer computes by itself; leave it at its default, 'torch'")
    if trust_remote_code:
        raise NotImplementedError("trust_remote_code=True: ferroformer never runs code from a checkpoint")
    if modules is not None:
        raise NotImplementedError("modules=: a model is made of the files of a directory, not of modules")


def check_call(unknown: dict[str, Any], batch_size: int, tensor: bool, device: object, name: str) -> None:
    """Arguments of `encode` and `predict`."""
    for argument in ("pool", "chunk_size"):
        if unknown.pop(argument, None) is not None:
            raise NotImplementedError(f"{argument}=: there are no pools of processes; one call uses all cores")
    if unknown:
        raise ValueError(f"{name}() has no argument {', '.join(sorted(unknown))}")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: at least 1 is needed")
    if tensor:
        raise NotImplementedError("convert_to_tensor=True needs torch; the result is a numpy array")
    _check_device(device)


def progress(steps: range, wanted: bool | None) -> Any:
    """The steps, with a bar if one is wanted; unasked, on a terminal, once it has taken a second."""
    if not wanted and (wanted is False or len(steps) < 2):
        return steps
    from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

    how = {"delay": 0} if wanted else {"delay": 1, "disable": None}
    return tqdm(steps, desc="Batches", **how)


def _lower_case(tokenizer: Any) -> None:
    """Have it lower texts before all else, but for the special tokens in them."""
    import json

    from ._native import Tokenizer

    description = json.loads(tokenizer.backend_tokenizer.to_json())
    normalizer = description.get("normalizer") or {"type": "Sequence", "normalizers": []}
    parts = normalizer["normalizers"] if normalizer["type"] == "Sequence" else [normalizer]
    if not any(part["type"] == "Lowercase" or part.get("lowercase") for part in parts):
        description["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, *parts]}
        tokenizer._tokenizer = Tokenizer(json.dumps(description))


def _check_device(device: object) -> None:
    if device not in (None, "cpu"):
        raise ValueError(f"device={device!r}: models run on the CPU; allowed are None and 'cpu'")


def _full_name(name_or_path: str | os.PathLike[str], organization: str) -> str | os.PathLike[str]:
    name = str(name_or_path)
    if os.path.exists(os.path.expanduser(name)) or "/" in name or os.sep in name or name in _BARE_NAMES:
        return name_or_path
    return f"{organization}/{name}"
