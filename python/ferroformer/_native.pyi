"""The compiled core. Private: the public names live in the modules beside this one."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, final

import numpy as np
from numpy.typing import NDArray

__version__: str
__all__ = [
    "Cache",
    "Checkpoint",
    "Encoder",
    "Encoding",
    "Gradients",
    "Optimizer",
    "Recording",
    "SentencePieceProcessor",
    "Tokenizer",
    "__version__",
    "_panic",
    "available_isas",
    "cross_entropy",
    "get_num_threads",
    "isa",
    "num_threads_reason",
    "sentence_piece_outline",
    "set_num_threads",
    "top_k",
]

def top_k(scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64]]:
    """The k largest of each row of scores (N, V), largest first, of equal ones the first first, where they are, (N, k) each, and the
    logarithm of each row's sum of exponentials (N,). NaN counts as -inf, and makes that NaN."""

# --- runtime ---------------------------------------------------------------------------------
def isa() -> str:
    """The instruction set in use: the name of one of `available_isas()`."""

def available_isas() -> list[str]: ...
def get_num_threads() -> int: ...
def num_threads_reason() -> str:
    """Where the number of threads comes from, in words."""

def set_num_threads(num_threads: int) -> None: ...
def _panic(tasks: int) -> None:
    """Panics on purpose, for the tests."""

# --- weights ---------------------------------------------------------------------------------
@final
class Checkpoint:
    """What one or more files of tensors hold; the tensors are read when a model asks for them.

    Files that end with .bin, .pt or .pth are torch's (dicts of tensors; nothing in them is run), others safetensors.
    `files` are paths; a tensor that stands in two of them is an error. `weight_map`, from a sharded index,
    says which file (an index into `files`) must hold which tensor."""

    def __new__(cls, files: Sequence[str], weight_map: dict[str, int] | None = None) -> Checkpoint: ...
    def names(self) -> list[str]: ...
    def shape(self, name: str) -> list[int]: ...
    def dtype(self, name: str) -> str:
        """The stored dtype in safetensors' spelling: "F32", "BF16", "I64", ..."""
    def read(self, name: str) -> NDArray[np.float32]:
        """A copy of one tensor, which must be of floats."""
    def equal(self, name: str, other: str) -> bool:
        """Whether two tensors of floats, of one shape, hold the same values."""
    def metadata(self) -> dict[str, str]: ...

