"""SentenceTransformer against the recorded vectors of all-MiniLM-L6-v2, and on small models with other modules."""

import json
import shutil

import numpy as np
import pytest

from ferroformer import BertModel, SentenceTransformer, util
from ferroformer.errors import CorruptModelError, InputError

from .conftest import DATA
from .sentence_models import write_sentence_model

pytestmark = pytest.mark.numbers

REFERENCE = DATA / "minilm-reference"
TEXTS = json.loads((REFERENCE / "texts.json").read_text())["texts"]
def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def model(minilm):
    return SentenceTransformer(minilm)


@pytest.fixture
def make(tmp_path):
    """Write a small model with the modules, pooling and settings wanted, and load it."""

    def write(pooling=None, modules=("Transformer", "Pooling"), limits=None, settings=None, **arguments):
        write_sentence_model(tmp_path, modules, pooling, limits, settings)
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


OLD_PAIR = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True, "pooling_mode_max_tokens": False}


@pytest.mark.parametrize("pooling, order", [({"pooling_mode": ["mean", "cls"]}, "mean cls"), (OLD_PAIR, "cls mean")])
def test_several_modes_are_concatenated(make, tmp_path, pooling, order):
    model = make(pooling)
    states = model.encode("a b", output_value="token_embeddings")
    assert model.get_embedding_dimension() == 24
    assert np.allclose(model.encode("a b"), np.concatenate([MODES[mode](states) for mode in order.split()]), atol=1e-5)
    model.save_pretrained(tmp_path / "saved")
    assert np.array_equal(SentenceTransformer(tmp_path / "saved").encode("a b"), model.encode("a b"))


def test_no_mode_is_the_mean(make):
    for pooling in ({"word_embedding_dimension": 12}, {"pooling_mode_cls_token": False}):
        assert make(pooling)[1].modes == ("mean",)


@pytest.mark.parametrize("modes", ["nonsense", ["mean", "nonsense"], [], [1], 3])
def test_unknown_pooling(make, modes):
    with pytest.raises(CorruptModelError, match="pooling modes"):
        make({"pooling_mode": modes})


def test_normalize(make):
    plain, normalised = make(), make(modules=("Transformer", "Pooling", "Normalize"))
    assert np.allclose(normalised.encode(["a b", "c"]), unit(plain.encode(["a b", "c"])))
    assert np.allclose(plain.encode("a b", normalize_embeddings=True), normalised.encode("a b"))


@pytest.mark.parametrize("place", ["models", "sentence_transformer.modules", "base.modules.any"])
def test_other_spellings_of_modules(make, place):
    model = make(modules=[f"sentence_transformers.{place}.{kind}" for kind in ("Transformer", "Pooling", "Normalize")])
    assert len(model) == 3 and model[1].modes == ("mean",)


@pytest.mark.parametrize("kind", ["LayerNorm", "WordEmbeddings", "os.system", "custom_code.Normalize"])
def test_other_modules(make, kind):
    with pytest.raises(NotImplementedError, match=kind):
        make(modules=("Transformer", "Pooling", kind))


REFUSED = [
    ("limits", {"transformer_task": "fill-mask"}, "transformer_task='fill-mask'"),
    ("limits", {"module_output_name": "sentence_embedding"}, "module_output_name"),
    ("limits", {"modality_config": {"image": {}}}, "modality_config"),
    ("limits", {"config_args": {"hidden_act": "relu"}}, "config_args"),
    ("settings", {"model_type": "SparseEncoder"}, "SparseEncoder"),
]


@pytest.mark.parametrize("file, content, text", REFUSED)
def test_settings_that_are_not_computed(make, file, content, text):
    with pytest.raises(NotImplementedError, match=text):
        make(**{file: content})


def test_modules_of_token_vectors(make):
    normalize = ("Normalize", {"module_input_name": "token_embeddings"})
    with pytest.raises(NotImplementedError, match="2_Normalize.*token_embeddings"):
        make(modules=("Transformer", "Pooling", normalize))


def test_settings_of_version_6(make):
    text = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
    limits = {"transformer_task": "feature-extraction", "modality_config": text, "module_output_name": "token_embeddings"}
    settings = {"model_type": "SentenceTransformer", "__version__": {"sentence_transformers": "6.2.0"}}
    assert np.array_equal(make(limits=limits, settings=settings).encode("a b"), make().encode("a b"))


def test_old_name_of_the_settings(make, tmp_path):
    make(limits={"max_seq_length": 5})
    (tmp_path / "sentence_bert_config.json").rename(tmp_path / "sentence_roberta_config.json")
    assert SentenceTransformer(tmp_path).max_seq_length == 5


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


def test_prompts_that_are_null(make):
    assert make(settings={"prompts": {"query": None, "other": None}}).prompts == {"query": "", "document": "", "other": ""}


MALFORMED = [("prompts", {"query": 1}), ("prompts", ["query"]), ("default_prompt_name", []), ("similarity_fn_name", 1)]


@pytest.mark.parametrize("name, value", MALFORMED)
def test_malformed_settings(make, name, value):
    with pytest.raises(CorruptModelError, match=f"config_sentence_transformers.json.*{name}="):
        make(settings={name: value})


