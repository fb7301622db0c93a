"""Settings that no recorded model has, each against the same thing said otherwise: in numpy, or as another model."""

import math

import numpy as np
import pytest

import ferroformer
from ferroformer import AutoConfig, AutoModel, BertConfig, BertModel, training
from ferroformer.errors import InputError
from ferroformer.models.auto import MODELS, load_class

from . import recorded
from .conftest import read_safetensors, write_safetensors

pytestmark = pytest.mark.numbers

SMALL = {
    "vocab_size": 50,
    "hidden_size": 24,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "intermediate_size": 20,
    "max_position_embeddings": 40,
    "pad_token_id": 1,
    "num_key_value_heads": 4,
}
IDS = np.random.default_rng(0).integers(2, 50, (3, 9))
MASK = (np.arange(9) < np.array([[9], [4], [6]])).astype(int)
# what others of SMALL do not fit
OWN_SETTINGS = {
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gpt_neox": {"rotary_pct": 0.7},
    "phi": {"partial_rotary_factor": 0.7},
} | dict.fromkeys(
    ("bart", "mbart", "marian", "pegasus", "m2m_100", "blenderbot"),
    {"encoder_attention_heads": 4, "decoder_attention_heads": 4},
)
# without windows
LLAMAS = ["llama", "qwen2", "qwen3", "smollm3"]
WITH_EMBEDDING_SIZE = ["albert", "convbert", "electra", "mobilebert", "roformer"]
# what a model of these sizes has to say
OWN = {"squeezebert": {"embedding_size": 24}, "mobilebert": {"embedding_size": 8, "intra_bottleneck_size": 12}}


def build(model_type, task=None, spread=0.2, **settings):
    """A small model of random weights, biases and norms too; not what angles are computed from."""
    auto = getattr(ferroformer, f"AutoModelFor{task}") if task else AutoModel
    config = AutoConfig.for_model(model_type, **SMALL | OWN.get(model_type, {}) | settings)
    model = auto.from_config(config, seed=1)
    dice = np.random.default_rng(3)
    noise = {name: spread * dice.normal(size=w.shape) for name, w in model.state_dict().items()}
    angles = {name for name in noise if "embed_positions" in name}
    model.load_state_dict({name: w + noise[name] * (name not in angles) for name, w in model.state_dict().items()})
    return model


def close(ours, theirs, tolerance=2e-6):
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance * max(1, np.abs(theirs).max())


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def dense(x, state, name):
    return x.astype(np.float64) @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0)


def pooled(hidden, mask, how):
    """The first token's vector or the mean of all tokens', (B, H)."""
    return hidden[:, 0] if how != "mean" else (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)


def test_albert_in_two_groups_is_a_bert_with_layers_alike():
    albert = build("albert", num_hidden_layers=5, num_hidden_groups=2, embedding_size=24, hidden_act="gelu")
    state = albert.state_dict()
    state["encoder.embedding_hidden_mapping_in.weight"] = np.eye(24)
    state["encoder.embedding_hidden_mapping_in.bias"] = np.zeros(24)
    albert.load_state_dict(state)
    bert = BertModel(BertConfig(**SMALL | {"num_hidden_layers": 5}))
    names = {
        "attention.self.query": "attention.query",
        "attention.self.key": "attention.key",
        "attention.self.value": "attention.value",
        "attention.output.dense": "attention.dense",
        "attention.output.LayerNorm": "attention.LayerNorm",
        "intermediate.dense": "ffn",
        "output.dense": "ffn_output",
        "output.LayerNorm": "full_layer_layer_norm",
    }
    copied = {name: array for name, array in state.items() if name.startswith("embeddings")}
    for kind in ("weight", "bias"):
        copied[f"pooler.dense.{kind}"] = state[f"pooler.{kind}"]
        # layer i is of group int(i / (5 / 2))
        for layer, group in enumerate((0, 0, 0, 1, 1)):
            for theirs, ours in names.items():
                source = f"encoder.albert_layer_groups.{group}.albert_layers.0.{ours}.{kind}"
                copied[f"encoder.layer.{layer}.{theirs}.{kind}"] = state[source]
    bert.load_state_dict(copied)
    for ours, theirs in zip(albert(IDS, MASK).to_tuple(), bert(IDS, MASK).to_tuple(), strict=True):
        close(ours, theirs)


