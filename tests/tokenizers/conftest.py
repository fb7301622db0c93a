from pathlib import Path

import pytest

from ferroformer import AutoTokenizer

DATA = Path(__file__).parents[1] / "data" / "tokenizers"


@pytest.fixture(scope="session")
def data():
    return DATA


@pytest.fixture(scope="session")
def shared():
    """One tokenizer for tests that only read it."""
    return AutoTokenizer.from_pretrained(DATA / "minilm")


@pytest.fixture
def tokenizer():
    """A tokenizer that a test may change."""
    return AutoTokenizer.from_pretrained(DATA / "minilm")


@pytest.fixture
def tiny(tmp_path):
    """Writes a directory with a vocabulary of few words and the given files beside it."""
    import json

    def write(vocab=("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "##s", "a", "b"), **files):
        (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in vocab), encoding="utf-8")
        for name, content in {"config": {"model_type": "bert"}, **files}.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return tmp_path

    return write
