"""The Dense module of sentence-transformers, against its definition in float64."""

import json
import math

import numpy as np
import pytest

from ferroformer import CosineSimilarityLoss, SentenceTransformer
from ferroformer.activation_functions import activation, softmax
from ferroformer.errors import CorruptModelError, WeightMismatchError

from .sentence_models import write_dense_weights, write_sentence_model
from .torch_writer import write_torch

pytestmark = pytest.mark.numbers

WIDTH, OUT = 12, 29
TEXTS = ["a b c", "query : d", "one", "two three . a b", "c c d"]
TANH = "torch.nn.modules.activation.Tanh"
IDENTITY = "torch.nn.modules.linear.Identity"
FUNCTIONS = {
    IDENTITY: lambda x: x,
    TANH: np.tanh,
    "torch.nn.modules.activation.Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "torch.nn.modules.activation.ReLU": lambda x: np.maximum(x, 0),
    "torch.nn.modules.activation.SiLU": lambda x: x / (1 + np.exp(-x)),
    "torch.nn.modules.activation.GELU": lambda x: np.vectorize(lambda v: v * 0.5 * math.erfc(-v / math.sqrt(2)))(x),
}


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.fixture
def make(tmp_path):
    """(model, tensors of each Dense module) with Dense modules of these configurations, and what comes after them."""

    def write(*configs, later=(), **arguments):
        settings = [{"activation_function": TANH, "in_features": WIDTH, "out_features": OUT, "bias": True} | c for c in configs]
        write_sentence_model(tmp_path, ("Transformer", "Pooling", *(("Dense", s) for s in settings), *later))
        folders = [tmp_path / f"{i + 2}_Dense" for i in range(len(settings))]
        tensors = [write_dense_weights(folder, s, seed) for seed, (folder, s) in enumerate(zip(folders, settings))]
        return SentenceTransformer(tmp_path, **arguments), tensors

    return write


@pytest.fixture
def pooled(tmp_path):
    """What the module reads, in float64."""
    write_sentence_model(tmp_path / "plain")
    return SentenceTransformer(tmp_path / "plain").encode(TEXTS).astype(np.float64)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_definition(make, pooled, name):
    model, (tensors,) = make({"activation_function": name})
    expected = FUNCTIONS[name](pooled @ tensors["linear.weight"].T.astype(np.float64) + tensors["linear.bias"])
    vectors = model.encode(TEXTS)
    assert vectors.dtype == np.float32 and model.get_embedding_dimension() == OUT
    assert np.abs(vectors - expected).max() <= 1e-5
    assert model[2].width == OUT and len(model) == 3


def test_without_bias(make, pooled):
    model, (tensors,) = make({"bias": False})
    assert np.abs(model.encode(TEXTS) - np.tanh(pooled @ tensors["linear.weight"].T.astype(np.float64))).max() <= 1e-5


@pytest.mark.parametrize("out", [WIDTH, OUT])
def test_residual(make, pooled, out):
    model, (tensors,) = make({"use_residual": True, "out_features": out})
    through = np.tanh(pooled @ tensors["linear.weight"].T.astype(np.float64) + tensors["linear.bias"])
    beside = pooled @ tensors["residual.weight"].T.astype(np.float64) if out == OUT else pooled
    assert np.abs(model.encode(TEXTS) - through - beside).max() <= 2e-5


def test_two_of_them_and_normalize(make, pooled):
    model, (first, second) = make({}, {"in_features": OUT, "out_features": 5}, later=["Normalize"])
    hidden = np.tanh(pooled @ first["linear.weight"].T.astype(np.float64) + first["linear.bias"])
    out = np.tanh(hidden @ second["linear.weight"].T.astype(np.float64) + second["linear.bias"])
    assert np.abs(model.encode(TEXTS) - unit(out)).max() <= 1e-5
    assert np.array_equal(model.encode(TEXTS, normalize_embeddings=True), model.encode(TEXTS))
    short = model.encode(TEXTS, truncate_dim=3)
    assert np.array_equal(short, model.encode(TEXTS)[:, :3])
    assert np.allclose(model.encode(TEXTS, truncate_dim=3, normalize_embeddings=True), unit(short))


def test_normalize_before_it(make, pooled, tmp_path):
    make({})
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules.insert(2, {"idx": 2, "name": "n", "path": "", "type": "sentence_transformers.models.Normalize"})
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    tensors = write_dense_weights(tmp_path / "2_Dense", {"in_features": WIDTH, "out_features": OUT})
    expected = np.tanh(unit(pooled) @ tensors["linear.weight"].T.astype(np.float64) + tensors["linear.bias"])
    model = SentenceTransformer(tmp_path)
    assert np.abs(model.encode(TEXTS) - expected).max() <= 1e-5
    assert np.allclose(model.encode(TEXTS, normalize_embeddings=True), unit(expected), atol=1e-5)


