"""Encoder-decoders of BART's kind: what the recorded models leave open."""

import numpy as np
import pytest

import ferroformer
from ferroformer import AutoModelForSeq2SeqLM, training
from ferroformer.errors import ConfigError, InputError, TokenIdError
from ferroformer.models.auto import MODELS, load_class

from . import recorded
from .conftest import read_safetensors, write_safetensors

NAMES = recorded.names("Seq2SeqLM")
DICE = np.random.default_rng(0)
IDS = DICE.integers(5, 40, (3, 7))
MASK = (np.arange(7) < np.array([[7], [3], [5]])).astype(np.int64)
DECODED = DICE.integers(5, 40, (3, 6))

pytestmark = pytest.mark.numbers


def rebuilt(name, tmp_path, change=lambda tensors: None, **settings):
    """A recorded model with other settings and, by `change`, other tensors."""
    tensors = read_safetensors(recorded.MODELS_DIR / name / "model.safetensors")
    change(tensors)
    write_safetensors(tmp_path / "model.safetensors", tensors)
    config = recorded.load(name).config
    config.update(settings)
    config.save_pretrained(tmp_path)
    return AutoModelForSeq2SeqLM.from_pretrained(tmp_path, output_loading_info=True)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_remembered_is_what_was_seen(name):
    """Token by token, or some at a time, with the encoder run once: the logits of one call but for rounding."""
    model = recorded.load(name)
    exact = model(IDS, MASK, DECODED, use_cache=False)
    assert exact.past_key_values is None
    for cuts in ([1, 2, 3, 4, 5], [2, 5]):
        cache, made, encoded = None, [], model.get_encoder()(IDS, MASK)
        for part in np.split(DECODED, cuts, axis=1):
            out = model(None, MASK, part, encoder_outputs=encoded, past_key_values=cache)
            cache = out.past_key_values
            made.append(out.logits)
        assert np.abs(np.concatenate(made, 1) - exact.logits).max() < 2e-5 * max(1, np.abs(exact.logits).max())
        assert cache.lengths() == [6, 6, 6]


@pytest.mark.parametrize("name", NAMES)
def test_what_the_encoder_made_stands_for_what_it_read(name):
    model = recorded.load(name)
    expected = model(IDS, MASK, DECODED, output_hidden_states=True)
    encoded = model.get_encoder()(IDS, MASK, output_hidden_states=True)
    for given in (encoded, encoded.to_tuple(), encoded.last_hidden_state):
        found = model(attention_mask=MASK, decoder_input_ids=DECODED, encoder_outputs=given)
        assert np.array_equal(found.logits, expected.logits)
    assert all(np.array_equal(a, b) for a, b in zip(encoded[1], expected.encoder_hidden_states, strict=True))
    # padding is nothing that is attended to
    others = np.where(MASK[:, :, None] == 1, encoded.last_hidden_state, 7.0).astype(np.float32)
    assert np.array_equal(model(None, MASK, DECODED, encoder_outputs=others).logits, expected.logits)


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_what_the_decoder_reads_one_place_later(name):
    model = recorded.load(name)
    labels = np.where(np.arange(6) < np.array([[6], [4], [5]]), DECODED, -100)
    config = model.config
    first = np.full((3, 1), config.decoder_start_token_id)
    if config.model_type == "mbart":  # their languages, which stand last
        first = labels[np.arange(3), [5, 3, 4]][:, None]
    shifted = np.hstack([first, np.where(labels == -100, config.pad_token_id, labels)[:, :-1]])
    assert np.array_equal(model.prepare_decoder_input_ids_from_labels(labels), shifted)
    made, given = model(IDS, MASK, labels=labels), model(IDS, MASK, shifted, labels=labels)
    assert np.array_equal(made.logits, given.logits) and made.loss == given.loss
    rows = made.logits[labels != -100].astype(np.float64)
    rows -= np.log(np.exp(rows).sum(1, keepdims=True))
    assert made.loss == pytest.approx(-rows[np.arange(len(rows)), labels[labels != -100]].mean(), rel=1e-5)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "m2m_100-Seq2SeqLM" and "t5" not in name])
