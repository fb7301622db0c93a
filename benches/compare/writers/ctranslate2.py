"""CTranslate2: model specifications filled from the checkpoint, as its own converters from transformers fill them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from ctranslate2.converters import utils
from ctranslate2.specs import common_spec, transformer_spec

import checkpoint as checkpoints
from checkpoint import Checkpoint

VARIANTS = ("float32", "int8")
MODELS = ("gpt2", "marian", "t5-small")


def prepare(checkpoint: Path, folder: Path) -> None:
    found = checkpoints.read(checkpoint, Checkpoint)
    spec = _KINDS[found.config["model_type"]](found).spec
    spec.validate()
    target = folder / "ctranslate2"
    target.mkdir(exist_ok=True)
    spec.save(str(target))


class Engine:
    def __init__(self, checkpoint: Path, folder: Path, variant: str, threads: int) -> None:
        self._answers = checkpoints.config(checkpoint).get("is_encoder_decoder", False)
        kind: Any = ctranslate2.Translator if self._answers else ctranslate2.Generator
        self._model = kind(
            str(folder / "ctranslate2"), "cpu", compute_type=variant, inter_threads=1, intra_threads=threads
        )

    @property
    def precision(self) -> str:
        return str(self._model.compute_type)

    def write(self, ids: Any, count: int, beams: int) -> Any:
        rows = _words(ids)
        if self._answers:
            lengths = {"min_decoding_length": count, "max_decoding_length": count}
            found = self._model.translate_batch(rows, beam_size=beams, **lengths)
            return [[int(word) for word in result.hypotheses[0]] for result in found]
        found = self._model.generate_batch(
            rows, beam_size=beams, min_length=count, max_length=count, include_prompt_in_result=False
        )
        return [result.sequences_ids[0] for result in found]

    def logits(self, ids: Any) -> Any:
        """A step of `generate`: the logits of all prompts' tokens, as `forward_batch` has them, would be more work."""
        # A least length would take the end's logit away.
        found = self._model.generate_batch(
            _words(ids), beam_size=1, max_length=1, include_prompt_in_result=False, return_logits_vocab=True
        )
        return np.stack([np.asarray(result.logits[0][0]).reshape(-1) for result in found])


def _words(ids: Any) -> list[list[str]]:
    return [[str(word) for word in row] for row in ids.tolist()]


class _Specification:
    """A subclass fills `spec`; ids go in, so words are called by their numbers."""

    transposed = False  # whether the checkpoint has a layer's weights as (inputs, outputs)

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.config, self.tensors = checkpoint.config, checkpoint.tensors
        self.spec = self.filled()
        words = [str(word) for word in range(self.config["vocab_size"])]
        if self.config.get("is_encoder_decoder"):
            self.spec.register_source_vocabulary(words)
            self.spec.register_target_vocabulary(words)
            self.spec.config.decoder_start_token = str(self.config["decoder_start_token_id"])
            self.spec.config.add_source_eos = False
        else:
            self.spec.register_vocabulary(words)
        self.spec.config.bos_token = self.spec.config.eos_token = str(self.config["eos_token_id"])
        self.spec.config.unk_token = "2"  # any that is not the end

    def filled(self) -> Any:
        raise NotImplementedError

    def dense(self, spec: Any, name: str) -> None:
        weight = self.tensors[f"{name}.weight"]
        spec.weight = np.ascontiguousarray(weight.T) if self.transposed else weight
        if f"{name}.bias" in self.tensors:
            spec.bias = self.tensors[f"{name}.bias"]

    def norm(self, spec: Any, name: str) -> None:
        spec.gamma = self.tensors[f"{name}.weight"]
        if f"{name}.bias" in self.tensors:
            spec.beta = self.tensors[f"{name}.bias"]

    def attention(self, spec: Any, names: list[str], output: str) -> None:
        """names: of queries, keys and values."""
        parts = [common_spec.LinearSpec() for _ in names]
        for part, name in zip(parts, names):
            self.dense(part, name)
        if len(spec.linear) == 2:
            utils.fuse_linear(spec.linear[0], parts)
        else:
            utils.fuse_linear(spec.linear[0], parts[:1])
            utils.fuse_linear(spec.linear[1], parts[1:])
        self.dense(spec.linear[-1], output)


