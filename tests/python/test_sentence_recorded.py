"""Directories that sentence-transformers 6.2 has saved, and what it answered there (with torch, on a CPU)."""

import json

import numpy as np
import pytest

from ferroformer import CrossEncoder, SentenceTransformer, util

from .conftest import DATA

pytestmark = pytest.mark.numbers

FOLDER = DATA / "sentence-transformers"
RECORDED = json.loads((FOLDER / "expected.json").read_text())
TEXTS = RECORDED["texts"]
TOLERANCE = 2e-5


def far(found, name):
    return np.abs(np.asarray(found, np.float64) - np.array(RECORDED[name])).max()


@pytest.fixture(scope="module")
def model():
    """Two pooling modes without the prompt, Dense, Normalize."""
    return SentenceTransformer(FOLDER / "embedder")


@pytest.fixture(scope="module")
def reranker():
    """Of one label, with a prompt, and pairs cut at 11 tokens."""
    return CrossEncoder(FOLDER / "reranker")


def test_vectors(model):
    assert far(model.encode(TEXTS), "encode") <= TOLERANCE
    assert far(model.encode_query(TEXTS), "encode_query") <= TOLERANCE
    assert far(model.encode_document(TEXTS), "encode_document") <= TOLERANCE
    assert far(model.encode(TEXTS, truncate_dim=7, normalize_embeddings=True), "truncated") <= TOLERANCE
    assert model.similarity_fn_name == "dot" and model.max_seq_length == 12


@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
def test_precisions(model, precision):
    assert util.quantize_embeddings(np.array(RECORDED["encode"], np.float32), precision).tolist() == RECORDED[precision]
    # what lies between two levels may fall to either
    assert far(model.encode(TEXTS, precision=precision), precision) <= (1 if precision.endswith("int8") else 0)


@pytest.mark.parametrize("name", RECORDED["similarity"])
def test_similarities(model, name):
    model.similarity_fn_name, before = name, model.similarity_fn_name
    found = model.similarity(model.encode_query(TEXTS[3:7]), model.encode(TEXTS))
    model.similarity_fn_name = before
    assert np.abs(found - np.array(RECORDED["similarity"][name])).max() <= 5 * TOLERANCE


def test_search(model):
    vectors = model.encode(TEXTS)
    found = util.semantic_search(model.encode_query(TEXTS[3:7]), vectors, top_k=6)
    for hits, expected in zip(found, RECORDED["semantic_search"], strict=True):
        assert [hit["corpus_id"] for hit in hits] == [hit["corpus_id"] for hit in expected]
        assert [hit["score"] for hit in hits] == pytest.approx([hit["score"] for hit in expected], abs=TOLERANCE)
    mined, expected = util.paraphrase_mining(model, TEXTS, top_k=3), RECORDED["paraphrase_mining"]
    assert [pair[1:] for pair in mined] == [pair[1:] for pair in expected]
    assert [pair[0] for pair in mined] == pytest.approx([pair[0] for pair in expected], abs=TOLERANCE)
    assert util.community_detection(vectors, 0.9, 2) == RECORDED["community_detection"]


def test_scores(reranker):
    pairs = RECORDED["pairs"]
    assert far(reranker.predict(pairs), "predict") <= TOLERANCE
    assert far(reranker.predict(pairs, activation_fn="identity"), "logits") <= TOLERANCE
    assert far(reranker.predict(pairs, prompt=""), "without prompt") <= TOLERANCE


def test_rank(reranker):
    found, expected = reranker.rank(TEXTS[4], TEXTS, top_k=8, return_documents=True), RECORDED["rank"]
    assert [(hit["corpus_id"], hit["text"]) for hit in found] == [(hit["corpus_id"], hit["text"]) for hit in expected]
    assert [hit["score"] for hit in found] == pytest.approx([hit["score"] for hit in expected], abs=TOLERANCE)
