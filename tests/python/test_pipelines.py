"""What pipelines share, and the tasks that give labels, words and vectors."""

import json
import pickle
import shutil

import numpy as np
import pytest

import ferroformer
from ferroformer import AutoTokenizer, BertConfig, pipeline
from ferroformer.pipelines import (
    ClassificationFunction,
    KeyDataset,
    KeyPairDataset,
    PipelineException,
    factory,
    get_supported_tasks,
)

from .conftest import DATA
from .given_logits import GivenForMaskedLM, GivenForSequenceClassification, GivenForTokenClassification, logits

TOKENIZER = AutoTokenizer.from_pretrained(DATA / "tokenizers" / "minilm")
TEXTS = ["a", "the film is good", "Is it? " * 30, "", "an unbelievably long word", "a"]
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 38}
PAIR = {"question": "who is it?", "context": "it is Ada, who lives in London. " * 40}
# task -> (class of the model, what its configuration adds, inputs, arguments)
TASKS = {
    "text-classification": ("SequenceClassification", {"num_labels": 3}, TEXTS, {"top_k": None}),
    "token-classification": ("TokenClassification", {"num_labels": 3}, TEXTS, {"aggregation_strategy": "max"}),
    "fill-mask": ("MaskedLM", {}, [f"{text} [MASK] is" for text in TEXTS], {"top_k": 3}),
    "feature-extraction": ("", {}, TEXTS, {}),
    "question-answering": ("QuestionAnswering", {}, [PAIR, PAIR | {"question": "where?"}] * 2, {"max_seq_len": 50}),
    "zero-shot-classification": ("SequenceClassification", {"num_labels": 3}, ["a b", "c"], {"candidate_labels": "x,y"}),
}


def classifier(**settings):
    return pipeline("text-classification", GivenForSequenceClassification(**settings), tokenizer=TOKENIZER)


def scores_of(text, pair=None, outputs=2):
    """What the model says of the row, which stands at its first token."""
    return logits(TOKENIZER(text, pair)["input_ids"], outputs)[0]


@pytest.fixture(scope="module", params=TASKS)
def real(request, tmp_path_factory):
    """A task, the directory of a small real model for it, inputs and arguments."""
    name, own, inputs, arguments = TASKS[request.param]
    kind = f"BertFor{name}" if name else "BertModel"
    directory = tmp_path_factory.mktemp("model")
    getattr(ferroformer, kind)(BertConfig(**SIZES, initializer_range=0.3, **own)).save_pretrained(directory)
    TOKENIZER.save_pretrained(directory)
    return request.param, directory, inputs, arguments


# --- what is shared ---------------------------------------------------------------------------
@pytest.mark.numbers
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_the_size_of_a_batch_changes_nothing(real, dtype):
    task, directory, inputs, arguments = real
    pipe = pipeline(task, directory, dtype=dtype, batch_size=32)
    alone = [pipe(one, **arguments) for one in inputs]
    if task == "text-classification":  # which gives a list of one for one
        alone = [pipe({"text": one}, **arguments) for one in inputs]
    for size in (None, 1, 2, 3, 64):
        assert pipe(inputs, batch_size=size, **arguments) == alone
        assert list(pipe((one for one in inputs), batch_size=size, **arguments)) == alone
    assert pipe(tuple(inputs), **arguments) == alone


@pytest.mark.numbers
@pytest.mark.parametrize("kind", ["ConvBert", "MobileBert"])
def test_the_size_of_a_batch_changes_nothing_where_padding_is_seen(kind):
    """By the convolutions of ConvBERT, and where MobileBERT embeds words with their neighbours: what a row gives is what it gives without
    padding."""
    own = {"intra_bottleneck_size": 12} if kind == "MobileBert" else {}
    config = getattr(ferroformer, f"{kind}Config")(
        **SIZES | {"hidden_size": 24} | own, embedding_size=8, initializer_range=0.3, num_labels=3
    )
    model = getattr(ferroformer, f"{kind}ForSequenceClassification")(config)
    pipe = pipeline("text-classification", model, tokenizer=TOKENIZER)
    logits = [model(**TOKENIZER(text, return_tensors="np")).logits[0] for text in TEXTS]
    results = pipe(TEXTS, top_k=None, batch_size=4, function_to_apply="none")
    found = [{label["label"]: label["score"] for label in result} for result in results]
    assert found == [{f"LABEL_{i}": float(x) for i, x in enumerate(row)} for row in logits]


