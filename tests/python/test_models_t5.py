"""What is peculiar to T5 and its relatives: a head that shares the words or does not, the encoder alone, weights drawn by their inputs."""

import numpy as np
import pytest

import ferroformer
from ferroformer import T5Config, T5EncoderModel, T5ForConditionalGeneration, T5ForTokenClassification

from . import recorded
from .conftest import read_safetensors, write_safetensors

pytestmark = pytest.mark.numbers

IDS = [[5, 6, 7, 8, 1], [9, 3, 1, 0, 0]]
MASK = [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
APART, SHARED = "t5-gated-Seq2SeqLM", "t5-Seq2SeqLM"


def logits(model):
    return model(IDS, MASK, decoder_input_ids=[[0, 4, 2], [0, 11, 9]]).logits


@pytest.mark.parametrize("name", [APART, SHARED])
@pytest.mark.parametrize("packed", [False, True])
def test_a_head_shares_the_words_as_its_checkpoint_has_it(name, packed, tmp_path):
    """Whatever the configuration says; also in a packed file, and with more words."""
    model = recorded.load(name)
    assert ("lm_head.weight" in model.state_dict()) == (name == APART) and model.config.tie_word_embeddings
    model.save_pretrained(tmp_path, packed=packed)
    again = T5ForConditionalGeneration.from_pretrained(tmp_path)
    assert np.array_equal(logits(again), logits(model)) and again.tensor_names == model.tensor_names
    if not packed:
        again.resize_token_embeddings(60)
        assert again.tensor_names == model.tensor_names and again.num_parameters() > model.num_parameters()
        assert np.array_equal(logits(again)[..., :47], logits(model))


@pytest.mark.parametrize("copy", ["lm_head.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"])
def test_words_that_a_file_holds_once_more(copy, tmp_path):
    model = recorded.load(SHARED)
    tensors = read_safetensors(recorded.MODELS_DIR / SHARED / "model.safetensors")
    write_safetensors(tmp_path / "model.safetensors", tensors | {copy: tensors["shared.weight"]})
    model.config.save_pretrained(tmp_path)
    again, info = T5ForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert np.array_equal(logits(again), logits(model)) and again.num_parameters() == model.num_parameters()
    assert not any(info.values())


def test_words_of_the_encoder_alone_are_the_words(tmp_path):
    tensors = read_safetensors(recorded.MODELS_DIR / SHARED / "model.safetensors")
    tensors["encoder.embed_tokens.weight"] = tensors.pop("shared.weight")
    write_safetensors(tmp_path / "model.safetensors", tensors)
    recorded.load(SHARED).config.save_pretrained(tmp_path)
    assert np.array_equal(logits(T5ForConditionalGeneration.from_pretrained(tmp_path)), logits(recorded.load(SHARED)))


@pytest.mark.parametrize("name, family", [(SHARED, "T5"), ("mt5", "MT5"), ("umt5", "UMT5")])
def test_the_encoder_alone(name, family, tmp_path):
    model = recorded.load(name)
    options = {"output_hidden_states": True, "output_attentions": True}
    encoder = getattr(ferroformer, f"{family}EncoderModel").from_pretrained(recorded.MODELS_DIR / name)
    alone, inside = encoder(IDS, MASK, **options), model.get_encoder()(IDS, MASK, **options)
    assert np.array_equal(alone.last_hidden_state, inside.last_hidden_state)
    for key in ("hidden_states", "attentions"):
        assert all(np.array_equal(a, b) for a, b in zip(alone[key], inside[key], strict=True))
    encoder.save_pretrained(tmp_path)
    again = type(encoder).from_pretrained(tmp_path)
    assert np.array_equal(again(IDS, MASK).last_hidden_state, alone.last_hidden_state)


def test_random_weights_are_drawn_by_their_inputs():
    """As T5's `_init_weights`: scores are not divided by the root of the width of a head, so queries are."""
    config = T5Config(vocab_size=400, d_model=64, d_kv=16, num_heads=8, d_ff=256, num_layers=1, initializer_factor=0.5)
    state = T5ForConditionalGeneration(config).state_dict()
    block = "encoder.block.0.layer"
    for name, inputs in {
        "shared.weight": 1,
        f"{block}.0.SelfAttention.q.weight": 64 * 16,
        f"{block}.0.SelfAttention.k.weight": 64,
        f"{block}.0.SelfAttention.o.weight": 128,
        f"{block}.0.SelfAttention.relative_attention_bias.weight": 64,
        f"{block}.1.DenseReluDense.wi.weight": 64,
        f"{block}.1.DenseReluDense.wo.weight": 256,
        "decoder.block.0.layer.1.EncDecAttention.q.weight": 64 * 16,
    }.items():
        assert state[name].std() == pytest.approx(0.5 * inputs**-0.5, rel=0.1), name


def test_the_encoder_of_a_head_that_labels_tokens(tmp_path):
    """Its checkpoint holds an encoder alone, under transformers' names; one of a whole T5 gives a new head."""
    head = recorded.load("t5-TokenClassification")
    inputs = {"input_ids": [[5, 6, 7]], "output_hidden_states": True}
    bare = T5EncoderModel.from_pretrained(recorded.MODELS_DIR / "t5-TokenClassification")
    assert np.array_equal(bare(**inputs).hidden_states[-1], head(**inputs).hidden_states[-1])
    model, info = T5ForTokenClassification.from_pretrained(recorded.MODELS_DIR / SHARED, output_loading_info=True)
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"} and not info["unexpected_keys"]
    model.save_pretrained(tmp_path)
    names = set(read_safetensors(tmp_path / "model.safetensors"))
    assert {"classifier.weight", "transformer.shared.weight"} <= names and not any("decoder" in name for name in names)