# --- models ----------------------------------------------------------------------------------
@final
class Encoder:
    """A stack of transformer blocks built from a blueprint (JSON, see rust/model/src/blueprint.rs).

    A *slot* is a place for one tensor, named in the blueprint's words ("layers.0.attention.query.weight")."""

    def __new__(
        cls,
        blueprint: str,
        checkpoint: Checkpoint | None,
        tensor_names: dict[str, str],
        initializer_range: float,
        spreads: dict[str, float],
        seed: int,
        dtype: str,
    ) -> Encoder:
        """`tensor_names` maps slots to names in the checkpoint; a slot that it leaves out gets initial values."""

    @staticmethod
    def map(blueprint: str, path: str, dtype: str | None) -> Encoder:
        """From a packed file, which is mapped; `dtype` None: the one that it has."""

    @staticmethod
    def slots(blueprint: str) -> list[tuple[str, list[int]]]:
        """Every slot of a blueprint with its shape, in the order in which a checkpoint lists them."""

    def forward(
        self,
        input_ids: NDArray[np.int64] | None,
        inputs_embeds: NDArray[np.float32] | None,
        attention_mask: NDArray[np.int64] | None,
        token_type_ids: NDArray[np.int64] | None,
        task_type_ids: NDArray[np.int64] | None,
        position_ids: NDArray[np.int64] | None,
        compute_padding: bool,
        selected: NDArray[np.int64] | None,
        output_hidden_states: bool,
        output_attentions: bool,
        cache: Cache | None,
        source: tuple[NDArray[np.float32], NDArray[np.int64] | None] | None,
        encode: bool,
    ) -> tuple[
        NDArray[np.float32] | None,
        NDArray[np.float32] | None,
        NDArray[np.float32] | None,
        list[NDArray[np.float32]] | None,
        list[NDArray[np.float32]] | None,
        list[NDArray[np.float32]] | None,
    ]:
        """(B, T) ids or (B, T, H) embeddings -> last hidden state (B, T, H) and pooled (B, H) of a model without a head, logits
        (B, N) or (B, T, N) of one with a head, hidden states, attentions, those to a source. `compute_padding`: what is masked is computed too, as
        tokens that attend and that none attends to. `selected` (B, T): 1 for the tokens that a head on tokens reads, whose logits
        then come as (M, N). `cache`: the tokens follow those that it holds, and are added to them. `source`: states (B, Ts, S) and
        mask (B, Ts) of what the model attends to; with a cache that holds it, None. `encode`: through the model that this one
        attends to."""

    def record(
        self,
        input_ids: NDArray[np.int64],
        attention_mask: NDArray[np.int64] | None,
        token_type_ids: NDArray[np.int64] | None,
        task_type_ids: NDArray[np.int64] | None,
        position_ids: NDArray[np.int64] | None,
        compute_padding: bool,
        selected: NDArray[np.int64] | None,
        dropout: tuple[int, list[float]] | None,
        gradient_checkpointing: bool,
        source: tuple[NDArray[np.int64], NDArray[np.int64] | None] | None,
    ) -> tuple[
        NDArray[np.float32] | None,
        NDArray[np.float32] | None,
        NDArray[np.float32] | None,
        NDArray[np.float32] | None,
        Recording,
    ]:
        """A forward pass of a training step: last hidden state, pooled vectors, logits, the last hidden states of a source, whose ids
        (B, Ts) and mask are `source`, and what `backward` needs.

        `selected` (B, T): 1 for the tokens that a head on tokens reads; logits are then (M, N).
        `dropout`: seed, and rates of embeddings, of hidden states, of attention's probabilities, of what the head reads, of what the
        pooler reads, of what feed-forward's activation makes, of last hidden states."""

    def backward(
        self,
        recording: Recording,
        last_hidden_state: NDArray[np.float32] | None,
        pooled: NDArray[np.float32] | None,
        logits: NDArray[np.float32] | None,
        gradients: Gradients,
    ) -> None:
        """Add the gradients of all weights to `gradients`, from those of what `record` returned."""

    def discard(self, recording: Recording) -> None:
        """Keep a recording's memory for the next, where no way back is wanted."""
    def release(self) -> None:
        """Give back the memory that training keeps from one step for the next."""
    def refill(self, checkpoint: Checkpoint, tensor_names: dict[str, str]) -> None:
        """Read all weights again, in place."""
    def set(self, slot: str, values: NDArray[np.float32]) -> None:
        """Write a slot, in place."""

    def embed(
        self,
        token_ids: NDArray[np.int64],
        token_type_ids: NDArray[np.int64] | None,
        lengths: NDArray[np.int64],
        skip: NDArray[np.int64] | None,
        pooling: Sequence[str],
        normalize: bool,
    ) -> NDArray[np.float32]:
        """Sentences end to end (ragged: `lengths[i]` tokens each) -> pooled (B, len(pooling) * H).

        `pooling`: any of "cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken", concatenated in
        the order given; the first `skip[i]` tokens of sentence i (a prompt) are left out of the pooling."""

    def tensor(self, slot: str) -> NDArray[np.float32]: ...
    def num_parameters(self) -> int: ...
    def memory_footprint(self) -> int:
        """Bytes of the weights, in memory or in a mapped file."""
    @property
    def dtype(self) -> str:
        """How weights are held: "float32", "bfloat16" or "int8"."""
    def save(self, path: str, tensor_names: dict[str, str]) -> None:
        """Write the slots as safetensors under the given names, whole or not at all; int8 cannot be written so."""
    def save_packed(self, path: str) -> None:
        """Write the weights as they lie in memory, for `map`."""

