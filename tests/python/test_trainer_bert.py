"""Trainer with the real core: a tiny BERT on sentences through the real tokenizer."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import ferroformer
from ferroformer import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    DataCollatorForTokenClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from ferroformer.errors import InputError, NonFiniteLossError

from .conftest import DATA, read_safetensors

pytestmark = pytest.mark.numbers

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 38, "vocab_size": 30522}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
STRONG = {True: ["good", "great", "warm", "bright"], False: ["bad", "poor", "cold", "dull"]}
NAMES = ["ann", "bob", "carl", "dora", "paris", "rome"]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(DATA / "tokenizers" / "minilm")


def sentences(count, seed=0):
    """Texts of 3 to 12 words, one of which decides the label."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    texts = []
    for label in labels:
        words = list(random.choice(["the", "film", "was", "a", "story", "with", "music"], random.integers(2, 12)))
        words.insert(random.integers(len(words) + 1), random.choice(STRONG[bool(label)]))
        texts.append(" ".join(words))
    return texts, labels.tolist()


def encoded(tokenizer, count, seed=0):
    texts, labels = sentences(count, seed)
    return [dict(tokenizer(text, truncation=True), label=label) for text, label in zip(texts, labels)]


def tagged(tokenizer, count, seed=0):
    """Rows whose label is 1 on the first piece of a name; other pieces than the first, [CLS] and [SEP] do not count."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        words = list(random.choice([*NAMES, "the", "film", "unbelievably", "was"], random.integers(3, 12)))
        row = tokenizer(words, is_split_into_words=True, truncation=True)
        owners = row.word_ids()
        first = [owner is not None and owner != before for before, owner in zip([None, *owners], owners)]
        labels = [int(words[owner] in NAMES) if begins else -100 for begins, owner in zip(first, owners)]
        rows.append({"input_ids": row["input_ids"], "attention_mask": row["attention_mask"], "labels": labels})
    return rows


def tiny(cls=BertForSequenceClassification, seed=0, **settings):
    return cls(BertConfig(**{**SIZES, "initializer_range": 0.1, **settings}), seed=seed)


@pytest.fixture
def fit(tokenizer, tmp_path):
    """Trains a tiny model on 40 sentences in 10 steps unless told otherwise, and returns the trainer."""

    def run(model=None, resume=None, callbacks=None, train_dataset=None, train=True, **given):
        common = {"output_dir": tmp_path / "out", "disable_tqdm": True, "logging_steps": 1, "save_strategy": "no"}
        recipe = {"max_steps": 10, "per_device_train_batch_size": 8, "learning_rate": 1e-3, "weight_decay": 0.01}
        data = encoded(tokenizer, 40) if train_dataset is None else train_dataset
        trainer = Trainer(
            tiny() if model is None else model,
            TrainingArguments(**{**common, **recipe, **given}),
            train_dataset=data,
            eval_dataset=encoded(tokenizer, 20, seed=1),
            processing_class=tokenizer,
            compute_metrics=accuracy,
            callbacks=callbacks,
        )
        if train:
            trainer.train(resume_from_checkpoint=resume)
        return trainer

    return run


def accuracy(prediction):
    logits, labels = prediction
    return {"accuracy": (logits.argmax(-1) == labels).mean()}


def same(one, other):
    """Whether two models, or two dicts of arrays, are equal to the last bit."""
    one, other = (x if isinstance(x, dict) else x.state_dict() for x in (one, other))
    return one.keys() == other.keys() and all(one[name].tobytes() == other[name].tobytes() for name in one)


def losses(trainer):
    return [logs["loss"] for logs in trainer.state.log_history if "loss" in logs]


# --- as a user writes it ---


def test_example_as_with_transformers(tokenizer, tmp_path):
    tiny(BertForSequenceClassification).save_pretrained(tmp_path / "start")
    model = BertForSequenceClassification.from_pretrained(tmp_path / "start", num_labels=2)
    rows = {}
    for split, count in (("train", 160), ("test", 60)):
        texts, labels = sentences(count, seed=count)
        encodings = tokenizer(texts, truncation=True, padding=True)
        rows[split] = [{**{key: encodings[key][i] for key in encodings}, "labels": labels[i]} for i in range(count)]
    training_args = TrainingArguments(
        output_dir=str(tmp_path / "results"),
        num_train_epochs=6,
        per_device_train_batch_size=8,
        per_device_eval_batch_size=16,
        learning_rate=3e-3,
        weight_decay=0.01,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        logging_steps=10,
    )
    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=rows["train"],
        eval_dataset=rows["test"],
        compute_metrics=accuracy,
    )
    output = trainer.train()
    metrics = trainer.evaluate()
    assert output.global_step == 120 and metrics["eval_accuracy"] > 0.9
    best = max(logs["eval_accuracy"] for logs in trainer.state.log_history if "eval_accuracy" in logs)
    assert metrics["eval_accuracy"] == best == trainer.state.best_metric
    prediction = trainer.predict(rows["test"])
    assert prediction.predictions.shape == (60, 2) and prediction.metrics["test_accuracy"] == best

    trainer.save_model(str(tmp_path / "saved"))
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert isinstance(again, BertForSequenceClassification) and same(again, model)
    text, label = sentences(1, seed=7)
    assert again(**tokenizer(text, return_tensors="np")).logits.argmax() == label[0]


def test_token_classification(tokenizer, tmp_path):
    model = tiny(BertForTokenClassification)
    arguments = TrainingArguments(
        tmp_path, num_train_epochs=8, learning_rate=3e-3, logging_steps=5, disable_tqdm=True, save_strategy="no"
    )

    def metrics(prediction):
        counted = prediction.label_ids != -100
        return {"accuracy": (prediction.predictions.argmax(-1) == prediction.label_ids)[counted].mean()}

    data = {"train_dataset": tagged(tokenizer, 100), "eval_dataset": tagged(tokenizer, 30, seed=1)}
    collator = DataCollatorForTokenClassification(tokenizer)
    trainer = Trainer(model, arguments, collator, **data, processing_class=tokenizer, compute_metrics=metrics)
    trainer.train()
    assert trainer.evaluate()["eval_accuracy"] > 0.95
    trainer.save_model()
    assert same(AutoModelForTokenClassification.from_pretrained(tmp_path), model)
    text = AutoTokenizer.from_pretrained(tmp_path)(["ann saw rome"], return_tensors="np")
    assert model(**text).logits[0].argmax(-1)[1:-1].tolist() == [1, 0, 1]


@pytest.mark.parametrize("cls", [BertForSequenceClassification, BertForTokenClassification])
def test_saved_names_are_transformers(tokenizer, tmp_path, cls):
    rows = encoded(tokenizer, 4) if cls is BertForSequenceClassification else tagged(tokenizer, 4)
    collator = DataCollatorForTokenClassification(tokenizer) if cls is BertForTokenClassification else None
    arguments = TrainingArguments(tmp_path, max_steps=1, disable_tqdm=True)
    Trainer(tiny(cls), arguments, collator, train_dataset=rows, processing_class=tokenizer).train()
    theirs = DATA / "models" / cls.__name__.replace("BertFor", "bert-")
    saved = tmp_path / "checkpoint-1"
    names = [read_safetensors(folder / "model.safetensors").keys() for folder in (saved, theirs)]
    assert names[0] == names[1]
    settings = [json.loads((folder / "config.json").read_text()) for folder in (saved, theirs)]
    assert settings[0]["architectures"] == settings[1]["architectures"] == [cls.__name__]


# --- bit for bit ---


def run_files(folder):
    """What makes two runs equal: weights, optimizer and the log without times."""
    state = json.loads((folder / "trainer_state.json").read_text())
    timeless = ("runtime", "per_second")
    history = [{name: x for name, x in logs.items() if not name.endswith(timeless)} for logs in state["log_history"]]
    return (folder / "model.safetensors").read_bytes(), (folder / "optimizer.safetensors").read_bytes(), history


@pytest.mark.parametrize("options", [{}, {"optim": "sgd", "optim_args": "momentum=0.9"}], ids=["adamw", "sgd"])
def test_resume(fit, tmp_path, options):
    """In the middle of an epoch, with dropout and accumulation: from what is on disk alone, into a model of other weights."""
    common = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4, "save_strategy": "steps", "save_steps": 3}
    common |= {"eval_strategy": "steps", "eval_steps": 2, "max_steps": 9, **options}
    fit(**common)
    resumed = tmp_path / "resumed"
    shutil.copytree(tmp_path / "out" / "checkpoint-3", resumed / "checkpoint-3")
    fit(model=tiny(seed=5), resume=True, output_dir=resumed, **common)
    for step in (6, 9):
        assert run_files(resumed / f"checkpoint-{step}") == run_files(tmp_path / "out" / f"checkpoint-{step}")


def test_dropout_is_drawn_anew_in_each_step(fit):
    """The same rows in the same order and a learning rate of 0: without dropout, the loss stays as it is."""
    still = {"max_steps": 4, "per_device_train_batch_size": 40, "learning_rate": 0.0, "train_sampling_strategy": "sequential"}
    assert len(set(losses(fit(**still)))) == 4
    assert len(set(losses(fit(model=tiny(**NO_DROPOUT), **still)))) == 1


def test_threads(fit):
    before, models = ferroformer.get_num_threads(), []
    try:
        for threads in (1, 2):
            ferroformer.set_num_threads(threads)
            models.append(fit().model)
    finally:
        ferroformer.set_num_threads(before)
    assert same(*models) and not same(models[0], tiny())


def test_gradient_checkpointing(fit):
    assert same(fit(gradient_checkpointing=True).model, fit().model)


def test_seed(fit):
    assert not same(fit(seed=1).model, fit(seed=2).model)


# --- what a step computes ---


def test_accumulation_equals_the_large_batch(fit):
    whole = fit(model=tiny(**NO_DROPOUT), optim="sgd", learning_rate=0.1)
    parts = fit(
        model=tiny(**NO_DROPOUT), optim="sgd", learning_rate=0.1, per_device_train_batch_size=4, gradient_accumulation_steps=2
    )
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-5)
    start = tiny(**NO_DROPOUT).state_dict()
    for name, array in whole.model.state_dict().items():
        moved = np.abs(array - start[name]).max()
        np.testing.assert_allclose(parts.model.state_dict()[name], array, rtol=0, atol=1e-6 + 1e-4 * moved, err_msg=name)


def test_gradients_use_the_same_memory_in_all_steps(fit):
    seen = []

    class Watch(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, gradients, **kwargs):
            seen.append((gradients, gradients.norm()))

    trainer = fit(callbacks=[Watch], max_steps=3, max_grad_norm=0)
    assert seen[0][0] is seen[1][0] is seen[2][0]
    norms = [logs["grad_norm"] for logs in trainer.state.log_history if "grad_norm" in logs]
    assert [norm for _, norm in seen] == norms
    assert trainer.gradients is None  # and their memory is given back


def test_frozen_parameters(fit):
    start = tiny().state_dict()
    trainer = fit(frozen_parameters=["bert.embeddings.*", "*.layer.0.*"])
    moved = {name for name, array in trainer.model.state_dict().items() if array.tobytes() != start[name].tobytes()}
    frozen = {name for name in start if name.startswith("bert.embeddings.") or ".layer.0." in name}
    assert moved and moved == start.keys() - frozen


def test_best_model(fit, tmp_path):
    """At a learning rate that explodes at last, the first evaluation is the best."""
    every = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1, "save_total_limit": 2}
    trainer = fit(load_best_model_at_end=True, max_steps=4, lr_scheduler_type="constant", learning_rate=0.3, **every)
    evaluations = {logs["step"]: logs["eval_loss"] for logs in trainer.state.log_history if "eval_loss" in logs}
    best = min(evaluations, key=evaluations.get)
    assert best < 4 and trainer.state.best_model_checkpoint == str(tmp_path / "out" / f"checkpoint-{best}")
    saved = read_safetensors(Path(trainer.state.best_model_checkpoint) / "model.safetensors")
    assert same(saved, trainer.model.state_dict())
    assert trainer.evaluate()["eval_loss"] == evaluations[best]


# --- what goes wrong ---


def test_loss_that_is_not_finite(fit):
    trainer = fit(train=False)
    weights = trainer.model.state_dict()
    weights["classifier.bias"][0] = np.nan
    trainer.model.load_state_dict(weights)
    with pytest.raises(NonFiniteLossError, match=r"step 1 .epoch 0.00., rows \[[\d, ]+\].*a loss of nan and a gradient norm"):
        trainer.train()
    assert same(trainer.model, weights) and trainer.gradients is None


def test_labels_out_of_range(fit, tokenizer):
    rows = encoded(tokenizer, 12)
    rows[9]["label"] = 2
    with pytest.raises(InputError, match="train_dataset, row 9: the label 2; the model has 2 classes, so allowed are 0 to 1"):
        fit(train_dataset=rows)


def test_model_that_cannot_change(fit, tmp_path):
    tiny().save_pretrained(tmp_path / "start")
    model = BertForSequenceClassification.from_pretrained(tmp_path / "start", dtype="int8")
    with pytest.raises(InputError, match="int8"):
        fit(model=model)
