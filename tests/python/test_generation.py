"""`generate`: its laws, what it draws, what it refuses, streamers. As transformers: test_generation_recorded."""

import threading
from collections import Counter

import numpy as np
import pytest

from ferroformer import set_seed
from ferroformer.errors import InputError, TokenIdError
from ferroformer.generation import (
    BaseStreamer,
    EosTokenCriteria,
    ForcedBOSTokenLogitsProcessor,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    MinLengthLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteria,
    TextIteratorStreamer,
    TextStreamer,
    numbers,
)
from ferroformer.generation.sampling import Sampler, row_seeds
from ferroformer.generation.unsupported import ARGUMENTS, SETTINGS

from .toy_generation import ToyModel

PROMPTS = np.array([[3, 4, 5], [6, 7, 8], [9, 10, 11], [5, 5, 5]])
WAYS = [
    {},
    {"do_sample": True, "seed": 7},
    {"do_sample": True, "seed": 7, "top_k": 5, "top_p": 0.8, "typical_p": 0.9, "min_p": 0.01, "temperature": 1.5},
    {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "encoder_repetition_penalty": 1.2},
    {"num_beams": 3},
    {"num_beams": 3, "early_stopping": True, "encoder_no_repeat_ngram_size": 2, "repetition_penalty": 1.1},
    {"num_beams": 2, "early_stopping": "never", "length_penalty": 2.0},
]


@pytest.fixture(params=[False, True], ids=["decoder", "encoder-decoder"])
def model(request):
    return ToyModel.random(
        24, 5, request.param, eos_token_id=[2, 13], pad_token_id=0, bos_token_id=1, decoder_start_token_id=4
    )


# --- laws -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", WAYS)
def test_alone_and_in_a_batch(model, how):
    seeds = {"seed": [11, 12, 13, 14]} if "seed" in how else {}
    batch = model.generate(PROMPTS, max_new_tokens=12, **how | seeds)
    for row, prompt in enumerate(PROMPTS):
        own = {"seed": seeds["seed"][row : row + 1]} if seeds else {}
        alone = model.generate(prompt[None], max_new_tokens=12, **how | own)
        ours, width = batch[row], alone.shape[1]
        assert ours[:width].tolist() == alone[0].tolist()
        # what a beam search fills up with is its first end where pad_token_id is 0
        assert set(ours[width:].tolist()) <= {0, 2}


@pytest.mark.parametrize("how", WAYS)
def test_padding_changes_nothing(how):
    model = ToyModel.random(24, 5, eos_token_id=[2, 13], pad_token_id=0, bos_token_id=1)
    how = {name: value for name, value in how.items() if not name.startswith("encoder")}
    padded = np.concatenate((np.zeros((4, 2), np.int64), PROMPTS), axis=1)
    mask = (padded != 0).astype(np.int64)
    plain = model.generate(PROMPTS, max_new_tokens=9, **how)
    for given in ({"attention_mask": mask}, {}):  # it is told from pad_token_id
        assert np.array_equal(model.generate(padded, max_new_tokens=9, **given, **how)[:, 2:], plain)


def test_finished_sequences_are_not_computed(model):
    found = model.generate(PROMPTS, max_new_tokens=15)
    computed = model.states[-1].computed
    kept = model.generate(PROMPTS, max_new_tokens=15, return_dict_in_generate=True)
    assert np.array_equal(found, kept.sequences)
    lengths = [int(np.argmax(np.isin(row[1:], (2, 13)))) or len(row) for row in found]
    assert len(set(lengths)) > 1 and computed < model.states[-1].computed


def test_cache_is_returned_for_all(model):
    kept = model.generate(PROMPTS, max_new_tokens=15, return_dict_in_generate=True)
    # the last token was never fed
    assert kept.past_key_values.lengths == [kept.sequences.shape[1] - 1] * 4
    assert model.generate(PROMPTS, return_dict_in_generate=True, use_cache=False, max_length=9).past_key_values is None