def test_the_task_is_that_of_the_model(real):
    task, directory, inputs, arguments = real
    if task == "zero-shot-classification":  # the models are the same
        task, inputs, arguments = "text-classification", TEXTS, {}
    pipe = pipeline(model=directory, **arguments)
    assert (pipe.task, pipe.device, pipe.dtype) == (task, "cpu", np.float32)
    assert type(pipeline(model=pipe.model, tokenizer=TOKENIZER)) is type(pipe)
    assert pipe(inputs) == pipeline(task, str(directory))(inputs, **arguments)


def test_saved(real, tmp_path):
    task, directory, inputs, arguments = real
    pipe = pipeline(task, directory, **arguments)
    pipe.save_pretrained(tmp_path)
    assert pipeline(task, tmp_path, **arguments)(inputs) == pipe(inputs) == pipe.predict(inputs)


def test_what_is_loaded(real, tmp_path, monkeypatch, caplog, no_network):
    task, directory, inputs, arguments = real
    expected = pipeline(task, directory)(inputs, **arguments)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(directory / name, tmp_path)
    for tokenizer in (directory, str(directory), TOKENIZER, (directory, {"padding_side": "right"})):
        assert pipeline(task, tmp_path, tokenizer=tokenizer)(inputs, **arguments) == expected
    config = BertConfig.from_pretrained(tmp_path)
    pipe = pipeline(task, tmp_path, config=config, tokenizer=TOKENIZER, model_kwargs={}, token=None, use_fast=False)
    assert pipe(inputs, **arguments) == expected
    assert pipeline(task, tmp_path, tokenizer=TOKENIZER, torch_dtype="bfloat16").dtype == "bfloat16"
    with pytest.raises(FileNotFoundError, match="no tokenizer|no vocab"):
        pipeline(task, tmp_path)
    with pytest.raises(ValueError, match="device_map"):
        pipeline(task, tmp_path, tokenizer=TOKENIZER, device_map="cuda")
    monkeypatch.setitem(factory.TASKS, task, factory.TASKS[task]._replace(default=(str(directory), "abc")))
    assert pipeline(task)(inputs, **arguments) == expected
    assert f"No model was supplied, defaulted to {directory} and revision abc" in caplog.text


@pytest.mark.parametrize("name", ["BertForMultipleChoice", "BertForNextSentencePrediction"])
def test_no_task_is_that_of_other_models(name, tmp_path):
    model = getattr(ferroformer, name)(BertConfig(**SIZES))
    model.save_pretrained(tmp_path)
    for given in (model, tmp_path):
        with pytest.raises(RuntimeError, match=f"the task cannot be told from {name}"):
            pipeline(model=given, tokenizer=TOKENIZER)


def test_generators_are_read_as_results_are_asked_for():
    asked = []

    def texts():
        for text in TEXTS:
            asked.append(text)
            yield text

    pipe = classifier()
    results = pipe(texts())
    assert asked == [] and iter(results) is results
    assert next(results) == pipe([TEXTS[0]])[0] and len(asked) == 1
    assert [*results] == pipe(TEXTS)[1:]
    results = pipe(texts(), batch_size=4)
    asked.clear()
    next(results)
    assert len(asked) == 4
    assert list(pipe(text for text in [])) == [] == pipe([])
    with pytest.raises(TypeError):
        len(results)


def test_batches_are_full():
    pipe = classifier()
    pipe(TEXTS, batch_size=4)
    pipe(KeyDataset([{"text": text} for text in TEXTS], "text"))
    assert pipe.model.calls == [4, 2]
    list(pipe(KeyDataset([{"text": text} for text in TEXTS], "text")))
    assert pipe.model.calls == [4, 2, 6]
    shot = pipeline("zero-shot-classification", pipe.model, tokenizer=TOKENIZER, candidate_labels=["x", "y", "z"])
    pipe.model.calls.clear()
    shot(["a", "b"], batch_size=4)
    assert pipe.model.calls == [4, 2]
    list(shot(text for text in ["a", "b"]))
    assert pipe.model.calls == [4, 2, 3, 3]


