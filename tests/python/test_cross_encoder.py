"""CrossEncoder: a model for sequence classification on pairs of texts, what is made of its logits, and ranking."""

import json

import numpy as np
import pytest

from ferroformer import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForSequenceClassification, CrossEncoder
from ferroformer.errors import InputError

from .conftest import TINY
from .sentence_models import write_sentence_model, write_tokenizer

pytestmark = pytest.mark.numbers

PAIRS = [("a b", "c"), ("query : a", "one two three"), ("d", "d d d"), ("a b c", "b"), ("one", "")]
IDENTITY = "torch.nn.modules.linear.Identity"


@pytest.fixture
def make(tmp_path):
    """Write a small classifier with so many labels, and load it."""

    def write(labels=1, config=None, **arguments):
        settings = {**TINY, "initializer_range": 0.5, "num_labels": labels, **(config or {})}
        BertForSequenceClassification(BertConfig(**settings), seed=3).save_pretrained(tmp_path)
        write_tokenizer(tmp_path)
        return CrossEncoder(tmp_path, **arguments)

    return write


def logits_of(path, pairs, max_length=16):
    """One pair at a time, by the parts."""
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    options = {"truncation": True, "max_length": max_length, "return_tensors": "np"}
    batches = [tokenizer([first], [second], **options) for first, second in pairs]
    return np.concatenate([model(**batch).logits for batch in batches])


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def test_one_label(make, tmp_path):
    model = make()
    scores = model.predict(PAIRS)
    assert scores.dtype == np.float32 and scores.shape == (5,)
    assert np.abs(scores - sigmoid(logits_of(tmp_path, PAIRS))[:, 0]).max() <= 1e-6
    assert np.array_equal(model.predict(PAIRS, activation_fn="identity"), logits_of(tmp_path, PAIRS)[:, 0])
    assert model.num_labels == 1 and model.max_length == model.max_seq_length == 16
    assert "1 labels" in repr(model) and model.model.config is model.config


def test_several_labels(make, tmp_path):
    model, logits = make(3), logits_of(tmp_path, PAIRS)
    assert np.array_equal(model.predict(PAIRS), logits)
    powers = np.exp(logits.astype(np.float64))
    assert np.allclose(model.predict(PAIRS, apply_softmax=True), powers / powers.sum(1, keepdims=True), atol=1e-6)
    assert np.array_equal(model.predict(PAIRS, activation_fn=lambda x: x[:, ::-1]), logits[:, ::-1])


def test_shapes(make):
    one, three = make(), make(3)
    assert np.ndim(one.predict(PAIRS[0])) == 0 and one.predict(list(PAIRS[0])) == one.predict(PAIRS)[0]
    assert three.predict(PAIRS[0]).shape == (3,)
    assert one.predict([]).shape == three.predict([]).shape == (0,)
    assert one.predict(np.array(PAIRS)).shape == one.predict(inputs=PAIRS).shape == (5,)
    assert [score.shape for score in three.predict(PAIRS, convert_to_numpy=False)] == [(3,)] * 5
    assert one.predict((pair for pair in PAIRS), num_workers=2).shape == (5,)