@pytest.mark.parametrize("how", [{}, {"do_sample": True, "seed": 3}, {"repetition_penalty": 1.2}, {"stop_at": 9}])
@pytest.mark.parametrize("count", [1, 3, 10])
@pytest.mark.parametrize("ngram", [None, 1, 4])
def test_speculation_changes_nothing(model, how, count, ngram):
    how = dict(how)
    if "stop_at" in how:
        end = how.pop("stop_at")
        how["stopping_criteria"] = [lambda ids, scores: ids[:, -1] == end]
    prompt = np.array([[3, 4, 5, 6, 3, 4, 5]])
    how |= {"max_new_tokens": 40, "eos_token_id": 13, "return_dict_in_generate": True, "output_scores": True}
    plain = model.generate(prompt, **how)
    guessed = model.generate(prompt, prompt_lookup_num_tokens=count, max_matching_ngram_size=ngram, **how)
    assert np.array_equal(plain.sequences, guessed.sequences)
    assert len(plain.scores) == len(guessed.scores)
    assert all(np.array_equal(one, other) for one, other in zip(plain.scores, guessed.scores))
    assert plain.past_key_values.lengths == guessed.past_key_values.lengths


def test_speculation_saves_steps():
    model = ToyModel.random(20, 0, width=3)
    model.generate(np.array([[3, 4, 5]]), max_new_tokens=60, prompt_lookup_num_tokens=5)
    steps = []
    step = type(model.states[-1]).step
    state_class = type(model.states[-1])
    try:
        state_class.step = lambda self, ids, last_only=True: steps.append(ids.shape) or step(self, ids, last_only)
        model.generate(np.array([[3, 4, 5]]), max_new_tokens=60, prompt_lookup_num_tokens=5)
    finally:
        state_class.step = step
    assert len(steps) < 45 and max(shape[1] for shape in steps) == 6


def test_beams_without_a_way_on(model):
    """Where nothing may follow, what there is stands in for a finished sequence, the same in any company."""
    ban = {"prefix_allowed_tokens_fn": lambda prompt, ids: [3] if prompt % 2 else list(range(24))}
    how = {"num_beams": 3, "max_new_tokens": 6, "no_repeat_ngram_size": 1, "suppress_tokens": list(range(8, 24))}
    found = model.generate(PROMPTS, **how, eos_token_id=None)
    kept = model.generate(PROMPTS, **how, eos_token_id=None, return_dict_in_generate=True, output_scores=True)
    assert np.array_equal(found, kept.sequences)
    for row, prompt in enumerate(PROMPTS):
        alone = model.generate(prompt[None], **how, eos_token_id=None)[0]
        assert alone.tolist() == found[row, : len(alone)].tolist() and (found[row, len(alone) :] == -1).all()
        said = [token for token in found[row, -6:].tolist() if token >= 0]
        assert len(set(said)) == len(said) and set(said) <= set(range(8)) | set(prompt.tolist())
    assert model.generate(PROMPTS, **how | ban).shape[0] == 4


# --- drawing --------------------------------------------------------------------------------------
def test_set_seed_and_splits_of_a_batch(model):
    how = {"do_sample": True, "max_new_tokens": 8, "eos_token_id": None, "num_return_sequences": 2}
    model.generation_config.eos_token_id = None
    set_seed(4)
    whole = model.generate(PROMPTS, **how)
    set_seed(4)
    parts = [model.generate(PROMPTS[:1], **how), model.generate(PROMPTS[1:], **how)]
    assert np.array_equal(whole, np.concatenate(parts))
    assert not np.array_equal(whole, model.generate(PROMPTS, **how))
    assert not np.array_equal(whole[0::2], whole[1::2])


def test_seed(model):
    how = {"do_sample": True, "max_new_tokens": 8}
    one, other = (model.generate(PROMPTS, seed=5, **how) for _ in range(2))
    assert np.array_equal(one, other) and not np.array_equal(one, model.generate(PROMPTS, seed=6, **how))
    assert len(set(row_seeds(5, 3, 2))) == 6
    assert row_seeds(5, 3, 2)[:2] == row_seeds(5, 1, 2)
    for wrong, error in ((1.5, TypeError), ([1, 2], InputError), (True, TypeError)):
        with pytest.raises(error, match="seed"):
            model.generate(PROMPTS, seed=wrong, **how)