def test_document_prompt(make):
    model = make(settings={"prompts": {"document": "a a "}})
    assert np.array_equal(model.encode_document("b"), model.encode("a a b"))
    assert np.array_equal(model.encode_document("b", "query"), model.encode("b"))
    assert np.array_equal(model.encode_query("b", prompt="a a "), model.encode("a a b"))


def test_pooling_of_the_prompt_can_be_changed(make):
    model = make({"pooling_mode": "mean", "include_prompt": False})
    model.set_pooling_include_prompt(True)
    assert np.array_equal(model.encode("b", prompt="a a "), model.encode("a a b"))


def test_everything_of_a_text(make):
    model = make()
    one, two = model.encode(["a b c", "d"], output_value=None, truncate_dim=7)
    assert one["input_ids"].shape == one["attention_mask"].shape == (5,)
    assert np.array_equal(one["token_embeddings"], model.encode("a b c", output_value="token_embeddings"))
    assert np.array_equal(two["sentence_embedding"], model.encode("d", truncate_dim=7))
    assert set(model.encode("d", output_value=None)) == set(one)


@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
def test_precision(model, precision):
    vectors = model.encode(TEXTS)
    quantized = model.encode(TEXTS, precision=precision)
    assert quantized.dtype == (np.uint8 if precision.startswith("u") else np.int8)
    assert np.array_equal(quantized, util.quantize_embeddings(vectors, precision))
    if "binary" in precision:
        assert np.array_equal(model.encode(TEXTS[3], precision=precision), quantized[3])
    else:
        with pytest.raises(InputError, match="one embedding"):
            model.encode(TEXTS[3], precision=precision)
    assert model.encode([], precision=precision).shape == (0,)


def test_truncation_in_a_context(make):
    model = make(truncate_dim=9)
    with model.truncate_embeddings(5):
        assert model.encode("a").shape == (5,) and model.get_embedding_dimension() == 5
    with model.truncate_sentence_embeddings(None):
        assert model.encode("a").shape == (12,)
    assert model.encode("a").shape == (9,)
    for wrong in (0, -1, 2.5, True):
        with pytest.raises(InputError, match="truncate_dim"):
            model.encode("a", truncate_dim=wrong)


def test_saved_and_loaded(make, tmp_path):
    settings = {"prompts": PROMPTS, "default_prompt_name": "query", "similarity_fn_name": "dot", "truncate_dim": 10}
    modules = ("Transformer", "Pooling", "Normalize")
    pooling = {"pooling_mode": "lasttoken", "include_prompt": False}
    model = make(pooling, modules, {"max_seq_length": 9, "do_lower_case": True}, settings)
    model.save_pretrained(tmp_path / "saved")
    again = SentenceTransformer(tmp_path / "saved")
    assert np.array_equal(again.encode(["A b", "c d"]), model.encode(["A b", "c d"]))
    for name in ("prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim", "max_seq_length"):
        assert getattr(again, name) == getattr(model, name)
    assert [again[i] for i in (1, 2)] == [model[i] for i in (1, 2)] and len(again) == 3


def test_lower_case(make, tmp_path):
    """Words, not the special tokens in a text."""
    cased = {"tokenizer_kwargs": {"do_lower_case": False}}
    model, texts = make(limits={"do_lower_case": True}, **cased), ["A b [SEP] C", "Query : TWO"]
    assert np.array_equal(model.encode(texts), make(**cased).encode(["a b [SEP] c", "query : two"]))
    assert not np.array_equal(model.encode(texts), make(**cased).encode(texts))
    assert np.array_equal(make(limits={"do_lower_case": True}).encode(texts), model.encode(texts))
    model.save_pretrained(tmp_path / "saved")
    assert np.array_equal(SentenceTransformer(tmp_path / "saved").encode(texts), model.encode(texts))


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ({"nonsense": 1}, ValueError, "nonsense"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"precision": "int4"}, ValueError, "int4"),
        ({"precision": "int8", "output_value": None}, ValueError, "float32 only"),
        ({"convert_to_tensor": True}, NotImplementedError, "torch"),
        ({"output_value": "nonsense"}, ValueError, "output_value"),
        ({"pool": {}}, NotImplementedError, "pool"),
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
    for name, value in {"backend": "onnx", "trust_remote_code": True, "modules": []}.items():
        with pytest.raises(NotImplementedError, match=name):
            make(**{name: value})


def test_arguments_of_the_parts(make):
    model = make(tokenizer_kwargs={"truncation_side": "left"}, config_kwargs={"hidden_act": "relu"}, limits={"max_seq_length": 4})
    assert model[0].auto_model.config.hidden_act == "relu"
    assert np.array_equal(model.encode("a b c d"), model.encode("c d"))


def test_progress_bar(make, capsys):
    make().encode(["a"] * 5, batch_size=2, show_progress_bar=True)
    assert "3/3" in capsys.readouterr().err
    make().encode(["a"] * 5)
    assert capsys.readouterr().err == ""
