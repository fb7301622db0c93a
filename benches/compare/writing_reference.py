"""The truth of what writes: GPT-2, Marian and T5 in float64 with numpy, one sequence at a time, and the search for one.

Each has `logits(prompt, written, first)`: (len(written) + 1 - first, V), of what may follow `prompt` and the first so
many words written (for an encoder-decoder: the start of an answer to the prompt, and these), then one more, and so on.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from checkpoint import Checkpoint
from reference import Array, attend, layer_norm, rms_norm

Ids = tuple[int, ...]


class Reference:
    """Of a checkpoint; a subclass adds `logits`."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.config = checkpoint.config
        self._tensors = {name: tensor.astype(np.float64) for name, tensor in checkpoint.tensors.items()}

    def logits(self, prompt: Ids, written: Ids, first: int) -> Array:
        raise NotImplementedError

    def log_probabilities(self, prompt: Ids, written: Ids, first: int = 0) -> Array:
        """Nothing ends: the end has none."""
        logits = self.logits(prompt, written, first)
        logits -= logits.max(axis=-1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        logits[:, self.config["eos_token_id"]] = -np.inf
        return logits

    def search(self, prompt: Ids, count: int, beams: int) -> Ids:
        """The most likely of what beam search finds."""
        found: dict[Ids, float] = {(): 0.0}
        for _ in range(count):
            prefixes = list(found)
            steps = [found[each] + self.log_probabilities(prompt, each, len(each))[0] for each in prefixes]
            scores = np.concatenate(steps)
            best = np.argsort(-scores)[:beams]
            places = [divmod(int(place), len(steps[0])) for place in best]
            found = {(*prefixes[row], word): scores[place] for (row, word), place in zip(places, best)}
        return next(iter(found))

    def _heads(self, x: Array, count: int) -> Array:
        return x.reshape(len(x), count, -1).transpose(1, 0, 2)

    def _layer_norm(self, name: str, x: Array) -> Array:
        return layer_norm(x, self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"], 1e-5)


class Gpt2(Reference):
    def logits(self, prompt: Ids, written: Ids, first: int) -> Array:
        ids = np.array(prompt + written)
        x = self._tensors["wte.weight"][ids] + self._tensors["wpe.weight"][: len(ids)]
        for index in range(self.config["n_layer"]):
            x = self._layer(f"h.{index}", x)
        return self._layer_norm("ln_f", x[len(prompt) - 1 + first :]) @ self._tensors["wte.weight"].T

    def _layer(self, name: str, x: Array) -> Array:
        parts = np.split(self._dense(f"{name}.attn.c_attn", self._layer_norm(f"{name}.ln_1", x)), 3, axis=-1)
        query, key, value = (self._heads(part, self.config["n_head"]) for part in parts)
        x = x + self._dense(f"{name}.attn.c_proj", attend(query, key, value, query.shape[-1] ** -0.5, _causal(len(x))))
        wide = self._dense(f"{name}.mlp.c_fc", self._layer_norm(f"{name}.ln_2", x))
        wide = wide * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)))
        return x + self._dense(f"{name}.mlp.c_proj", wide)

    def _dense(self, name: str, x: Array) -> Array:
        return x @ self._tensors[f"{name}.weight"] + self._tensors[f"{name}.bias"]


