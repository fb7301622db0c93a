"""Fine-tuning of architectures of different kinds: it learns, with the same bits on any number of threads, less memory or frozen parts."""

from fnmatch import fnmatchcase

import numpy as np
import pytest

import ferroformer
from ferroformer import training
from ferroformer.models.auto import MODELS, load_class

from . import recorded
from .small_models import bits, learn

pytestmark = pytest.mark.numbers

ROWS = np.array([13, 1, 7, 22, 2, 40, 19, 5] * 2)
# architecture -> patterns of what is frozen, one after the other
FROZEN = {
    # its two layers share their weights
    "albert": [("*albert_layers.0.*",), ("*.attention.key.*", "*.ffn.*"), ("*embedding*",)],
    "bert": [("*layer.0.*", "*embeddings.*")],
    "convbert": [("*layer.0.*", "*embeddings*"), ("*key_conv_attn_layer.depthwise*", "*conv_kernel_layer*", "*self.key.*")],
    "deberta": [("*rel_embeddings*", "*layer.1.*"), ("*in_proj*", "*q_bias", "*pos_q_proj*"), ("*v_bias",)],
    "deberta-v2": [("*rel_embeddings*", "*layer.1.*"), ("*layer.0.*", "*query_proj*")],
    "distilbert": [("*layer.0.*", "*embeddings.*")],
    "electra": [("*embeddings_project.*",)],
    "ernie": [("*task_type*", "*layer.1.*")],
    "eurobert": [("*layers.0.*", "*embed_tokens*"), ("*q_proj*", "*mlp.up_proj*", "*norm*")],
    "gpt2": [("*h.0.*", "*wte*"), ("*c_attn*", "*ln_*")],
    "gpt_neo": [("*h.0.*", "*wpe*")],
    "gpt_neox": [("*layers.0.*", "*embed_in*"), ("*query_key_value*", "*layernorm*")],
    "llama": [("*layers.0.*", "*embed_tokens*"), ("*q_proj*", "*mlp.up_proj*", "*norm*")],
    "mobilebert": [
        ("*layer.0.*", "*embeddings*"),
        ("*bottleneck.input.*", "*ffn.0.*", "*embedding_transformation*"),
        ("*output.bottleneck.*", "*self.query.*", "*layer.1.*"),
    ],
    "modernbert": [("*layers.0.*", "*layers.2.*", "*tok_embeddings*"), ("*Wqkv*", "*norm*"), ("head.*",)],
    "opt": [("*layers.0.*", "*embed_positions*")],
    "phi": [("*layers.0.*", "*embed_tokens*"), ("*mlp*",)],
    "mpnet": [("*relative_attention_bias*",), ("*layer.0.*",)],
    "nomic_bert": [("*layers.0.*", "*emb_ln*"), ("*fc12*", "*Wqkv*")],
    # the norms of queries and keys alone, and all else
    "qwen3": [("*q_norm*",), ("*k_norm*", "*layers.1.*"), ("*proj*", "*layernorm*", "*embed*")],
    "roberta": [("*position_embeddings*", "classifier.dense.*")],
    "roformer": [("*layer.0.*",), ("*embed_positions*", "*self.query.*")],
    "squeezebert": [("*layers.0.*", "*embeddings*"), ("*attention.query.*", "*intermediate*", "*layernorm*")],
}
# classes that learn, and settings under which something is dropped
LEARNERS = [(name, "SequenceClassification") for name in FROZEN] + [
    ("modernbert", "TokenClassification"),
    ("modernbert", "MaskedLM"),
    ("modernbert", "MultipleChoice"),
    # its loss is of masked tokens too, far from all others
    ("modernbert", "QuestionAnswering"),
    ("deberta", "QuestionAnswering"),
    ("deberta", "MaskedLM"),
    ("deberta-v2", "QuestionAnswering"),
    ("nomic_bert", "MaskedLM"),
    ("gpt2", "CausalLM"),
    ("gpt_neo", "CausalLM"),
    ("gpt_neox", "CausalLM"),
    ("opt", "CausalLM"),
    ("phi", "CausalLM"),
    ("albert", "QuestionAnswering"),
    ("albert", "MaskedLM"),
    ("deberta-v2", "MaskedLM"),
    ("electra", "PreTraining"),
    ("electra", "MaskedLM"),
    ("eurobert", "MaskedLM"),
    ("eurobert", "TokenClassification"),
    ("llama", "QuestionAnswering"),
    ("mistral", "TokenClassification"),
    ("mpnet", "MultipleChoice"),
    ("mpnet", "QuestionAnswering"),
    ("roformer", "MaskedLM"),
    ("roformer", "MultipleChoice"),
    ("distilbert", "QuestionAnswering"),
    ("qwen2", "CausalLM"),
    ("qwen3", "CausalLM"),
    ("smollm3", "CausalLM"),
    ("bart", "Seq2SeqLM"),
    ("marian", "Seq2SeqLM"),
    ("mbart", "Seq2SeqLM"),
    ("m2m_100", "Seq2SeqLM"),
    ("t5", "Seq2SeqLM"),
    ("t5", "TokenClassification"),
    ("umt5", "QuestionAnswering"),
    ("umt5", "Seq2SeqLM"),
    ("convbert", "MaskedLM"),
    ("convbert", "MultipleChoice"),
    ("convbert", "QuestionAnswering"),
    ("mobilebert", "MaskedLM"),
    ("mobilebert", "TokenClassification"),
    ("squeezebert", "QuestionAnswering"),
    ("squeezebert", "TokenClassification"),
]
DROPOUT = {
    "hidden_dropout_prob": 0.2,
    "attention_probs_dropout_prob": 0.2,
    "classifier_dropout": 0.2,
    "classifier_dropout_prob": 0.2,
    "dropout": 0.2,
    "dropout_rate": 0.2,
    "embd_pdrop": 0.2,
    "resid_pdrop": 0.2,
    "attn_pdrop": 0.2,
    "embed_dropout": 0.2,
    "resid_dropout": 0.2,
    "attention_dropout": 0.2,
    "activation_dropout": 0.2,
}
# what training refuses
UNDROPPED = [("modernbert", "attention_dropout")]