# --- training --------------------------------------------------------------------------------
@final
class Recording:
    """A batch and what its forward pass left; good for one `backward`."""

@final
class Cache:
    """What a model remembers of the tokens of its sequences."""

    def __new__(cls, encoder: Encoder) -> Cache: ...
    def lengths(self) -> list[int]:
        """The tokens of each sequence."""

    def reorder(self, indices: NDArray[np.int64]) -> None:
        """Sequence i is from now on a continuation of what was sequence indices[i]."""

    def crop(self, lengths: NDArray[np.int64]) -> None:
        """Each sequence forgets all but its first tokens."""

    def memory_footprint(self) -> int:
        """Bytes held."""

@final
class Gradients:
    """The gradients of all slots that are not frozen, in the layout of the weights."""

    def __new__(cls, encoder: Encoder, frozen: set[str]) -> Gradients: ...
    def slots(self) -> list[str]: ...
    def tensor(self, slot: str) -> NDArray[np.float32]: ...
    def set(self, slot: str, values: NDArray[np.float32]) -> None: ...
    def norm(self) -> float: ...
    def scale(self, factor: float) -> None: ...
    def zero(self) -> None: ...

@final
class Optimizer:
    """An optimizer's state, in the layout of the weights."""

    @staticmethod
    def adamw(
        encoder: Encoder,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        no_decay: set[str],
        frozen: set[str],
    ) -> Optimizer: ...
    @staticmethod
    def sgd(
        encoder: Encoder,
        momentum: float,
        nesterov: bool,
        weight_decay: float,
        no_decay: set[str],
        frozen: set[str],
    ) -> Optimizer: ...
    def step(self, encoder: Encoder, gradients: Gradients, lr: float, scale: float) -> None: ...
    @property
    def steps(self) -> int: ...
    def save(self, path: str, tensor_names: dict[str, str]) -> None: ...
    def load(self, path: str, tensor_names: dict[str, str]) -> None: ...

