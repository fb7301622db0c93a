"""The tokenizer classes' common base: texts -> ids and back."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._native import Tokenizer
from .added_token import AddedToken
from .batch_encoding import BatchEncoding
from .tokenization_chat import ChatTokenizer
from .tokenization_files import (
    TOKENIZER_FILE,
    Description,
    TokenizerFiles,
    read_tokenizer_files,
    write_tokenizer_files,
)
from .tokenization_options import (
    VERY_LARGE_INTEGER,
    PaddingStrategy,
    TensorType,
    check_side,
    resolve_strategies,
)
from .tokenization_padding import Padder, array_kind, as_columns, pad_columns, to_lists
from .tokenization_sections import TemplateItem, template

if TYPE_CHECKING:
    from typing_extensions import Self


class PreTrainedTokenizerBase(ChatTokenizer):
    """What all tokenizers can do. A tokenizer may be used from several threads at once; see `SpecialTokens` about
    adding tokens meanwhile.

    `backend` is the compiled tokenizer; the keyword arguments are those of a `tokenizer_config.json`. Where the backend
    has no post-processor, or they are given, `add_bos_token` and `add_eos_token` say what is put around a text.
    """

    vocab_files_names: dict[str, str] = {"tokenizer_file": "tokenizer.json"}
    is_fast = True

    def __init__(self, backend: Tokenizer, /, *, has_post_processor: bool = True, **kwargs: Any) -> None:
        self._tokenizer = backend
        if "additional_special_tokens" in kwargs and "extra_special_tokens" not in kwargs:
            kwargs["extra_special_tokens"] = kwargs.pop("additional_special_tokens")
        self.init_kwargs = {k: copy.deepcopy(v) for k, v in kwargs.items() if k != "added_tokens_decoder"}
        added = kwargs.pop("added_tokens_decoder", {})
        self.name_or_path: str = kwargs.pop("name_or_path", "")
        self._take_special_tokens(kwargs)
        limit = kwargs.pop("model_max_length", kwargs.pop("max_len", None))
        self.model_max_length: int = VERY_LARGE_INTEGER if limit is None else limit
        self.padding_side = check_side(kwargs.pop("padding_side", self.padding_side), "Padding")
        self.truncation_side = check_side(kwargs.pop("truncation_side", self.truncation_side), "Truncation")
        self.model_input_names = list(kwargs.pop("model_input_names", self.model_input_names))
        self.clean_up_tokenization_spaces: bool = kwargs.pop("clean_up_tokenization_spaces", False)
        self.clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output: bool = kwargs.pop(
            "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", False
        )
        self.split_special_tokens: bool = kwargs.pop("split_special_tokens", False)
        self.chat_template = _chat_template(kwargs.pop("chat_template", None))
        self._warned: set[str] = set()
        self._add_missing_tokens([added[id] for id in sorted(added)])
        self._around = {name: bool(kwargs.get(f"add_{name}", False)) for name in ("bos_token", "eos_token")}
        if not has_post_processor or "add_bos_token" in kwargs or "add_eos_token" in kwargs:
            self._put_around()

    def _add_missing_tokens(self, declared: Any) -> None:
        """Add the tokens that the config files declare, then the special tokens, unless they are there already."""
        known = self.added_tokens_decoder.values()
        unchanged = set(map(repr, known))
        tokens = [token for token in declared if repr(token) not in unchanged]
        contents = {str(token) for token in [*known, *tokens]}
        named = [token for token in self._special_tokens_map.values() if token is not None]
        for token in [*named, *self._extra_special_tokens]:
            if str(token) not in contents:
                contents.add(str(token))
                tokens.append(token if isinstance(token, AddedToken) else AddedToken(token, special=True))
        special = {str(token) for token in named}
        self.add_tokens([token.as_special() if str(token) in special else token for token in tokens])

    # --- loading and saving ---

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str | None = None,
        subfolder: str = "",
        trust_remote_code: bool = False,
        use_fast: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Load a tokenizer from a directory, a hub name or a single vocabulary file.

        Other keyword arguments (`do_lower_case=...`, `pad_token=...`) come before what the files say.
        `trust_remote_code` and `use_fast` are accepted for compatibility and change nothing: no code is ever loaded.
        Raises FileNotFoundError, or TokenizerError (a ValueError) for damaged files.
        """
        hub = {
            "cache_dir": cache_dir,
            "force_download": force_download,
            "local_files_only": local_files_only,
            "token": token,
            "revision": revision,
            "subfolder": subfolder or "",
        }
        files = read_tokenizer_files(pretrained_model_name_or_path, cls.vocab_files_names, kwargs, **hub)
        return cls._from_files(files)

    @classmethod
    def _from_files(cls, files: TokenizerFiles) -> Self:
        raise NotImplementedError

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], *, filename_prefix: str | None = None, **kwargs: Any
    ) -> tuple[str, ...]:
        """Write `tokenizer_config.json`, the chat templates and `tokenizer.json`, or the files of the class where it has
        others; returns their paths."""
        if kwargs.get("push_to_hub"):
            raise ValueError("ferroformer does not upload: save to a directory, then use huggingface_hub")
        current = {name: getattr(self, name, None) for name in self.init_kwargs}
        config = {
            k: v if current[k] is None or callable(current[k]) else current[k] for k, v in self.init_kwargs.items()
        }
        config.update(self.special_tokens_map, model_max_length=self.model_max_length)
        config["tokenizer_class"] = type(self).__name__
        config.pop("chat_template", None)
        config.pop("extra_special_tokens", None)
        if self._extra_special_tokens:
            config["extra_special_tokens"] = self.extra_special_tokens
        return write_tokenizer_files(
            save_directory, filename_prefix, config | self._kept_tokens(), self._contents(), self.chat_template
        )

    def _contents(self) -> dict[str, str | bytes]:
        """The files with the vocabulary, by name."""
        return {TOKENIZER_FILE: self._tokenizer.to_json(pretty=True)}

    def _kept_tokens(self) -> dict[str, Any]:
        """What `tokenizer_config.json` says of added tokens that no other file does."""
        return {}

    # --- what is put around a text ---

    @property
    def add_bos_token(self) -> bool:
        """Whether `bos_token` is put before each text. Setting it replaces the post-processor."""
        return self._around["bos_token"]

    @add_bos_token.setter
    def add_bos_token(self, value: bool) -> None:
        self._around["bos_token"] = value
        self._put_around()

    @property
    def add_eos_token(self) -> bool:
        """Whether `eos_token` is put after each text. Setting it replaces the post-processor."""
        return self._around["eos_token"]

    @add_eos_token.setter
    def add_eos_token(self, value: bool) -> None:
        self._around["eos_token"] = value
        self._put_around()

    def _put_around(self) -> None:
        for name, asked in self._around.items():
            self._around[name] = asked and getattr(self, name) is not None
        bos, eos = ([getattr(self, name)] if asked else [] for name, asked in self._around.items())
        second = [(token, 1) for token in (*bos, "$B", *eos)]
        self._set_template([*bos, "$A", *eos], [*bos, "$A", *eos, *second])

    def _set_template(self, single: Sequence[TemplateItem], pair: Sequence[TemplateItem]) -> None:
        """Make this the post-processor: see `template`."""
        processor = template(single, pair, self.convert_tokens_to_ids)
        self._tokenizer = self._tokenizer.with_post_processor(processor)

    # --- the vocabulary ---

    @property
    def backend_tokenizer(self) -> Tokenizer:
        """The compiled tokenizer, which cannot be changed."""
        return self._tokenizer

    @property
    def vocab_size(self) -> int:
        """Size of the vocabulary without added tokens; `len(tokenizer)` counts them."""
        return self._tokenizer.vocabulary_size(False)

    def __len__(self) -> int:
        return self._tokenizer.vocabulary_size(True)

    def __bool__(self) -> bool:
        return True

    def get_vocab(self) -> dict[str, int]:
        return self._tokenizer.vocabulary(True)

    @property
    def vocab(self) -> dict[str, int]:
        return self.get_vocab()

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        return self._tokenizer.num_special_tokens(pair)

    @property
    def max_len_single_sentence(self) -> int:
        return self.model_max_length - self.num_special_tokens_to_add(pair=False)

    @property
    def max_len_sentences_pair(self) -> int:
        return self.model_max_length - self.num_special_tokens_to_add(pair=True)

    def get_special_tokens_mask(
        self,
        token_ids_0: Sequence[int],
        token_ids_1: Sequence[int] | None = None,
        already_has_special_tokens: bool = False,
    ) -> list[int]:
        """1 for the special tokens among ids that already have them, 0 for the others."""
        if not already_has_special_tokens:
            raise NotImplementedError(
                f"{type(self).__name__} does not implement get_special_tokens_mask for non-formatted sequences; "
                "`return_special_tokens_mask=True` of a call gives their mask"
            )
        if token_ids_1 is not None:
            raise ValueError(
                "You should not supply a second sequence if the provided sequence of ids is already formatted with "
                "special tokens for the model."
            )
        special = set(self.all_special_ids)
        return [int(int(token_id) in special) for token_id in token_ids_0]

    def __repr__(self) -> str:
        added = "\n\t".join(f"{id}: {token!r}," for id, token in self.added_tokens_decoder.items())
        added = f"\n\t{added}\n" if added else ""
        return (
            f"{type(self).__name__}(name_or_path='{self.name_or_path}', vocab_size={self.vocab_size}, "
            f"model_max_length={self.model_max_length}, padding_side='{self.padding_side}', "
            f"truncation_side='{self.truncation_side}', special_tokens={self.special_tokens_map}, "
            f"added_tokens_decoder={{{added}}})"
        )

    def pad(
        self,
        encoded_inputs: Any,
        padding: bool | str | PaddingStrategy = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | TensorType | None = None,
        verbose: bool = True,
    ) -> BatchEncoding:
        """Pad encoded rows: a BatchEncoding, a dict of columns, or a list of dicts, one a row.

        Fills "input_ids", "token_type_ids", "attention_mask" (made if it is missing) and "special_tokens_mask";
        other columns, such as "labels", stay as they are. Arrays come back as arrays.
        """
        main_name = self.model_input_names[0]
        columns = as_columns(encoded_inputs, main_name)
        if return_attention_mask is None:
            return_attention_mask = "attention_mask" in self.model_input_names
        if len(columns[main_name]) == 0:
            return BatchEncoding({**columns, "attention_mask": []} if return_attention_mask else columns)
        kind = array_kind(columns[main_name])
        if kind is not None:
            columns = {name: to_lists(column) for name, column in columns.items()}
        strategies = resolve_strategies(padding, None, max_length, self.model_max_length, verbose=False)
        fill = {"attention_mask": 0, "token_type_ids": self.pad_token_type_id, "special_tokens_mask": 1}
        if strategies.padding is not PaddingStrategy.DO_NOT_PAD:
            fill[main_name] = self._padding_token()[1]
        side = check_side(padding_side or self.padding_side, "Padding")
        padder = Padder(main_name, fill, side, return_attention_mask)
        padded = pad_columns(columns, padder, strategies.padding, strategies.max_length, pad_to_multiple_of)
        return BatchEncoding(padded, tensor_type=return_tensors or kind)

    # --- ids to text ---

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        use_source_tokenizer: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """The text of an id, a sequence of ids or an array; a list of texts for a batch of them.

        Ids outside the vocabulary are skipped; ValueError for negative ones. `use_source_tokenizer` is for tokenizers
        with two models of pieces: whether that of the texts decodes, or that of the targets.
        """
        self._warn_unknown(kwargs)
        if isinstance(token_ids, Mapping):
            token_ids = token_ids["input_ids"]
        token_ids = to_lists(token_ids)
        if isinstance(token_ids, int):
            token_ids = [token_ids]
        how = (skip_special_tokens, clean_up_tokenization_spaces, use_source_tokenizer)
        if token_ids and isinstance(token_ids[0], list):
            return [self._decode(row, *how) for row in token_ids]
        return self._decode(token_ids, *how)

    def batch_decode(self, sequences: Any, *args: Any, **kwargs: Any) -> list[str]:
        """As `decode`, but always a list."""
        texts = self.decode(sequences, *args, **kwargs)
        return [texts] if isinstance(texts, str) else texts

    def _decode(
        self, token_ids: list[int], skip_special_tokens: bool, clean_up: bool | None, use_source: bool | None
    ) -> str:
        text = self._tokenizer.decode(token_ids, skip_special_tokens)
        if not (self.clean_up_tokenization_spaces if clean_up is None else clean_up):
            return text
        asked = self.clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output
        if self._tokenizer.model_kind == "BPE" and not asked:
            if self._first_time("clean up"):
                import logging

                logging.getLogger(__name__).warning(
                    "Ignoring clean_up_tokenization_spaces=True for the BPE tokenizer %s: it would strip spaces that "
                    "belong to the text.",
                    type(self).__name__,
                )
            return text
        return self.clean_up_tokenization(text)

    @staticmethod
    def clean_up_tokenization(text: str) -> str:
        """Take out the spaces that tokenizing has put before punctuation and English contractions."""
        for spaced in (" .", " ?", " !", " ,"):
            text = text.replace(spaced, spaced[1:])
        text = text.replace(" ' ", "'")
        for spaced in (" n't", " 'm", " 's", " 've", " 're"):
            text = text.replace(spaced, spaced[1:])
        return text

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        return self._tokenizer.tokens_to_string(list(tokens))