class EncoderDecoder(Reference):
    """A subclass says what a layer is; the last hidden states of a source are remembered."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self._encoded = cache(lambda source: self._stack("encoder", source, None))

    def logits(self, prompt: Ids, written: Ids, first: int) -> Array:
        start = (self.config["decoder_start_token_id"],)
        return self._head(self._stack("decoder", start + written, self._encoded(prompt))[first:])

    def _stack(self, name: str, ids: Ids, source: Array | None) -> Array:
        raise NotImplementedError

    def _head(self, x: Array) -> Array:
        raise NotImplementedError


class Marian(EncoderDecoder):
    def _stack(self, name: str, ids: Ids, source: Array | None) -> Array:
        width = self.config["d_model"]
        angles = np.arange(len(ids))[:, None] / 10000.0 ** (np.arange(0, width, 2) / width)
        x = self._tensors["shared.weight"][list(ids)] * width**0.5 + np.hstack([np.sin(angles), np.cos(angles)])
        for index in range(self.config[f"{name}_layers"]):
            x = self._layer(f"{name}.layers.{index}", x, source)
        return x

    def _layer(self, name: str, x: Array, source: Array | None) -> Array:
        bias = 0.0 if source is None else _causal(len(x))
        x = self._layer_norm(f"{name}.self_attn_layer_norm", x + self._attention(f"{name}.self_attn", x, x, bias))
        if source is not None:
            read = self._attention(f"{name}.encoder_attn", x, source, 0.0)
            x = self._layer_norm(f"{name}.encoder_attn_layer_norm", x + read)
        wide = self._dense(f"{name}.fc1", x)
        wide = wide / (1 + np.exp(-wide))
        return self._layer_norm(f"{name}.final_layer_norm", x + self._dense(f"{name}.fc2", wide))

    def _attention(self, name: str, x: Array, source: Array, bias: Array | float) -> Array:
        parts = (self._dense(f"{name}.{part}_proj", of) for part, of in (("q", x), ("k", source), ("v", source)))
        query, key, value = (self._heads(part, self.config["decoder_attention_heads"]) for part in parts)
        return self._dense(f"{name}.out_proj", attend(query, key, value, query.shape[-1] ** -0.5, bias))

    def _head(self, x: Array) -> Array:
        return x @ self._tensors["shared.weight"].T + self._tensors["final_logits_bias"]

    def _dense(self, name: str, x: Array) -> Array:
        return x @ self._tensors[f"{name}.weight"].T + self._tensors[f"{name}.bias"]


class T5(EncoderDecoder):
    def _stack(self, name: str, ids: Ids, source: Array | None) -> Array:
        x = self._tensors["shared.weight"][list(ids)]
        bias = self._distances(name, len(ids))
        for index in range(self.config["num_layers"]):
            x = self._layer(f"{name}.block.{index}", x, source, bias)
        return self._norm(f"{name}.final_layer_norm", x)

    def _layer(self, name: str, x: Array, source: Array | None, bias: Array) -> Array:
        parts = [("SelfAttention", None, bias)] + ([] if source is None else [("EncDecAttention", source, 0.0)])
        for place, (kind, other, added) in enumerate(parts):
            read = self._norm(f"{name}.layer.{place}.layer_norm", x)
            x = x + self._attention(f"{name}.layer.{place}.{kind}", read, read if other is None else other, added)
        name = f"{name}.layer.{len(parts)}"
        wide = np.maximum(self._dense(f"{name}.DenseReluDense.wi", self._norm(f"{name}.layer_norm", x)), 0)
        return x + self._dense(f"{name}.DenseReluDense.wo", wide)

    def _attention(self, name: str, x: Array, source: Array, bias: Array | float) -> Array:
        parts = (self._dense(f"{name}.{part}", of) for part, of in (("q", x), ("k", source), ("v", source)))
        query, key, value = (self._heads(part, self.config["num_heads"]) for part in parts)
        return self._dense(f"{name}.o", attend(query, key, value, 1.0, bias))

    def _distances(self, name: str, length: int) -> Array:
        """(heads, T, T): T5's bias. In its buckets the first distances are alone, the others share logarithmic ones."""
        places = np.arange(length)
        distance = places[None, :] - places[:, None]
        buckets, base = self.config["relative_attention_num_buckets"], np.zeros_like(distance)
        if name == "encoder":
            buckets, base = buckets // 2, np.where(distance > 0, buckets // 2, 0)
            distance = np.abs(distance)
        else:
            distance = np.maximum(-distance, 0)
        alone, furthest = buckets // 2, self.config["relative_attention_max_distance"]
        share = np.log(np.maximum(distance, 1) / alone) / math.log(furthest / alone)
        far = np.minimum(alone + (share * (buckets - alone)).astype(int), buckets - 1)
        table = self._tensors[f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        bias: Array = table[base + np.where(distance < alone, distance, far)].transpose(2, 0, 1)
        return bias + _causal(length) if name == "decoder" else bias

    def _norm(self, name: str, x: Array) -> Array:
        return rms_norm(x, self._tensors[f"{name}.weight"], self.config["layer_norm_epsilon"])

    def _dense(self, name: str, x: Array) -> Array:
        return x @ self._tensors[f"{name}.weight"].T

    def _head(self, x: Array) -> Array:
        return x * self.config["d_model"] ** -0.5 @ self._tensors["shared.weight"].T


KINDS: dict[str, type[Reference]] = {"gpt2": Gpt2, "marian": Marian, "t5": T5}


def of(checkpoint: Checkpoint) -> Reference:
    return KINDS[checkpoint.config["model_type"]](checkpoint)


def _causal(length: int) -> NDArray[Any]:
    """(T, T): nothing but what comes later is out of reach."""
    return np.where(np.tri(length) == 1, 0.0, -np.inf)
