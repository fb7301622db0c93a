"""Models that `generate` can be tried on without weights: a sequence is a vector that forgets.

h = DECAY * h + table[token], beginning with zeros or with what an encoder makes of its input; logits = tanh(h) @ head.
Row by row, so that a sequence has the same bits in any company.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from ferroformer.generation import GenerationConfig, GenerationMixin

DECAY = np.float32(0.8)


class ToyState:
    """See generation/decoding_state.py. `computed` counts tokens."""

    def __init__(self, model, vectors):
        self.model = model
        self.histories = [[vector] for vector in vectors]
        self.computed = 0

    def _append(self, row, token):
        self.computed += 1
        self.histories[row].append(self.histories[row][-1] * DECAY + self.model.table[token])

    def logits(self):
        return np.stack([np.tanh(history[-1]) @ self.model.head for history in self.histories])

    def step(self, token_ids, last_only=True):
        assert token_ids.dtype == np.int64 and len(token_ids) == len(self.histories)
        steps = []
        for column in token_ids.T:
            for row, token in enumerate(column):
                self._append(row, token)
            steps.append(self.logits())
        return steps[-1] if last_only else np.stack(steps, axis=1)

    def reorder(self, indices):
        assert indices.ndim == 1 and indices.dtype == np.int64
        self.histories = [list(self.histories[index]) for index in indices]

    def crop(self, lengths):
        assert len(lengths) == len(self.histories)
        for history, length in zip(self.histories, lengths):
            assert length < len(history)
            del history[length + 1 :]

    @property
    def lengths(self):
        return [len(history) - 1 for history in self.histories]


class ToyModel(GenerationMixin):
    """table (V, H), head (H, V); an encoder-decoder if encoder (V, H) is given."""

    main_input_name = "input_ids"
    input_names = ("input_ids", "attention_mask", "position_ids", "decoder_input_ids", "decoder_attention_mask")

    def __init__(self, table, head, encoder=None, copied_logits=False, **settings):
        self.table, self.head, self.encoder = table, head, encoder
        self.copied_logits = copied_logits
        self.config = SimpleNamespace(is_encoder_decoder=encoder is not None, vocab_size=len(table))
        self.generation_config = GenerationConfig(**settings)
        self.states = []

    @classmethod
    def random(cls, vocabulary, seed, encoder_decoder=False, width=16, **settings):
        random = np.random.default_rng(seed)
        table = random.standard_normal((vocabulary, width)).astype(np.float32)
        head = random.standard_normal((width, vocabulary)).astype(np.float32)
        encoder = random.standard_normal((vocabulary, width)).astype(np.float32) if encoder_decoder else None
        return cls(table, head, encoder, **settings)

    def prefill(self, input_ids, attention_mask, copies=1, **model_inputs):
        prompts, mask = input_ids, attention_mask
        vectors = np.zeros((len(prompts), self.table.shape[1]), np.float32)
        if self.encoder is not None:
            for vector, ids, kept in zip(vectors, input_ids, attention_mask):
                for token in ids[kept != 0]:
                    vector[:] = vector * DECAY + self.encoder[token]
            prompts = model_inputs["decoder_input_ids"]
            mask = model_inputs.get("decoder_attention_mask", np.ones_like(prompts))
        state = ToyState(self, vectors)
        for row, (ids, kept) in enumerate(zip(prompts, mask)):
            for token in ids[kept != 0]:
                state._append(row, token)
        logits = state.logits()
        state.reorder(np.repeat(np.arange(len(prompts)), copies))
        self.states.append(state)
        return state, np.repeat(logits, copies, axis=0) if self.copied_logits else logits
