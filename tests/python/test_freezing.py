"""Parameters that are not trained."""

from fnmatch import fnmatchcase

import numpy as np
import pytest

from ferroformer import training
from ferroformer.errors import InputError

from .small_models import bits, learn, small_batch, small_model

pytestmark = pytest.mark.numbers

PATTERNS = [
    ("rows", ("bert.*",)),
    ("rows", ("bert.embeddings.*",)),
    ("rows", ("bert.embeddings.*", "bert.encoder.layer.0.*")),
    ("rows", ("bert.encoder.layer.1.*",)),
    ("rows", ("*.self.query.*",)),
    ("rows", ("*.self.key.weight",)),
    ("rows", ("*.self.value.bias", "*.self.query.weight")),
    ("rows", ("*LayerNorm*",)),
    ("rows", ("*.bias",)),
    ("rows", ("*dense.weight",)),
    ("rows", ("bert.pooler.*",)),
    ("rows", ("classifier.*",)),
    ("rows", ("classifier.weight", "bert.embeddings.position_embeddings.weight")),
    ("tokens", ("bert.encoder.*",)),
    ("answers", ("qa_outputs.bias", "*embeddings.LayerNorm*")),
    ("words", ("bert.embeddings.word_embeddings.weight",)),
    ("words", ("cls.*",)),
    ("words", ("bert.*",)),
    ("words", ("bert.embeddings.position_embeddings.weight", "cls.predictions.bias")),
]


@pytest.mark.parametrize("kind, patterns", PATTERNS)
def test_the_rest_learns_as_before(kind, patterns):
    model, batch = small_model(kind), small_batch(kind)
    expected = learn(model, batch, dropout_seed=2)
    before = model.state_dict()
    model.freeze(*patterns)
    loss, gradients = learn(model, batch, dropout_seed=2)
    frozen = {name for name in before if any(fnmatchcase(name, pattern) for pattern in patterns)}
    assert frozen and gradients.keys() == before.keys() - frozen
    assert loss == expected[0]
    assert bits(gradients) == {name: data for name, data in bits(expected[1]).items() if name not in frozen}
    optimizer = training.AdamW(model, lr=0.01, weight_decay=0.1, no_decay=[])
    optimizer.step(gradients)
    for name, array in model.state_dict().items():
        assert np.array_equal(array, before[name]) == (name in frozen), name


@pytest.mark.parametrize("kind, patterns", PATTERNS)
def test_a_step_changes_the_rest_as_before(kind, patterns):
    def weights(freeze):
        model, batch = small_model(kind), small_batch(kind)
        if freeze:
            model.freeze(*patterns)
        optimizer = training.SGD(model, lr=0.01, momentum=0.9, weight_decay=0.1)
        optimizer.step(training.value_and_grad(model, **batch)[1])
        return bits(model.state_dict()), model.frozen_slots, model.tensor_names

    all_trained, some_trained = weights(False)[0], weights(True)
    frozen = {some_trained[2][slot] for slot in some_trained[1]}
    assert all(some_trained[0][name] == all_trained[name] for name in all_trained if name not in frozen)


def test_everything():
    model, batch = small_model("rows"), small_batch("rows")
    before = bits(model.state_dict())
    model.freeze("*")
    outputs, gradients = training.value_and_grad(model, **batch)
    assert outputs.loss == model(**batch).loss
    assert len(gradients) == 0 and gradients.norm() == 0
    training.AdamW(model, lr=1.0).step(gradients)
    assert bits(model.state_dict()) == before


def test_checkpointing_and_threads_go_with_it():
    model, batch = small_model("rows"), small_batch("rows")
    model.freeze("bert.embeddings.*", "bert.encoder.layer.0.*")
    plain = learn(model, batch, dropout_seed=2)
    saving = learn(model, batch, dropout_seed=2, gradient_checkpointing=True)
    assert plain[0] == saving[0] and bits(plain[1]) == bits(saving[1])


def test_patterns():
    model = small_model("rows")
    names = set(model.state_dict())
    model.freeze("bert.encoder.layer.?.attention.self.*", "classifier.bias")
    assert set(training.Gradients(model)) == {n for n in names if ".self." not in n and n != "classifier.bias"}
    model.unfreeze("*.self.key.*", "classifier.*")
    assert set(training.Gradients(model)) == {n for n in names if ".self." not in n or ".key." in n}
    model.unfreeze("*")
    assert set(training.Gradients(model)) == names
    with pytest.raises(InputError, match="no parameter of this BertForSequenceClassification matches 'encoder.*'"):
        model.freeze("bert.*", "encoder.*")
    assert set(training.Gradients(model)) == names, "nothing was frozen by what was refused"


def test_an_optimizer_is_for_what_was_trained_when_it_was_made():
    model, batch = small_model("rows"), small_batch("rows")
    optimizer = training.AdamW(model, lr=0.1)
    model.freeze("bert.embeddings.*")
    before = bits(model.state_dict())
    _, gradients = training.value_and_grad(model, **batch)
    with pytest.raises(InputError, match="of other parameters than the optimizer's"):
        optimizer.step(gradients)
    assert optimizer.steps == 0 and bits(model.state_dict()) == before
    training.AdamW(model, lr=0.1).step(gradients)
