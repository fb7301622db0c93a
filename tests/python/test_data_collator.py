"""The collators, side by side with transformers' (its numpy path), with our tokenizer and with theirs."""

import numpy as np
import pytest

from ferroformer import data_collator as ours
from ferroformer.errors import InputError

transformers = pytest.importorskip("transformers")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]


@pytest.fixture(scope="module")
def their_tokenizer():
    return transformers.BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)})


@pytest.fixture(params=["ours", "theirs"])
def tokenizer(request, their_tokenizer, tmp_path):
    if request.param == "theirs":
        return their_tokenizer
    their_tokenizer.save_pretrained(tmp_path)
    from ferroformer import BertTokenizer

    return BertTokenizer.from_pretrained(tmp_path)


def rows(**columns):
    texts = ["a b c d e f g", "h i", "j k l m n"]
    encoded = [{"input_ids": [2, *(WORDS.index(word) for word in text.split()), 3]} for text in texts]
    return [row | {name: values[number] for name, values in columns.items()} for number, row in enumerate(encoded)]


def assert_equal(found, expected):
    assert set(found) == set(expected)
    for name in expected:
        assert isinstance(found[name], np.ndarray)
        np.testing.assert_array_equal(found[name], expected[name])
        assert found[name].dtype == expected[name].dtype


@pytest.mark.parametrize(
    "features",
    [
        [{"a": [1, 2], "label": 1}, {"a": [3, 4], "label": 0}],
        [{"a": [1, 2], "label": 0.5}, {"a": [3, 4], "label": 1.0}],
        [{"a": [1.5, 2], "label_ids": [1, 2], "text": "x", "none": None}, {"a": [3, 4], "label_ids": [3, 4]}],
        [{"a": np.array([1, 2]), "label": np.float32(2)}, {"a": np.array([3, 4]), "label": np.float32(3)}],
        [{"a": True, "labels": [0.0, 1.0]}, {"a": False, "labels": [1.0, 1.0]}],
        [{"label_ids": np.array([1, -100], np.int32)}, {"label_ids": np.array([2, 3], np.int32)}],
    ],
)
def test_default(features):
    expected = transformers.default_data_collator(features, return_tensors="np")
    assert_equal(ours.default_data_collator(features), expected)
    assert_equal(ours.DefaultDataCollator()(features), expected)


def test_default_takes_objects():
    class Row:
        def __init__(self, a, label):
            self.a, self.label = a, label

    batch = ours.default_data_collator([Row([1], 0), Row([2], 1)])
    assert batch["a"].tolist() == [[1], [2]] and batch["labels"].tolist() == [0, 1]


def test_default_errors():
    with pytest.raises(InputError, match=r"a: row 1 of the batch has the shape \(1,\), row 0 \(2,\); DataCollatorWithPadding"):
        ours.default_data_collator([{"a": [1, 2]}, {"a": [1]}])
    with pytest.raises(InputError, match="label: row 1 of the batch has none"):
        ours.default_data_collator([{"label": 1}, {"a": [1]}])
    with pytest.raises(ValueError, match="return_tensors='pt'"):
        ours.default_data_collator([{"a": 1}], return_tensors="pt")
    with pytest.raises(ValueError, match="return_tensors='pt'"):
        ours.DataCollatorWithPadding(None, return_tensors="pt")


@pytest.mark.parametrize("options", [{}, {"pad_to_multiple_of": 8}, {"padding": "max_length", "max_length": 12}])
def test_padding(tokenizer, their_tokenizer, options):
    reference = transformers.DataCollatorWithPadding(their_tokenizer, return_tensors="np", **options)
    collator = ours.DataCollatorWithPadding(tokenizer, **options)
    assert_equal(collator(rows(label=[1, 0, 2])), reference(rows(label=[1, 0, 2])))
    assert_equal(collator(rows()), reference(rows()))


@pytest.mark.parametrize("side", ["right", "left"])
def test_token_classification(tokenizer, their_tokenizer, side, monkeypatch):
    monkeypatch.setattr(tokenizer, "padding_side", side)
    monkeypatch.setattr(their_tokenizer, "padding_side", side)
    labels = [[-100, *range(len(row["input_ids"]) - 2), -100] for row in rows()]
    reference = transformers.DataCollatorForTokenClassification(their_tokenizer, return_tensors="np")
    collator = ours.DataCollatorForTokenClassification(tokenizer)
    assert_equal(collator(rows(labels=labels)), reference(rows(labels=labels)))
    assert_equal(collator(rows()), reference(rows()))
    assert "labels" in collator(rows(label=labels))


def test_token_classification_counts_labels(tokenizer):
    with pytest.raises(InputError, match="labels: a row has 3 labels for 4 tokens"):
        ours.DataCollatorForTokenClassification(tokenizer)(rows(labels=[[1] * 9, [1, 1, 1], [1] * 7]))


@pytest.mark.parametrize(
    "options",
    [
        {"seed": 3},
        {"seed": 3, "mlm_probability": 0.5, "pad_to_multiple_of": 8},
        {"seed": 3, "mlm_probability": 0.9, "mask_replace_prob": 0.2, "random_replace_prob": 0.7},
        {"seed": 3, "mlm_probability": 0.5, "mask_replace_prob": 1.0, "random_replace_prob": 0.0},
        {"mlm_probability": 0.5},
        {"mlm": False},
    ],
)
def test_language_modeling(tokenizer, their_tokenizer, options):
    reference = transformers.DataCollatorForLanguageModeling(their_tokenizer, return_tensors="np", **options)
    collator = ours.DataCollatorForLanguageModeling(tokenizer, **options)
    answers = []
    for collate in (reference, collator):
        np.random.seed(5)
        answers.append([collate(rows()) for _ in range(20)])
    for found, expected in zip(*reversed(answers)):
        assert_equal(found, expected)


