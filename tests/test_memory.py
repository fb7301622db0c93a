"""One set of weights, and a workspace that does not grow with what has been."""

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


def test_memory_is_flat_over_calls_of_any_shape():
    code = """
        import numpy as np
        from ferroformer import BertConfig, BertModel
        config = BertConfig(vocab_size=100, hidden_size=128, num_hidden_layers=2, num_attention_heads=4)
        model = BertModel(config)
        rng = np.random.default_rng(0)

        def calls(count):
            for _ in range(count):
                model(rng.integers(0, 100, (rng.integers(1, 8), rng.integers(1, 120))))

        model(np.ones((12, 512), int))
        calls(50)
        before = status("VmRSS")
        calls(200)
        grown = status("VmRSS") - before
        assert grown < 8e6, grown
    """
    run(code)
