"""Entities of real texts by the real all-MiniLM-L6-v2 with a trained head, beside transformers' code on the same logits."""

import json
import shutil

import pytest

from ferroformer import pipeline
from ferroformer.pipelines.base import model_rows

from . import test_pipeline_entities as entities
from .conftest import DATA, read_safetensors, write_safetensors

transformers = pytest.importorskip("transformers")

WNUT = DATA / "pipelines" / "wnut17"


@pytest.fixture(scope="module")
def ner(minilm, tmp_path_factory):
    """A pipeline whose model is MiniLM's encoder under the head."""
    directory = tmp_path_factory.mktemp("ner")
    encoder = {f"bert.{name}": array for name, array in read_safetensors(minilm / "model.safetensors").items()}
    del encoder["bert.embeddings.position_ids"]
    write_safetensors(directory / "model.safetensors", encoder | read_safetensors(WNUT / "head.safetensors"))
    head = json.loads((WNUT / "head.json").read_text())
    config = json.loads((minilm / "config.json").read_text())
    config |= {"architectures": [head["architecture"]], "id2label": dict(enumerate(head["labels"]))}
    config["label2id"] = {label: index for index, label in enumerate(head["labels"])}
    (directory / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(minilm / name, directory)
    return pipeline(model=directory)


def sentences():
    """(words, tags) of each."""
    for block in (WNUT / "test.conll").read_text(encoding="utf-8").strip().split("\n\n"):
        words, tags = zip(*(line.split("\t") for line in block.split("\n")))
        yield list(words), list(tags)


@pytest.fixture(scope="module")
def said(ner):
    """The logits of each text."""
    rows = [model_rows(ner.tokenizer(words, is_split_into_words=True))[0] for words, _ in sentences()]
    return [ner.model(**{name: [ids] for name, ids in row.items()}).logits[0] for row in rows]


@pytest.mark.parametrize("strategy", entities.STRATEGIES)
def test_entities_are_transformers(ner, said, minilm, strategy, monkeypatch):
    theirs = transformers.AutoTokenizer.from_pretrained(minilm)
    monkeypatch.setattr(entities, "MODEL", ner.model)
    texts = [words for words, _ in sentences()]
    found = ner(texts, is_split_into_words=True, aggregation_strategy=strategy)
    assert sum(map(len, found)) > 50
    for words, logits, of_text in zip(texts, said, found):
        monkeypatch.setattr(entities, "logits", lambda ids, outputs, logits=logits: logits)
        assert of_text == entities.theirs(theirs, words, strategy, words=True)


def test_entities_are_found(ner):
    """Not many, for the head is on a frozen encoder and the task is hard; of guesses at random, hardly any."""
    texts = list(sentences())
    found = ner([words for words, _ in texts], is_split_into_words=True, aggregation_strategy="first")
    right = guesses = there = 0
    for (words, tags), of_text in zip(texts, found):
        told = {(entity["start"], entity["end"], entity["entity_group"]) for entity in of_text}
        true = set(spans(words, tags))
        right, guesses, there = right + len(told & true), guesses + len(told), there + len(true)
    assert 2 * right / (guesses + there) > 0.2


def spans(words, tags):
    """(start, end, kind) of each entity, in characters of the words with spaces between them."""
    for first, tag in enumerate(tags):
        if tag.startswith("B-"):
            rest = [other == f"I-{tag[2:]}" for other in tags[first + 1 :]]
            last = first + 1 + [*rest, False].index(False)
            yield len(" ".join([*words[:first], ""])), len(" ".join(words[:last])), tag[2:]
