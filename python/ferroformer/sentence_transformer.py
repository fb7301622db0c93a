"""`SentenceTransformer`: texts in, one vector per text out, as in sentence-transformers.

A call goes texts -> token ids (all texts at once) -> batches of similar length -> the compiled core, which pools and
normalises. Nothing is padded: a batch is its tokens end to end, and the length of each text.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .hub import HUB_ARGUMENTS
from .sentence_fit import Fit
from .sentence_modules import SIMILARITIES, read_sentence_files, write_sentence_files
from .sentence_similarity import all_pairs, as_rows, normalize, row_by_row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SentenceTransformer"]

# Bare names that are models of transformers' first years; all others belong to sentence-transformers on the hub.
_BARE_NAMES = {
    f"bert-{rest}"
    for rest in (
        "base-uncased base-cased large-uncased large-cased base-chinese base-german-cased "
        "base-multilingual-cased base-multilingual-uncased large-uncased-whole-word-masking "
        "large-cased-whole-word-masking base-cased-finetuned-mrpc"
    ).split()
}


# Enough for all threads to be busy to the end, few enough for the progress bar to move.
_TEXTS_AT_A_TIME = 512


class _Transformer:
    """`model[0]`: the module that turns ids into token vectors."""

    def __init__(self, auto_model: Any, tokenizer: Any) -> None:
        self.auto_model = auto_model
        self.tokenizer = tokenizer


class SentenceTransformer(Fit):
    """An embedding model read from a directory or the hub.

    prompts: names -> texts put before an input; default_prompt_name: the one that `encode` uses unasked.
    device: None or "cpu". truncate_dim: keep the first so many numbers of each vector.
    similarity_fn_name: "cosine" (default), "dot", "euclidean" or "manhattan".
    cache_folder, revision, token, local_files_only: for the hub; the environment's SENTENCE_TRANSFORMERS_HOME is
    the default cache_folder. model_kwargs: further arguments of the model's `from_pretrained`.

    Raises what `AutoModel.from_pretrained` does, and NotImplementedError for modules other than Transformer,
    Pooling and Normalize.
    """

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str],
        *,
        device: str | None = None,
        prompts: dict[str, str] | None = None,
        default_prompt_name: str | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        model_kwargs: dict[str, Any] | None = None,
        similarity_fn_name: str | None = None,
        truncate_dim: int | None = None,
    ) -> None:
        from .models.auto import AutoModel
        from .models.auto_tokenizer import AutoTokenizer

        if device not in (None, "cpu"):
            raise ValueError(f"device={device!r}: models run on the CPU; allowed are None and 'cpu'")
        cache = cache_folder or os.environ.get("SENTENCE_TRANSFORMERS_HOME")
        where: dict[str, Any] = dict(zip(HUB_ARGUMENTS, (cache, False, local_files_only, revision, token), strict=True))
        path = _full_name(model_name_or_path)
        self._files = read_sentence_files(path, **where)
        where["subfolder"] = self._files.transformer_folder
        self._model = AutoModel.from_pretrained(path, add_pooling_layer=False, **where, **(model_kwargs or {}))
        self.tokenizer = AutoTokenizer.from_pretrained(path, config=self._model.config, **where)
        settings = self._files.settings
        # both names always exist, so that encode_query and encode_document never fall back to the default prompt
        self.prompts: dict[str, str] = {"query": "", "document": ""} | (settings.get("prompts") or {}) | (prompts or {})
        self.default_prompt_name = default_prompt_name or settings.get("default_prompt_name")
        if self.default_prompt_name is not None:
            self._prompt(self.default_prompt_name, None)
        self.similarity_fn_name = similarity_fn_name or settings.get("similarity_fn_name") or "cosine"
        self.truncate_dim = truncate_dim or settings.get("truncate_dim")
        self.max_seq_length = self._files.max_seq_length or self._longest()

    def _longest(self) -> int:
        return int(min(self.tokenizer.model_max_length, self._model.config.max_position_embeddings))

    # --- encode -------------------------------------------------------------------------------
    def encode(
        self,
        sentences: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: str = "sentence_embedding",
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
        output_value="token_embeddings": instead an array (T, H) for each text, of its last hidden states.
        convert_to_numpy=False: a list of N arrays (H,).
        The vectors are truncated first and normalised (`normalize_embeddings`) then. A text's vector does not
        depend on the others, nor on batch_size, which is the step of the progress bar and bounds the padded arrays of
        token_embeddings: vectors are computed without padding, in parts that the core chooses.
        show_progress_bar=None: a bar on a terminal, once the work has taken a second.

        Raises ValueError (batch_size, unknown arguments or prompts), TypeError (texts that are no str),
        NotImplementedError (tensors, precisions other than float32).
        """
        sentences = kwargs.pop("inputs", sentences)
        _check_options(kwargs, batch_size, output_value, precision, convert_to_tensor, device)
        texts = [sentences] if isinstance(sentences, str) else _as_list(sentences)
        padded = output_value == "token_embeddings"
        step = batch_size if padded or show_progress_bar else max(batch_size, _TEXTS_AT_A_TIME)
        batches = self._batches(texts, self._prompt(prompt_name, prompt), step, show_progress_bar)
        if padded:
            rows: Any = self._token_embeddings(batches, len(texts))
        else:
            rows = self._embeddings(batches, len(texts), normalize_embeddings, truncate_dim or self.truncate_dim)
            rows = rows if convert_to_numpy else list(rows)
        return rows[0] if isinstance(sentences, str) else rows

    def encode_query(self, sentences: Any, **kwargs: Any) -> Any:
        """`encode` with the prompt "query"."""
        return self._encode_as(("query",), sentences, kwargs)

    def encode_document(self, sentences: Any, **kwargs: Any) -> Any:
        """`encode` with the first prompt there is of "document", "passage" and "corpus"."""
        return self._encode_as(("document", "passage", "corpus"), sentences, kwargs)

    def _encode_as(self, names: tuple[str, ...], sentences: Any, kwargs: dict[str, Any]) -> Any:
        if kwargs.get("prompt_name") is None and kwargs.get("prompt") is None:
            kwargs["prompt_name"] = next((name for name in names if name in self.prompts), None)
        return self.encode(sentences, **kwargs)

    def _prompt(self, name: str | None, prompt: str | None) -> str:
        if prompt is not None:
            return prompt
        name = name or self.default_prompt_name
        if name is None:
            return ""
        if name not in self.prompts:
            raise ValueError(f"prompt_name={name!r} is none of the prompts {sorted(self.prompts)}")
        return self.prompts[name]

    def _batches(self, texts: list[str], prompt: str, step: int, progress: bool | None) -> Any:
        """Yield (row numbers, ids end to end, lengths, tokens of the prompt), the longest texts first."""
        import numpy as np

        ids, lengths = self._encode_ids([prompt + text for text in texts])
        starts = np.cumsum(lengths) - lengths
        skip = self._prompt_tokens(prompt)
        order = np.argsort(-lengths, kind="stable")
        for first in _progress(range(0, len(texts), step), progress):
            rows = order[first : first + step]
            pieces = [ids[starts[row] : starts[row] + lengths[row]] for row in rows]
            yield rows, np.concatenate(pieces), lengths[rows], None if skip is None else np.full(len(rows), skip)

    def _encode_ids(self, texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if self._files.do_lower_case:
            texts = [text.lower() for text in texts]
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
        result = np.empty((count, self._width), np.float32)
        in_core = self._files.normalize or (normalized and dim is None)
        for rows, ids, lengths, skip in batches:
            result[rows] = self._model.core.embed(ids, None, lengths, skip, self._files.pooling.modes, in_core)
        if dim is None:
            return result
        result = np.ascontiguousarray(result[:, :dim])
        return normalize(result) if normalized else result

    def _token_embeddings(self, batches: Any, count: int) -> list[NDArray[np.float32]]:
        import numpy as np

        result: list[Any] = [None] * count
        for rows, ids, lengths, _ in batches:
            mask = np.arange(lengths.max()) < lengths[:, None]
            padded = np.zeros(mask.shape, np.int64)
            padded[mask] = ids
            hidden = self._model(input_ids=padded, attention_mask=mask, return_dict=True).last_hidden_state
            for row, states, length in zip(rows, hidden, lengths):
                result[row] = states[:length].copy()
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

    def similarity(self, embeddings1: Any, embeddings2: Any) -> NDArray[np.float32]:
        """(N, H) and (M, H) -> (N, M); distances are negative, so that larger is more similar."""
        return all_pairs(self.similarity_fn_name)(as_rows(embeddings1), as_rows(embeddings2))

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> NDArray[np.float32]:
        """(N, H) and (N, H) -> (N,)."""
        return row_by_row(self.similarity_fn_name)(as_rows(embeddings1), as_rows(embeddings2))

    # --- save ---------------------------------------------------------------------------------
    def save_pretrained(self, path: str | os.PathLike[str], *, packed: bool = False) -> None:
        """Write model, tokenizer and the files of sentence-transformers; `packed` as in the model's method."""
        self._model.save_pretrained(path, packed=packed)
        self.tokenizer.save_pretrained(path)
        settings = {
            "prompts": self.prompts,
            "default_prompt_name": self.default_prompt_name,
            "similarity_fn_name": self.similarity_fn_name,
            "truncate_dim": self.truncate_dim,
        }
        files = self._files._replace(
            max_seq_length=self.max_seq_length, settings=self._files.settings | settings
        )
        write_sentence_files(path, files, self._model.config.hidden_size)

    save = save_pretrained

    # --- what it is ---------------------------------------------------------------------------
    @property
    def _width(self) -> int:
        return int(self._model.config.hidden_size) * len(self._files.pooling.modes)

    def get_embedding_dimension(self) -> int:
        """The length of a vector."""
        return min(self.truncate_dim or self._width, self._width)

    get_sentence_embedding_dimension = get_embedding_dimension

    def get_max_seq_length(self) -> int:
        """The number of tokens after which a text is cut."""
        return self.max_seq_length

    @property
    def max_seq_length(self) -> int:
        """The number of tokens, special ones included, after which a text is cut."""
        return self._max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        positions = self._model.config.max_position_embeddings
        if not isinstance(value, int) or not 1 <= value <= positions:
            raise InputError(f"max_seq_length={value!r}: an integer from 1 to {positions} is needed")
        self._max_seq_length = value

    @property
    def device(self) -> str:
        """Always "cpu"."""
        return "cpu"

    def __getitem__(self, index: int) -> Any:
        modules = (_Transformer(self._model, self.tokenizer), self._files.pooling)
        return modules[index]

    def __repr__(self) -> str:
        pooling = "+".join(self._files.pooling.modes)
        return f"SentenceTransformer({self._model.name_or_path!r}, {self._width} dimensions, {pooling} pooling)"


def _full_name(name_or_path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    name = str(name_or_path)
    if os.path.exists(os.path.expanduser(name)) or "/" in name or os.sep in name or name in _BARE_NAMES:
        return name_or_path
    return f"sentence-transformers/{name}"


def _as_list(sentences: Any) -> list[Any]:
    if sentences is None:
        raise TypeError("encode() needs the texts to encode")
    return list(sentences)


def _check_options(
    unknown: dict[str, Any], batch_size: int, output_value: Any, precision: str, tensor: bool, device: Any
) -> None:
    if unknown:
        raise ValueError(f"encode() has no argument {', '.join(sorted(unknown))}")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: at least 1 is needed")
    if output_value not in ("sentence_embedding", "token_embeddings"):
        raise NotImplementedError(f"output_value={output_value!r}: 'sentence_embedding' or 'token_embeddings'")
    if precision != "float32":
        raise NotImplementedError(f"precision={precision!r}: only 'float32' is supported")
    if tensor:
        raise NotImplementedError("convert_to_tensor=True needs torch; the result is a numpy array")
    if device not in (None, "cpu"):
        raise ValueError(f"device={device!r}: models run on the CPU; allowed are None and 'cpu'")


def _progress(steps: range, wanted: bool | None) -> Any:
    """The steps, with a bar if one is wanted; unasked, on a terminal, once it has taken a second."""
    if not wanted and (wanted is False or len(steps) < 2):
        return steps
    from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

    how = {"delay": 0} if wanted else {"delay": 1, "disable": None}
    return tqdm(steps, desc="Batches", **how)