def fresh(name, task, **settings):
    """Small random weights of the recorded model's sizes."""
    entry = MODELS[name]
    config = load_class(entry.config).from_pretrained(recorded.MODELS_DIR / name, **settings)
    if task == "SequenceClassification":
        config.num_labels = 3
    if task == "Seq2SeqLM":
        config.decoder_start_token_id = 5  # not padding, whose vector does not learn from where it stands
    model = load_class(entry.heads[task])(config, seed=1)
    dice = np.random.default_rng(0)
    model.load_state_dict({key: w + 0.1 * dice.normal(size=w.shape) for key, w in model.state_dict().items()})
    return model


def batch(model, task):
    dice = np.random.default_rng(0)
    rows, width = len(ROWS), ROWS.max()
    mask = (np.arange(width) < ROWS[:, None]).astype(np.int64)
    words = dice.integers(2, model.config.vocab_size, mask.shape)
    if model.config.pad_token_id is not None:
        words = np.where(mask == 1, words, model.config.pad_token_id)
    inputs = {"input_ids": words, "attention_mask": mask}
    if task == "MultipleChoice":
        inputs = {name: array.reshape(rows // 4, 4, width) for name, array in inputs.items()}
        return inputs | {"labels": dice.integers(0, 4, rows // 4)}
    if task == "QuestionAnswering":
        return inputs | {name: dice.integers(0, ROWS) for name in ("start_positions", "end_positions")}
    counted = (mask == 1) & (dice.random(mask.shape) < 0.5)
    labels = {
        "SequenceClassification": lambda: dice.integers(0, 3, rows),
        "TokenClassification": lambda: np.where(counted, dice.integers(0, 2, mask.shape), -100),
        "MaskedLM": lambda: np.where(counted, words, -100),
        # each word says the next
        "CausalLM": lambda: np.where(mask == 1, words, -100),
        # shorter texts than those that are read
        "Seq2SeqLM": lambda: np.where(mask == 1, words, -100)[:, :9],
        "PreTraining": lambda: dice.integers(0, 2, mask.shape),
    }
    return inputs | {"labels": labels[task]()}


@pytest.mark.parametrize("name, task", LEARNERS)
def test_a_batch_is_learned(name, task):
    """Nearly by heart, as only gradients that are right do; a task with labels at random cannot be learned otherwise."""
    model = fresh(name, task)
    rows = batch(model, task)
    # where no norm bounds them, hidden states run away from longer steps
    lr, steps = (5e-3, 100) if name == "mobilebert" else (1e-2, 50)
    optimizer = training.AdamW(model, lr=lr, weight_decay=0.01, no_decay=[])
    angles = {"encoder.embed_positions.weight", "roformer.encoder.embed_positions.weight"} if name == "roformer" else set()
    fixed = {key: w for key, w in model.state_dict().items() if key in recorded.fixed(model) | angles}
    losses = []
    for _ in range(steps):
        outputs, gradients = training.value_and_grad(model, **rows)
        gradients.clip(1.0)
        optimizer.step(gradients)
        losses.append(float(outputs.loss))
    assert losses[-1] < 0.25 * losses[0], losses[::5]
    after = model.state_dict()
    assert all(np.array_equal(w, after[key]) for key, w in fixed.items()), "angles are no parameters"


# not DistilBERT's classifier and OPT, whose ReLU has a kink within the step; their gradients are recorded
KINKED = [
    ("distilbert", "SequenceClassification"),
    ("opt", "SequenceClassification"),
    ("opt", "CausalLM"),
    ("m2m_100", "Seq2SeqLM"),
    ("t5", "Seq2SeqLM"),
    ("t5", "TokenClassification"),
]


@pytest.mark.parametrize("name, task", [pair for pair in LEARNERS if pair not in KINKED])
def test_gradients_are_slopes(name, task):
    """The loss along the gradient of all, and of each tensor that has a good part of it: a difference quotient in float32."""
    model = fresh(name, task)
    rows = batch(model, task)
    _, gradients = learn(model, rows)
    state = model.state_dict()
    lengths = {key: np.linalg.norm(g.astype(np.float64)) for key, g in gradients.items()}
    whole = np.linalg.norm(list(lengths.values()))
    moved = [list(gradients)] + [[key] for key, length in lengths.items() if length > 0.1 * whole]
    for keys in moved:
        slope = np.linalg.norm([lengths[key] for key in keys])
        # far enough for float32's loss; of two distances, so that what grows with the square of them cancels (Richardson)
        step, losses = 4e-3, []
        for way in (step, -step, 2 * step, -2 * step):
            model.load_state_dict(state | {key: state[key] + way / slope * gradients[key] for key in keys})
            losses.append(float(training.loss(model, **rows)))
        near, far = (losses[0] - losses[1]) / (2 * step), (losses[2] - losses[3]) / (4 * step)
        assert (4 * near - far) / 3 == pytest.approx(slope, rel=3e-3), keys[:2]


@pytest.mark.parametrize("name, task", LEARNERS)
def test_gradients_have_the_same_bits(name, task):
    """On any number of threads, and with gradient checkpointing; with something dropped where that can be."""
    there = {key for key in DROPOUT if hasattr(fresh(name, task).config, key) and (name, key) not in UNDROPPED}
    settings = {key: DROPOUT[key] for key in there}
    model = fresh(name, task, **settings)
    rows, threads, found = batch(model, task), ferroformer.get_num_threads(), []
    try:
        for number in (1, 2):
            ferroformer.set_num_threads(number)
            for saving in (False, True):
                loss, gradients = learn(model, rows, dropout_seed=3, gradient_checkpointing=saving)
                found.append((float(loss), bits(gradients)))
    finally:
        ferroformer.set_num_threads(threads)
    assert all(other == found[0] for other in found[1:])
    # a masked language model's head drops nothing of its own
    dropping = settings.keys() - ({"classifier_dropout"} if task == "MaskedLM" else set())
    assert (found[0][0] != float(model(**rows).loss)) == bool(dropping)


@pytest.mark.parametrize(
    "name, patterns", [(name, patterns) for name, several in FROZEN.items() for patterns in several]
)
def test_what_is_frozen_stays_and_the_rest_learns_as_before(name, patterns):
    model = fresh(name, "SequenceClassification")
    rows = batch(model, "SequenceClassification")
    loss, expected = learn(model, rows)
    before = model.state_dict()
    model.freeze(*patterns)
    frozen = {key for key in before if any(fnmatchcase(key, pattern) for pattern in patterns)}
    again, gradients = learn(model, rows)
    assert loss == again and frozen
    assert gradients.keys() == expected.keys() - frozen
    assert bits(gradients) == {key: data for key, data in bits(expected).items() if key not in frozen}
    training.AdamW(model, lr=0.01, weight_decay=0.1, no_decay=[]).step(gradients)
    unmoved = {key for key, array in model.state_dict().items() if np.array_equal(array, before[key])}
    assert frozen <= unmoved and all("encoder.embed_positions" in key for key in unmoved - frozen)


@pytest.mark.parametrize("name", ["bert", "deberta"])
def test_weights_and_an_optimizer_come_back(name, tmp_path):
    """From files in the checkpoint's order, whatever that is: the third step has the bits that it would have had."""
    model, other = fresh(name, "SequenceClassification"), fresh(name, "SequenceClassification")
    rows = batch(model, "SequenceClassification")
    optimizer, resumed = (training.AdamW(m, lr=0.01, weight_decay=0.1) for m in (model, other))
    for _ in range(2):
        optimizer.step(training.value_and_grad(model, **rows)[1])
    model.save_pretrained(tmp_path)
    optimizer.save(tmp_path / "optimizer.safetensors")
    other.load_weights(tmp_path)
    resumed.load(tmp_path / "optimizer.safetensors")
    optimizer.step(training.value_and_grad(model, **rows)[1])
    resumed.step(training.value_and_grad(other, **rows)[1])
    assert bits(model.state_dict()) == bits(other.state_dict())