def test_batches_fit_into_memory(monkeypatch):
    from ferroformer.pipelines import base

    fill = pipeline("fill-mask", GivenForMaskedLM(), tokenizer=TOKENIZER)
    texts = ["[MASK]"] * 5 + ["[MASK] " * 12] + ["[MASK]"] * 3
    expected = fill(texts)
    assert fill.model.calls == [9]
    monkeypatch.setattr(base, "_NUMBERS", 10 * 30522)
    fill.model.calls.clear()
    assert fill(texts) == expected
    assert fill.model.calls == [3, 2, 1, 3]


def test_datasets():
    pipe = classifier()
    rows = [{"text": text, "other": "b", "label": 1} for text in TEXTS]
    results = pipe(KeyDataset(rows, "text"))
    assert len(results) == 6 and list(results) == pipe(TEXTS)
    pairs = pipe(KeyPairDataset(rows, "text", "other"))
    assert list(pairs) == pipe([{"text": text, "text_pair": "b"} for text in TEXTS])
    assert list(pipe(np.array(TEXTS))) == pipe(TEXTS)


def test_progress(capsys):
    pipe = classifier()
    pipe(TEXTS)
    assert capsys.readouterr().err == ""
    pipe(TEXTS, show_progress_bar=True)
    assert "6/6" in capsys.readouterr().err
    list(pipe(iter(TEXTS), show_progress_bar=True))
    assert "6it" in capsys.readouterr().err


def test_arguments_of_the_constructor_are_defaults_of_the_call():
    model = GivenForSequenceClassification()
    pipe = pipeline("text-classification", model, tokenizer=TOKENIZER, top_k=2, num_workers=8)
    assert [len(labels) for labels in pipe(TEXTS)] == [2] * 6
    assert [len(labels) for labels in pipe(TEXTS, top_k=1, num_workers=0)] == [1] * 6


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"device": 0}, ValueError, "device=0: models run on the CPU; allowed are None, -1 and 'cpu'"),
        ({"device": "cuda:1"}, ValueError, "device='cuda:1'"),
        ({"batch_size": 0}, ValueError, "batch_size=0: an integer of at least 1"),
        ({"tokenizer": None}, ValueError, "Impossible to guess which tokenizer to use"),
        ({"task": "text-nonsense"}, KeyError, "Unknown task text-nonsense, available tasks are .*'ner'"),
        ({"task": "object-detection"}, NotImplementedError, "task 'object-detection': not supported"),
        ({"task": None, "model": None, "tokenizer": None}, RuntimeError, "neither a task nor a model is given"),
        ({"model": None}, RuntimeError, "a tokenizer is given without a model"),
        ({"trust_remote_code": True}, NotImplementedError, "never runs code from a checkpoint"),
        ({"image_processor": "x"}, NotImplementedError, "image_processor: only tasks of text"),
        ({"task": "sentence-similarity"}, TypeError, "needs a SentenceTransformer, not a GivenFor"),
        ({"task": "zero-shot-classification", "nonsense": 1}, TypeError, "nonsense"),
        ({"function_to_apply": "tanh"}, ValueError, "tanh is not a valid ClassificationFunction"),
        ({"top_k": 0}, ValueError, "top_k=0"),
    ],
)
def test_errors(arguments, error, message):
    given = {"task": "text-classification", "model": GivenForSequenceClassification(), "tokenizer": TOKENIZER}
    with pytest.raises(error, match=message):
        pipeline(**given | arguments)


@pytest.mark.parametrize("device", [None, -1, "cpu"])
def test_the_cpu_is_a_device(device):
    pipeline("ner", GivenForTokenClassification(), tokenizer=TOKENIZER, device=device)


def test_tasks():
    writing = ["summarization", "text-generation", "text2text-generation", "translation"]
    assert get_supported_tasks() == sorted([*TASKS, *writing, "sentence-similarity", "ner", "sentiment-analysis"])
    assert isinstance(classifier(), ferroformer.TextClassificationPipeline)


