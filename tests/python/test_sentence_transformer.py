"""SentenceTransformer against the recorded vectors of all-MiniLM-L6-v2, and on small models with other modules."""

import json
import shutil

import numpy as np
import pytest

from ferroformer import BertConfig, BertModel, SentenceTransformer
from ferroformer.errors import CorruptModelError, InputError

from .conftest import DATA, TINY

pytestmark = pytest.mark.numbers

REFERENCE = DATA / "minilm-reference"
TEXTS = json.loads((REFERENCE / "texts.json").read_text())["texts"]
VOCABULARY = "[PAD] [UNK] [CLS] [SEP] [MASK] a b c d query : one two three .".split()
MODULES = "sentence_transformers.models."


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def model(minilm):
    return SentenceTransformer(minilm)


@pytest.fixture
def make(tmp_path):
    """Write a small model with the modules, pooling and settings wanted, and load it."""

    def write(pooling=None, modules=("Transformer", "Pooling"), limits=None, settings=None, **arguments):
        BertModel(BertConfig(**TINY, initializer_range=0.5), seed=2).save_pretrained(tmp_path)
        (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
        kinds = [name if "." in name else MODULES + name for name in modules]
        folders = ["", "1_Pooling", "2_Normalize"]
        listed = [{"idx": i, "name": str(i), "path": folders[i], "type": kind} for i, kind in enumerate(kinds)]
        (tmp_path / "modules.json").write_text(json.dumps(listed))
        (tmp_path / "1_Pooling").mkdir(exist_ok=True)
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling or {"pooling_mode": "mean"}))
        (tmp_path / "sentence_bert_config.json").write_text(json.dumps(limits or {}))
        (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(settings or {}))
        return SentenceTransformer(tmp_path, **arguments)

    return write


def test_recorded_vectors(model):
    recorded = np.load(REFERENCE / "mean_cls_pooler.npy")
    model.max_seq_length = 512
    try:
        vectors = model.encode(TEXTS)
        assert vectors.shape == (55, 384) and vectors.dtype == np.float32
        assert np.abs(vectors - unit(recorded[:, 0])).max() <= 2e-6
        first = [states[0] for states in model.encode(TEXTS, output_value="token_embeddings")]
        assert np.abs(np.stack(first) - recorded[:, 1]).max() <= 2e-5
    finally:
        model.max_seq_length = 256


def test_no_warning_for_the_unused_pooler(minilm, caplog):
    SentenceTransformer(minilm)
    assert not caplog.records


def test_shapes(model):
    assert model.encode("a text").shape == (384,)
    assert model.encode(["a text"]).shape == (1, 384)
    assert model.encode([]).shape == (0,)
    assert model.encode(("a", "b")).shape == model.encode(np.array(["a", "b"])).shape == (2, 384)
    listed = model.encode(["a", "b"], convert_to_numpy=False)
    assert [vector.shape for vector in listed] == [(384,)] * 2
    one, two = model.encode(["a", "a b"], output_value="token_embeddings")
    assert (one.shape, two.shape) == ((3, 384), (4, 384))
    assert np.array_equal(model.encode("a", output_value="token_embeddings"), one)
    assert model.encode(inputs=["a"]).shape == (1, 384)


def test_same_bits_in_any_company(model):
    together = model.encode(TEXTS)
    assert np.array_equal(model.encode(TEXTS, batch_size=3), together)
    assert np.array_equal(model.encode(TEXTS[::-1])[::-1], together)
    assert all(np.array_equal(model.encode(text), vector) for text, vector in zip(TEXTS[:8], together))


def test_truncate_first_and_normalise_then(model):
    full, short = model.encode(TEXTS[:5]), model.encode(TEXTS[:5], truncate_dim=16)
    assert np.array_equal(short, full[:, :16])
    assert np.allclose(model.encode(TEXTS[:5], truncate_dim=16, normalize_embeddings=True), unit(short))


def test_what_it_is(model, minilm):
    assert model.max_seq_length == model.get_max_seq_length() == 256
    assert model.get_sentence_embedding_dimension() == model.get_embedding_dimension() == 384
    assert SentenceTransformer(minilm, truncate_dim=8).get_embedding_dimension() == 8
    assert isinstance(model[0].auto_model, BertModel) and model[1].modes == ("mean",)
    assert model.device == "cpu" and model.similarity_fn_name == "cosine"
    assert model.tokenize(["a", "a b c"])["input_ids"].shape == (2, 5)
    assert "384 dimensions, mean pooling" in repr(model)


def test_long_text_is_cut(make):
    model = make(limits={"max_seq_length": 5})
    assert np.array_equal(model.encode("a b c d d d"), model.encode("a b c"))
    model.max_seq_length = 16
    assert not np.array_equal(model.encode("a b c d d d"), model.encode("a b c"))
    for wrong in (0, 17, None, 2.5):
        with pytest.raises(InputError, match="max_seq_length"):
            model.max_seq_length = wrong
    assert make().max_seq_length == 16


MODES = {
    "cls": lambda states: states[0],
    "max": lambda states: states.max(axis=0),
    "mean": lambda states: states.mean(axis=0),
    "mean_sqrt_len_tokens": lambda states: states.sum(axis=0) / np.sqrt(len(states)),
    "weightedmean": lambda states: np.average(states, axis=0, weights=np.arange(1, len(states) + 1)),
    "lasttoken": lambda states: states[-1],
}


@pytest.mark.parametrize("mode", MODES)
def test_pooling_modes_in_both_schemas(make, mode):
    old = mode if mode.endswith(("tokens", "lasttoken")) else f"{mode}_token" + "s" * (mode != "cls")
    for schema in ({"pooling_mode": mode}, {"pooling_mode": [mode]}, {f"pooling_mode_{old}": True}):
        model = make(schema)
        states = model.encode("a b c", output_value="token_embeddings")
        assert np.allclose(model.encode("a b c"), MODES[mode](states), atol=1e-5)