def chi_squared(counts, expected):
    return float(((counts - expected) ** 2 / expected).sum())


def test_frequencies_are_the_distribution():
    scores = np.array([[0.0, 1.0, -1.0, -np.inf, 2.0, 0.5, -20.0]], np.float32)
    draws = 40_000
    sampler = Sampler([9])
    counts = Counter(int(sampler.draw(scores, np.zeros(1, np.int64))[0]) for _ in range(draws))
    assert counts[3] == 0
    likely = [0, 1, 2, 4, 5]
    expected = numbers.softmax(scores)[0, likely] * draws
    # 4 degrees of freedom: one in a million is above 33
    assert chi_squared(np.array([counts[token] for token in likely]), expected) < 33


def test_frequencies_over_rows_and_without_putting_back():
    """The first of several is drawn as one alone; the second by what is left."""
    scores = np.log(np.array([0.5, 0.25, 0.15, 0.1], np.float32))
    rows = 30_000
    drawn = Sampler(row_seeds(3, rows, 1)).draw_several(np.tile(scores, (rows, 1)), np.arange(rows), 2)
    assert (drawn[:, 0] != drawn[:, 1]).all()
    p = np.exp(scores)
    pairs = {(i, j): p[i] * p[j] / (1 - p[i]) for i in range(4) for j in range(4) if i != j}
    counts = Counter(map(tuple, drawn.tolist()))
    found = chi_squared(np.array([counts[pair] for pair in pairs]), np.array(list(pairs.values())) * rows)
    # 11 degrees of freedom: one in a million is above 49
    assert found < 49


def test_drawing_more_than_is_possible():
    scores = np.full((1, 6), -np.inf, np.float32)
    scores[0, [1, 4]] = 0
    drawn = Sampler([1]).draw_several(scores, np.zeros(1, np.int64), 5)[0]
    assert set(drawn[:2].tolist()) == {1, 4} and len(set(drawn.tolist())) == 5
    for wrong in (np.nan, -np.inf, np.inf):
        with pytest.raises(InputError, match="no token can be drawn"):
            Sampler([1]).draw(np.full((1, 3), wrong, np.float32), np.zeros(1, np.int64))


# --- callables of the caller's --------------------------------------------------------------------
def test_penalty_that_grows_beyond_all_numbers(model):
    model.generation_config.eos_token_id = None
    with pytest.raises(ValueError, match="exponential_decay"):
        model.generate(PROMPTS, max_new_tokens=4, exponential_decay_length_penalty=(0, 2.0))
    how = {"exponential_decay_length_penalty": (1, 1e60), "eos_token_id": 2, "return_dict_in_generate": True}
    found = model.generate(PROMPTS, max_new_tokens=30, output_scores=True, **how)
    assert (found.sequences == 2).any(axis=1).all() and not np.isnan(found.scores[-1]).any()


class Watching(LogitsProcessor):
    def __init__(self):
        self.seen = []

    def __call__(self, input_ids, scores):
        self.seen.append((input_ids.copy(), scores))
        return scores


def test_own_processors_see_every_row(model):
    watching = Watching()
    found = model.generate(PROMPTS, max_new_tokens=9, logits_processor=[watching], min_new_tokens=3)
    assert all(len(ids) == 4 and scores.shape == (4, 24) for ids, scores in watching.seen)
    lengths = [ids.shape[1] for ids, _ in watching.seen]
    assert lengths == list(range(found.shape[1] - len(lengths), found.shape[1]))
    assert np.array_equal(watching.seen[-1][0], found[:, :-1])


def test_what_a_processor_keeps_is_not_overwritten(model):
    watching = Watching()
    model.generate(PROMPTS, max_new_tokens=3, do_sample=True, top_k=2, logits_processor=[watching], seed=1)
    assert all(np.isfinite(scores).all() for _, scores in watching.seen)


def test_own_processor_in_place_of_the_built_in_one(model):
    mine = MinLengthLogitsProcessor(30, 2)
    found = model.generate(PROMPTS, max_new_tokens=9, min_length=2, logits_processor=[mine], eos_token_id=2)
    assert not (found[:, -9:-1] == 2).any()


