"""A trained GPT-2: all that transformers writes after its prompts, word by word."""

import json

import numpy as np
import pytest

from ferroformer import AutoModelForCausalLM, GPT2LMHeadModel

from .conftest import DATA

REAL = DATA / "gpt2-capp"
RECORDED = json.loads((REAL / "continuations.json").read_text())
PROMPTS = np.array(RECORDED["prompts"])
EOS, PAD = 51, 52


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(REAL)


def continuations(model, prompts, **options):
    """What is written after each prompt, to the end of the text; after that there is nothing but padding."""
    written = model.generate(prompts, do_sample=False, max_new_tokens=64, **options)
    assert np.array_equal(written[:, : prompts.shape[1]], prompts)
    rows = []
    for row in written[:, prompts.shape[1] :].tolist():
        length = row.index(EOS) + 1 if EOS in row else len(row)
        assert set(row[length:]) <= {PAD}
        rows.append(row[:length])
    return rows


@pytest.mark.numbers
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_all_that_transformers_writes(dtype):
    model = AutoModelForCausalLM.from_pretrained(REAL, dtype=dtype)
    assert isinstance(model, GPT2LMHeadModel)
    assert sum(map(len, RECORDED["continuations"])) == 6538
    assert continuations(model, PROMPTS) == RECORDED["continuations"]


@pytest.mark.parametrize("options", [{}, {"use_cache": False}, {"prompt_lookup_num_tokens": 3}], ids=str)
def test_each_prompt_alone(model, options):
    """Also without a cache, and with words guessed from those before."""
    for row in range(0, len(PROMPTS), 7):
        assert continuations(model, PROMPTS[row : row + 1], **options) == RECORDED["continuations"][row : row + 1]