def test_a_model_for_something_else_is_said_to_be_one(caplog):
    pipeline("ner", GivenForMaskedLM(), tokenizer=TOKENIZER)
    assert "The model 'GivenForMaskedLM' is not supported for token-classification" in caplog.text


# --- text-classification ----------------------------------------------------------------------
class Tensor:
    """As much of torch's as transformers' code asks of logits."""

    def __init__(self, values):
        self.values = values

    def float(self):
        return self

    def numpy(self):
        return self.values


@pytest.mark.parametrize("function", [None, *ClassificationFunction])
@pytest.mark.parametrize("top_k", [None, 1, 2, 9, "legacy"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"num_labels": 1}, {"num_labels": 5, "problem_type": "multi_label_classification"},
     {"num_labels": 2, "problem_type": "regression"}, {"num_labels": 4, "problem_type": "single_label_classification"}],
)  # fmt: skip
def test_labels_are_transformers(settings, top_k, function):
    pytest.importorskip("transformers")
    from transformers.pipelines.text_classification import ClassificationFunction as TheirFunction
    from transformers.pipelines.text_classification import TextClassificationPipeline as Theirs

    pipe = classifier(**settings)
    theirs = object.__new__(Theirs)
    theirs.model = pipe.model
    how = {"_legacy": True} if top_k == "legacy" else {"top_k": top_k, "_legacy": False}
    theirs_function = None if function is None else TheirFunction(function.value)
    for text in TEXTS:
        said = Tensor(scores_of(text, outputs=pipe.model.config.num_labels))
        expected = theirs.postprocess({"logits": [said]}, function_to_apply=theirs_function, **how)
        given = {} if top_k == "legacy" else {"top_k": top_k}
        found = pipe({"text": text}, function_to_apply=function, **given)
        assert json.loads(json.dumps(found)) == found
        assert [r["label"] for r in np.ravel(found)] == [r["label"] for r in np.ravel(expected)]
        for ours, other in zip(np.ravel(found), np.ravel(expected)):
            assert ours["score"] == pytest.approx(other["score"], abs=1e-7)


def test_forms_of_results():
    pipe = classifier()
    one = pipe({"text": "a"})
    assert one.keys() == {"label", "score"} and pipe("a") == [one] == pipe(["a"])
    assert pipe("a", top_k=1) == [one] and pipe(["a"], top_k=1) == [[one]]
    assert [label["label"] for label in pipe("a", return_all_scores=True)[0]] == ["LABEL_0", "LABEL_1"]
    assert pipe(["a"], return_all_scores=False) == [one]
    pair = pipe({"text": "a", "text_pair": "b"}, top_k=None)
    powers = np.exp(scores_of("a", "b"))
    assert [label["score"] for label in pair] == pytest.approx(sorted(powers / powers.sum(), reverse=True))
    assert pipe([[["a", "b"]]], top_k=None) == [pair]
    with pytest.raises(ValueError, match="if you are trying to send text pairs"):
        pipe([["a", "b"]])
    assert pipe("a b c", truncation=True, max_length=3) == pipe("a")


def test_sigmoid_of_what_is_large():
    from ferroformer.pipelines.scores import sigmoid, softmax

    assert sigmoid(np.array([-1e4, -200, 0, 200, 1e4], np.float32)).tolist() == pytest.approx([0, 0, 0.5, 1, 1])
    assert softmax(np.array([1e4, -1e4], np.float32)).tolist() == [1, 0]


# --- fill-mask --------------------------------------------------------------------------------
@pytest.fixture
def fill():
    return pipeline("fill-mask", GivenForMaskedLM(), tokenizer=TOKENIZER)


def test_words(fill):
    text = "Paris is the [MASK] of France."
    ids = TOKENIZER(text)["input_ids"]
    said = logits(ids, 30522)[ids.index(103)].astype(np.float64)
    probability = np.exp(said) / np.exp(said).sum()
    found = fill(text)
    assert [word["token"] for word in found] == np.argsort(-said, kind="stable")[:5].tolist()
    assert [word["score"] for word in found] == pytest.approx(probability[[word["token"] for word in found]], rel=1e-4)
    for word in found:
        assert word["token_str"] == TOKENIZER.decode([word["token"]])
        filled = [word["token"] if id == 103 else id for id in ids]
        assert word["sequence"] == TOKENIZER.decode(filled, skip_special_tokens=True)
    assert [len(fill(text, top_k=k)) for k in (1, 7)] == [1, 7]
    assert fill([text]) == found and fill([text, text]) == [found, found]


