"""What `generate` returns with `return_dict_in_generate=True`; else it returns the sequences alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..modeling_outputs import ModelOutput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "GenerateBeamDecoderOnlyOutput",
    "GenerateBeamEncoderDecoderOutput",
    "GenerateDecoderOnlyOutput",
    "GenerateEncoderDecoderOutput",
]


@dataclass(eq=False, repr=False)
class GenerateDecoderOnlyOutput(ModelOutput):
    """Of a decoder that chose one token after the other.

    sequences (N, L) int64: prompts and what was generated, rows that ended early filled up with `pad_token_id`.
    scores, logits: with `output_scores` and `output_logits` a tuple of (N, V) float32, one for each token: after the
    processors and before.
    past_key_values: the cache, unless `use_cache=False`.
    """

    sequences: NDArray[np.int64]
    scores: tuple[NDArray[np.float32], ...] | None = None
    logits: tuple[NDArray[np.float32], ...] | None = None
    attentions: Any = None
    hidden_states: Any = None
    past_key_values: Any = None


@dataclass(eq=False, repr=False)
class GenerateEncoderDecoderOutput(ModelOutput):
    """Of an encoder-decoder that chose one token after the other; the fields are those of GenerateDecoderOnlyOutput."""

    sequences: NDArray[np.int64]
    scores: tuple[NDArray[np.float32], ...] | None = None
    logits: tuple[NDArray[np.float32], ...] | None = None
    encoder_attentions: Any = None
    encoder_hidden_states: Any = None
    decoder_attentions: Any = None
    cross_attentions: Any = None
    decoder_hidden_states: Any = None
    past_key_values: Any = None


@dataclass(eq=False, repr=False)
class GenerateBeamDecoderOnlyOutput(ModelOutput):
    """Of a decoder's beam search.

    sequences (N, L) int64, N = prompts * num_return_sequences: the best of each prompt first.
    sequences_scores (N,) float32: with `output_scores` the sum of logarithms over length ** length_penalty.
    scores, logits: as GenerateDecoderOnlyOutput, of prompts * num_beams rows; scores are logarithms, processed.
    beam_indices (N, generated) int32: the row of scores that each token came from; -1 after the end.
    """

    sequences: NDArray[np.int64]
    sequences_scores: NDArray[np.float32] | None = None
    scores: tuple[NDArray[np.float32], ...] | None = None
    logits: tuple[NDArray[np.float32], ...] | None = None
    beam_indices: NDArray[np.int32] | None = None
    attentions: Any = None
    hidden_states: Any = None
    past_key_values: Any = None


@dataclass(eq=False, repr=False)
class GenerateBeamEncoderDecoderOutput(ModelOutput):
    """Of an encoder-decoder's beam search; the fields are those of GenerateBeamDecoderOnlyOutput."""

    sequences: NDArray[np.int64]
    sequences_scores: NDArray[np.float32] | None = None
    scores: tuple[NDArray[np.float32], ...] | None = None
    logits: tuple[NDArray[np.float32], ...] | None = None
    beam_indices: NDArray[np.int32] | None = None
    encoder_attentions: Any = None
    encoder_hidden_states: Any = None
    decoder_attentions: Any = None
    cross_attentions: Any = None
    decoder_hidden_states: Any = None
    past_key_values: Any = None
