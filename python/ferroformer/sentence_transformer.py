"""`SentenceTransformer`: texts in, one vector per text out, as in sentence-transformers.

A call goes texts -> token ids (all texts at once) -> batches of similar length -> the compiled core, which pools and
normalises -> the modules after these, vector by vector. Nothing is padded: a batch is its tokens end to end, and the length of each
text.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .sentence_base import SentenceModel, Source, check_call, check_constructor, progress
from .sentence_fit import Fit
from .sentence_modules import Normalize, pooling_settings, read_sentence_files, write_modules
from .sentence_similarity import SIMILARITIES, all_pairs, normalize_embeddings, row_by_row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .sentence_dense import Dense

__all__ = ["SentenceTransformer"]

# Enough for all threads to be busy to the end, few enough for the progress bar to move.
_TEXTS_AT_A_TIME = 512


class _Transformer:
    """`model[0]`: the module that turns ids into token vectors."""

    def __init__(self, auto_model: Any, tokenizer: Any) -> None:
        self.auto_model = auto_model
        self.tokenizer = tokenizer


class SentenceTransformer(SentenceModel, Fit):
    """An embedding model read from a directory or the hub.

    prompts: names -> texts put before an input; default_prompt_name: the one that `encode` uses unasked.
    device: None or "cpu". truncate_dim: keep the first so many numbers of each vector.
    similarity_fn_name: "cosine" (default), "dot", "euclidean" or "manhattan".
    cache_folder, revision, token, local_files_only: for the hub; the environment's SENTENCE_TRANSFORMERS_HOME is
    the default cache_folder. model_kwargs, processor_kwargs (also tokenizer_kwargs), config_kwargs: further arguments of the
    `from_pretrained` of the model, its tokenizer and its configuration.

    Raises what `AutoModel.from_pretrained` does, and NotImplementedError for modules other than Transformer,
    Pooling, Dense and Normalize, for other backends and for code from checkpoints.
    """

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str],
        *,
        modules: None = None,
        device: str | None = None,
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
        similarity_fn_name: str | None = None,
        truncate_dim: int | None = None,
    ) -> None:
        from .models.auto import AutoModel

        check_constructor(device, backend, trust_remote_code, modules)
        hub = (cache_folder, local_files_only, revision, token)
        source = Source.of(model_name_or_path, "sentence-transformers", *hub)
        self._files = files = read_sentence_files(source.path, **source.where)
        processing = processor_kwargs or tokenizer_kwargs
        self._model, self.tokenizer = source.load(AutoModel, files.transformer, model_kwargs, processing, config_kwargs)
        self._later = self._read_later(source)
        # both names always exist, so that encode_query and encode_document never fall back to the default prompt
        self._set_prompts(("query", "document"), files.settings, prompts, default_prompt_name)
        self.similarity_fn_name = similarity_fn_name or files.settings.get("similarity_fn_name") or "cosine"
        self.truncate_dim: int | None = _checked_dim(files.settings.get("truncate_dim") if truncate_dim is None else truncate_dim)
        self.max_seq_length = files.transformer.max_seq_length or self._longest()

    def _read_later(self, source: Source) -> list[Normalize | Dense]:
        """The modules after the pooling."""
        later: list[Normalize | Dense] = []
        width = self._pooled_width
        for kind, folder in self._files.later:
            if kind == "Normalize":
                later.append(Normalize())
            else:
                from .sentence_dense import read_dense

                later.append(dense := read_dense(source.path, folder, width, **source.where))
                width = dense.width
        return later

    # --- encode -------------------------------------------------------------------------------
    def encode(
        self,
        sentences: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: str | None = "sentence_embedding",
        precision: str = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Embed a text (float32 array (H,)) or a list of N texts (float32 array (N, H); for none, shape (0,)).

        prompt, or the text that prompt_name names, is put before each text.
        output_value="token_embeddings": instead an array (T, H) for each text, of its last hidden states; None: a dict for each
        text of "input_ids", "attention_mask" (T,), "token_embeddings" (T, H) and "sentence_embedding" (H,).
        precision: of the vectors, see `util.quantize_embeddings`; the ranges of "int8" and "uint8" are those of these very vectors.
        convert_to_numpy=False: a list of N arrays (H,).
        The vectors are truncated first and normalised (`normalize_embeddings`) then. A text's vector does not
        depend on the others, nor on batch_size, which is the step of the progress bar and bounds the padded arrays of
        token vectors: vectors are computed without padding, in parts that the core chooses.
        show_progress_bar=None: a bar on a terminal, once the work has taken a second.

        Raises ValueError (batch_size, precision, unknown arguments or prompts), TypeError (texts that are no str),
        NotImplementedError (tensors, pools of processes).
        """
        from .sentence_quantization import PRECISIONS, quantize_embeddings

        sentences = kwargs.pop("inputs", sentences)
        check_call(kwargs, batch_size, convert_to_tensor, device, "encode")
        _check_output(output_value, precision, PRECISIONS)
        texts = [sentences] if isinstance(sentences, str) else _as_list(sentences)
        dim = _checked_dim(self.truncate_dim if truncate_dim is None else truncate_dim)
        padded = output_value != "sentence_embedding"
        step = batch_size if padded or show_progress_bar else max(batch_size, _TEXTS_AT_A_TIME)
        batches = self._batches(texts, self._prompt(prompt_name, prompt), step, show_progress_bar)
        if padded:
            rows: Any = self._token_embeddings(batches, len(texts), dim, output_value is None)
        else:
            rows = self._embeddings(batches, len(texts), normalize_embeddings, dim)
        if precision != "float32" and len(texts):
            rows = quantize_embeddings(rows, precision)
        if isinstance(sentences, str):
            return rows[0]
        return rows if convert_to_numpy or padded else list(rows)

    def encode_query(
        self, sentences: Any = None, prompt_name: str | None = None, prompt: str | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """`encode` with the prompt "query"."""
        return self.encode(sentences, self._first_prompt(prompt_name, prompt, "query"), prompt, *args, **kwargs)

    def encode_document(
        self, sentences: Any = None, prompt_name: str | None = None, prompt: str | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """`encode` with the first prompt there is of "document", "passage" and "corpus"; "document" always is, perhaps empty."""
        name = self._first_prompt(prompt_name, prompt, "document", "passage", "corpus")
        return self.encode(sentences, name, prompt, *args, **kwargs)

    def _first_prompt(self, prompt_name: str | None, prompt: str | None, *names: str) -> str | None:
        if prompt_name is not None or prompt is not None:
            return prompt_name
        return next((name for name in names if name in self.prompts), None)

    def _batches(self, texts: list[str], prompt: str, step: int, bar: bool | None) -> Iterator[Any]:
        """Yield (row numbers, ids end to end, lengths, tokens of the prompt), the longest texts first."""
        import numpy as np

        ids, lengths = self._encode_ids([prompt + text for text in texts])
        starts = np.cumsum(lengths) - lengths
        skip = self._prompt_tokens(prompt)
        order = np.argsort(-lengths, kind="stable")
        for first in progress(range(0, len(texts), step), bar):
            rows = order[first : first + step]
            pieces = [ids[starts[row] : starts[row] + lengths[row]] for row in rows]
            yield rows, np.concatenate(pieces), lengths[rows], None if skip is None else np.full(len(rows), skip)

    def _encode_ids(self, texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        side = self.tokenizer.truncation_side
        ids, lengths = self.tokenizer.backend_tokenizer.encode_ids(texts, True, self.max_seq_length, side)
        return ids, lengths

    def _prompt_tokens(self, prompt: str) -> int | None:
        """How many tokens to leave out of the pooling, if the model wants the prompt's left out."""
        import numpy as np

        if self._files.pooling.include_prompt or not prompt:
            return None
        ids, _ = self._encode_ids([prompt])
        # the end mark stands after the text, not after the prompt
        return int(len(ids) - np.isin(ids[-1:], self.tokenizer.all_special_ids).sum())

    def _embeddings(self, batches: Any, count: int, normalized: bool, dim: int | None) -> NDArray[np.float32]:
        import numpy as np

        if count == 0:
            return np.empty(0, np.float32)
        result = np.empty((count, min(dim or self._width, self._width)), np.float32)
        for rows, *batch in batches:
            result[rows] = self._vectors(*batch, normalized=normalized, dim=dim)
        return result

    def _vectors(self, ids: Any, lengths: Any, skip: Any, *, normalized: bool, dim: int | None) -> Any:
        """Of one batch. The core normalises what it has pooled; numpy, what has been changed since."""
        import numpy as np

        whole = dim is None or dim >= self._width
        in_core = isinstance(self._later[0], Normalize) if self._later else normalized and whole
        vectors: Any = self._model.core.embed(ids, None, lengths, skip, self._files.pooling.modes, in_core)
        for module in self._later[in_core:]:
            vectors = normalize_embeddings(vectors) if isinstance(module, Normalize) else module(vectors)
        if not whole:
            vectors = np.ascontiguousarray(vectors[:, :dim])
        done = whole and (isinstance(self._later[-1], Normalize) if self._later else in_core)
        return normalize_embeddings(vectors) if normalized and not done else vectors

    def _token_embeddings(self, batches: Any, count: int, dim: int | None, everything: bool) -> list[Any]:
        import numpy as np

        result: list[Any] = [None] * count
        for rows, ids, lengths, skip in batches:
            mask = np.arange(lengths.max()) < lengths[:, None]
            padded = np.zeros(mask.shape, np.int64)
            padded[mask] = ids
            hidden = self._model(input_ids=padded, attention_mask=mask, return_dict=True).last_hidden_state
            vectors = self._vectors(ids, lengths, skip, normalized=False, dim=dim) if everything else None
            for i, (row, length) in enumerate(zip(rows, lengths)):
                states = hidden[i, :length].copy()
                result[row] = states if vectors is None else _features(padded[i, :length], states, vectors[i])
        return result

    def tokenize(self, texts: list[str]) -> Any:
        """The tokenizer's output for these texts, padded, truncated to `max_seq_length`; numpy arrays (N, T)."""
        return self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_seq_length, return_tensors="np"
        )

    # --- similarity ---------------------------------------------------------------------------
    @property
    def similarity_fn_name(self) -> str:
        """The similarity function: "cosine", "dot", "euclidean" or "manhattan"."""
        return self._similarity_fn_name

    @similarity_fn_name.setter
    def similarity_fn_name(self, name: str) -> None:
        if name not in SIMILARITIES:
            raise ValueError(f"similarity_fn_name={name!r}: one of {', '.join(SIMILARITIES)} is needed")
        self._similarity_fn_name = name

    def similarity(self, embeddings1: Any, embeddings2: Any) -> NDArray[np.floating[Any]]:
        """(N, H) and (M, H) -> (N, M); distances are negative, so that larger is more similar."""
        return all_pairs(self.similarity_fn_name)(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> NDArray[np.floating[Any]]:
        """(N, H) and (N, H) -> (N,)."""
        return row_by_row(self.similarity_fn_name)(embeddings1, embeddings2)

    # --- save ---------------------------------------------------------------------------------
    def save_pretrained(self, path: str | os.PathLike[str], *, packed: bool = False) -> None:
        """Write model, tokenizer and the files of sentence-transformers; `packed` as in the model's method."""
        self._model.save_pretrained(path, packed=packed)
        self.tokenizer.save_pretrained(path)
        settings = {
            "model_type": "SentenceTransformer",
            "prompts": self.prompts,
            "default_prompt_name": self.default_prompt_name,
            "similarity_fn_name": self.similarity_fn_name,
            "truncate_dim": self.truncate_dim,
        }
        limits = {"max_seq_length": self.max_seq_length, "do_lower_case": self._files.transformer.do_lower_case}
        contents = {
            "config_sentence_transformers.json": self._files.settings | settings,
            "sentence_bert_config.json": limits,
            os.path.join("1_Pooling", "config.json"): pooling_settings(self._files.pooling, self._model.config.hidden_size),
        }
        kinds = ["Transformer", "Pooling", *(type(module).__name__ for module in self._later)]
        folders = write_modules(path, kinds, contents)
        for module, folder in zip(self._later, folders[2:]):
            if not isinstance(module, Normalize):
                from .sentence_dense import write_dense

                write_dense(os.path.join(path, folder), module)

    save = save_pretrained

    # --- what it is ---------------------------------------------------------------------------
    @property
    def _pooled_width(self) -> int:
        return int(self._model.config.hidden_size) * len(self._files.pooling.modes)

    @property
    def _width(self) -> int:
        """Of the vectors before they are truncated."""
        return next((module.width for module in reversed(self._later) if not isinstance(module, Normalize)), self._pooled_width)

    def get_embedding_dimension(self) -> int:
        """The length of a vector."""
        return min(self.truncate_dim or self._width, self._width)

    get_sentence_embedding_dimension = get_embedding_dimension

    @contextmanager
    def truncate_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """In this context vectors are cut to `truncate_dim` numbers; None: not at all."""
        before = self.truncate_dim
        self.truncate_dim = _checked_dim(truncate_dim)
        try:
            yield
        finally:
            self.truncate_dim = before

    truncate_sentence_embeddings = truncate_embeddings

    def set_pooling_include_prompt(self, include_prompt: bool) -> None:
        """Whether the tokens of a prompt are pooled too."""
        self._files = self._files._replace(pooling=self._files.pooling._replace(include_prompt=include_prompt))

    def __len__(self) -> int:
        return 2 + len(self._later)

    def __getitem__(self, index: int) -> Any:
        return [_Transformer(self._model, self.tokenizer), self._files.pooling, *self._later][index]

    def __repr__(self) -> str:
        pooling = "+".join(self._files.pooling.modes)
        return f"SentenceTransformer({self._model.name_or_path!r}, {self._width} dimensions, {pooling} pooling)"


def _as_list(sentences: Any) -> list[Any]:
    if sentences is None:
        raise TypeError("encode() needs the texts to encode")
    return list(sentences)


def _check_output(output_value: Any, precision: str, precisions: tuple[str, ...]) -> None:
    if output_value not in ("sentence_embedding", "token_embeddings", None):
        raise ValueError(f"output_value={output_value!r}: 'sentence_embedding', 'token_embeddings' or None is needed")
    if precision not in precisions:
        raise ValueError(f"precision={precision!r}: one of {', '.join(precisions)} is needed")
    if output_value is None and precision != "float32":
        raise ValueError(f"precision={precision!r}: output_value=None gives vectors of float32 only")


def _checked_dim(dim: Any) -> Any:
    if dim is None or (isinstance(dim, int) and not isinstance(dim, bool) and dim >= 1):
        return dim
    raise InputError(f"truncate_dim={dim!r}: a positive integer or None is needed")


def _features(ids: Any, states: Any, vector: Any) -> dict[str, Any]:
    """What output_value=None gives of a text."""
    import numpy as np

    masks = np.ones(len(ids), np.int64)
    return {"input_ids": ids.copy(), "attention_mask": masks, "token_embeddings": states, "sentence_embedding": vector}