def test_several_modes_are_concatenated_in_their_fixed_order(make):
    model = make({"pooling_mode": ["mean", "cls"]})
    states = model.encode("a b", output_value="token_embeddings")
    assert model.get_embedding_dimension() == 24
    assert np.allclose(model.encode("a b"), np.concatenate([states[0], states.mean(axis=0)]), atol=1e-5)


@pytest.mark.parametrize("modes", ["nonsense", ["mean", "nonsense"], []])
def test_unknown_pooling(make, modes):
    with pytest.raises(CorruptModelError, match="pooling modes"):
        make({"pooling_mode": modes})


def test_normalize(make):
    plain, normalised = make(), make(modules=("Transformer", "Pooling", "Normalize"))
    assert np.allclose(normalised.encode(["a b", "c"]), unit(plain.encode(["a b", "c"])))
    assert np.allclose(plain.encode("a b", normalize_embeddings=True), normalised.encode("a b"))


@pytest.mark.parametrize("place", ["sentence_transformer.modules.", "base.modules."])
def test_other_spellings_of_modules(make, place):
    make(modules=[f"sentence_transformers.{place}{kind}" for kind in ("Transformer", "Pooling", "Normalize")])


@pytest.mark.parametrize("kind", ["Dense", "WordEmbeddings", "os.system"])
def test_other_modules(make, kind):
    with pytest.raises(NotImplementedError, match=kind):
        make(modules=("Transformer", "Pooling", kind))


def test_order_of_modules(make):
    with pytest.raises(NotImplementedError, match="Pooling, Transformer"):
        make(modules=("Pooling", "Transformer"))


def test_folders_stay_inside(make, tmp_path):
    make()
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules[1]["path"] = "../1_Pooling"
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(CorruptModelError, match="plain file name"):
        SentenceTransformer(tmp_path)


def test_without_modules(make, tmp_path, caplog):
    mean = make().encode("a b c")
    (tmp_path / "modules.json").unlink()
    shutil.rmtree(tmp_path / "1_Pooling")
    assert np.array_equal(SentenceTransformer(tmp_path).encode("a b c"), mean)
    assert "no modules.json: using mean pooling" in caplog.text


PROMPTS = {"query": "query : ", "passage": "a a "}


def test_prompts(make):
    model = make(settings={"prompts": PROMPTS})
    assert model.prompts == {**PROMPTS, "document": ""}
    with_prompt = model.encode("query : b")
    assert np.array_equal(model.encode("b", prompt_name="query"), with_prompt)
    assert np.array_equal(model.encode("b", prompt="query : "), with_prompt)
    assert np.array_equal(model.encode_query("b"), with_prompt)
    assert np.array_equal(model.encode_document("b"), model.encode("b"))
    with pytest.raises(ValueError, match="prompt_name='nonsense'.*'passage', 'query'"):
        model.encode("b", prompt_name="nonsense")


def test_default_prompt(make):
    model = make(prompts=PROMPTS, default_prompt_name="passage")
    assert np.array_equal(model.encode("b"), model.encode("a a b", prompt=""))
    assert np.array_equal(model.encode_document("b"), model.encode("b", prompt=""))
    with pytest.raises(ValueError, match="nonsense"):
        make(default_prompt_name="nonsense")


def test_prompt_left_out_of_the_pooling(make):
    model = make({"pooling_mode": "mean", "include_prompt": False})
    states = model.encode("query : a b", output_value="token_embeddings")
    # [CLS] and the prompt's two tokens are left out
    assert np.allclose(model.encode("a b", prompt="query : "), states[3:].mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarity(make, name):
    model = make(settings={"similarity_fn_name": name})
    a, b = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    pairs = {
        "cosine": lambda x, y: unit(x) @ unit(y),
        "dot": np.dot,
        "euclidean": lambda x, y: -np.linalg.norm(x - y),
        "manhattan": lambda x, y: -np.abs(x - y).sum(),
    }
    expected = np.array([[pairs[name](x, y) for y in b] for x in a])
    assert np.allclose(model.similarity(a, b), expected, atol=1e-5)
    assert np.allclose(model.similarity_pairwise(a, b), np.diag(expected), atol=1e-5)
    assert model.similarity(a[0], b).shape == (1, 3)


def test_lower_case(make):
    model = make(limits={"do_lower_case": True})
    assert np.array_equal(model.encode("A B"), model.encode("a b"))


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ({"nonsense": 1}, ValueError, "nonsense"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"precision": "int8"}, NotImplementedError, "int8"),
        ({"convert_to_tensor": True}, NotImplementedError, "torch"),
        ({"output_value": None}, NotImplementedError, "output_value"),
        ({"device": "cuda"}, ValueError, "cuda"),
    ],
)
def test_refused_arguments(make, arguments, error, text):
    with pytest.raises(error, match=text):
        make().encode("a", **arguments)


def test_refused_inputs(make):
    model = make()
    for wrong in ([1], [None], None, 3):
        with pytest.raises(TypeError):
            model.encode(wrong)


def test_refused_settings(make):
    for arguments in ({"device": "cuda"}, {"similarity_fn_name": "nonsense"}):
        with pytest.raises(ValueError, match="cuda|nonsense"):
            make(**arguments)


def test_progress_bar(make, capsys):
    make().encode(["a"] * 5, batch_size=2, show_progress_bar=True)
    assert "3/3" in capsys.readouterr().err
    make().encode(["a"] * 5)
    assert capsys.readouterr().err == ""
