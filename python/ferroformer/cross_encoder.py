"""`CrossEncoder`: pairs of texts in, a score or some for each pair out, as in sentence-transformers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .activation_functions import activation, softmax, torch_name
from .errors import InputError
from .sentence_base import SentenceModel, Source, check_call, check_constructor, progress
from .sentence_modules import Transformer, read_modules, read_settings, read_transformer, write_modules

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["CrossEncoder"]

Activation = Callable[[Any], Any] | str


class CrossEncoder(SentenceModel):
    """A reranker or classifier of pairs of texts, read from a directory or the hub: a model for sequence classification.

    num_labels: the number of scores of a pair; None: what the checkpoint says, 1 if it is of another kind of model.
    max_length: the number of tokens after which a pair is cut, its longer text first; None: the tokenizer's.
    activation_fn: from logits (1, L) to scores, a function or the name of one ("sigmoid", "identity", ..); None: what the
    checkpoint says, else sigmoid for one label, and for several the logits as they are.
    Other arguments as those of `SentenceTransformer`. A prompt is put before the first text of each pair.

    Raises what `AutoModelForSequenceClassification.from_pretrained` does, and NotImplementedError for modules after the
    transformer, other backends and code from checkpoints.
    """

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str],
        num_labels: int | None = None,
        max_length: int | None = None,
        activation_fn: Activation | None = None,
        device: str | None = None,
        *,
        modules: None = None,
        prompts: dict[str, str] | None = None,
        default_prompt_name: str | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        model_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        tokenizer_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        backend: str = "torch",
    ) -> None:
        from .models.auto import AutoModelForSequenceClassification

        check_constructor(device, backend, trust_remote_code, modules)
        source = Source.of(model_name_or_path, "cross-encoder", cache_folder, local_files_only, revision, token)
        transformer, settings = _read_files(source)
        labels = {} if num_labels is None else {"num_labels": num_labels}
        self._model, self.tokenizer = source.load(
            AutoModelForSequenceClassification,
            transformer,
            model_kwargs,
            processor_kwargs or tokenizer_kwargs,
            {**(config_kwargs or {}), **labels},
            _one_label if "num_labels" not in {**(config_kwargs or {}), **labels} else None,
        )
        self._set_prompts((), settings, prompts, default_prompt_name)
        self.max_seq_length = _first(max_length, transformer.max_seq_length, self._longest())
        # from logits to scores
        self.activation_fn = self._activation(_first(activation_fn, settings.get("activation_fn"), *self._named_in_config()))

    def _named_in_config(self) -> tuple[Any, Any]:
        """What version 4 of sentence-transformers wrote into config.json, and what earlier ones did."""
        own = getattr(self.config, "sentence_transformers", None)
        named = own.get("activation_fn") if isinstance(own, dict) else None
        return named, getattr(self.config, "sbert_ce_default_activation_function", None)

    def _activation(self, wanted: Any) -> Callable[[Any], Any]:
        if wanted is None:
            wanted = "Sigmoid" if self.num_labels == 1 else "Identity"
        if type(wanted).__module__.startswith("torch."):  # torch's own are known by name
            wanted = f"{type(wanted).__module__}.{type(wanted).__name__}"
        if isinstance(wanted, str):
            return activation(wanted, f"activation_fn of {self._model.name_or_path!r}")
        if callable(wanted):
            return wanted  # type: ignore[no-any-return]
        raise TypeError(f"activation_fn={wanted!r:.200}: a function of an array, or the name of one, is needed")

    # --- predict ------------------------------------------------------------------------------
    def predict(
        self,
        sentences: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Activation | None = None,
        apply_softmax: bool | None = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """The scores of N pairs of texts: float32 (N,) where there is one label, else (N, L); of one pair, a number or (L,).

        apply_softmax: after the activation, where there are several labels. convert_to_numpy=False: a list.
        A pair's scores do not depend on the others, nor on batch_size, which bounds the memory in use.
        show_progress_bar=None: a bar on a terminal, once the work has taken a second.

        Raises TypeError (what is not a pair of texts), ValueError (batch_size, unknown arguments or prompts), NotImplementedError
        (tensors, pools of processes).
        """
        import numpy as np

        sentences = kwargs.pop("inputs", sentences)
        activation_fn = kwargs.pop("activation_fct", activation_fn)
        kwargs.pop("num_workers", None)
        check_call(kwargs, batch_size, convert_to_tensor, device, "predict")
        alone = _is_pair(sentences)
        pairs = _checked_pairs([sentences] if alone else sentences)
        before = self._prompt(prompt_name, prompt)
        function = self.activation_fn if activation_fn is None else self._activation(activation_fn)
        scores = np.empty((len(pairs), self.num_labels), np.float32)
        order = np.argsort([-len(first) - len(second) for first, second in pairs], kind="stable")
        for start in progress(range(0, len(pairs), batch_size), show_progress_bar):
            rows = order[start : start + batch_size]
            for row, logits in zip(rows, self._logits([pairs[row] for row in rows], before)):
                # one pair at a time: numpy promises no function the same bits for a number wherever it stands
                scored = np.asarray(function(logits[None]))
                scores[row] = softmax(scored) if apply_softmax and self.num_labels > 1 else scored
        answer: Any = scores[:, 0] if self.num_labels == 1 else scores
        if alone:
            return answer[0]
        if not len(pairs):
            answer = np.empty(0, np.float32)
        return answer if convert_to_numpy else list(answer)

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Activation | None = None,
        device: str | None = None,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """The documents by falling score of (query, document), the first top_k of them: dicts of "corpus_id" and "score".

        return_documents: "text" too. Documents of the same score stand in their order.
        Raises ValueError if the model has several labels, and what `predict` does.
        """
        if self.num_labels != 1:
            raise InputError(f"rank() needs a model with one label, this one has {self.num_labels}: predict() takes pairs of texts")
        for argument in ("apply_softmax", "convert_to_numpy", "convert_to_tensor"):  # without effect, as for a long time
            kwargs.pop(argument, None)
        documents = list(documents)
        pairs = [(query, document) for document in documents]
        scores = self.predict(pairs, prompt_name, prompt, batch_size, show_progress_bar, activation_fn, device=device, **kwargs)
        results: list[dict[str, Any]] = [{"corpus_id": i, "score": score} for i, score in enumerate(scores.tolist())]
        if return_documents:
            results = [{**result, "text": document} for result, document in zip(results, documents)]
        return sorted(results, key=lambda result: -result["score"])[:top_k]

    def _logits(self, pairs: list[tuple[str, str]], prompt: str) -> NDArray[np.float32]:
        """(B, L)."""
        firsts, seconds = [prompt + first for first, _ in pairs], [second for _, second in pairs]
        batch = self.tokenizer(
            firsts, seconds, padding=True, truncation=True, max_length=self.max_seq_length, return_tensors="np"
        )
        logits: NDArray[np.float32] = self._model(**batch, return_dict=True).logits
        return logits

    # --- save ---------------------------------------------------------------------------------
    def save_pretrained(self, path: str | os.PathLike[str], *, packed: bool = False) -> None:
        """Write model, tokenizer and the files of sentence-transformers; `packed` as in the model's method.

        Raises NotImplementedError for an activation_fn of one's own, which has no name.
        """
        name = torch_name(self.activation_fn)
        if name is None:
            raise NotImplementedError(f"activation_fn={self.activation_fn!r} has no name to be saved under; one of torch.nn's has")
        self.config.sentence_transformers = {"activation_fn": name}
        self._model.save_pretrained(path, packed=packed)
        self.tokenizer.save_pretrained(path)
        settings = {"model_type": "CrossEncoder", "prompts": self.prompts, "default_prompt_name": self.default_prompt_name}
        contents = {
            "config_sentence_transformers.json": {**settings, "activation_fn": name},
            "sentence_bert_config.json": {"transformer_task": "sequence-classification", "max_seq_length": self.max_seq_length},
        }
        write_modules(path, ["Transformer"], contents)

    save = save_pretrained

    # --- what it is ---------------------------------------------------------------------------
    @property
    def model(self) -> Any:
        """The model for sequence classification."""
        return self._model

    @property
    def config(self) -> Any:
        """The model's configuration."""
        return self._model.config

    @property
    def num_labels(self) -> int:
        """The number of scores of a pair."""
        return int(self.config.num_labels)

    @property
    def max_length(self) -> int:
        """Another name of `max_seq_length`."""
        return self.max_seq_length

    @max_length.setter
    def max_length(self, value: int) -> None:
        self.max_seq_length = value

    def __repr__(self) -> str:
        return f"CrossEncoder({self._model.name_or_path!r}, {self.num_labels} labels)"