def cross_entropy(
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    weights: NDArray[np.float32] | None,
    label_smoothing: float,
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """The losses (M,) of rows of logits (M, C) with labels (M,) in 0..C-1, and the gradients of these."""

# --- tokenizers ------------------------------------------------------------------------------
class _Truncation(TypedDict):
    strategy: str  # "longest_first", "only_first", "only_second"
    max_length: int  # with special tokens
    stride: int  # overlap of overflowing windows, in tokens
    side: str  # "left", "right"
    keep_overflow: bool

class _Padding(TypedDict):
    length: int | None  # None: that of the longest row
    multiple_of: int | None
    side: str
    id: int
    type_id: int
    token: str

class _AddedToken(TypedDict):
    content: str
    single_word: bool
    lstrip: bool
    rstrip: bool
    normalized: bool
    special: bool

@final
class Encoding:
    """One encoded row; immutable. Spans and offsets count characters of the text, (0, 0) for special tokens."""

    def __new__(cls, json: str) -> Encoding:
        """From its pickled form."""
    @property
    def ids(self) -> list[int]: ...
    @property
    def type_ids(self) -> list[int]: ...
    @property
    def tokens(self) -> list[str]: ...
    @property
    def offsets(self) -> list[tuple[int, int]]: ...
    @property
    def word_ids(self) -> list[int | None]: ...
    @property
    def sequence_ids(self) -> list[int | None]: ...
    @property
    def special_tokens_mask(self) -> list[int]: ...
    @property
    def attention_mask(self) -> list[int]: ...
    @property
    def n_sequences(self) -> int: ...
    def __len__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    def token_to_word(self, token: int) -> int | None: ...
    def token_to_chars(self, token: int) -> tuple[int, int] | None: ...
    def token_to_sequence(self, token: int) -> int | None: ...
    def char_to_token(self, char: int, sequence: int = 0) -> int | None: ...
    def char_to_word(self, char: int, sequence: int = 0) -> int | None: ...
    def word_to_tokens(self, word: int, sequence: int = 0) -> tuple[int, int] | None: ...
    def word_to_chars(self, word: int, sequence: int = 0) -> tuple[int, int] | None: ...

def sentence_piece_outline(model: bytes) -> tuple[str, bytes]:
    """What a SentencePiece model says besides its pieces, as JSON, and its compiled map of characters."""

@final
class Tokenizer:
    """A tokenizer that never changes: truncation and padding are arguments of a call, and what would change it
    returns a new one. Errors are ValueErrors."""

    def __new__(cls, json: str) -> Tokenizer:
        """From the text of a tokenizer.json (its truncation and padding sections are ignored)."""
    def to_json(self, pretty: bool = False) -> str: ...
    @staticmethod
    def outline(json: str) -> str:
        """The sections of a tokenizer.json that are defaults of a caller, as JSON: "added_tokens", "padding",
        "truncation", "post_processor" and "normalizer"; null for those that are missing."""
    @staticmethod
    def assemble(vocab: Any, model: str, sections: str) -> Tokenizer:
        """A tokenizer without added tokens and post-processor. `vocab` is a vocab.txt (bytes), a tokenizer.json (str) of
        which only the vocabulary is read, a vocab.json and a merges.txt (bytes, bytes), or a SentencePiece model
        (bytes, tokens with scores in place of its first pieces, how many pieces, tokens with scores at the end).

        `model` is the model section of a tokenizer.json without what is in the vocabulary, `sections` an object with
        "normalizer", "pre_tokenizer" and "decoder"."""
    def with_added_tokens(self, tokens: Sequence[Mapping[str, Any]]) -> tuple[Tokenizer, int]:
        """The same tokenizer with more added tokens, and how many of them are new or changed."""
    def with_post_processor(self, json: str) -> Tokenizer:
        """The same tokenizer with that section of a tokenizer.json replaced."""
    def encode(
        self,
        inputs: list[Any],
        *,
        pre_split: bool,
        add_special_tokens: bool,
        split_special_tokens: bool,
        truncation: _Truncation | None,
        padding: _Padding | None,
    ) -> tuple[list[Encoding], list[int]]:
        """Texts (or lists of words, if `pre_split`) or pairs of them -> rows, and the input that each is from.

        TypeError "text[i] is X, expected Y" for anything else."""
    def encode_ids(
        self,
        texts: list[str],
        add_special_tokens: bool = True,
        max_length: int | None = None,
        truncation_side: str = "right",
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids alone: those of all texts end to end, and the length of each text (B,)."""
    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        """Ids outside the vocabulary are skipped; negative ones are a ValueError."""
    def tokens_to_string(self, tokens: Sequence[str]) -> str: ...
    def token_to_id(self, token: str) -> int | None: ...
    def id_to_token(self, id: int) -> str | None: ...
    def vocabulary(self, with_added_tokens: bool) -> dict[str, int]: ...
    def vocabulary_size(self, with_added_tokens: bool) -> int: ...
    def added_tokens(self) -> list[tuple[int, _AddedToken]]:
        """By rising id."""
    def num_special_tokens(self, pair: bool) -> int: ...
    @property
    def model_kind(self) -> str:
        """WordPiece, BPE, Unigram or WordLevel."""
    def __deepcopy__(self, _memo: Any, /) -> Tokenizer: ...

@final
class SentencePieceProcessor:
    """SentencePiece's own cutting and joining, for models whose ids are not those of their pieces."""

    def __new__(cls, model: bytes) -> SentencePieceProcessor:
        """`model` is the content of a file. TokenizerError if it is damaged, or of another algorithm than Unigram or BPE."""
    def encode(self, texts: list[str]) -> list[list[str]]:
        """The pieces of each text; what is unknown is one piece from end to end, or a piece a byte."""
    def decode(self, pieces: Sequence[str]) -> str: ...
    def id_to_piece(self, id: int) -> str | None: ...
