"""The code of docs/sentence-embeddings.md as it stands, from top to bottom, with small models for MiniLM and the reranker."""

import re

from .test_fine_tuning import ROOT, SIZES, TOKENIZER, run  # noqa: F401

PAGE = (ROOT / "docs" / "sentence-embeddings.md").read_text(encoding="utf-8")


def test_page(run, tmp_path):  # noqa: F811
    from ferroformer import AutoTokenizer, BertConfig, BertForSequenceClassification

    BertForSequenceClassification(BertConfig(**SIZES, num_labels=1)).save_pretrained(tmp_path / "reranker")
    AutoTokenizer.from_pretrained(TOKENIZER).save_pretrained(tmp_path / "reranker")
    lines = run("-c", "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))).splitlines()
    documents = re.findall(r'^    "(.*)",$', PAGE, re.MULTILINE)
    assert len(lines) == 3 + 2 + 1 and len(documents) == 4
    assert all(re.fullmatch(r"-?[01]\.\d\d (.*)", line)[1] in documents for line in lines[:5])
    assert [float(line.split()[0]) for line in lines[:3]] == sorted((float(line.split()[0]) for line in lines[:3]), reverse=True)
    count, best, sizes = re.fullmatch(r"(\d) (.*) (\d+ \d+ \d+) bytes", lines[5]).groups()
    assert count == "2" and best in documents and sizes == "384 96 12"
