"""A small sentence-transformers directory: a BERT of random weights and the files of the modules wanted."""

import json

import numpy as np

from ferroformer import BertConfig, BertModel

from .conftest import TINY, write_safetensors

VOCABULARY = "[PAD] [UNK] [CLS] [SEP] [MASK] a b c d query : one two three .".split()


def write_tokenizer(folder):
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")


def write_sentence_model(folder, modules=("Transformer", "Pooling"), pooling=None, limits=None, settings=None):
    """modules: types, or their last words, each alone or with what its config.json holds."""
    BertModel(BertConfig(**TINY, initializer_range=0.5), seed=2).save_pretrained(folder)
    write_tokenizer(folder)
    listed = []
    for i, module in enumerate(modules):
        kind, config = module if isinstance(module, tuple) else (module, pooling if module.endswith("Pooling") else None)
        path = f"{i}_{kind.rpartition('.')[2]}" if i else ""
        kind = kind if "." in kind else f"sentence_transformers.models.{kind}"
        listed.append({"idx": i, "name": str(i), "path": path, "type": kind})
        if i:
            (folder / path).mkdir(exist_ok=True)
            default = {"pooling_mode": "mean"} if kind.endswith("Pooling") else {}
            (folder / path / "config.json").write_text(json.dumps(config or default))
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "sentence_bert_config.json").write_text(json.dumps(limits or {}))
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings or {}))


def write_dense_weights(folder, config, seed=0):
    """Random tensors for a Dense module of this configuration; returns them."""
    dice, (rows, columns) = np.random.default_rng(seed), (config["out_features"], config["in_features"])
    tensors = {"linear.weight": dice.normal(size=(rows, columns)).astype(np.float32)}
    if config.get("bias", True):
        tensors["linear.bias"] = dice.normal(size=rows).astype(np.float32)
    if config.get("use_residual") and rows != columns:
        tensors["residual.weight"] = dice.normal(size=(rows, columns)).astype(np.float32)
    write_safetensors(folder / "model.safetensors", tensors)
    return tensors