def test_the_bias_of_logits_is_not_learned_and_may_be_missing(name, tmp_path, caplog):
    model = recorded.load(name)
    bias = model.state_dict()["final_logits_bias"]
    assert bias.shape == (1, model.config.vocab_size) and np.abs(bias).min() > 0
    without, info = rebuilt(name, tmp_path, lambda tensors: tensors.pop("final_logits_bias"))
    assert not any(info.values()) and not caplog.text
    logits = without(IDS, MASK, DECODED).logits
    assert np.abs(logits + bias - model(IDS, MASK, DECODED).logits).max() < 1e-5
    _, gradients = training.value_and_grad(model, input_ids=IDS, labels=DECODED)
    assert "final_logits_bias" not in gradients
    before = model.num_parameters()
    model.resize_token_embeddings(model.config.vocab_size + 3)
    grown = model.state_dict()["final_logits_bias"]
    assert np.array_equal(grown, np.hstack([bias, np.zeros((1, 3))]))
    assert model.num_parameters() == before + 3 * model.config.d_model
    assert model(IDS, MASK, DECODED).logits.shape[-1] == bias.shape[1] + 3


def test_sines_are_computed_where_a_file_has_none(tmp_path):
    """Marian's: sines, then cosines, of p / 10000^(2 i / width). A file's table is what counts where there is one."""
    names = [f"model.{side}.embed_positions.weight" for side in ("encoder", "decoder")]
    model = recorded.load("marian-Seq2SeqLM")
    angles = np.arange(48)[:, None] / 10000 ** (np.arange(8) / 8)
    for name in names:
        assert np.abs(model.state_dict()[name] - np.hstack([np.sin(angles), np.cos(angles)])).max() < 1e-6
    tables = {name: DICE.normal(size=(48, 16)).astype(np.float32) for name in names}
    other, info = rebuilt("marian-Seq2SeqLM", tmp_path, lambda tensors: tensors.update(tables))
    assert not any(info.values())
    assert all(np.array_equal(other.state_dict()[name], table) for name, table in tables.items())
    other.save_pretrained(tmp_path)
    assert not set(names) & set(read_safetensors(tmp_path / "model.safetensors"))
    model.load_weights(tmp_path)


def test_words_that_encoder_and_decoder_do_not_share(tmp_path):
    """Two tables alike are one; the decoder's may have another size."""
    model = recorded.load("marian-Seq2SeqLM")
    words = model.state_dict()["model.shared.weight"]

    def apart(tensors):
        del tensors["model.shared.weight"]
        for side in ("encoder", "decoder"):
            tensors[f"model.{side}.embed_tokens.weight"] = words

    other, info = rebuilt("marian-Seq2SeqLM", tmp_path, apart, share_encoder_decoder_embeddings=False)
    assert not any(info.values())
    assert np.array_equal(other(IDS, MASK, DECODED).logits, model(IDS, MASK, DECODED).logits)
    _, gradients = training.value_and_grad(other, input_ids=IDS, labels=DECODED)
    _, shared = training.value_and_grad(model, input_ids=IDS, labels=DECODED)
    both = gradients["model.encoder.embed_tokens.weight"] + gradients["model.decoder.embed_tokens.weight"]
    assert np.abs(both - shared["model.shared.weight"]).max() < 1e-6
    config = other.config
    config.update({"decoder_vocab_size": 61, "pad_token_id": 58})
    smaller = ferroformer.MarianMTModel(config)
    assert smaller(IDS, MASK, DECODED).logits.shape == (3, 6, 61)
    with pytest.raises(NotImplementedError, match="two vocabularies"):
        smaller.resize_token_embeddings(70)
    config.share_encoder_decoder_embeddings = True
    with pytest.raises(ConfigError, match="decoder_vocab_size=61 cannot share"):
        ferroformer.MarianMTModel(config)


@pytest.mark.parametrize("name", [name for name in NAMES if "t5" not in name])
def test_a_head_with_weights_of_its_own(name, tmp_path):
    """Encoder, decoder and head with three tables alike are one with one."""

    def apart(tensors):
        for other in ("model.encoder.embed_tokens", "model.decoder.embed_tokens", "lm_head"):
            tensors[f"{other}.weight"] = tensors["model.shared.weight"]

    model = recorded.load(name)
    other, info = rebuilt(name, tmp_path, apart, tie_word_embeddings=False)
    assert not any(info.values())
    logits = other(IDS, MASK, DECODED).logits
    assert np.abs(logits - model(IDS, MASK, DECODED).logits).max() < 1e-5
    assert other.num_parameters() > model.num_parameters()


