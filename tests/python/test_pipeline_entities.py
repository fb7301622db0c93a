"""token-classification against transformers' own code on the same logits."""

import json
import warnings
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferroformer import AutoTokenizer, PreTrainedTokenizerFast, TokenClassificationPipeline, pipeline

from .conftest import DATA
from .given_logits import GivenForTokenClassification, logits

transformers = pytest.importorskip("transformers")

STRATEGIES = ["none", "simple", "first", "average", "max"]
LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC", "I-X-Y"]
MODEL = GivenForTokenClassification(num_labels=len(LABELS), id2label=dict(enumerate(LABELS)))
TEXT = "Ada Lovelace (born in Zürich-Oerlikon), unbelievably! wrote 3 notes about Babbage's engine 北京 \u2603☃"
WORDS = ["Ada", "Lovelace-King", "don't", "unbelievably", "北京", "x", "\u2603"]


@cache
def tokenizers(name):
    """Ours and theirs."""
    if name not in ("bpe", "unigram"):
        directory = DATA / "tokenizers" / name
        return AutoTokenizer.from_pretrained(directory), transformers.AutoTokenizer.from_pretrained(directory)
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if name == "bpe":
        trained = Tokenizer(models.BPE())
        trained.pre_tokenizer, trained.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    else:
        trained = Tokenizer(models.Unigram())
        trained.pre_tokenizer, trained.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=60, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False)
    trained.train_from_iterator([TEXT] * 3, trainer)
    return tuple(
        cls(tokenizer_object=trained, unk_token="<unk>", pad_token="<pad>")
        for cls in (PreTrainedTokenizerFast, transformers.PreTrainedTokenizerFast)
    )


def theirs(tokenizer, text, strategy, words=False, **how):
    """What their pipeline does, without torch: its preprocess and postprocess in short, around its own methods."""
    from transformers.pipelines.token_classification import AggregationStrategy
    from transformers.pipelines.token_classification import TokenClassificationPipeline as Theirs

    pipe = object.__new__(Theirs)
    pipe.tokenizer, pipe.model, strategy = tokenizer, MODEL, AggregationStrategy(strategy)
    how |= {"return_special_tokens_mask": True, "return_offsets_mapping": True, "return_overflowing_tokens": True}
    rows = tokenizer(text, truncation=True, is_split_into_words=words, **how)
    sentence = " ".join(text) if words else text
    ends = np.cumsum([len(word) + 1 for word in text]) if words else []
    places = [(int(end) - len(word) - 1, int(end) - 1) for word, end in zip(text, ends)] if words else None
    found = []
    for row, ids in enumerate(rows["input_ids"]):
        given = logits(ids, len(LABELS))
        powers = np.exp(given - np.max(given, axis=-1, keepdims=True))
        tokens = pipe.gather_pre_entities(
            sentence,
            np.array(ids),
            powers / powers.sum(axis=-1, keepdims=True),
            rows["offset_mapping"][row],
            np.array(rows["special_tokens_mask"][row]),
            strategy,
            word_ids=rows.word_ids(row) if words else None,
            word_to_chars_map=places,
        )
        entities = pipe.aggregate(tokens, strategy)
        found += [e for e in entities if e.get("entity") != "O" and e.get("entity_group") != "O"]
    return pipe.aggregate_overlapping_entities(found) if len(rows["input_ids"]) > 1 else found


