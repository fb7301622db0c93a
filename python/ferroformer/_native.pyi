"""The compiled core. Private: the public names live in the modules beside this one."""

from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

__version__: str

# --- runtime ---------------------------------------------------------------------------------
def isa() -> str:
    """The instruction set in use: "avx512", "avx2" or "scalar"."""

def available_isas() -> list[str]: ...
def get_num_threads() -> int: ...
def num_threads_reason() -> str:
    """Where the number of threads comes from, in words."""

def set_num_threads(num_threads: int) -> None: ...

# --- weights ---------------------------------------------------------------------------------
@final
class Checkpoint:
    """The headers of one or more safetensors files; tensors are read when a model asks for them.

    `files` are paths; a tensor that stands in two of them is an error. `weight_map`, from a sharded index,
    says which file (an index into `files`) must hold which tensor."""

    def __new__(cls, files: Sequence[str], weight_map: dict[str, int] | None = None) -> Checkpoint: ...
    def names(self) -> list[str]: ...
    def shape(self, name: str) -> list[int]: ...
    def dtype(self, name: str) -> str:
        """The stored dtype in safetensors' spelling: "F32", "BF16", "I64", ..."""
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
        seed: int,
    ) -> Encoder:
        """`tensor_names` maps slots to names in the checkpoint; a slot that it leaves out gets initial values."""

    @staticmethod
    def slots(blueprint: str) -> list[tuple[str, list[int]]]:
        """Every slot of a blueprint with its shape, in the order in which a checkpoint lists them."""

    def forward(
        self,
        input_ids: NDArray[np.int64] | None,
        inputs_embeds: NDArray[np.float32] | None,
        attention_mask: NDArray[np.int64] | None,
        token_type_ids: NDArray[np.int64] | None,
        position_ids: NDArray[np.int64] | None,
        output_hidden_states: bool,
        output_attentions: bool,
    ) -> tuple[
        NDArray[np.float32],
        NDArray[np.float32] | None,
        list[NDArray[np.float32]] | None,
        list[NDArray[np.float32]] | None,
    ]:
        """(B, T) ids or (B, T, H) embeddings -> last hidden state (B, T, H), pooled (B, H), hidden states, attentions."""

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
        """Bytes held by the weights."""
    def save(self, path: str, tensor_names: dict[str, str]) -> None:
        """Write the slots as float32 safetensors under the given names, whole or not at all."""

# --- tokenizers ------------------------------------------------------------------------------
@final
class Encoding:
    """One encoded row (an owned copy of what the tokenizers crate calls an Encoding; immutable)."""

    ids: list[int]
    type_ids: list[int]
    tokens: list[str]
    offsets: list[tuple[int, int]]
    word_ids: list[int | None]
    sequence_ids: list[int | None]
    special_tokens_mask: list[int]
    attention_mask: list[int]
    overflowing: list[Encoding]
    n_sequences: int
    def __len__(self) -> int: ...
    def token_to_word(self, token: int) -> int | None: ...
    def token_to_chars(self, token: int) -> tuple[int, int] | None: ...
    def token_to_sequence(self, token: int) -> int | None: ...
    def char_to_token(self, char: int, sequence: int = 0) -> int | None: ...
    def char_to_word(self, char: int, sequence: int = 0) -> int | None: ...
    def word_to_tokens(self, word: int, sequence: int = 0) -> tuple[int, int] | None: ...
    def word_to_chars(self, word: int, sequence: int = 0) -> tuple[int, int] | None: ...

@final
class Tokenizer:
    """A tokenizer without state: truncation and padding are arguments of a call."""

    @staticmethod
    def from_json(json: str) -> Tokenizer:
        """From the text of a tokenizer.json (its truncation and padding sections are ignored)."""