@pytest.mark.parametrize("groups", [1, 2])
def test_eurobert_with_fewer_heads_of_keys_is_one_with_heads_alike(groups):
    few, many = build("eurobert", num_key_value_heads=groups), build("eurobert")
    state = few.state_dict()
    assert state["layers.0.self_attn.k_proj.weight"].shape == (6 * groups, 24)
    for name in [name for name in state if "k_proj" in name or "v_proj" in name]:
        # query head h reads head h // (4 / groups)
        state[name] = np.repeat(state[name].reshape(groups, 6, 24), 4 // groups, axis=0).reshape(24, 24)
    many.load_state_dict(state)
    close(few(IDS, MASK)[0], many(IDS, MASK)[0])


@pytest.mark.parametrize("how", ["bos", "mean"])
def test_eurobert_classifies_what_is_pooled(how):
    model = build("eurobert", "SequenceClassification", classifier_pooling=how, num_labels=3)
    state, base = model.state_dict(), build("eurobert")
    base.load_state_dict({name.removeprefix("model."): w for name, w in state.items() if name.startswith("model.")})
    vectors = pooled(base(IDS, MASK)[0].astype(np.float64), MASK, how)
    close(model(IDS, MASK).logits, dense(gelu(dense(vectors, state, "dense")), state, "classifier"))


def test_eurobert_judges_each_token_and_takes_the_mean():
    model = build("eurobert", "SequenceClassification", num_labels=3)
    state, base = model.state_dict(), build("eurobert")
    base.load_state_dict({name.removeprefix("model."): w for name, w in state.items() if name.startswith("model.")})
    judged = dense(gelu(dense(base(IDS, MASK)[0], state, "dense")), state, "classifier")
    close(model(IDS, MASK).logits, pooled(judged, MASK, "mean"))


@pytest.mark.parametrize("how", ["cls", "mean"])
@pytest.mark.parametrize("bias", [False, True])
def test_modernbert_classifies_what_is_pooled(how, bias):
    settings = {"classifier_bias": bias, "norm_bias": bias, "attention_bias": bias, "mlp_bias": bias}
    model = build("modernbert", "SequenceClassification", classifier_pooling=how, num_labels=3, **settings)
    state, base = model.state_dict(), build("modernbert", **settings)
    assert ("head.dense.bias" in state) == ("model.layers.0.mlp.Wi.bias" in state) == bias
    base.load_state_dict({name.removeprefix("model."): w for name, w in state.items() if name.startswith("model.")})
    x = gelu(dense(pooled(base(IDS, MASK)[0].astype(np.float64), MASK, how), state, "head.dense"))
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    x = x * state["head.norm.weight"] + state.get("head.norm.bias", 0)
    close(model(IDS, MASK).logits, dense(x, state, "classifier"))


def test_electra_without_a_projection_is_bert_without_a_pooler():
    electra, bert = build("electra", embedding_size=24), BertModel(BertConfig(**SMALL), add_pooling_layer=False)
    assert electra.state_dict().keys() == bert.state_dict().keys()
    bert.load_state_dict(electra.state_dict())
    assert np.array_equal(electra(IDS, MASK)[0], bert(IDS, MASK)[0])


def test_roformer_has_a_projection_only_if_it_needs_one():
    assert not [name for name in build("roformer").state_dict() if "project" in name]
    assert [name for name in build("roformer", embedding_size=8).state_dict() if "project" in name]


@pytest.mark.parametrize("model_type", [name for name, entry in MODELS.items() if "MaskedLM" in entry.heads])
def test_a_decoder_of_its_own(model_type):
    """Of twice the weights of the words: logits without their bias are twice what they are where the words are shared."""
    tied = build(model_type, "MaskedLM", tie_word_embeddings=True)
    untied = build(model_type, "MaskedLM", tie_word_embeddings=False)
    state = tied.state_dict()
    (words,) = (name for name in state if "word_embeddings" in name or "tok_embed" in name or "embed_tokens" in name)
    new, old = untied.state_dict().keys() - state.keys(), state.keys() - untied.state_dict().keys()
    (decoder,) = (name for name in new if untied.state_dict()[name].shape == state[words].shape)
    assert new <= set(tied.tied_tensors) and len(new) == 1 + len(old)
    bias = next((w for name, w in state.items() if w.shape == (50,)), np.zeros(50))
    kept = {name: w for name, w in state.items() if name not in old}
    # what a head reads beyond the width of word vectors has weights of its own
    rest = {name: 2 * w for name, w in kept.items() if name == "cls.predictions.dense.weight" and model_type == "mobilebert"}
    untied.load_state_dict(kept | rest | dict.fromkeys(new, bias) | {decoder: 2 * state[words]})
    real = MASK == 1
    expected = (2 * (tied(IDS, MASK).logits - bias) + bias)[real]
    close(untied(IDS, MASK).logits[real], expected, 5e-6)


@pytest.mark.parametrize("model_type", ["albert", "bert", "deberta", "mpnet", "roberta"])
def test_which_bias_a_decoder_of_its_own_has(model_type, tmp_path, caplog):
    """Its own; in checkpoints of transformers 4 the head's, of which it saved one alone."""
    untied = build(model_type, "MaskedLM", tie_word_embeddings=False)
    untied.save_pretrained(tmp_path)
    tensors = read_safetensors(tmp_path / "model.safetensors")
    (own,) = (name for name, w in tensors.items() if w.shape == (50,))
    assert own.endswith("decoder.bias")
    other = own.replace("decoder.", "")
    renamed = {name if name != own else other: w for name, w in tensors.items()}
    for saved in (tensors | {other: 7 + tensors[own]}, renamed):
        write_safetensors(tmp_path / "model.safetensors", saved)
        again, info = type(untied).from_pretrained(tmp_path, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"] and not caplog.text
        assert np.array_equal(again(IDS, MASK).logits, untied(IDS, MASK).logits)


def test_ernie_without_tasks_is_bert():
    ernie, bert = build("ernie", use_task_id=False), BertModel(BertConfig(**SMALL))
    bert.load_state_dict(ernie.state_dict())
    for ours, theirs in zip(ernie(IDS, MASK).to_tuple(), bert(IDS, MASK).to_tuple(), strict=True):
        assert np.array_equal(ours, theirs)


def test_ernie_adds_a_vector_for_the_task():
    """As a BERT with a token type for each pair of type and task."""
    ernie, bert = build("ernie", use_task_id=True), BertModel(BertConfig(**SMALL | {"type_vocab_size": 6}))
    state = ernie.state_dict()
    types = state["embeddings.token_type_embeddings.weight"]
    tasks = state.pop("embeddings.task_type_embeddings.weight")
    state["embeddings.token_type_embeddings.weight"] = (types[:, None] + tasks).reshape(6, 24)
    bert.load_state_dict(state)
    dice = np.random.default_rng(5)
    type_ids, task_ids = dice.integers(0, 2, IDS.shape), dice.integers(0, 3, IDS.shape)
    close(
        ernie(IDS, MASK, token_type_ids=type_ids, task_type_ids=task_ids)[0],
        bert(IDS, MASK, token_type_ids=3 * type_ids + task_ids)[0],
    )
    close(ernie(IDS, MASK)[0], bert(IDS, MASK)[0])
    with pytest.raises(IndexError, match="task_type_ids"):
        ernie(IDS, task_type_ids=np.full(IDS.shape, 3))


DISTANCES = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_relative_positions": 4}


@pytest.mark.parametrize("kinds", [["c2p", "p2c"], ["c2p"], ["p2c"], []])
@pytest.mark.parametrize("heads, channels", [(4, 6), (1, 24), (24, 1), (3, 17)])
def test_deberta_is_its_second_form_with_the_rows_of_a_head_together(heads, channels, kinds):
    """And without what a bias of keys does. Of outputs and gradients the same bits."""
    size = heads * channels
    settings = DISTANCES | {"pos_att_type": kinds, "hidden_size": size, "num_attention_heads": heads, "num_labels": 3}
    first, second = (build(name, "SequenceClassification", **settings) for name in ("deberta", "deberta-v2"))
    state, copied = first.state_dict(), second.state_dict()
    copied |= {name: array for name, array in state.items() if name in copied}
    for layer in range(2):
        at = f"deberta.encoder.layer.{layer}.attention.self"
        parts = state[f"{at}.in_proj.weight"].reshape(heads, 3, channels, size).swapaxes(0, 1)
        for name, weight in zip(("query", "key", "value"), parts):
            copied[f"{at}.{name}_proj.weight"] = weight.reshape(size, -1)
            copied[f"{at}.{name}_proj.bias"] = state.get(f"{at}.{name[0]}_bias", np.zeros(size))
        for theirs, ours in {"pos_key_proj": "pos_proj", "pos_query_proj": "pos_q_proj"}.items():
            for kind in ("weight", "bias"):
                if f"{at}.{theirs}.{kind}" in copied:
                    copied[f"{at}.{theirs}.{kind}"] = state.get(f"{at}.{ours}.{kind}", np.zeros(size))
    second.load_state_dict(copied)
    assert np.array_equal(first(IDS, MASK).logits, second(IDS, MASK).logits)
    inputs = {"input_ids": IDS, "attention_mask": MASK, "labels": [0, 2, 1]}
    (_, ours), (_, theirs) = (training.value_and_grad(model, **inputs) for model in (first, second))
    gradients, expected = dict(ours), dict(theirs)
    for layer in range(2):
        at = f"deberta.encoder.layer.{layer}.attention.self"
        parts = gradients[f"{at}.in_proj.weight"].reshape(heads, 3, channels, size).swapaxes(0, 1)
        for name, gradient in zip(("query", "key", "value"), parts):
            assert np.array_equal(gradient.reshape(size, -1), expected[f"{at}.{name}_proj.weight"])
        for name in ("query", "value"):
            assert np.array_equal(gradients[f"{at}.{name[0]}_bias"], expected[f"{at}.{name}_proj.bias"])


@pytest.mark.parametrize("model_type", ["deberta", "deberta-v2"])
def test_debertas_newer_head_for_words_is_the_older_one(model_type):
    older, newer = (build(model_type, "MaskedLM", legacy=legacy, **DISTANCES) for legacy in (True, False))
    names = {"bias": "bias", "transform.dense": "dense", "transform.LayerNorm": "LayerNorm"}
    state = {}
    for name, array in older.state_dict().items():
        for theirs, ours in names.items():
            name = name.replace(f"cls.predictions.{theirs}", f"lm_predictions.lm_head.{ours}")
        state[name] = array
    newer.load_state_dict(state)
    assert np.array_equal(newer(IDS, MASK).logits, older(IDS, MASK).logits)
    untied = build(model_type, "MaskedLM", legacy=False, tie_word_embeddings=False, **DISTANCES)
    assert untied.state_dict().keys() == state.keys(), "its last layer is always the word embeddings"


@pytest.mark.parametrize("model_type", ["deberta", "deberta-v2"])
def test_types_without_a_table_say_nothing(model_type):
    """As in transformers, and as a tokenizer gives them for a pair."""
    model, types = build(model_type, type_vocab_size=0), np.ones_like(IDS)
    assert np.array_equal(model(IDS, MASK, token_type_ids=types)[0], model(IDS, MASK)[0])


def test_types_of_choices_and_tasks_without_a_table_say_nothing():
    types = np.ones_like(IDS)
    choices = build("deberta-v2", "MultipleChoice", type_vocab_size=0)
    assert np.array_equal(choices(IDS[:, None], token_type_ids=types[:, None])[0], choices(IDS[:, None])[0])
    ernie, tasks = build("ernie", use_task_id=False), np.ones_like(IDS)
    assert np.array_equal(ernie(IDS, MASK, task_type_ids=tasks)[0], ernie(IDS, MASK)[0])


@pytest.mark.parametrize("model_type", ["roberta", "xlm-roberta", "camembert", "mpnet"])
def test_positions_are_counted_over_words_that_are_no_padding(model_type):
    """Left-padded rows, and ids of padding inside a text: as with positions that are given."""
    model = build(model_type)
    ids = IDS.copy()
    ids[0, 3] = ids[1, [2, 5]] = 1
    ids[2, :4] = 1
    mask = np.ones_like(ids)
    mask[2, :4] = 0
    words = ids != 1
    positions = np.cumsum(words, axis=1) * words + 1
    for ours, theirs in zip(model(ids, mask).to_tuple(), model(ids, mask, position_ids=positions).to_tuple(), strict=True):
        assert np.array_equal(ours, theirs)
    # a row that is padded on the left is the same row without padding
    assert np.array_equal(model(ids, mask)[0][2, 4:], model(ids[2:, 4:])[0][0])
    assert np.array_equal(model(ids[:, :3])[0], model(ids[:, :3], position_ids=[[2, 3, 4]])[0]) == words[:, :3].all()


@pytest.mark.parametrize("model_type", ["eurobert", "modernbert", "nomic_bert", "roformer", "mistral", *LLAMAS])
def test_a_rotation_knows_distances_alone(model_type):
    """Padded on the left, a row has other positions and the same distances."""
    model = build(model_type)
    mask = np.array([[0, 0, 0, 1, 1, 1, 1, 1, 1]])
    close(model(IDS[:1], mask)[0][0, 3:], model(IDS[:1, 3:])[0][0], 1e-5)
    if "position_ids" in model.input_names:
        positions = np.arange(9)[None]
        assert np.array_equal(model(IDS, MASK, position_ids=positions)[0], model(IDS, MASK)[0])
        assert not np.allclose(model(IDS, position_ids=2 * positions)[0], model(IDS)[0], atol=1e-3)


def test_roformer_chooses_by_the_last_column():
    """Whatever stands there: padding attends to the tokens before it."""
    model = build("roformer", "MultipleChoice")
    state, ids, mask = model.state_dict(), np.stack([IDS, IDS[::-1]], 1), np.stack([MASK, MASK[:, ::-1]], 1)
    for given in (mask, np.ones_like(mask), mask[..., ::-1]):
        out = model(ids, given, output_hidden_states=True)
        expected = dense(out.hidden_states[-1][:, -1], state, "classifier").reshape(3, 2)
        close(out.logits, expected)
    assert not np.allclose(model(ids, mask).logits, model(ids, mask[..., ::-1]).logits, atol=1e-3)
    padded = np.pad(ids, ((0, 0), (0, 0), (0, 3))), np.pad(mask, ((0, 0), (0, 0), (0, 3)))
    assert not np.allclose(model(*padded).logits, model(ids, mask).logits, atol=1e-3)


@pytest.mark.parametrize("model_type", ["eurobert", "nomic_bert", *LLAMAS])
def test_a_gap_between_tokens_leaves_their_positions(model_type):
    model = build(model_type)
    mask, kept = np.array([[1, 1, 0, 0, 1, 1, 1, 0, 1]]), [0, 1, 4, 5, 6, 8]
    ours = model(IDS[:1], mask)[0][0]
    assert np.array_equal(ours[kept], model(IDS[:1, kept], position_ids=[kept])[0][0])
    assert not ours[[2, 3, 7]].any()


@pytest.mark.parametrize("model_type", ["mistral", "mpnet", "modernbert", "deberta", "deberta-v2"])
def test_a_gap_is_an_error_where_distances_are_counted(model_type):
    settings = DISTANCES if model_type.startswith("deberta") else {}
    model = build(model_type, **settings)
    gap = MASK.copy()
    gap[2, 2] = 0
    with pytest.raises(InputError, match="attention_mask has zeros between the ones of row 2"):
        model(IDS, gap)
    model(IDS, MASK)
    model(IDS, MASK[:, ::-1])
    head = build(model_type, "QuestionAnswering", **settings)
    with pytest.raises(InputError, match="padding at one side, and on the right where a loss is of padding too"):
        head(IDS, MASK[:, ::-1], start_positions=[0, 8, 8], end_positions=[1, 8, 8])


@pytest.mark.parametrize("model_type", ["eurobert", "qwen3"])
def test_gradients_of_norms_in_a_model_narrower_than_its_heads(model_type):
    """Each the slope of the loss: a difference quotient in float32."""
    model = build(model_type, "TokenClassification", hidden_size=4, num_attention_heads=1, num_key_value_heads=1, head_dim=20)
    inputs = {"input_ids": IDS, "labels": IDS % 2}
    gradients = dict(training.value_and_grad(model, **inputs)[1])
    state = model.state_dict()
    for name in [name for name in state if "norm" in name]:
        length, losses = np.linalg.norm(gradients[name]), []
        for step in (4e-3, -4e-3):
            model.load_state_dict(state | {name: state[name] + step / length * gradients[name]})
            losses.append(float(training.loss(model, **inputs)))
        assert (losses[0] - losses[1]) / 8e-3 == pytest.approx(length, rel=1e-2, abs=1e-4), name


@pytest.mark.parametrize("dtype, factor", [("float32", np.float32(24**0.5)), ("bfloat16", np.float32(4.90625))])
def test_gemmas_factor_of_words_is_rounded_as_its_weights_are(dtype, factor, tmp_path):
    build("gemma2").save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path, dtype=dtype)
    words = model.state_dict()["embed_tokens.weight"]
    assert np.array_equal(model(IDS, output_hidden_states=True).hidden_states[0], words[IDS] * factor)


@pytest.mark.parametrize("model_type", MODELS)
def test_vectors_instead_of_words(model_type):
    settings = {"embedding_size": 8} if model_type in WITH_EMBEDDING_SIZE else OWN_SETTINGS.get(model_type, {})
    model = build(model_type, **settings)
    words = model.get_input_embeddings().weight
    size = settings.get("embedding_size", 24)
    assert words.shape == (50, size)
    # what is looked up is multiplied, what is given is not
    if model_type == "gemma2" or getattr(model.config, "scale_embedding", False):
        words = words * np.float32(24**0.5)
    decoder = {"decoder_input_ids": IDS} if model.config.is_encoder_decoder else {}
    given = {f"{name.removesuffix('input_ids')}inputs_embeds": words[IDS] for name in ("input_ids", *decoder)}
    ours, theirs = model(attention_mask=MASK, **given), model(IDS, MASK, **decoder)
    compared = [name for name in theirs if name != "past_key_values"]
    assert compared and all(np.array_equal(ours[name], theirs[name]) for name in compared)
    with pytest.raises(InputError, match=rf"inputs_embeds must have the shape \(batch, length, {size}\)"):
        model(inputs_embeds=np.zeros((1, 2, size + 1), np.float32), **decoder)


@pytest.mark.parametrize("name", recorded.names(None))
def test_arguments_that_an_architecture_has_not(name):
    model = recorded.load(name)
    for argument in {"token_type_ids", "position_ids", "task_type_ids", "past_key_values"} - set(model.input_names):
        if argument == "past_key_values" and hasattr(model, "remembers"):
            continue
        # decoders of transformers have arguments that these have not
        with pytest.raises((TypeError, NotImplementedError), match=f"{type(model).__name__}.forward.*{argument}"):
            model([[5, 6]], **{argument: [[0, 0]]})
    with pytest.raises(TypeError, match="has no argument 'labels'"):
        model([[5, 6]], labels=[0])
    assert load_class(MODELS[recorded.model_type(name)].config) is type(model.config)


def test_mpnets_bias_grows_with_the_logarithm_of_the_distance():
    """Queries of zeros: attention is the softmax of the bias alone, of 32 buckets for distances to 128."""
    model = build("mpnet", max_position_embeddings=320)
    state = model.state_dict()
    zeros = {name: 0 * w for name, w in state.items() if ".attn.q." in name}
    model.load_state_dict(state | zeros)
    length = 300
    distance = np.arange(length) - np.arange(length)[:, None]
    far = np.maximum(np.abs(distance), 1).astype(np.float32)
    large = 8 + (np.log(far / np.float32(8)) / np.float32(math.log(16)) * 8).astype(int)
    bucket = 16 * (distance > 0) + np.where(np.abs(distance) < 8, np.abs(distance), np.minimum(large, 15))
    assert set(bucket.ravel()) == set(range(32)) - {16}
    scores = state["encoder.relative_attention_bias.weight"][bucket].transpose(2, 0, 1)
    expected = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    for attention in model(np.full((1, length), 5), output_attentions=True).attentions:
        close(attention[0] / expected, np.ones_like(expected), 1e-5)


@pytest.mark.parametrize("window", [2, 7, 64, 301])
def test_modernberts_window(window):
    """Keys of zeros: attention is the mean over all tokens in full layers, over those within half a window in the others."""
    model = build("modernbert", num_hidden_layers=3, local_attention=window)
    state = model.state_dict()
    zeros = {name: np.where(np.arange(72)[:, None] // 24 == 1, 0, w) for name, w in state.items() if "Wqkv" in name}
    model.load_state_dict(state | zeros)
    length = 150
    near = np.abs(np.arange(length) - np.arange(length)[:, None]) <= window // 2
    for layer, attention in enumerate(model(np.full((1, length), 5), output_attentions=True).attentions):
        seen = near if layer else np.ones_like(near)
        close(attention[0], np.broadcast_to(seen / seen.sum(1, keepdims=True), attention[0].shape), 1e-6)


def test_rotations_that_are_slowed():
    """By a factor: as without, at positions that many times smaller. Llama 3's: as that where all turns are slow, as nothing where
    all are fast, and in between as its formula."""
    ramp = {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    given = [
        None,
        {"rope_type": "linear", "factor": 2.0},
        ramp | {"original_max_position_embeddings": 1},
        ramp | {"original_max_position_embeddings": 10**9},
        ramp | {"original_max_position_embeddings": 16},
    ]
    plain, linear, slow, fast, between = (build("eurobert", rope_parameters=rope) for rope in given)
    positions = np.arange(9)[None]
    doubled = [model(IDS, MASK, position_ids=2 * positions)[0] for model in (linear, slow)]
    for hidden in doubled:
        close(hidden, plain(IDS, MASK)[0], 1e-5)
    close(fast(IDS, MASK)[0], plain(IDS, MASK)[0], 0)
    # heads of 6 channels turn by 1, 0.046 and 0.002: 2.5 turns in 16 positions, which is half way from low to high, and slow ones
    frequencies = 10000.0 ** (-np.arange(0, 6, 2) / 6)
    share = (16 / (2 * np.pi) - 1) / 3
    expected = frequencies * [share + (1 - share) / 2, 0.5, 0.5]
    found = between.blueprint(between.config, None, None)["attention"]["rotary"][0]["frequencies"]
    assert np.abs(found / expected - 1).max() <= 2e-7


def test_squeezebert_without_groups_is_bert():
    """And one with groups is one whose weights are zero between them."""
    names = {
        "attention.query": "attention.self.query",
        "attention.key": "attention.self.key",
        "attention.value": "attention.self.value",
        "post_attention.conv1d": "attention.output.dense",
        "post_attention.layernorm": "attention.output.LayerNorm",
        "intermediate.conv1d": "intermediate.dense",
        "output.conv1d": "output.dense",
        "output.layernorm": "output.LayerNorm",
    }
    groups = dict(q_groups=2, k_groups=3, v_groups=1, post_attention_groups=8, intermediate_groups=4, output_groups=2)
    for settings in (dict.fromkeys(groups, 1), groups):
        squeezed, bert = build("squeezebert", **settings), BertModel(BertConfig(**SMALL))
        copied = {}
        for name, w in squeezed.state_dict().items():
            layer, _, rest = name.removeprefix("encoder.layers.").partition(".")
            if name.startswith("encoder"):
                own, _, kind = rest.rpartition(".")
                name = f"encoder.layer.{layer}.{names[own]}.{kind}"
            if w.ndim == 3:
                count = bert.state_dict()[name].shape[1] // w.shape[1]
                own = np.arange(count)[:, None, None, None] == np.arange(count)[:, None]
                w = (w.reshape(count, -1, 1, w.shape[1]) * own).reshape(len(w), -1)
            copied[name] = w
        bert.load_state_dict(copied)
        for ours, theirs in zip(squeezed(IDS, MASK).to_tuple(), bert(IDS, MASK).to_tuple(), strict=True):
            close(ours, theirs, 1e-5)


def test_squeezeberts_scores_are_not_probabilities():
    model = build("squeezebert")
    with pytest.raises(NotImplementedError, match="output_attentions=True: .* before their softmax"):
        model(IDS, output_attentions=True)
    model.config.output_attentions = True
    with pytest.raises(NotImplementedError, match="output_attentions"):
        model(IDS)


def test_convberts_convolution_in_numpy():
    """One layer whose attention sees nothing: what comes out of the convolution, and through groups, step by step."""
    groups, kernel, size, heads = 2, 5, 24, 2
    model = build("convbert", num_hidden_layers=1, conv_kernel_size=kernel, num_groups=groups, embedding_size=size)
    state, inside = model.state_dict(), "encoder.layer.0.attention.self"
    value = f"{inside}.value"
    state |= {f"{value}.weight": 0 * state[f"{value}.weight"], f"{value}.bias": 0 * state[f"{value}.bias"]}
    model.load_state_dict(state)
    out = model(IDS, output_hidden_states=True)
    x = out.hidden_states[0].astype(np.float64)
    rows, length, half, reach = *x.shape[:2], size // 2, kernel // 2

    def neighbours(x):
        padded = np.pad(x, ((0, 0), (reach, reach), (0, 0)))
        return np.stack([padded[:, j : j + length] for j in range(kernel)], -1)

    layer = f"{inside}.key_conv_attn_layer"
    keys = (neighbours(x) * state[f"{layer}.depthwise.weight"][:, 0]).sum(-1) @ state[f"{layer}.pointwise.weight"][:, :, 0].T
    keys += state[f"{layer}.bias"][:, 0]
    scores = dense(keys * dense(x, state, f"{inside}.query"), state, f"{inside}.conv_kernel_layer")
    weights = np.exp(scores.reshape(rows, length, heads, 1, kernel))
    weights /= weights.sum(-1, keepdims=True)
    values = neighbours(dense(x, state, f"{inside}.conv_out_layer")).reshape(rows, length, heads, half // heads, kernel)
    made = np.concatenate([np.zeros((rows, length, half)), (values * weights).sum(-1).reshape(rows, length, half)], -1)

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
        return x * state[f"{name}.weight"] + state[f"{name}.bias"]

    def grouped(x, name):
        weight = state[f"{name}.weight"]
        parts = np.split(x, groups, -1)
        return np.concatenate([part @ w for part, w in zip(parts, weight, strict=True)], -1) + state[f"{name}.bias"]

    x = norm(x + dense(made, state, "encoder.layer.0.attention.output.dense"), "encoder.layer.0.attention.output.LayerNorm")
    inner = gelu(grouped(x, "encoder.layer.0.intermediate.dense"))
    x = norm(x + grouped(inner, "encoder.layer.0.output.dense"), "encoder.layer.0.output.LayerNorm")
    close(out.last_hidden_state, x, 5e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_convberts_padding_is_seen(dtype, tmp_path):
    """As in transformers: by tokens that a convolution's kernel reaches from there, and by no others; wherever it stands."""
    build("convbert", num_hidden_layers=1, conv_kernel_size=5).save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path, dtype=dtype)
    alone, padded = model(IDS[1:2, :4])[0][0], model(IDS, MASK)[0]
    assert np.array_equal(alone[:2], padded[1, :2])
    assert not np.allclose(alone[2:], padded[1, 2:4], atol=1e-3)
    assert not padded[1, 4:].any()
    other = IDS.copy()
    other[1, 4:] = 7
    assert not np.array_equal(model(other, MASK)[0][1, 2:4], padded[1, 2:4])
    assert np.array_equal(model(other, MASK)[0][[0, 2]], padded[[0, 2]])
    # positions are given, so that rows that are padded on the left differ by that alone
    positions = np.arange(9)[None, ::-1]
    left = model(IDS[:, ::-1], MASK[:, ::-1], position_ids=positions)[0]
    mirrored = model.state_dict()
    for name in [name for name in mirrored if "depthwise" in name]:
        mirrored[name] = mirrored[name][..., ::-1]
    if dtype == "float32":
        kernel = "encoder.layer.0.attention.self.conv_kernel_layer"
        for kind in ("weight", "bias"):
            w = mirrored[f"{kernel}.{kind}"]
            mirrored[f"{kernel}.{kind}"] = w.reshape(-1, 5, *w.shape[1:])[:, ::-1].reshape(w.shape)
        model.load_state_dict(mirrored)
        close(model(IDS, MASK)[0], left[:, ::-1], 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_mobileberts_padding_is_seen(dtype, tmp_path):
    """As in transformers: by the token beside it alone in what is embedded, whose words it is made of; wherever it stands. What stands
    further away in padding is seen by nobody."""
    build("mobilebert").save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path, dtype=dtype)
    padded = model(IDS, MASK, output_hidden_states=True)
    alone = model(IDS[1:2, :4], output_hidden_states=True)
    embedded = padded.hidden_states[0][1], alone.hidden_states[0][0]
    assert np.array_equal(embedded[0][:3], embedded[1][:3]) and not np.allclose(embedded[0][3], embedded[1][3], atol=1e-3)
    # the token is what it is between these words: in a longer text
    assert np.array_equal(embedded[0][3], model(IDS[1:2], output_hidden_states=True).hidden_states[0][0, 3])
    assert not np.allclose(padded[0][1, :4], alone[0][0], atol=1e-3)
    assert not padded[0][1, 4:].any()
    other = IDS.copy()
    other[1, 5:] = 7
    assert np.array_equal(model(other, MASK)[0], padded[0])
    other[1, 4] = other[1, 4] % 40 + 3
    assert not np.array_equal(model(other, MASK)[0][1, :4], padded[0][1, :4])
    assert np.array_equal(model(other, MASK)[0][[0, 2]], padded[0][[0, 2]])


@pytest.mark.parametrize("attention", [{}, {"use_bottleneck_attention": True}, {"key_query_shared_bottleneck": False}])
@pytest.mark.parametrize("normalization_type", ["no_norm", "layer_norm"])
def test_mobileberts_layer_in_numpy(attention, normalization_type):
    """Beside the formula, with three feed-forward networks; embeddings of three words."""
    hidden = 24 if attention else 15
    model = build(
        "mobilebert", num_hidden_layers=1, hidden_size=hidden, intra_bottleneck_size=24, num_feedforward_networks=3,
        hidden_act="gelu", normalization_type=normalization_type, layer_norm_eps=1e-3, **attention
    )
    state, out = model.state_dict(), model(IDS, output_hidden_states=True)

    def norm(x, name, eps=1e-3):
        if normalization_type == "layer_norm":
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
        return x * state[f"{name}.weight"] + state[f"{name}.bias"]

    words = np.pad(state["embeddings.word_embeddings.weight"][IDS], [(0, 0), (1, 1), (0, 0)])
    x = dense(np.concatenate([words[:, 2:], words[:, 1:-1], words[:, :-2]], -1), state, "embeddings.embedding_transformation")
    x = x + state["embeddings.position_embeddings.weight"][:9] + state["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, "embeddings.LayerNorm", 1e-5)
    close(out.hidden_states[0], x, 5e-6)
    layer = "encoder.layer.0"
    stream = norm(dense(x, state, f"{layer}.bottleneck.input.dense"), f"{layer}.bottleneck.input.LayerNorm")
    if not attention:
        second = norm(dense(x, state, f"{layer}.bottleneck.attention.dense"), f"{layer}.bottleneck.attention.LayerNorm")
    read = [second, second, x] if not attention else [stream] * 3 if "use_bottleneck_attention" in attention else [x] * 3
    q, k, v = (
        dense(y, state, f"{layer}.attention.self.{name}").reshape(3, 9, 4, 6).swapaxes(1, 2)
        for y, name in zip(read, ("query", "key", "value"), strict=True)
    )
    scores = np.exp(q @ k.swapaxes(2, 3) / np.sqrt(6))
    context = (scores / scores.sum(-1, keepdims=True) @ v).swapaxes(1, 2).reshape(3, 9, 24)
    own = norm(dense(context, state, f"{layer}.attention.output.dense") + stream, f"{layer}.attention.output.LayerNorm")
    for place, eps in ((f"{layer}.ffn.0", 1e-3), (f"{layer}.ffn.1", 1e-3), (layer, 1e-5)):
        inner = gelu(dense(own, state, f"{place}.intermediate.dense"))
        own = norm(dense(inner, state, f"{place}.output.dense") + own, f"{place}.output.LayerNorm", eps)
    last = dense(own, state, f"{layer}.output.bottleneck.dense") + x
    close(out.last_hidden_state, norm(last, f"{layer}.output.bottleneck.LayerNorm"), 5e-6)


def test_mobilebert_without_bottleneck_is_bert():
    """With layer norms, one feed-forward network and words as wide as hidden states; bert's epsilons differ a little."""
    settings = {"use_bottleneck": False, "num_feedforward_networks": 1, "trigram_input": False, "embedding_size": 24}
    model = build("mobilebert", normalization_type="layer_norm", layer_norm_eps=1e-5, hidden_act="gelu", **settings)
    bert = BertModel(BertConfig(**SMALL, layer_norm_eps=1e-5))
    bert.load_state_dict(model.state_dict())
    for ours, theirs in zip(model(IDS, MASK), bert(IDS, MASK), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("tied", [True, False])
def test_mobileberts_words_grow_and_shrink(tied):
    """With the weights that lie across: the old words' logits stay, and new words have some."""
    model = build("mobilebert", "MaskedLM", tie_word_embeddings=tied)
    before = model(IDS, MASK).logits
    model.resize_token_embeddings(60)
    assert model.state_dict()["cls.predictions.dense.weight"].shape == (16, 60)
    after = model(IDS, MASK).logits
    close(after[..., :50], before)
    assert after[..., 50:].std() > 0.01
    model.resize_token_embeddings(50)
    assert np.array_equal(model(IDS, MASK).logits, before)
