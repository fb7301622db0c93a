"""A small BERT under each head, no size a multiple of a vector's, and a ragged batch for it to learn from."""

import numpy as np

import ferroformer
from ferroformer import BertConfig, training

SETTINGS = {
    "vocab_size": 53,
    "hidden_size": 39,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 50,
    "max_position_embeddings": 24,
    "initializer_range": 0.2,
}
# kind -> (class, what its configuration adds)
KINDS = {
    "rows": ("SequenceClassification", {"num_labels": 4}),
    "several labels": ("SequenceClassification", {"num_labels": 4, "problem_type": "multi_label_classification"}),
    "a number": ("SequenceClassification", {"num_labels": 1}),
    "numbers": ("SequenceClassification", {"num_labels": 3, "problem_type": "regression"}),
    "tokens": ("TokenClassification", {"num_labels": 5}),
    "next": ("NextSentencePrediction", {}),
    "choices": ("MultipleChoice", {}),
    "answers": ("QuestionAnswering", {}),
    "words": ("MaskedLM", {}),
}
# of the 8 rows of a batch
LENGTHS = np.array([13, 1, 7, 22, 2, 12, 19, 5])
WIDTH = 22


def small_model(kind, seed=0, **settings):
    """Weights are random, biases and norms too."""
    name, own = KINDS[kind]
    model = getattr(ferroformer, f"BertFor{name}")(BertConfig(**{**SETTINGS, **own, **settings}), seed=seed)
    dice = np.random.default_rng(seed)
    model.load_state_dict({name: w + 0.1 * dice.normal(size=w.shape) for name, w in model.state_dict().items()})
    return model


def small_batch(kind, repeats=1, seed=0):
    """8 rows (times `repeats`) of ids above 0, masked on the right, with what `kind` takes for labels."""
    dice = np.random.default_rng(seed)
    lengths = np.tile(LENGTHS, repeats)
    rows = len(lengths)
    mask = (np.arange(WIDTH) < lengths[:, None]).astype(np.int64)
    batch = {
        "input_ids": dice.integers(1, 53, mask.shape),
        "token_type_ids": dice.integers(0, 2, mask.shape) * mask,
        "attention_mask": mask,
    }
    counted = (mask == 1) & (dice.random(mask.shape) < 0.5)
    counted[0, 0] = True
    if kind == "choices":
        batch = {name: array.reshape(rows // 4, 4, WIDTH) for name, array in batch.items()}
    if kind == "answers":
        return batch | {name: dice.integers(0, lengths) for name in ("start_positions", "end_positions")}
    labels = {
        "rows": lambda: dice.integers(0, 4, rows),
        "several labels": lambda: dice.integers(0, 2, (rows, 4)).astype(np.float32),
        "a number": lambda: dice.normal(size=rows).astype(np.float32),
        "numbers": lambda: dice.normal(size=(rows, 3)).astype(np.float32),
        "tokens": lambda: np.where(counted, dice.integers(0, 5, mask.shape), -100),
        "next": lambda: dice.integers(0, 2, rows),
        "choices": lambda: dice.integers(0, 4, rows // 4),
        "words": lambda: np.where(counted, dice.integers(0, 53, mask.shape), -100),
    }
    return batch | {"labels": labels[kind]()}


def without_gradient(task, model_type=None):
    """Endings of the names of parameters whose gradient is zero, but for rounding.

    A softmax does not change when all its scores do alike. So a key's bias has none, nor has what is added to all scores of a head
    whose softmax goes over tokens or over choices. Keys that are turned, each by its position, are not alike.
    """
    own = {
        "QuestionAnswering": (
            "layer.1.output.LayerNorm.bias",
            "layers.1.output.layernorm.bias",
            "decoder.layers.0.final_layer_norm.bias",
            "qa_outputs.bias",
        ),
        "MultipleChoice": ("classifier.bias",),
    }
    unturned = {"opt": ("self_attn.k_proj.bias",), "smollm3": ("layers.1.self_attn.k_proj.bias",)}
    unturned |= dict.fromkeys(("bart", "mbart", "marian", "pegasus", "m2m_100", "blenderbot"), ("k_proj.bias",))
    keys = ("attention.self.key.bias", "attention.k_lin.bias", "attention.attn.k.bias", "attention.key.bias")
    return (*keys, *unturned.get(model_type, ()), *own.get(task, ()))


def learn(model, batch, **options):
    """The loss and {name: gradient}."""
    outputs, gradients = training.value_and_grad(model, **batch, **options)
    return outputs.loss, dict(gradients)


def bits(arrays):
    """Of a dict of arrays: {name: bytes}."""
    return {name: array.tobytes() for name, array in arrays.items()}


def numbered(arrays):
    """A dict of arrays as one vector in float64."""
    return np.concatenate([np.asarray(array, np.float64).ravel() for array in arrays.values()])