@pytest.mark.parametrize("labels", [1, 4])
def test_same_bits_in_any_company(make, labels):
    model = make(labels, activation_fn="torch.nn.modules.activation.Sigmoid")
    pairs = [(" ".join("abcd"[: 1 + i % 4]), " ".join("dcba"[: 1 + i // 4 % 4])) for i in range(50)]
    together = model.predict(pairs)
    assert np.array_equal(model.predict(pairs, batch_size=3), together)
    assert np.array_equal(model.predict(pairs[::-1])[::-1], together)
    assert all(np.array_equal(model.predict(pair), score) for pair, score in zip(pairs, together))


def test_long_pairs_are_cut(make, tmp_path):
    model = make(max_length=7)
    pair = ("a b c d", "one")
    assert model.predict(pair) == model.predict(("a b c", "one"))
    assert model.predict(pair, activation_fn="identity") == logits_of(tmp_path, [pair], 7)[0, 0]
    model.max_length = 16
    assert model.predict(pair) != model.predict(("a b c", "one"))
    with pytest.raises(InputError, match="max_seq_length=17"):
        model.max_length = 17


@pytest.mark.parametrize(
    "config",
    [
        {"sentence_transformers": {"activation_fn": IDENTITY, "version": "4.1.0"}},
        {"sbert_ce_default_activation_function": IDENTITY},
    ],
)
def test_activation_of_the_checkpoint(make, tmp_path, config):
    assert np.array_equal(make(config=config).predict(PAIRS), logits_of(tmp_path, PAIRS)[:, 0])
    assert np.allclose(make(config=config, activation_fn="sigmoid").predict(PAIRS), sigmoid(logits_of(tmp_path, PAIRS))[:, 0])


def test_activations(make):
    for wrong, error in (("torch.nn.modules.activation.Softsign", NotImplementedError), (3, TypeError)):
        with pytest.raises(error, match="activation"):
            make(activation_fn=wrong)
    torch_class = type("Identity", (), {"__module__": "torch.nn.modules.linear"})
    assert np.array_equal(make(activation_fn=torch_class()).predict(PAIRS), make(activation_fn="Identity").predict(PAIRS))


DOCUMENTS = ["a b c", "one two", "d", "a b c", "query : one"]


def test_rank(make):
    model = make()
    scores = model.predict([("a", document) for document in DOCUMENTS]).tolist()
    order = sorted(range(5), key=lambda i: (-scores[i], i))
    ranked = model.rank("a", DOCUMENTS)
    assert ranked == [{"corpus_id": i, "score": scores[i]} for i in order]
    assert model.rank("a", DOCUMENTS, top_k=2) == ranked[:2]
    texts = [result["text"] for result in model.rank("a", DOCUMENTS, return_documents=True)]
    assert texts == [DOCUMENTS[i] for i in order]
    assert model.rank("a", []) == []
    with pytest.raises(InputError, match="this one has 2"):
        make(2).rank("a", DOCUMENTS)


def test_prompts(make):
    model = make(prompts={"query": "query : "}, default_prompt_name="query")
    assert np.array_equal(model.predict(PAIRS), make().predict([("query : " + a, b) for a, b in PAIRS]))
    assert np.array_equal(model.predict(PAIRS, prompt=""), make().predict(PAIRS))
    assert model.rank("a", DOCUMENTS) == make().rank("a", DOCUMENTS, prompt="query : ")
    with pytest.raises(ValueError, match="prompt_name='nonsense'"):
        model.predict(PAIRS, prompt_name="nonsense")


@pytest.mark.parametrize("labels, activation_fn", [(1, "tanh"), (3, None)])
def test_saved_and_loaded(make, tmp_path, labels, activation_fn):
    model = make(labels, activation_fn=activation_fn, max_length=9, prompts={"query": "d "}, default_prompt_name="query")
    model.save_pretrained(tmp_path / "saved")
    again = CrossEncoder(tmp_path / "saved")
    assert np.array_equal(again.predict(PAIRS), model.predict(PAIRS))
    assert (again.max_length, again.prompts, again.default_prompt_name) == (9, {"query": "d "}, "query")
    # what versions 4 and 5 of sentence-transformers read
    (tmp_path / "saved" / "modules.json").unlink()
    older = CrossEncoder(tmp_path / "saved")
    assert np.array_equal(older.predict(PAIRS, prompt="d "), model.predict(PAIRS)) and older.max_length == 9


def test_own_activations_cannot_be_saved(make, tmp_path):
    with pytest.raises(NotImplementedError, match="activation_fn"):
        make(activation_fn=lambda x: x).save_pretrained(tmp_path / "saved")


def test_files_of_version_6(make, tmp_path):
    scores = make(activation_fn="identity").predict(PAIRS)
    text = {"text": {"method": "forward", "method_output_name": "logits"}}
    kind = "sentence_transformers.base.modules.transformer.Transformer"
    limits = {"transformer_task": "sequence-classification", "modality_config": text, "module_output_name": "scores"}
    for name, content in {
        "modules.json": [{"idx": 0, "name": "0", "path": "", "type": kind}],
        "sentence_bert_config.json": limits,
        "config_sentence_transformers.json": {"model_type": "CrossEncoder", "activation_fn": IDENTITY},
    }.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert np.array_equal(CrossEncoder(tmp_path).predict(PAIRS), scores)
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"transformer_task": "text-generation"}))
    with pytest.raises(NotImplementedError, match="text-generation"):
        CrossEncoder(tmp_path)


def test_embedding_models_are_no_cross_encoders(tmp_path):
    write_sentence_model(tmp_path)
    with pytest.raises(NotImplementedError, match="Transformer, Pooling"):
        CrossEncoder(tmp_path)


def test_a_new_head_has_one_label(tiny, caplog):
    write_tokenizer(tiny)
    assert CrossEncoder(tiny).num_labels == 1 and "classifier" in caplog.text
    assert CrossEncoder(tiny, num_labels=4).predict(PAIRS).shape == (5, 4)


@pytest.mark.parametrize("wrong", [None, "text", ["a", 1], [("a",)], [("a", "b", "c")], [["a", None]], ["a", "b", "c"]])
def test_refused_pairs(make, wrong):
    with pytest.raises(TypeError, match="text"):
        make().predict(wrong)


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ({"nonsense": 1}, ValueError, "nonsense"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"convert_to_tensor": True}, NotImplementedError, "torch"),
        ({"device": "cuda"}, ValueError, "cuda"),
        ({"pool": {}}, NotImplementedError, "pool"),
    ],
)
def test_refused_arguments(make, arguments, error, text):
    with pytest.raises(error, match=text):
        make().predict(PAIRS, **arguments)


def test_progress_bar(make, capsys):
    make().predict(PAIRS, batch_size=2, show_progress_bar=True)
    assert "3/3" in capsys.readouterr().err