def test_words_of_a_model():
    """The logits of masks alone are computed: the same as where all are."""
    model = ferroformer.BertForMaskedLM(BertConfig(**SIZES, initializer_range=0.3))
    texts = ["a [MASK]", "[MASK] is [MASK] and not a cat", "so [MASK] are they"]
    for text, found in zip(texts, pipeline("fill-mask", model, tokenizer=TOKENIZER)(texts, top_k=4)):
        inputs = TOKENIZER(text, return_tensors="np")
        places = np.nonzero(inputs["input_ids"][0] == TOKENIZER.mask_token_id)[0]
        for place, words in zip(places, [found] if len(places) == 1 else found, strict=True):
            logits = model(**inputs).logits[0, place].astype(np.float64)
            best = np.argsort(-logits)[:4]
            assert [word["token"] for word in words] == best.tolist()
            assert [word["score"] for word in words] == pytest.approx(np.exp(logits[best]) / np.exp(logits).sum(), rel=1e-5)


def test_several_masks(fill):
    first, second = fill("[MASK] and [MASK]", top_k=2)
    assert len(first) == len(second) == 2
    assert first[0]["sequence"] == f"[CLS] {first[0]['token_str']} and [MASK] [SEP]"
    assert second[1]["sequence"] == f"[CLS] [MASK] and {second[1]['token_str']} [SEP]"


def test_targets(fill, caplog):
    every = {word["token_str"]: word for word in fill("a [MASK]", top_k=30522)}
    some = fill("a [MASK]", targets=["dog", "cat", "dog"])
    assert some == sorted([every["dog"], every["cat"]], key=lambda word: -word["score"])
    assert fill("a [MASK]", targets="dog") == [every["dog"]] and not caplog.text
    assert [word["token"] for word in fill("a [MASK]", targets=["unbelievably", ""])] == [4895]
    assert "`unbelievably` does not exist in the model vocabulary: replaced by 'un'" in caplog.text
    assert "`` does not exist in the model vocabulary: ignored" in caplog.text
    with pytest.raises(ValueError, match="At least one target"):
        fill("a [MASK]", targets=[])


def test_no_mask(fill):
    with pytest.raises(PipelineException, match=r"No mask_token \(\[MASK\]\) found on the input") as caught:
        fill(["[MASK]", "none"])
    assert (caught.value.task, caught.value.model) == ("fill-mask", "given")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    long = "a " * 600 + "[MASK]"
    with pytest.raises(PipelineException, match="No mask_token"):
        fill(long, tokenizer_kwargs={"truncation": True})
    with pytest.raises(PipelineException, match="does not define a `mask_token`"):
        maskless = AutoTokenizer.from_pretrained(DATA / "tokenizers" / "minilm")
        maskless.mask_token = None
        pipeline("fill-mask", GivenForMaskedLM(), tokenizer=maskless)


# --- feature-extraction -----------------------------------------------------------------------
def test_vectors(tmp_path):
    model = ferroformer.BertModel(BertConfig(**SIZES))
    pipe = pipeline("feature-extraction", model, tokenizer=TOKENIZER)
    text = "a b c d"
    expected = model(**TOKENIZER(text, return_tensors="np")).last_hidden_state
    assert pipe(text) == expected.tolist()
    assert all(np.array_equal(array, expected) for array in pipe([text, text + " e"], return_tensors=True)[:1])
    assert pipe(text, truncation=True, tokenize_kwargs={"max_length": 4}, return_tensors=True).shape == (1, 4, 24)
    with pytest.raises(ValueError, match="truncation parameter defined twice"):
        pipe(text, truncation=True, tokenize_kwargs={"truncation": True})


