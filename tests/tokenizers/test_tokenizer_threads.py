import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

TEXTS = [f"sentence number {i} is here to be tokenized by many threads" for i in range(20)]


def test_each_call_has_its_own_options(tokenizer):
    truncated = tokenizer(TEXTS, truncation=True, max_length=8)["input_ids"]
    whole = tokenizer(TEXTS, padding="max_length", max_length=32)["input_ids"]
    assert len(truncated[0]) == 8 and len(whole[0]) == 32

    def work(number):
        for _ in range(25):
            if number % 2:
                assert tokenizer(TEXTS, truncation=True, max_length=8)["input_ids"] == truncated
            else:
                assert tokenizer(TEXTS, padding="max_length", max_length=32)["input_ids"] == whole

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_can_tokenize(tokenizer):
    expected = tokenizer(TEXTS, padding=True)["input_ids"]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for rows in pool.map(_ids, [tokenizer] * 4):
            assert rows == expected


def _ids(tokenizer):
    return tokenizer(TEXTS, padding=True)["input_ids"]