def test_own_criteria(model):
    class Third(StoppingCriteria):
        def __call__(self, input_ids, scores, **kwargs):
            return np.arange(len(input_ids)) * 0 + input_ids.shape[1] >= 7

    assert model.generate(PROMPTS, max_new_tokens=30, stopping_criteria=[Third()], eos_token_id=None).shape[1] == 7
    # any callable, and a scalar
    assert model.generate(PROMPTS, max_new_tokens=30, stopping_criteria=[lambda ids, scores: True]).shape[1] in (2, 4)


def test_an_end_needs_padding(model):
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = None
    with pytest.raises(ValueError, match="pad_token_id"):
        model.generate(PROMPTS, max_new_tokens=4, stopping_criteria=[EosTokenCriteria([2])])


def test_processors_leave_their_arguments_alone_and_ask_for_more():
    scores = np.zeros((2, 5), np.float32)
    ids = np.array([[1], [2]])
    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(2.0), MinLengthLogitsProcessor(3, 4)])
    found = processors(ids, scores)
    assert (scores == 0).all() and np.isneginf(found[:, 4]).all()

    class More:
        def __call__(self, input_ids, scores, extra):
            return scores + extra

    more = LogitsProcessorList([More()])
    assert (more(ids, scores, extra=2) == 2).all()
    with pytest.raises(ValueError, match="extra"):
        more(ids, scores)
    with pytest.raises(TokenIdError, match="forced_bos_token_id"):
        ForcedBOSTokenLogitsProcessor(9)(ids, scores)


# --- streamers ------------------------------------------------------------------------------------
class Words:
    def decode(self, ids, **kwargs):
        return "".join(f"w{i} " if i % 5 else "\n" for i in ids)


class Collecting(BaseStreamer):
    def __init__(self):
        self.puts, self.ended = [], 0

    def put(self, value):
        self.puts.append(value)

    def end(self):
        self.ended += 1


@pytest.mark.parametrize("how", [{}, {"prompt_lookup_num_tokens": 4}])
def test_streamer_gets_all(model, how):
    prompts = PROMPTS[:1] if how else PROMPTS
    streamer = Collecting()
    found = model.generate(prompts, max_new_tokens=12, streamer=streamer, **how)
    puts = [put if put.ndim == 2 else put[:, None] for put in streamer.puts]
    assert np.array_equal(np.concatenate(puts, axis=1), found) and streamer.ended == 1


def test_text_streamers(model, capsys):
    transformers = pytest.importorskip("transformers")
    tokens = model.generate(PROMPTS[:1], max_new_tokens=20, streamer=TextStreamer(Words(), skip_prompt=True))
    ours = capsys.readouterr().out
    reference = transformers.TextStreamer(Words(), skip_prompt=True)
    prompt = tokens.shape[1] - (tokens.shape[1] - (1 if model.config.is_encoder_decoder else 3))
    reference.put(tokens[:, :prompt])
    for token in tokens[0, prompt:]:
        reference.put(np.array([token]))
    reference.end()
    assert ours == capsys.readouterr().out and ours.endswith("\n")
    with pytest.raises(ValueError, match="batch size 1"):
        model.generate(PROMPTS, max_new_tokens=2, streamer=TextStreamer(Words()))


def test_iterator_streamer(model):
    streamer = TextIteratorStreamer(Words(), timeout=10)
    found = []
    how = {"max_new_tokens": 20, "streamer": streamer}
    thread = threading.Thread(target=lambda: found.append(model.generate(PROMPTS[:1], **how)))
    thread.start()
    text = "".join(streamer)
    thread.join()
    assert text == Words().decode(found[0][0])


# --- lengths, special tokens ----------------------------------------------------------------------
def test_default_length(model):
    model.generation_config.eos_token_id = None
    with pytest.warns(UserWarning, match="model-agnostic default"):
        found = model.generate(PROMPTS)
    assert found.shape[1] == 20 + (1 if model.config.is_encoder_decoder else 3)
    model.config.max_position_embeddings = 10
    with pytest.warns(UserWarning, match="model-agnostic default"):
        assert model.generate(PROMPTS).shape[1] == 10
    assert model.generate(PROMPTS, max_length=12).shape[1] == 12


