"""A stand-in for `ferroformer.training` and its models: softmax regression in numpy, quick enough to train in every test."""

import json
from collections.abc import MutableMapping
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from ferroformer.modeling_outputs import SequenceClassifierOutput

from .conftest import read_safetensors, write_safetensors

FEATURES, CLASSES = 6, 3


class ToyModel:
    """logits = inputs @ weight + bias; inputs (B, FEATURES)."""

    label_names = ("labels",)
    main_input_name = "inputs"

    def __init__(self, seed=0, scale=0.1):
        random = np.random.default_rng(seed)
        self.weights = {
            "weight": (scale * random.standard_normal((FEATURES, CLASSES))).astype(np.float32),
            "bias": np.zeros(CLASSES, np.float32),
        }
        self.config = SimpleNamespace(num_labels=CLASSES)
        self.training = False
        self.frozen = set()
        self.calls = []  # what value_and_grad was asked for
        self.core = SimpleNamespace(release=lambda: None)

    def forward(self, inputs, labels=None, attention_mask=None):
        logits = np.asarray(inputs, np.float32) @ self.weights["weight"] + self.weights["bias"]
        loss = None if labels is None else np.float32(_cross_entropy(logits, labels)[0] / max(1, np.sum(labels != -100)))
        return SequenceClassifierOutput(loss, logits)

    def __call__(self, **batch):
        return self.forward(**batch)

    def train(self, mode=True):
        self.training = mode
        return self

    def eval(self):
        return self.train(False)

    def num_parameters(self):
        return sum(array.size for array in self.weights.values())

    def state_dict(self):
        return {name: array.copy() for name, array in self.weights.items()}

    def freeze(self, *patterns):
        self.frozen |= {name for name in self.weights for pattern in patterns if fnmatch(name, pattern)}

    def save_pretrained(self, folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "config.json").write_text(json.dumps(vars(self.config)))
        write_safetensors(Path(folder) / "model.safetensors", self.weights)

    def load_weights(self, folder):
        self.weights = {name: a.copy() for name, a in read_safetensors(Path(folder) / "model.safetensors").items()}


def _cross_entropy(logits, labels):
    """The sum over the labels that are not -100, and its gradient by the logits."""
    counted = labels != -100
    target = np.where(counted, labels, 0)
    if target.min() < 0 or target.max() >= logits.shape[1]:
        raise IndexError("a label out of range reached the model")
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    loss = -(np.log(p[np.arange(len(target)), target]) * counted).sum()
    p[np.arange(len(target)), target] -= 1
    return loss, p * counted[:, None]


class Gradients(dict, MutableMapping):
    def norm(self):
        return float(np.sqrt(sum((array.astype(np.float64) ** 2).sum() for array in self.values())))

    def clip(self, max_norm):
        norm = self.norm()
        if norm > max_norm:
            for name in self:
                self[name] = (self[name] * (max_norm / norm)).astype(np.float32)
        return norm

    def zero(self):
        for name in self:
            self[name] = np.zeros_like(self[name])


def num_items(model, batch):
    return int(np.sum(batch["labels"] != -100))


def loss(model, **batch):
    return model(**batch).loss


def value_and_grad(
    model,
    *,
    gradients=None,
    num_items=None,
    label_smoothing=0.0,
    class_weights=None,
    loss_fn=None,
    dropout_seed=None,
    gradient_checkpointing=False,
    **batch,
):
    """Dropout of 10 % of the inputs."""
    model.calls.append({"num_items": num_items, "label_smoothing": label_smoothing, "dropout_seed": dropout_seed, **batch})
    x = np.asarray(batch["inputs"], np.float32)
    if dropout_seed is not None:
        x = x * (np.random.default_rng(dropout_seed).random(x.shape) >= 0.1) / np.float32(0.9)
    logits = x @ model.weights["weight"] + model.weights["bias"]
    if loss_fn is None:
        items = np.sum(batch["labels"] != -100) if num_items is None else num_items
        loss, d_logits = (part / items for part in _cross_entropy(logits, batch["labels"]))
    else:
        loss, d_logits = loss_fn(SequenceClassifierOutput(None, logits), batch["labels"], num_items)
    added = {"weight": x.T @ d_logits, "bias": d_logits.sum(0)}
    gradients = Gradients() if gradients is None else gradients
    for name in added.keys() - model.frozen:
        gradients[name] = (gradients.get(name, 0) + added[name]).astype(np.float32)
    return SequenceClassifierOutput(np.float32(loss), logits), gradients


class _Optimizer:
    def __init__(self, model, lr, weight_decay=0.0):
        self.model, self.lr, self.weight_decay, self.steps = model, lr, weight_decay, 0
        self.moments = {name: np.zeros((2, *array.shape), np.float32) for name, array in model.weights.items()}
        self.rates = []  # the learning rate of each step

    def step(self, gradients, lr=None):
        self.steps += 1
        self.rates.append(lr)
        for name, gradient in gradients.items():
            update = self.update(self.moments[name], gradient).astype(np.float32)
            self.model.weights[name] = self.model.weights[name] * np.float32(1 - lr * self.weight_decay) - np.float32(lr) * update

    def save(self, path):
        write_safetensors(Path(path), {**self.moments, "steps": np.array([self.steps])})

    def load(self, path):
        arrays = {name: array.copy() for name, array in read_safetensors(Path(path)).items()}
        self.steps = int(arrays.pop("steps")[0])
        self.moments = arrays


class AdamW(_Optimizer):
    def __init__(self, model, lr=5e-5, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, no_decay=None):
        super().__init__(model, lr, weight_decay)
        self.betas, self.eps = betas, eps

    def update(self, moments, gradient):
        (b1, b2), n = self.betas, self.steps
        moments[0] = b1 * moments[0] + (1 - b1) * gradient
        moments[1] = b2 * moments[1] + (1 - b2) * gradient**2
        return moments[0] / (1 - b1**n) / (np.sqrt(moments[1] / (1 - b2**n)) + self.eps)


class SGD(_Optimizer):
    def __init__(self, model, lr, momentum=0.0, weight_decay=0.0, nesterov=False, no_decay=None):
        super().__init__(model, lr, weight_decay)
        self.momentum = momentum

    def update(self, moments, gradient):
        moments[0] = self.momentum * moments[0] + gradient
        return moments[0]


def toy_rows(count, seed=0):
    """Rows whose label is where the first features are largest, so that it can be learnt."""
    inputs = np.random.default_rng([1, seed]).standard_normal((count, FEATURES)).round(3)
    return [{"inputs": row.tolist(), "label": int(row[:CLASSES].argmax())} for row in inputs]