def test_same_bits_in_any_company(make):
    model, _ = make({"out_features": 131}, {"in_features": 131, "activation_function": "torch.nn.GELU"}, later=["Normalize"])
    texts = [" ".join("abcd"[(i * j) % 4] for j in range(1, 2 + i % 9)) for i in range(70)]
    together = model.encode(texts)
    assert np.array_equal(model.encode(texts[::-1])[::-1], together)
    assert all(np.array_equal(model.encode(text), vector) for text, vector in zip(texts, together))
    assert all(np.array_equal(model.encode(texts[:n]), together[:n]) for n in (2, 3, 17))


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F64"])
def test_stored_dtypes(make, pooled, tmp_path, dtype):
    _, (tensors,) = make({"bias": False})
    weight = tensors["linear.weight"]
    bits = weight.view(np.uint32) >> 16
    kinds = {"F16": weight.astype("<f2"), "BF16": bits.astype("<u2"), "F64": weight.astype("<f8")}
    data = kinds[dtype].tobytes()
    header = json.dumps({"linear.weight": {"dtype": dtype, "shape": weight.shape, "data_offsets": [0, len(data)]}}).encode()
    (tmp_path / "2_Dense" / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)
    read = {"F16": weight.astype("<f2"), "BF16": (bits << 16).view(np.float32), "F64": weight}[dtype]
    vectors = SentenceTransformer(tmp_path).encode(TEXTS)
    assert np.abs(vectors - np.tanh(pooled @ read.T.astype(np.float64))).max() <= 1e-5


def test_weights_of_torch(make, tmp_path):
    model, (tensors,) = make({})
    (tmp_path / "2_Dense" / "model.safetensors").unlink()
    write_torch(tmp_path / "2_Dense" / "pytorch_model.bin", tensors)
    assert np.array_equal(SentenceTransformer(tmp_path).encode(TEXTS), model.encode(TEXTS))


def test_saved_and_loaded(make, tmp_path):
    model, _ = make({"use_residual": True}, {"in_features": OUT, "bias": False}, later=["Normalize"])
    model.save_pretrained(tmp_path / "saved")
    again = SentenceTransformer(tmp_path / "saved")
    assert np.array_equal(again.encode(TEXTS), model.encode(TEXTS))
    assert again[3].settings == model[3].settings and len(again) == 5


def test_it_is_not_trained(make):
    model, _ = make({})
    with pytest.raises(NotImplementedError, match="Dense"):
        model.value_and_grad(CosineSimilarityLoss(), [["a"], ["b"]], [1.0])


@pytest.mark.parametrize(
    "config, error, text",
    [
        ({"activation_function": "torch.nn.modules.activation.Hardswish"}, NotImplementedError, "Hardswish.*Tanh"),
        ({"activation_function": "os.Tanh"}, NotImplementedError, "os.Tanh"),
        ({"module_input_name": "token_embeddings"}, NotImplementedError, "token_embeddings"),
        ({"in_features": 13}, CorruptModelError, "in_features=13.*12 numbers"),
        ({"out_features": "5"}, CorruptModelError, "out_features='5'"),
        ({"out_features": 0}, CorruptModelError, "out_features=0"),
    ],
)
def test_refused_configurations(make, tmp_path, config, error, text):
    make({})
    path = tmp_path / "2_Dense" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    with pytest.raises(error, match=text):
        SentenceTransformer(tmp_path)


def test_refused_tensors(make, tmp_path):
    make({})
    write_dense_weights(tmp_path / "2_Dense", {"in_features": WIDTH, "out_features": 3})
    with pytest.raises(WeightMismatchError, match=r"2_Dense.*linear.weight.*\(3, 12\)"):
        SentenceTransformer(tmp_path)
    (tmp_path / "2_Dense" / "model.safetensors").write_bytes(b"nonsense" * 9)
    with pytest.raises(CorruptModelError, match="model.safetensors"):
        SentenceTransformer(tmp_path)
    (tmp_path / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="model.safetensors"):
        SentenceTransformer(tmp_path)


def test_activations_of_extreme_numbers():
    x = np.array([-np.inf, -200, -100, 0, 100, 200, np.inf], np.float32)
    assert activation("Sigmoid", "")(x).tolist() == pytest.approx([0, 0, 0, 0.5, 1, 1, 1], abs=1e-38)
    assert activation("gelu", "")(x[1:-1]).tolist() == [0, 0, 0, 100, 200]
    assert softmax(x[1:-1]).tolist() == pytest.approx([0, 0, 0, 0, 1], abs=1e-38)
    assert all(activation(name, "")(x[1:-1]).dtype == np.float32 for name in FUNCTIONS)