def quietly(function, *args, **kwargs):
    """The heuristic for tokenizers without words warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return function(*args, **kwargs)


@pytest.mark.parametrize("name", ["minilm", "bert-cased-vocab", "bpe", "unigram"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_text(name, strategy):
    ours, other = tokenizers(name)
    find = TokenClassificationPipeline(MODEL, ours, aggregation_strategy=strategy)
    for text in [TEXT, TEXT.upper(), TEXT[::-1], "a", "  two   spaces ", "\t\n-", TEXT * 3]:
        found = quietly(find, text)
        assert found == quietly(theirs, other, text, strategy)
        assert json.loads(json.dumps(found)) == found  # plain numbers
    assert found


@given(text=st.text(st.sampled_from("aA bB.-'é3 京unbelievable"), max_size=60), strategy=st.sampled_from(STRATEGIES))
@settings(max_examples=150, deadline=None)
def test_any_text(text, strategy):
    ours, other = tokenizers("bert-cased-vocab")
    found = TokenClassificationPipeline(MODEL, ours)(text, aggregation_strategy=strategy)
    assert found == theirs(other, text, strategy)


@pytest.mark.parametrize("strategy", STRATEGIES[1:])
@pytest.mark.parametrize("batch_size", [None, 1, 2])
def test_windows(strategy, batch_size):
    for name, limit, stride in [("minilm", 20, 0), ("minilm", 33, 7), ("bert-cased-vocab", 16, 5)]:
        directory = DATA / "tokenizers" / name
        ours = AutoTokenizer.from_pretrained(directory, model_max_length=limit)
        other = transformers.AutoTokenizer.from_pretrained(directory, model_max_length=limit)
        find = TokenClassificationPipeline(MODEL, ours, stride=stride, batch_size=batch_size)
        text = TEXT * 4
        assert find(text, aggregation_strategy=strategy) == theirs(other, text, strategy, stride=stride)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_words(strategy):
    ours, other = tokenizers("bert-cased-vocab")
    find = TokenClassificationPipeline(MODEL, ours, aggregation_strategy=strategy)
    expected = theirs(other, WORDS, strategy, words=True)
    assert find(WORDS, is_split_into_words=True) == [expected]
    assert find([WORDS, WORDS[:2]], is_split_into_words=True)[0] == expected
    text = ", ".join(WORDS)
    for entity in find(WORDS, is_split_into_words=True, delimiter=", ")[0]:
        if strategy == "none" and not entity["word"].startswith("##"):
            assert text[entity["start"] : entity["end"]] == entity["word"]


def test_arguments():
    ours, _ = tokenizers("minilm")
    find = pipeline("ner", MODEL, tokenizer=ours)
    plain = find(TEXT)
    everything = find(TEXT, ignore_labels=[])
    assert len(everything) == len(ours(TEXT)["input_ids"]) - 2
    assert plain == [entity for entity in everything if entity["entity"] != "O"]
    assert find(TEXT, ignore_labels=["O", "MISC"]) == [e for e in plain if e["entity"] != "MISC"]
    assert find(TEXT, grouped_entities=True) == find(TEXT, aggregation_strategy="simple")
    assert find(TEXT, grouped_entities=True, ignore_subwords=True) == find(TEXT, aggregation_strategy="FIRST")
    assert find(TEXT, grouped_entities=False) == plain


def test_own_offsets():
    ours, _ = tokenizers("minilm")
    find = pipeline("ner", MODEL, tokenizer=ours)
    shifted = [(start + 1, end + 1) for start, end in ours(TEXT, return_offsets_mapping=True)["offset_mapping"]]
    moved = find(TEXT, offset_mapping=shifted)
    assert [(e["start"] - 1, e["end"] - 1) for e in moved] == [(e["start"], e["end"]) for e in find(TEXT)]
    assert find([TEXT, TEXT], offset_mapping=[shifted, shifted]) == [moved, moved]
    with pytest.raises(ValueError, match="same batch size"):
        find([TEXT, TEXT], offset_mapping=[shifted])
    with pytest.raises(ValueError, match="2 places for"):
        find(TEXT, offset_mapping=shifted[:2])


@pytest.mark.parametrize(
    ("inputs", "arguments", "message"),
    [
        ([], {}, "At least one input is required"),
        (None, {}, "At least one input is required"),
        ("a", {"aggregation_strategy": "best"}, "best is not a valid AggregationStrategy"),
        ("a", {"stride": 512}, "`stride` must be less than"),
        ("a", {"stride": 1, "aggregation_strategy": "none"}, "select another one instead"),
        ("a", {"is_split_into_words": True}, "must be a list of tokens"),
        ([["a"]], {}, "must be an untokenized string"),
    ],
)
def test_errors(inputs, arguments, message):
    find = pipeline("ner", MODEL, tokenizer=tokenizers("minilm")[0])
    with pytest.raises(ValueError, match=message):
        find(inputs, **arguments)
