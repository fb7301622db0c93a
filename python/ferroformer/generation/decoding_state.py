"""What `generate` needs of a model: a cache that it can feed, reorder and shorten."""

from __future__ import annotations

from typing import Any, Protocol

from .configuration import GenerationConfig
from .numbers import Ids, Scores


class DecodingState(Protocol):
    """N sequences with their keys and values, each a row. A sequence has the same bits in any company."""

    def step(self, token_ids: Ids, last_only: bool = True) -> Scores:
        """Append k tokens to each sequence, token_ids (N, k). Logits after the last, (N, V), or after each, (N, k, V).

        The array is the caller's, who may overwrite it.
        """

    def reorder(self, indices: Ids) -> None:
        """Sequence i goes on from what was sequence indices[i]. indices (M,): sequences multiply, or are dropped."""

    def crop(self, lengths: Ids) -> None:
        """Keep of each sequence its first `lengths` (N,) tokens. Padding, which is not held, does not count."""


class GenerativeModel(Protocol):
    """A model with a head that scores the next token."""

    config: Any
    generation_config: GenerationConfig
    main_input_name: Any
    # the arrays that `prefill` takes
    input_names: Any

    def prefill(
        self, input_ids: Ids, attention_mask: Ids | None, copies: int = 1, **model_inputs: Any
    ) -> tuple[DecodingState, Scores]:
        """Prompts (B, T) into a cache. The state of B * copies sequences, the copies of a prompt side by side, and the
        logits after the last token of each prompt: (B, V), or (B * copies, V).

        past_key_values among the inputs: a state, such as `generate` returned, that holds the beginning of each prompt.
        Of an encoder-decoder input_ids and attention_mask are the encoder's; decoder_input_ids (B, T), with
        decoder_attention_mask if there is one, are the prompts.
        """
