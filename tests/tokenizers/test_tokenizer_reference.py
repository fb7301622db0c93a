"""Random calls against transformers itself, where it is installed."""

import json
import random
import shutil

import pytest

from ferroformer import AddedToken, AutoTokenizer

from .conftest import DATA
from .test_tokenizer_translation import PYTHON

transformers = pytest.importorskip("transformers")

FAMILIES = ["minilm", "bert-cased-vocab", "bert-chinese-vocab", "roberta-vocab", "gpt2-vocab"]
# transformers needs other packages for these; it reads what we save of them
SENTENCE_PIECE = ["t5-spm", *sorted(path.name for path in DATA.glob("tiny-*") if path.name not in PYTHON)]
CHARACTERS = "abc xyzÉéñß中文字،ש\u0301\u200b\u00a0\t\n.,!?'\"-_##[]<>0123😀Σς▁ﬁ½"  # noqa: RUF001
WORDS = ["Hello", "York", "##x", "中文", "", "a b", "[MASK]", "naïve", "!!", "antidisestablishmentarianism", "</s> <mask>"]
ADDED = [
    {"content": "<left>", "lstrip": True},
    {"content": "<right>", "rstrip": True, "normalized": False},
    {"content": "<both>", "lstrip": True, "rstrip": True, "special": True},
    {"content": "whole", "single_word": True},
    {"content": "ÉCole", "normalized": True},
    {"content": "12", "normalized": False},
]
WORDS += ["<left>", "<right>", "<both>", "whole", "wholes", "école", "ÉCole", "12", "<special>", "<own>"]
CHOICES = {
    "padding": [True, "longest", "max_length", False],
    "truncation": [True, "longest_first", "only_first", "only_second", False],
    "max_length": [5, 8, 16, 40],
    "stride": [0, 1, 3],
    "pad_to_multiple_of": [1, 4],
    "padding_side": ["left", "right"],
    "add_special_tokens": [False],
    "split_special_tokens": [True],
    "return_overflowing_tokens": [True],
    "return_offsets_mapping": [True],
    "return_special_tokens_mask": [True],
    "return_length": [True],
    "return_token_type_ids": [False],
}


def random_text(rng, split):
    if split:
        return rng.choices(WORDS, k=rng.randrange(1, 6))
    return "".join(rng.choices(CHARACTERS, k=rng.randrange(40))) + " " + " ".join(rng.choices(WORDS, k=3))


def random_call(rng):
    kwargs = {name: rng.choice(values) for name, values in CHOICES.items() if rng.random() < 0.3}
    kwargs["is_split_into_words"] = split = rng.random() < 0.3

    def texts():
        return [random_text(rng, split) for _ in range(3)]

    text, pair = texts(), texts() if rng.random() < 0.5 else None
    if rng.random() < 0.4:
        text, pair = text[0], pair and pair[0]
    return text, pair, kwargs


def outcome(tokenizer, text, pair, kwargs):
    try:
        encoding = tokenizer(text, pair, **kwargs)
    except BaseException as error:  # transformers lets panics through, which are no Exceptions
        if isinstance(error, KeyboardInterrupt):
            raise
        return "error"
    rows = range(len(encoding.encodings))
    return dict(encoding), [(encoding.tokens(i), encoding.word_ids(i), encoding.sequence_ids(i)) for i in rows]


def cuts_a_text_to_nothing(result):
    """Windows beside a text of which no token is left: transformers pads them to the length of the first only."""
    rows = result[0]["input_ids"] if result != "error" else []
    return len({len(row) for row in rows if isinstance(row, list)}) > 1


def both(path, tmp_path):
    """The tokenizer of a directory, ours and transformers'."""
    ours = AutoTokenizer.from_pretrained(path)
    if list(path.glob("*.model")):
        ours.save_pretrained(tmp_path / "saved")
        shutil.copy(path / "config.json", tmp_path / "saved")
        path = tmp_path / "saved"
    return ours, transformers.AutoTokenizer.from_pretrained(path)