class _Gpt2(_Specification):
    transposed = True

    def filled(self) -> Any:
        spec = transformer_spec.TransformerDecoderModelSpec.from_config(
            self.config["n_layer"], self.config["n_head"], activation=common_spec.Activation.GELUTanh
        )
        decoder = spec.decoder
        decoder.scale_embeddings = False
        decoder.embeddings.weight = decoder.projection.weight = self.tensors["wte.weight"]
        decoder.position_encodings.encodings = self.tensors["wpe.weight"]
        self.norm(decoder.layer_norm, "ln_f")
        for index, layer in enumerate(decoder.layer):
            name = f"h.{index}"
            self.norm(layer.self_attention.layer_norm, f"{name}.ln_1")
            self.dense(layer.self_attention.linear[0], f"{name}.attn.c_attn")
            self.dense(layer.self_attention.linear[1], f"{name}.attn.c_proj")
            self.norm(layer.ffn.layer_norm, f"{name}.ln_2")
            self.dense(layer.ffn.linear_0, f"{name}.mlp.c_fc")
            self.dense(layer.ffn.linear_1, f"{name}.mlp.c_proj")
        return spec


class _Marian(_Specification):
    def filled(self) -> Any:
        layers = self.config["encoder_layers"], self.config["decoder_layers"]
        spec = transformer_spec.TransformerSpec.from_config(
            layers, self.config["encoder_attention_heads"], pre_norm=False, activation=common_spec.Activation.SWISH
        )
        words = self.tensors["shared.weight"]
        for side, embeddings in ((spec.encoder, spec.encoder.embeddings[0]), (spec.decoder, spec.decoder.embeddings)):
            embeddings.weight = words
            side.scale_embeddings = self.config["d_model"] ** 0.5
            side.position_encodings.encodings = self._sines()
        spec.decoder.projection.weight = words
        spec.decoder.projection.bias = self.tensors["final_logits_bias"].reshape(-1)
        for name, side in (("encoder", spec.encoder), ("decoder", spec.decoder)):
            for index, layer in enumerate(side.layer):
                self._layer(layer, f"{name}.layers.{index}")
        return spec

    def _layer(self, layer: Any, name: str) -> None:
        reads = [(layer.self_attention, "self_attn"), (getattr(layer, "attention", None), "encoder_attn")]
        for spec, kind in reads:
            if spec is not None:
                parts = [f"{name}.{kind}.{part}_proj" for part in "qkv"]
                self.attention(spec, parts, f"{name}.{kind}.out_proj")
                self.norm(spec.layer_norm, f"{name}.{kind}_layer_norm")
        self.dense(layer.ffn.linear_0, f"{name}.fc1")
        self.dense(layer.ffn.linear_1, f"{name}.fc2")
        self.norm(layer.ffn.layer_norm, f"{name}.final_layer_norm")

    def _sines(self) -> Any:
        width = self.config["d_model"]
        places = np.arange(self.config["max_position_embeddings"])[:, None]
        angles = places / 10000.0 ** (np.arange(0, width, 2) / width)
        return np.hstack([np.sin(angles), np.cos(angles)]).astype(np.float32)


class _T5(_Specification):
    def filled(self) -> Any:
        spec = transformer_spec.TransformerSpec.from_config(
            (self.config["num_layers"], self.config["num_decoder_layers"]),
            self.config["num_heads"],
            activation=common_spec.Activation.RELU,
            relative_attention_bias=True,
            rms_norm=True,
        )
        words = self.tensors["shared.weight"]
        spec.encoder.embeddings[0].weight = spec.decoder.embeddings.weight = spec.decoder.projection.weight = words
        spec.encoder.scale_embeddings = spec.decoder.scale_embeddings = False
        spec.decoder.scale_outputs = self.config["d_model"] ** -0.5
        for name, side in (("encoder", spec.encoder), ("decoder", spec.decoder)):
            self.norm(side.layer_norm, f"{name}.final_layer_norm")
            for index, layer in enumerate(side.layer):
                self._layer(layer, name, f"{name}.block.{index}")
        return spec

    def _layer(self, layer: Any, side: str, name: str) -> None:
        first = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        layer.self_attention.relative_attention_bias = self.tensors[first]
        layer.self_attention.relative_attention_max_distance = np.int32(self.config["relative_attention_max_distance"])
        reads = [(layer.self_attention, "SelfAttention")]
        reads += [(layer.attention, "EncDecAttention")] if side == "decoder" else []
        for place, (spec, kind) in enumerate(reads):
            spec.queries_scale = 1.0
            part = f"{name}.layer.{place}"
            self.attention(spec, [f"{part}.{kind}.{letter}" for letter in "qkv"], f"{part}.{kind}.o")
            self.norm(spec.layer_norm, f"{part}.layer_norm")
        part = f"{name}.layer.{len(reads)}"
        self.dense(layer.ffn.linear_0, f"{part}.DenseReluDense.wi")
        self.dense(layer.ffn.linear_1, f"{part}.DenseReluDense.wo")
        self.norm(layer.ffn.layer_norm, f"{part}.layer_norm")


_KINDS: dict[str, type[_Specification]] = {"gpt2": _Gpt2, "marian": _Marian, "t5": _T5}