def test_language_modeling_takes_lists_and_given_masks(tokenizer, their_tokenizer):
    special = [[1, 1, 1, *[0] * (len(row["input_ids"]) - 3)] for row in rows()]
    reference = transformers.DataCollatorForLanguageModeling(their_tokenizer, return_tensors="np", seed=1, mlm_probability=0.9)
    collator = ours.DataCollatorForLanguageModeling(tokenizer, seed=1, mlm_probability=0.9)
    given = rows(special_tokens_mask=special)
    assert_equal(collator(given), reference(given))
    batch, expected = collator([row["input_ids"] for row in rows()]), reference([row["input_ids"] for row in rows()])
    np.testing.assert_array_equal(batch["labels"], expected["labels"])
    assert batch["attention_mask"].sum() == sum(len(row["input_ids"]) for row in rows())


def test_masking_rules(tokenizer):
    """Of many tokens 15 % are chosen; 80 % of these are masks, 10 % other tokens, 10 % what they were."""
    collator = ours.DataCollatorForLanguageModeling(tokenizer, seed=0)
    ids = np.full((40, 500), WORDS.index("x"))
    ids[:, 0], ids[:, -1] = 2, 3
    batch = collator([{"input_ids": row} for row in ids.tolist()])
    chosen = batch["labels"] != -100
    assert (batch["labels"][chosen] == WORDS.index("x")).all() and not chosen[:, [0, -1]].any()
    assert (batch["input_ids"][~chosen] == ids[~chosen]).all()
    assert chosen.mean() == pytest.approx(0.15, abs=0.01)
    assert (batch["input_ids"][chosen] == WORDS.index("[MASK]")).mean() == pytest.approx(0.8, abs=0.03)
    assert (batch["input_ids"][chosen] == WORDS.index("x")).mean() == pytest.approx(0.1, abs=0.03)


def test_language_modeling_errors(tokenizer):
    with pytest.raises(NotImplementedError, match="whole_word_mask=True"):
        ours.DataCollatorForLanguageModeling(tokenizer, whole_word_mask=True)
    with pytest.raises(ValueError, match=r"mlm_probability=1.5: a number in \[0, 1\]"):
        ours.DataCollatorForLanguageModeling(tokenizer, mlm_probability=1.5)
    with pytest.raises(ValueError, match="must not be above 1"):
        ours.DataCollatorForLanguageModeling(tokenizer, mask_replace_prob=0.8, random_replace_prob=0.3)

    class WithoutMask:
        mask_token = None

    with pytest.raises(ValueError, match="no mask token"):
        ours.DataCollatorForLanguageModeling(WithoutMask())
    ours.DataCollatorForLanguageModeling(WithoutMask(), mlm=False)


class Shifts:
    """A model that makes the decoder's inputs of labels."""

    def prepare_decoder_input_ids_from_labels(self, labels):
        return np.where(labels < 0, 0, labels)[:, ::-1].copy()


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", ["labels", "label"])
@pytest.mark.parametrize(
    "options",
    [{}, {"pad_to_multiple_of": 4}, {"padding": "max_length", "max_length": 12}, {"label_pad_token_id": -1}, {"model": Shifts()},
     {"padding": "max_length", "max_length": 10, "pad_to_multiple_of": 8}],
)  # fmt: skip
def test_seq2seq(tokenizer, their_tokenizer, name, side, options, monkeypatch):
    for one in (tokenizer, their_tokenizer):
        monkeypatch.setattr(one, "padding_side", side)
    features = rows(**{name: [[5, 6], [7, 8, 9, 10, 11], [12]]})
    expected = transformers.DataCollatorForSeq2Seq(their_tokenizer, return_tensors="np", **options)(features)
    assert_equal(ours.DataCollatorForSeq2Seq(tokenizer, **options)(features), expected)


def test_seq2seq_without_labels_or_padding(tokenizer):
    for features in (rows(), rows(labels=[None] * 3)):
        assert ours.DataCollatorForSeq2Seq(tokenizer, model=Shifts())(features)["labels"] is None
    same = [rows(labels=[[5, 6]] * 3)[0]] * 2
    assert ours.DataCollatorForSeq2Seq(tokenizer, padding=False)(same)["labels"].tolist() == [[5, 6]] * 2
    with pytest.raises(InputError, match="labels: row 1 of the batch has 13 where 12 are needed"):
        features = rows(labels=[[5], [5] * 13, [6]])
        ours.DataCollatorForSeq2Seq(tokenizer, padding="max_length", max_length=12)(features)
    with pytest.raises(InputError, match="labels: row 1 of the batch has none"):
        ours.DataCollatorForSeq2Seq(tokenizer)(rows(labels=[[5], None, [6]]))
    with pytest.raises(ValueError, match="return_tensors='pt'"):
        ours.DataCollatorForSeq2Seq(tokenizer, return_tensors="pt")
