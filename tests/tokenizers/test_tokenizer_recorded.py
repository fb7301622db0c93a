"""Every recorded call gives what transformers gave."""

import gzip
import json
from pathlib import Path

import pytest

from ferroformer import AutoTokenizer

DATA = Path(__file__).parents[1] / "data" / "tokenizers"
FAMILIES = sorted(path.parent.name for path in DATA.glob("*/encodings.json.gz"))


def recorded(family):
    return json.loads(gzip.decompress((DATA / family / "encodings.json.gz").read_bytes()))


def run(tokenizer, row):
    text, kwargs, out = row["text"], row["kwargs"], row["out"]
    if row["call"] == "set_pad_token":
        tokenizer.pad_token = text
        return {}
    if row["call"] == "tokenize":
        return {"tokens": tokenizer.tokenize(text, **kwargs)}
    if row["call"] == "decode":
        decoded = tokenizer.decode(out["ids"], **kwargs)
        return {name: out["ids"] if name == "ids" else decoded for name in out}
    return json.loads(json.dumps(dict(tokenizer(text, row["pair"], **kwargs))))


@pytest.mark.parametrize("family", FAMILIES)
def test_rows(family):
    tokenizer = AutoTokenizer.from_pretrained(DATA / family)
    for row in recorded(family)["rows"]:
        if "error" in row["out"]:
            with pytest.raises(ValueError):
                run(tokenizer, row)
            continue
        result = run(tokenizer, row)
        assert result == row["out"], row
        assert list(result) == list(row["out"])


@pytest.mark.parametrize("family", FAMILIES)
def test_attributes(family):
    tokenizer, record = AutoTokenizer.from_pretrained(DATA / family), recorded(family)
    assert type(tokenizer).__name__ == record["tokenizer"]
    info = dict(record["info"])
    assert len(tokenizer) == info.pop("len")
    assert {name: getattr(tokenizer, name) for name in info} == info