def test_positions_of_m2m_100_stop_at_padding():
    """A word that is padding has none, and those behind it go on counting."""
    model = recorded.load("m2m_100-Seq2SeqLM")
    ids = np.array([[7, 1, 9, 1, 8]])
    encoded = model.get_encoder()(ids, output_hidden_states=True)
    words = model.state_dict()["model.shared.weight"] * np.sqrt(16)
    table = model.state_dict()["model.encoder.embed_positions.weight"]
    expected = words[ids[0]] + table[[2, 1, 3, 1, 4]]
    assert np.abs(encoded.hidden_states[0][0] - expected).max() < 1e-6 and not table[1].any()
    with pytest.raises(InputError, match="longer than the model's 48 positions"):
        model.get_encoder()(np.full((1, 49), 7))


def test_a_decoder_needs_something_to_read():
    model = recorded.load("marian-Seq2SeqLM")
    with pytest.raises(InputError, match="decoder_input_ids"):
        model(IDS)
    with pytest.raises(InputError, match="no labels to make them of"):
        training.record(model, input_ids=IDS)
    with pytest.raises(NotImplementedError, match="cross_attn_head_mask"):
        model(IDS, MASK, DECODED, cross_attn_head_mask=1)
    with pytest.raises(TypeError, match="'token_type_ids'"):
        model(IDS, MASK, DECODED, token_type_ids=IDS)
    with pytest.raises(TokenIdError, match=r"decoder_input_ids\[1, 2\] is 59"):
        model(IDS, MASK, np.where(np.arange(18).reshape(3, 6) == 8, 59, DECODED))
    with pytest.raises(TokenIdError, match=r"^input_ids\[0, 0\] is -1"):
        model(np.where(np.arange(21).reshape(3, 7) == 0, -1, IDS), MASK, DECODED)
    with pytest.raises(InputError, match="rows"):
        model(IDS, MASK, DECODED[:2])


def test_bart_reads_again_what_it_read():
    model = recorded.load("bart")
    shifted = np.hstack([np.full((3, 1), model.config.decoder_start_token_id), IDS[:, :-1]])
    assert np.array_equal(model(IDS, MASK)[0], model(IDS, MASK, shifted)[0])


def test_labels_of_rows_are_read_at_their_last_eos():
    model = recorded.load("bart-SequenceClassification")
    ids, eos = IDS.copy(), model.config.eos_token_id
    ids[:, [2, 5]] = eos
    made = model(ids)
    assert made.logits.shape == (3, 4)
    one = model(ids[:1, :6])  # the decoder does not see what comes later, the encoder does
    assert not np.array_equal(one.logits, made.logits[:1])
    with pytest.raises(InputError, match="as many in each"):
        model(np.where(np.arange(3)[:, None] == 1, IDS, ids))
    with pytest.raises(InputError, match="one at least"):
        model(IDS)
    with pytest.raises(NotImplementedError, match="input_ids"):
        model(inputs_embeds=np.zeros((1, 4, 16), np.float32), decoder_input_ids=[[5, 6, 7, 8]])


@pytest.mark.parametrize("rate", ["encoder_layerdrop", "decoder_layerdrop"])
def test_layers_are_not_dropped_in_silence(rate):
    model = recorded.load("bart-Seq2SeqLM", **{rate: 0.1}).train()
    with pytest.raises(NotImplementedError, match=f"{rate}=0.1"):
        training.value_and_grad(model, input_ids=IDS, labels=DECODED)
    training.value_and_grad(model.eval(), input_ids=IDS, labels=DECODED)


def test_what_writes_is_found_by_its_type():
    for name in NAMES:
        place = MODELS[recorded.model_type(name)].heads["Seq2SeqLM"]
        assert type(AutoModelForSeq2SeqLM.from_pretrained(recorded.MODELS_DIR / name)) is load_class(place)


def test_an_answer_is_read_where_the_decoder_reads_the_text_again():
    """Without decoder_input_ids these are input_ids, moved one place to the right; the loss is of all logits."""
    model = recorded.load("bart-QuestionAnswering")
    ids, labels = IDS[:2], {"start_positions": [1, 2], "end_positions": [2, 3]}
    output = model(ids, decoder_input_ids=model.prepare_decoder_input_ids_from_labels(ids), **labels)
    assert output.loss == model(ids, **labels).loss and output.start_logits.shape == ids.shape
    assert output.past_key_values is None and model(ids).past_key_values is not None
    with pytest.raises(InputError, match="start_positions and end_positions belong together"):
        model(ids, start_positions=[1, 2])
    mask = np.ones_like(ids)
    mask[1, -1] = 0
    assert np.isfinite(model(ids, decoder_attention_mask=mask).start_logits).all()
    with pytest.raises(NotImplementedError, match="zeros in decoder_attention_mask"):
        model(ids, decoder_attention_mask=mask, **labels)