def test_prompts_of_other_kinds(model):
    lists = model.generate(PROMPTS.tolist(), max_new_tokens=4)
    assert np.array_equal(lists, model.generate(input_ids=PROMPTS.astype(np.int32), max_new_tokens=4))
    assert np.array_equal(
        model.generate(max_new_tokens=4), model.generate([[1]], max_new_tokens=4)
    )  # bos_token_id is the prompt
    for wrong in ([1, 2], [[]], np.zeros((0, 3), np.int64)):
        with pytest.raises(InputError, match="input_ids"):
            model.generate(wrong, max_new_tokens=4)
    with pytest.raises(TypeError, match="integers"):
        model.generate([[1.5]], max_new_tokens=4)
    with pytest.raises(ValueError, match="alongside"):
        model.generate(PROMPTS, input_ids=PROMPTS)


def test_decoder_start_of_each_prompt():
    model = ToyModel.random(24, 5, True, eos_token_id=2, pad_token_id=0)
    found = model.generate(PROMPTS, decoder_start_token_id=[5, 6, 7, 8], max_new_tokens=3)
    assert found[:, 0].tolist() == [5, 6, 7, 8]
    given = model.generate(PROMPTS, decoder_start_token_id=9, decoder_input_ids=[[9, 3]] * 4, max_new_tokens=2)
    without = model.generate(PROMPTS, decoder_start_token_id=9, decoder_input_ids=[[3]] * 4, max_new_tokens=2)
    assert given[:, :2].tolist() == [[9, 3]] * 4 and np.array_equal(given, without)
    with pytest.raises(ValueError, match="decoder_start_token_id"):
        model.generate(PROMPTS, max_new_tokens=3)
    with pytest.raises(ValueError, match="length 4 but got 2"):
        model.generate(PROMPTS, decoder_start_token_id=[5, 6], max_new_tokens=3)


# --- what is refused ------------------------------------------------------------------------------
@pytest.mark.parametrize("name", SETTINGS)
def test_settings_beyond(model, name):
    asking = {"low_memory": True, "token_healing": True, "use_mtp": True, "output_attentions": True}
    asking |= {"output_hidden_states": True, "num_beam_groups": 2, "cache_implementation": "static"}
    with pytest.raises(NotImplementedError, match=name):
        model.generate(PROMPTS, max_new_tokens=2, **{name: asking.get(name, 0.5)})
    for idle in (None, *SETTINGS[name]):
        model.generate(PROMPTS, max_new_tokens=2, **{name: idle})


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_beyond(model, name):
    with pytest.raises(NotImplementedError, match=name):
        model.generate(PROMPTS, max_new_tokens=2, **{name: True})


@pytest.mark.parametrize(
    "how, error",
    [
        ({"nonsense": 1}, "not used by the model: .'nonsense'"),
        ({"token_type_ids": PROMPTS}, "token_type_ids"),
        ({"max_length": 3, "decoder_input_ids": [[4, 3, 5]] * 4}, "max_length"),
        ({"num_beams": 0}, "num_beams"),
        ({"num_beams": 2.5}, "num_beams"),
        ({"max_new_tokens": "5"}, "max_new_tokens|not supported between"),
        ({"num_return_sequences": 0}, "num_return_sequences"),
        ({"num_beams": 30, "max_new_tokens": 1}, None),
        ({"num_beams": 2, "streamer": Collecting()}, "streamer"),
        ({"stop_strings": "x"}, "tokenizer"),
        ({"do_sample": True, "temperature": 0.0}, "temperature"),
        ({"repetition_penalty": 2}, "penalty"),
        ({"prompt_lookup_num_tokens": 3}, "batch_size = 1"),
        ({"prompt_lookup_num_tokens": 3, "use_cache": False}, "use_cache"),
        ({"attention_mask": np.ones((4, 2))}, "attention_mask"),
        ({"attention_mask": np.full((4, 3), 2)}, "attention_mask"),
        ({"prefix_allowed_tokens_fn": lambda prompt, ids: []}, "unsatisfiable"),
        ({"bad_words_ids": [[99]]}, "vocabulary size is 24"),
    ],
)
def test_wrong_arguments(model, how, error):
    if error is None:
        model.generate(PROMPTS, **how)
        return
    with pytest.raises((ValueError, TypeError), match=error):
        model.generate(PROMPTS, **{"max_new_tokens": 4} | how if "max_length" not in how else how)


