"""bfloat16 and int8: close to float32, the same whatever the batch, and as small as they say."""

from __future__ import annotations

import numpy as np
import pytest

from ferroformer import AutoModel, BertConfig, BertModel, SentenceTransformer

pytestmark = pytest.mark.numbers

# the least cosine of a sentence's vector to float32's, and on average
CLOSE = {"bfloat16": (0.9995, 0.9999), "int8": (0.99, 0.998)}

TEXTS = [
    "A cat sleeps on the warm windowsill.",
    "Shares of the company fell sharply today, and analysts expect a further decline before the end of the year.",
    "How do I find out whether my computer is fast enough?",
    "no movement , no yuks , not much of anything",
    "Der schnelle braune Fuchs springt über den faulen Hund.",
    "E = mc^2",
    "yes",
    "The committee, which had met in secret for most of the autumn, published nothing; its chair resigned in May.",
]


@pytest.fixture(scope="module")
def exact(minilm):
    return SentenceTransformer(minilm).encode(TEXTS, normalize_embeddings=True)


@pytest.mark.parametrize("dtype", CLOSE)
def test_sentences_keep_their_vectors(minilm, exact, dtype):
    model = SentenceTransformer(minilm, model_kwargs={"dtype": dtype})
    vectors = model.encode(TEXTS, normalize_embeddings=True)
    cosines = (vectors * exact).sum(axis=1)
    worst, average = CLOSE[dtype]
    assert cosines.min() >= worst and cosines.mean() >= average, cosines
    assert vectors.dtype == np.float32 and not np.array_equal(vectors, exact)
    for text, vector in zip(TEXTS, vectors):
        assert np.array_equal(model.encode(text, normalize_embeddings=True), vector), "law 1"


@pytest.mark.parametrize(("dtype", "share"), [("bfloat16", 0.55), ("int8", 0.35)])
def test_weights_take_less(dtype, share):
    config = BertConfig(num_hidden_layers=2, vocab_size=3000)
    full, less = BertModel(config, seed=1), BertModel(config, seed=1, dtype=dtype)
    assert less.get_memory_footprint() < share * full.get_memory_footprint()
    assert str(less.dtype) == dtype and str(full.dtype) == "float32"
    # what is held is close to what was drawn
    name = "encoder.layer.0.attention.self.query.weight"
    drawn, held = full.state_dict()[name], less.state_dict()[name]
    assert 0 < np.abs(drawn - held).max() <= 0.02 * np.abs(drawn).max()


def test_auto_is_what_the_checkpoint_says(tmp_path):
    config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, vocab_size=50)
    BertModel(config, seed=1).save_pretrained(tmp_path)
    assert str(AutoModel.from_pretrained(tmp_path, dtype="auto").dtype) == "float32"
    assert str(AutoModel.from_pretrained(tmp_path).dtype) == "float32"
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"float32"', '"bfloat16"'))
    assert str(AutoModel.from_pretrained(tmp_path, dtype="auto").dtype) == "bfloat16"
    assert str(AutoModel.from_pretrained(tmp_path).dtype) == "float32"
