"""A model whose `generate` writes what follows from the prompt by arithmetic, and remembers how it was called."""

import numpy as np

PAD, EOS = 0, 3


def written(ids, new, vocab):
    """What is written behind ids: up to `new` tokens, fewer where one would be EOS."""
    out = []
    for place in range(new):
        token = 5 + (sum(ids) * 31 + len(ids) * 17 + place * place * 7 + place) % (vocab - 5)
        out.append(int(token))
        if (sum(ids) + place) % 9 == 8:
            return [*out, EOS]
    return out


class Config:
    def __init__(self, **settings):
        self.hidden_size = 8
        self.__dict__.update(settings)


class Settings:
    """Stands for a GenerationConfig."""

    def __init__(self, **settings):
        self.settings = settings

    def to_diff_dict(self):
        return dict(self.settings)


class _Writer:
    def __init__(self, vocab, settings=None, **config):
        self.vocab = vocab
        self.config = Config(**config)
        self.generation_config = Settings(**(settings or {}))
        self.calls = []
        self.pad = (settings or {}).get("pad_token_id", (settings or {}).get("eos_token_id", PAD))

    def generate(self, input_ids=None, attention_mask=None, **kwargs):
        self.calls.append(kwargs | {"rows": 1 if input_ids is None else len(input_ids)})
        prompts = [[]] if input_ids is None else [
            row[mask.astype(bool)].tolist() for row, mask in zip(np.asarray(input_ids), np.asarray(attention_mask))
        ]
        width = 0 if input_ids is None else input_ids.shape[1]
        new = kwargs.get("max_new_tokens")
        new = kwargs.get("max_length", 20) - width if new is None else new
        copies = kwargs.get("num_return_sequences", 1)
        rows = [
            self.start(prompt, width) + written([*prompt, copy], new, self.vocab) for prompt in prompts for copy in range(copies)
        ]
        out = np.full((len(rows), max(map(len, rows))), self.pad, np.int64)
        for place, row in zip(out, rows):
            place[: len(row)] = row
        return out


class WriterForCausalLM(_Writer):
    def start(self, prompt, width):
        return [PAD] * (width - len(prompt)) + prompt


class WriterForConditionalGeneration(_Writer):
    def start(self, prompt, width):
        return [PAD]
