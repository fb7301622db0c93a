"""A model that says what is written here: logits by integer arithmetic from the ids of a row, so that anyone can make them again."""

import numpy as np

from ferroformer import BertConfig


def logits(ids, outputs):
    """(T,) ids -> (T, outputs) float32 from -8 to 8; a token's depend on its place and on the whole row."""
    ids = np.asarray(ids, np.int64)
    places = np.arange(len(ids))
    mixed = ids[:, None] * 7919 + places[:, None] * 104729 + np.arange(outputs) * 1299709 + int(ids.sum()) * 15485863
    return (mixed % 1000003 / 1000003 * 16 - 8).astype(np.float32)


class _Given:
    """Takes padded rows, and remembers how many each call had."""

    base_model_prefix = "given"

    def __init__(self, **settings):
        self.config = BertConfig(**settings)
        self.calls = []

    def __call__(self, *, input_ids, attention_mask, return_dict, token_type_ids=None, **options):
        self.calls.append(len(input_ids))
        lengths = attention_mask.sum(axis=1)
        assert ((np.arange(input_ids.shape[1]) < lengths[:, None]) == attention_mask).all()
        rows = [logits(ids[:length], self.outputs()) for ids, length in zip(input_ids, lengths)]
        padded = np.zeros((*input_ids.shape, self.outputs()), np.float32)
        for row, (values, length) in enumerate(zip(rows, lengths)):
            padded[row, :length] = values
        return self.answer(padded, **options)

    def outputs(self):
        return self.config.num_labels

    def answer(self, padded):
        return {"logits": padded}


class GivenForTokenClassification(_Given):
    pass


class GivenForSequenceClassification(_Given):
    def answer(self, padded):
        return {"logits": padded[:, 0]}


class GivenForMaskedLM(_Given):
    def outputs(self):
        return self.config.vocab_size

    def answer(self, padded, logits_to_keep):
        return {"logits": padded[logits_to_keep]}


class GivenForQuestionAnswering(_Given):
    def answer(self, padded):
        return {"start_logits": padded[..., 0], "end_logits": padded[..., 1]}
