"""ferroformer.util, against definitions in float64 that look at one pair after the other."""

import logging

import numpy as np
import pytest

from ferroformer import util
from ferroformer.errors import InputError

pytestmark = pytest.mark.numbers

PAIRS = {
    "cos_sim": lambda x, y: x @ y / np.linalg.norm(x) / np.linalg.norm(y),
    "dot_score": np.dot,
    "euclidean_sim": lambda x, y: -np.linalg.norm(x - y),
    "manhattan_sim": lambda x, y: -np.abs(x - y).sum(),
}


def vectors(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def table(name, a, b):
    return np.array([[PAIRS[name](x, y) for y in b.astype(np.float64)] for x in a.astype(np.float64)])


# --- similarities ---------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float64, 1e-12), (np.float16, 1e-5)])
@pytest.mark.parametrize("name", PAIRS)
def test_similarities(name, dtype, tolerance):
    a, b = vectors(5, 19, dtype=dtype), vectors(7, 19, seed=1, dtype=dtype)
    scores, expected = getattr(util, name)(a, b), table(name, a, b)
    assert scores.dtype == (np.float64 if dtype == np.float64 else np.float32)
    assert np.abs(scores - expected).max() <= tolerance
    by_row = getattr(util, f"pairwise_{name}")
    assert np.abs(by_row(a, b[:5]) - np.diag(expected)).max() <= tolerance
    assert np.ndim(by_row(a[0], b[0])) == 0
    assert getattr(util, name)(a[0], list(b)).shape == (1, 7)
    assert getattr(util, name)(a[:0], b).shape == (0, 7)
    with pytest.raises(InputError, match="last axis"):
        getattr(util, name)(a, b[:, :5])


def test_integers_do_not_overflow():
    a = np.full((1, 384), 127, np.int8)
    assert util.dot_score(a, a).item() == 384 * 127**2


def test_normalize_and_truncate():
    a = vectors(4, 9)
    a[1] = 0
    assert np.allclose(np.linalg.norm(util.normalize_embeddings(a), axis=1), [1, 0, 1, 1])
    assert np.array_equal(util.normalize_embeddings(a)[2], util.normalize_embeddings(a[2]))
    assert np.array_equal(util.truncate_embeddings(a, 3), a[:, :3]) and util.truncate_embeddings(a, None).shape == (4, 9)


# --- search ---------------------------------------------------------------------------------------
def neighbours(scores, top_k):
    return [[(int(i), row[i]) for i in np.argsort(-row, kind="stable")[:top_k]] for row in scores]


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("sizes", [{}, {"query_chunk_size": 3}, {"query_chunk_size": 4, "corpus_chunk_size": 7}])
@pytest.mark.parametrize("top_k", [1, 10, 500])
def test_semantic_search(name, sizes, top_k):
    queries, corpus = vectors(11, 17), vectors(211, 17, seed=1)
    found = util.semantic_search(queries, corpus, top_k=top_k, score_function=getattr(util, name), **sizes)
    for hits, expected in zip(found, neighbours(table(name, queries, corpus), top_k), strict=True):
        assert [hit["corpus_id"] for hit in hits] == [i for i, _ in expected]
        assert np.allclose([hit["score"] for hit in hits], [score for _, score in expected], atol=1e-5)
        assert type(hits[0]["corpus_id"]) is int and type(hits[0]["score"]) is float


@pytest.mark.parametrize("top_k", [1, 2, 5, 40])
@pytest.mark.parametrize("chunk", [1, 13, 64, 400])
def test_search_with_many_equal_scores(top_k, chunk):
    """Whatever the pieces: no id twice, the right scores, rising ids among equals."""
    corpus = np.random.default_rng(0).integers(0, 6, (400, 1)).astype(np.float32)
    (hits,) = util.semantic_search([1.0], corpus, corpus_chunk_size=chunk, top_k=top_k, score_function=util.dot_score)
    keys = [(-hit["score"], hit["corpus_id"]) for hit in hits]
    assert keys == sorted(set(keys))
    assert [hit["score"] for hit in hits] == np.sort(corpus[:, 0])[::-1][:top_k].tolist()
    assert all(corpus[hit["corpus_id"], 0] == hit["score"] for hit in hits)


def test_search_reads_a_mapped_corpus_in_small_pieces(tmp_path):
    corpus = np.lib.format.open_memmap(tmp_path / "corpus.npy", "w+", np.float16, (70000, 128))
    corpus[:] = vectors(70000, 128)
    sizes = []

    def score(queries, part):
        sizes.append(part.shape)
        assert isinstance(part, np.memmap)
        return util.dot_score(queries, part)

    ((hit, *_),) = util.semantic_search(corpus[123], corpus, score_function=score)
    assert hit["corpus_id"] == 123
    assert max(rows * width for rows, width in sizes) <= 1 << 22 and sum(rows for rows, _ in sizes) == 70000


def test_search_of_little():
    assert util.semantic_search(vectors(0, 5), vectors(3, 5)) == []
    assert util.semantic_search(vectors(2, 5), vectors(0, 5)) == [[], []]
    assert len(util.semantic_search(vectors(5), list(vectors(3, 5)))) == 1
    for name in ("query_chunk_size", "corpus_chunk_size", "top_k"):
        with pytest.raises(InputError, match=f"{name}=0"):
            util.semantic_search(vectors(2, 5), vectors(3, 5), **{name: 0})
    with pytest.raises(InputError, match=r"\(2, 2, 2\)"):
        util.semantic_search(vectors(2, 2, 2), vectors(3, 5))


# --- near duplicates ------------------------------------------------------------------------------
def expected_pairs(a, top_k, max_pairs):
    scores = table("cos_sim", a, a)
    np.fill_diagonal(scores, -np.inf)
    pairs = {(min(i, j), max(i, j)) for i, row in enumerate(scores) for j in np.argsort(-row)[: min(top_k, len(a) - 1)].tolist()}
    return sorted(((scores[i, j], i, j) for i, j in pairs), reverse=True)[:max_pairs]


@pytest.mark.parametrize("top_k, max_pairs", [(1, 1000), (4, 1000), (100, 5), (100, 100000)])
@pytest.mark.parametrize("sizes", [{}, {"query_chunk_size": 6, "corpus_chunk_size": 9}])
def test_paraphrase_mining(top_k, max_pairs, sizes):
    a = vectors(60, 16)
    found = util.paraphrase_mining_embeddings(a, top_k=top_k, max_pairs=max_pairs, **sizes)
    expected = expected_pairs(a, top_k, max_pairs)
    assert [tuple(pair[1:]) for pair in found] == [pair[1:] for pair in expected]
    assert np.allclose([pair[0] for pair in found], [pair[0] for pair in expected], atol=1e-5)


def test_paraphrase_mining_of_texts(minilm):
    from ferroformer import SentenceTransformer

    texts = ["A cat sits outside", "The new movie is awesome", "A man plays guitar", "The new film is great", "Cats sit outside"]
    found = util.paraphrase_mining(SentenceTransformer(minilm), texts)
    assert {tuple(pair[1:]) for pair in found[:2]} == {(1, 3), (0, 4)} and len(found) == 10
    assert util.paraphrase_mining_embeddings(vectors(0, 3)) == util.paraphrase_mining_embeddings(vectors(1, 3)) == []


# --- clusters -------------------------------------------------------------------------------------
def communities(a, threshold, smallest):
    """By the words of the definition."""
    scores = table("cos_sim", a, a)
    near = [[j for j in np.argsort(-row, kind="stable").tolist() if row[j] >= threshold] for row in scores]
    centers = sorted((i for i in range(len(a)) if len(near[i]) >= smallest), key=lambda i: -len(near[i]))
    used, found = set(), []
    for center in centers:
        members = [j for j in near[center] if j not in used]
        if center not in used and len(members) >= smallest:
            found.append([center] + [j for j in members if j != center])
            used.update(members)
    return sorted(found, key=len, reverse=True)


@pytest.mark.parametrize("batch_size", [1, 7, 1024])
@pytest.mark.parametrize("threshold, smallest", [(0.6, 4), (0.3, 2), (0.95, 1)])
def test_community_detection(threshold, smallest, batch_size):
    a = np.repeat(vectors(6, 8), [20, 11, 9, 5, 3, 2], axis=0) + 0.6 * vectors(50, 8, seed=1)
    found = util.community_detection(a, threshold, smallest, batch_size)
    assert found == communities(a, threshold, smallest) and len(found) >= 2


def test_communities_of_little():
    assert util.community_detection(vectors(0, 3)) == util.community_detection(vectors(9, 3)) == []
    assert util.community_detection(np.ones((12, 3)))[0] == list(range(12))


# --- quantization ---------------------------------------------------------------------------------
def test_bytes():
    a, calibration = vectors(50, 6), vectors(200, 6, seed=1)
    ranges = np.stack([calibration.min(axis=0), calibration.max(axis=0)])
    expected = np.empty(a.shape, int)
    for (i, j), x in np.ndenumerate(a):
        step = (ranges[1, j] - ranges[0, j]) / np.float32(255)
        expected[i, j] = min(max(int(np.floor((x - ranges[0, j]) / step)), 0), 255)
    assert {0, 255} < set(expected.ravel().tolist())
    for options in ({"ranges": ranges}, {"calibration_embeddings": calibration}):
        assert np.array_equal(util.quantize_embeddings(a, "uint8", **options), expected)
        assert np.array_equal(util.quantize_embeddings(a, "int8", **options), expected - 128)
    assert np.array_equal(util.quantize_embeddings(a[0], "int8", ranges), expected[0] - 128)


def test_bits():
    a = vectors(5, 19)
    a[0, 0], a[0, 1] = 0, np.nan
    bits = [[int(x > 0) for x in row] + [0] * 5 for row in a]
    expected = [[int("".join(map(str, row[i : i + 8])), 2) for i in (0, 8, 16)] for row in bits]
    assert util.quantize_embeddings(a, "ubinary").tolist() == expected
    assert util.quantize_embeddings(a, "binary").tolist() == [[byte - 128 for byte in row] for row in expected]
    assert util.quantize_embeddings(list(a), "ubinary").tolist() == expected
    assert util.quantize_embeddings(a[2], "ubinary").tolist() == expected[2]


def test_ranges_of_the_embeddings_themselves(caplog):
    a = np.concatenate([vectors(120, 4), np.zeros((120, 1), np.float32)], axis=1)
    levels = util.quantize_embeddings(a, "uint8")
    assert levels.dtype == np.uint8 and levels[:, :4].min() == 0 and levels[:, :4].max() >= 254 and not levels[:, 4].any()
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        util.quantize_embeddings(a[:99], "int8")
    assert "int8 ranges are taken from 99 embeddings" in caplog.text


def test_token_vectors_share_their_ranges():
    matrices = [vectors(70, 4), vectors(80, 4, seed=1)]
    quantized = util.quantize_embeddings(matrices, "int8")
    assert np.array_equal(np.concatenate(quantized), util.quantize_embeddings(np.concatenate(matrices), "int8"))
    assert [q.shape for q in util.quantize_embeddings(matrices, "binary")] == [(70, 1), (80, 1)]


def test_what_cannot_be_quantized():
    assert util.quantize_embeddings(vectors(0, 12), "int8").shape == (0, 12)
    assert util.quantize_embeddings(vectors(0, 12), "ubinary").shape == (0, 2)
    assert util.quantize_embeddings(vectors(3, 4, dtype=np.float64), "float32").dtype == np.float32
    a = vectors(3, 4)
    for arguments, text in (
        ((a, "int4"), "int4"),
        ((a.astype(np.int8), "binary"), "int8"),
        ((a[:1], "int8"), "one embedding"),
        ((a[0], "uint8"), "one embedding"),
        ((a, "int8", np.zeros((2, 5))), r"\(2, 5\)"),
    ):
        with pytest.raises(InputError, match=text):
            util.quantize_embeddings(*arguments)