# --- zero-shot-classification -----------------------------------------------------------------
NAMES = {"contradiction": 0, "neutral": 1, "ENTAILMENT": 2}
NLI = {"label2id": NAMES, "id2label": {index: label for label, index in NAMES.items()}}


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("labels", [["sport"], ["sport", "politics", "art"]])
@pytest.mark.parametrize("label2id", [NAMES, {"entailment": 0, "not": 1}, {"a": 0, "b": 1}])
def test_own_labels_are_transformers(label2id, labels, multi_label):
    pytest.importorskip("transformers")
    from transformers.pipelines.zero_shot_classification import ZeroShotClassificationPipeline as Theirs

    names = {index: label for label, index in label2id.items()}
    model = GivenForSequenceClassification(id2label=names, label2id=label2id)
    pipe = pipeline("zero-shot-classification", model, tokenizer=TOKENIZER)
    theirs = object.__new__(Theirs)
    theirs.model = model
    rows = [
        {
            "sequence": "a text",
            "candidate_label": label,
            "logits": Tensor(scores_of("a text", f"It is {label}!", len(names))[None]),
        }
        for label in labels
    ]
    expected = theirs.postprocess(rows, multi_label=multi_label)
    found = pipe("a text", labels, hypothesis_template="It is {}!", multi_label=multi_label)
    assert found | {"scores": None} == expected | {"scores": None}
    assert found["scores"] == pytest.approx(expected["scores"], abs=1e-7)


def test_forms_of_own_labels(caplog):
    pipe = pipeline("zero-shot-classification", GivenForSequenceClassification(**NLI), tokenizer=TOKENIZER)
    assert not caplog.text and pipe.entailment_id == 2
    one = pipe("a text", candidate_labels=["x", "y"])
    assert one == pipe("a text", " x, y,") == pipe(sequences="a text", candidate_labels=("x", "y"))
    assert pipe(["a text", "b"], ["x", "y"])[0] == one
    assert one["sequence"] == "a text" and sum(one["scores"]) == pytest.approx(1)
    assert pipe("a text", "x, y", multi_class=True) == pipe("a text", "x, y", multi_label=True) != one
    for arguments in ((), ("",), ([],)):
        with pytest.raises(ValueError, match="at least one label and at least one sequence"):
            pipe("a text", *arguments)
    with pytest.raises(ValueError, match="at least one sequence"):
        pipe("", "x")
    with pytest.raises(ValueError, match="was not able to be formatted"):
        pipe("a text", "x", hypothesis_template="it is so")
    pipeline("zero-shot-classification", GivenForSequenceClassification(), tokenizer=TOKENIZER)
    assert "Failed to determine 'entailment' label id" in caplog.text


def test_the_text_is_cut_and_not_the_label():
    short = AutoTokenizer.from_pretrained(DATA / "tokenizers" / "minilm", model_max_length=12)
    pipe = pipeline("zero-shot-classification", GivenForSequenceClassification(**NLI), tokenizer=short)
    assert pipe("a " * 50, "x, y")["scores"] == pipe("a " * 4, "x, y")["scores"]
    longer = {"candidate_labels": "x, y", "hypothesis_template": "This " * 20 + "{}"}
    assert pipe("a", **longer) == pipeline("zero-shot-classification", pipe.model, tokenizer=TOKENIZER)("a", **longer)


# --- sentence-similarity ----------------------------------------------------------------------
@pytest.mark.numbers
def test_similarity_of_sentences(minilm):
    pipe = pipeline("sentence-similarity", str(minilm))
    sentences = ["A man eats food.", "The cat sits outside.", "Someone is eating."]
    item = {"source_sentence": "A man is eating.", "sentences": sentences}
    found = pipe(item)
    vectors = pipe.model.encode([item["source_sentence"], *sentences])
    assert found == pytest.approx(pipe.model.similarity(vectors[:1], vectors[1:])[0].tolist(), abs=1e-6)
    assert (pipe.dtype, pipe.torch_dtype) == (np.float32, np.float32)
    assert pipe("A man is eating.", sentences) == found
    assert pipe([item, item | {"sentences": sentences[1:]}]) == [found, found[1:]]
    assert list(pipe(one for one in [item])) == [found]
    assert pipeline(model=pipe.model)(item) == found
    assert pipe(item | {"sentences": []}) == []
    with pytest.raises(ValueError, match='a dict {"source_sentence"'):
        pipe(["A man is eating."])
    with pytest.raises(ValueError, match='"sentences" a list of texts'):
        pipe("a", "b")