def compare_random_calls(ours, theirs, seed, calls=150):
    rng = random.Random(seed)
    for _ in range(calls):
        call = random_call(rng)
        expected = outcome(theirs, *call)
        if call[2].get("padding") and cuts_a_text_to_nothing(expected):
            continue
        assert outcome(ours, *call) == expected, call
        ids = [rng.randrange(len(ours)) for _ in range(rng.randrange(8))]
        for how in ({}, {"skip_special_tokens": True, "clean_up_tokenization_spaces": True}):
            assert ours.decode(ids, **how) == theirs.decode(ids, **how), ids


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("family", FAMILIES + SENTENCE_PIECE)
def test_random_calls(family, added, tmp_path):
    ours, theirs = both(DATA / family, tmp_path)
    if added:
        assert ours.add_tokens([AddedToken(**token) for token in ADDED]) == theirs.add_tokens(
            [transformers.AddedToken(**token) for token in ADDED]
        )
        special = {"extra_special_tokens": ["<special>"], "cls_token": "<own>"}
        assert ours.add_special_tokens(special) == theirs.add_special_tokens(special)
        assert ours.added_tokens_encoder == theirs.added_tokens_encoder
    compare_random_calls(ours, theirs, family)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("family", "model_type", "options"),
    [
        ("bert-cased-vocab", "mpnet", {"do_lower_case": False}),
        ("bert-cased-vocab", "electra", {"strip_accents": True, "tokenizer_class": "ElectraTokenizer"}),
        ("bert-cased-vocab", "convbert", {"tokenizer_class": "ConvBertTokenizerFast"}),
        ("gpt2-vocab", "deberta", {"add_prefix_space": True}),
        ("gpt2-vocab", "gpt2", {"add_bos_token": True, "pad_token": "<pad>"}),
        ("gpt2-vocab", "gpt_neox", {"add_eos_token": True}),
        ("gpt2-vocab", "qwen3", {}),
        ("minilm", "modernbert", {"tokenizer_class": "BertTokenizer"}),
        ("roberta-vocab", "roberta", {"trim_offsets": False, "add_prefix_space": True}),
        ("tiny-byte-fallback-bpe", "llama", {"tokenizer_class": "LlamaTokenizer", "legacy": True}),
    ],
)
def test_random_calls_of_other_classes(family, model_type, options, tmp_path):
    path = shutil.copytree(DATA / family, tmp_path / family)
    (path / "config.json").write_text(json.dumps({"model_type": model_type}))
    (path / "tokenizer_config.json").write_text(json.dumps(options))
    ours, theirs = both(path, tmp_path)
    assert type(ours).__name__ == type(theirs).__name__.replace("TokenizersBackend", "PreTrainedTokenizerFast")
    assert ours.added_tokens_encoder == theirs.added_tokens_encoder
    assert ours.special_tokens_map == theirs.special_tokens_map
    compare_random_calls(ours, theirs, model_type, 80)


def test_the_class_is_the_one_that_transformers_chooses():
    from transformers.models.auto import tokenization_auto as reference
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    from ferroformer.models.auto_tokenizer import _CLASSES, _choose

    for model_type, name in reference.TOKENIZER_MAPPING_NAMES.items():
        if name is None or model_type not in CONFIG_MAPPING_NAMES:
            continue
        name = "TokenizersBackend" if name == "MistralCommonBackend" else name.removesuffix("Fast")
        assert _choose({}, {"model_type": model_type}) == name
        misnamed = model_type in reference.MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS
        expected = name if misnamed or name == "TokenizersBackend" else "BertTokenizer"
        assert _choose({"tokenizer_class": "BertTokenizerFast"}, {"model_type": model_type}) == expected
    for name in _CLASSES:
        assert reference.tokenizer_class_from_name(name) is not None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES + SENTENCE_PIECE)
def test_each_reads_what_the_other_writes(family, tmp_path):
    ours = AutoTokenizer.from_pretrained(DATA / family, padding_side="left")
    ours.add_special_tokens({"bos_token": "<s>", "extra_special_tokens": ["<X>"]})
    ours.save_pretrained(tmp_path / "ours")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    again = AutoTokenizer.from_pretrained(tmp_path / "theirs")
    for tokenizer in (theirs, again):
        assert tokenizer.special_tokens_map == ours.special_tokens_map
        assert tokenizer.added_tokens_encoder == ours.added_tokens_encoder
        assert tokenizer.get_vocab() == ours.get_vocab()
        texts = ["a <s>", "É<X> b"]
        assert [tokenizer(text)["input_ids"] for text in texts] == [ours(text)["input_ids"] for text in texts]
        if ours.pad_token:
            assert tokenizer(texts, padding=True)["input_ids"] == ours(texts, padding=True)["input_ids"]