class PreTrainedTokenizerFast(PreTrainedTokenizerBase):
    """A tokenizer that is exactly what its `tokenizer.json` says, or its SentencePiece model where that is missing.

    `tokenizer_file` is a path; `tokenizer_object` anything with `to_str()`, such as a `tokenizers.Tokenizer`.
    """

    vocab_files_names = {"tokenizer_file": "tokenizer.json", "vocab_file": "tokenizer.model"}

    def __init__(
        self, tokenizer_file: str | os.PathLike[str] | None = None, tokenizer_object: Any = None, **kwargs: Any
    ) -> None:
        if isinstance(tokenizer_object, Tokenizer):
            super().__init__(tokenizer_object, has_post_processor=False, **kwargs)
            return
        if isinstance(tokenizer_object, Description):
            description = tokenizer_object
        elif tokenizer_object is not None:
            description = Description(tokenizer_object.to_str())
        elif tokenizer_file is not None:
            with open(tokenizer_file, encoding="utf-8") as file:
                description = Description(file.read())
        else:
            raise ValueError("a tokenizer_file or a tokenizer_object is needed")
        has_post_processor = description.sections["post_processor"] is not None
        defaults = {"pad_token": description.pad_token, **description.sides, **kwargs}
        super().__init__(Tokenizer(description.text), has_post_processor=has_post_processor, **defaults)

    @classmethod
    def _from_files(cls, files: TokenizerFiles) -> Self:
        if files.description is not None:
            return cls(tokenizer_object=files.description, **files.arguments)
        from .sentence_piece_model import SentencePieceModel, as_it_stands

        model = SentencePieceModel(files.vocab or b"")
        backend, named = as_it_stands(model, files.arguments.get("added_tokens_decoder") or {})
        found = {"additional_special_tokens": model.added_tokens}
        return cls(tokenizer_object=backend, **{**named, **files.arguments, **found})


def _chat_template(template: Any) -> str | dict[str, str] | None:
    """Version 4 wrote several templates as a list of {"name": ..., "template": ...}."""
    if isinstance(template, (list, tuple)):
        return {item["name"]: item["template"] for item in template}
    return template  # type: ignore[no-any-return]
