"""The page's code as it stands, from top to bottom, with small models in the directories that it names."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "pipelines.md").read_text(encoding="utf-8"), re.DOTALL)
TOKENIZER = ROOT / "tests" / "data" / "tokenizers" / "minilm"
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 38}
# directory -> (class, labels)
MODELS = {
    "classifier": ("BertForSequenceClassification", ["no", "entails"]),
    "tagger": ("BertForTokenClassification", ["B-PER", "I-PER"]),
    "reader": ("BertForQuestionAnswering", ["start", "end"]),
    "guesser": ("BertForMaskedLM", ["unused"]),
    "encoder": ("BertModel", ["unused"]),
}


def test_page(tmp_path):
    import ferroformer

    for name, (kind, labels) in MODELS.items():
        ids = {label: index for index, label in enumerate(labels)}
        config = ferroformer.BertConfig(**SIZES, id2label=dict(enumerate(labels)), label2id=ids)
        getattr(ferroformer, kind)(config).save_pretrained(tmp_path / name)
        ferroformer.AutoTokenizer.from_pretrained(TOKENIZER).save_pretrained(tmp_path / name)
    code = f"import sys; sys.path[:] = {sys.path!r}\n" + "\n".join(SNIPPETS)
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    printed = result.stdout
    assert re.match(r"\[\{'label': '(no|entails)', 'score': 0\.\d+\}\]\n\[\[\{'label'", printed)
    assert re.search(r"^PER \S.* \d+ \d+$", printed, re.MULTILINE)
    assert "(1, 4, 24)" in printed
    assert re.search(r"^\['(sport|politics)', '(sport|politics)'\]$", printed, re.MULTILINE)
    assert re.search(r"^\[-?[\d.]+, -?[\d.]+\]$", printed, re.MULTILINE)