def _read_files(source: Source) -> tuple[Transformer, dict[str, Any]]:
    """The transformer's settings and the model's; a directory without modules.json is a model of transformers."""
    modules = read_modules(source.path, **source.where)
    if modules is None:
        return Transformer(), {}
    kinds = [kind for kind, _ in modules]
    if kinds != ["Transformer"]:
        raise NotImplementedError(
            f"modules.json of {str(source.path)!r}: the modules {', '.join(kinds)} are no CrossEncoder that is supported, "
            "which is a Transformer alone"
        )
    settings = read_settings(source.path, "CrossEncoder", **source.where)
    return read_transformer(source.path, modules[0][1], "sequence-classification", **source.where), settings


def _one_label(config: Any) -> None:
    """A checkpoint that is no classifier gets one label."""
    if not any(name.endswith("ForSequenceClassification") for name in config.architectures or ()):
        config.num_labels = 1


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _is_pair(sentences: Any) -> bool:
    """Whether it is a pair itself, not a list of pairs."""
    try:
        return len(sentences) > 0 and isinstance(sentences[0], str)
    except (TypeError, KeyError):
        return False


def _checked_pairs(pairs: Any) -> list[tuple[str, str]]:
    if pairs is None or isinstance(pairs, str):
        raise TypeError(f"{pairs!r:.100}: a pair of texts, or a list of pairs, is needed")
    listed = [tuple(pair) if not isinstance(pair, str) else (pair,) for pair in pairs]
    for i, pair in enumerate(listed):
        if len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise TypeError(f"pair {i} is {pair!r:.100}: two texts are needed")
    return listed