def test_transition_scores(model):
    how = {"max_new_tokens": 6, "return_dict_in_generate": True, "output_scores": True}
    greedy = model.generate(PROMPTS, eos_token_id=None, **how)
    scores = model.compute_transition_scores(greedy.sequences, greedy.scores, normalize_logits=True)
    steps = greedy.sequences[:, -len(greedy.scores) :]
    for step, given in enumerate(greedy.scores):
        expected = np.take_along_axis(numbers.log_softmax(given), steps[:, step : step + 1], axis=1)[:, 0]
        assert np.array_equal(scores[:, step], expected)
    beams = model.generate(PROMPTS, num_beams=3, num_return_sequences=3, length_penalty=0.5, **how)
    scores = model.compute_transition_scores(beams.sequences, beams.scores, beams.beam_indices)
    lengths = (beams.beam_indices >= 0).sum(axis=1)
    assert np.allclose(scores.sum(axis=1) / lengths**0.5, beams.sequences_scores, atol=1e-5)


def test_generation_config_of_a_call(model):
    config = GenerationConfig(max_new_tokens=3, num_beams=2)
    assert np.array_equal(model.generate(PROMPTS, config), model.generate(PROMPTS, max_new_tokens=3, num_beams=2))
    assert config.max_length is None and model.generation_config.num_beams is None


def test_settings_in_the_model_configuration(model):
    model.config.num_beams = 4
    with pytest.raises(ValueError, match="num_beams.*generation_config"):
        model.generate(PROMPTS, max_new_tokens=3)
    # which a configuration of the call's own goes before
    assert model.generate(PROMPTS, GenerationConfig(max_new_tokens=3)).shape[0] == 4


# --- numbers --------------------------------------------------------------------------------------
@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
@pytest.mark.parametrize("vocabulary, possible", [(300, 250), (5000, 4000), (5000, 45), (5000, 12), (40, 40)])
def test_passes_over_the_vocabulary(spread, vocabulary, possible):
    random = np.random.default_rng(1)
    scores = np.round(random.standard_normal((5, vocabulary)) * spread, 1).astype(np.float32)  # with equal ones
    for row in scores:
        row[random.permutation(vocabulary)[possible:]] = -np.inf
    values, ids = numbers.top_k(scores, 40)
    expected = np.array([sorted(range(vocabulary), key=lambda i: (-row[i], i))[:40] for row in scores])
    assert np.array_equal(ids, expected) and np.array_equal(values, np.take_along_axis(scores, ids, axis=1))
    doubles = scores.astype(np.float64)
    exact = doubles - np.log(np.exp(doubles).sum(axis=1, keepdims=True))
    assert np.allclose(numbers.log_softmax(scores), exact, atol=1e-5)
    assert np.allclose(numbers.softmax(scores), np.exp(exact), atol=1e-6)
    fused, places = numbers.log_softmax_top_k(scores, 40)
    assert np.array_equal(places, ids) and np.allclose(fused, np.take_along_axis(exact, ids, axis=1), atol=1e-5)
    tops = numbers.top_k(scores, 1)[1]
    assert np.array_equal(tops[:, 0], scores.argmax(axis=1))
    assert np.array_equal(numbers.kth_largest(scores, 7)[:, 0], values[:, 6])
    alone = [numbers.log_softmax(row[None])[0] for row in scores]
    assert np.array_equal(numbers.log_softmax(scores), alone)


def test_scores_that_are_no_numbers():
    scores = np.full((2, 200), np.nan, np.float32)
    assert numbers.top_k(scores, 5)[1].tolist() == [[0, 1, 2, 3, 4]] * 2
    scores[1] = -np.inf
    assert numbers.log_softmax_top_k(scores, 5)[1].shape == (2, 5)
    assert np.isnan(numbers.softmax(scores)).all()
