"""past_key_values, and generate() of real decoders: what transformers recorded, and the laws."""

import numpy as np
import pytest

import ferroformer
from ferroformer import DynamicCache
from ferroformer.errors import InputError

from . import recorded

DECODERS = recorded.names("CausalLM")
GENERATING = [(name, case["case"]) for name in recorded.NAMES for case in recorded.cases(name, "generate")]
DICE = np.random.default_rng(0)


@pytest.mark.parametrize("name, case", GENERATING)
@pytest.mark.numbers
def test_recorded_continuations(name, case):
    kwargs = next(c["kwargs"] for c in recorded.cases(name, "generate") if c["case"] == case)
    inputs, expected = recorded.arrays(name, case, "in", "out")
    made = recorded.load(name).generate(**inputs, **kwargs, return_dict_in_generate=True, output_scores=True)
    assert np.array_equal(made.sequences, expected["sequences"])
    if "sequences_scores" in expected:
        assert np.abs(made.sequences_scores - expected["sequences_scores"]).max() < 1e-4


def prompts(model, rows=3, width=7):
    """Ids and a mask with padding on the left."""
    ids = DICE.integers(3, model.config.vocab_size, (rows, width))
    mask = (np.arange(width)[::-1] < np.array([width, 3, 5])[:rows, None]).astype(np.int64)
    return ids, mask


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.numbers
def test_what_is_remembered_is_what_was_seen(name):
    """Token by token, some at a time, or all at once: the same logits but for rounding."""
    model = recorded.load(name)
    ids, _ = prompts(model)
    exact = model(ids, use_cache=False).logits
    for cuts in ([3, 4, 5, 6], [5], [1, 6]):
        cache, made = None, []
        for part in np.split(ids, cuts, axis=1):
            out = model(part, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            made.append(out.logits)
        assert np.abs(np.concatenate(made, 1) - exact).max() < 2e-5 * max(1, np.abs(exact).max())
        assert cache.get_seq_length() == 7 and cache.lengths() == [7, 7, 7]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("name", ["gpt2-CausalLM", "gpt_neo-CausalLM", "gemma2-CausalLM"])
@pytest.mark.numbers
def test_the_same_bits_in_any_company(name, dtype):
    """A prompt goes on as it does alone, in a batch with padding and on any number of threads."""
    model = recorded.load(name, dtype=dtype)
    ids, mask = prompts(model)
    settings = {"max_new_tokens": 9, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    settings |= {"output_logits": True, "return_dict_in_generate": True}
    together, threads = model.generate(ids, attention_mask=mask, **settings), ferroformer.get_num_threads()
    try:
        for count in (1, 2):
            ferroformer.set_num_threads(count)
            for row in range(3):
                alone = model.generate(ids[row : row + 1, mask[row] == 1], **settings)
                assert np.array_equal(alone.sequences[0, -9:], together.sequences[row, -9:])
                for mine, all_rows in zip(alone.logits, together.logits):
                    assert mine[0].tobytes() == all_rows[row].tobytes()
    finally:
        ferroformer.set_num_threads(threads)


@pytest.mark.parametrize("name", ["gpt2-CausalLM", "mistral-CausalLM"])
def test_speculation_changes_nothing(name):
    model = recorded.load(name)
    ids = np.tile(DICE.integers(3, model.config.vocab_size, (1, 5)), 4)
    settings = {"max_new_tokens": 24, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    plain = model.generate(ids, **settings)
    for tokens in (1, 3, 8):
        assert np.array_equal(model.generate(ids, prompt_lookup_num_tokens=tokens, **settings), plain)


def test_sequences_part_and_go_on():
    """Continuations of one prompt share it; each has the logits that it has by itself."""
    model = recorded.load("gpt2-CausalLM")
    ids, _ = prompts(model, rows=2)
    cache = model(ids, use_cache=True).past_key_values
    before = cache.memory_footprint()
    cache.reorder(np.array([1, 0, 1]))
    more = np.array([[5], [6], [7]])
    made = model(more, past_key_values=cache).logits
    for row, source in enumerate((1, 0, 1)):
        own = model(ids[source : source + 1], use_cache=True).past_key_values
        assert np.array_equal(model(more[row : row + 1], past_key_values=own).logits[0], made[row])
    assert cache.memory_footprint() == before and cache.lengths() == [8, 8, 8]
    cache.crop(7)
    assert cache.lengths() == [7, 7, 7]
    assert np.array_equal(model(more, past_key_values=cache).logits, made)
    cache.reorder(np.array([], np.int64))
    assert cache.lengths() == []


def test_memory_is_used_again():
    """Tokens that no sequence holds any more leave their room to others."""
    model = recorded.load("gpt2-CausalLM")
    cache = model(DICE.integers(3, 50, (1, 30)), use_cache=True).past_key_values
    size = cache.memory_footprint()
    for _ in range(20):
        model(DICE.integers(3, 50, (1, 3)), past_key_values=cache)
        cache.crop(30)
    assert cache.memory_footprint() == size


def test_prompts_that_go_on():
    """What generate() returned is taken back: a chat's next turn computes the new tokens alone."""
    model = recorded.load("gpt2-CausalLM")
    ids, mask = prompts(model)
    settings = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    first = model.generate(ids, attention_mask=mask, return_dict_in_generate=True, **settings)
    longer = np.concatenate((first.sequences, DICE.integers(3, 50, (3, 2))), 1)
    more = np.concatenate((mask, np.ones((3, 7), np.int64)), 1)
    again = model.generate(longer, attention_mask=more, past_key_values=first.past_key_values, **settings)
    assert np.array_equal(again, model.generate(longer, attention_mask=more, **settings))


def test_a_mask_may_have_the_tokens_before():
    model = recorded.load("gpt2-CausalLM")
    ids, mask = prompts(model)
    out = model(ids, mask, use_cache=True)
    whole = np.concatenate((mask, np.ones((3, 1), np.int64)), 1)
    one, other = ids[:, :1], model(ids, mask, use_cache=True).past_key_values
    made = model(one, whole, past_key_values=out.past_key_values).logits
    assert np.array_equal(made, model(one, past_key_values=other).logits)


def test_errors_change_nothing():
    model, other = recorded.load("gpt2-CausalLM"), recorded.load("gpt2-scaled")
    ids, _ = prompts(model)
    cache = model(ids, use_cache=True).past_key_values
    with pytest.raises(InputError, match="past_key_values have 3 sequences, the batch has 2"):
        model(ids[:2], past_key_values=cache)
    with pytest.raises(InputError, match="past_key_values are those of another model"):
        other(ids, past_key_values=cache)
    with pytest.raises(TypeError, match="must be a DynamicCache, .* got tuple"):
        model(ids, past_key_values=((1, 2),))
    with pytest.raises(IndexError, match="input_ids"):
        model(ids + 10**6, past_key_values=cache)
    with pytest.raises(InputError, match="output_attentions is not supported with past_key_values"):
        model(ids, past_key_values=cache, output_attentions=True)
    with pytest.raises(InputError, match=r"indices\[1\] is 3; there are 3 sequences"):
        cache.reorder(np.array([0, 3]))
    with pytest.raises(InputError, match=r"lengths\[0\] is -1; the sequence has 7 tokens"):
        cache.crop(np.array([-1, 7, 7]))
    limit = model.config.n_positions
    with pytest.raises(InputError, match=f"longer than the model's {limit} positions"):
        model(np.ones((3, limit), np.int64), past_key_values=cache)
    assert cache.lengths() == [7, 7, 7]
    same = model(ids, use_cache=True).past_key_values
    assert np.array_equal(model(ids[:, :1], past_key_values=cache).logits, model(ids[:, :1], past_key_values=same).logits)
    empty = DynamicCache(model)
    with pytest.raises(IndexError):
        model(ids + 10**6, past_key_values=empty)
    assert empty.lengths() == []


def test_a_row_without_tokens():
    model = recorded.load("gpt2-CausalLM")
    with pytest.raises(InputError, match=r"row 1 of the prompts has no token: attention_mask\[1\] is all zeros"):
        model.generate(np.ones((2, 3), np.int64), attention_mask=np.array([[1, 1, 1], [0, 0, 0]]), max_new_tokens=2)
