"""What holds of every class in the table of architectures, in every precision: bits, tolerances, files."""

import json
import logging

import numpy as np
import pytest

import ferroformer
from ferroformer import AutoModel
from ferroformer.models.auto import MODELS, load_class

from . import recorded
from .conftest import read_safetensors, write_safetensors

pytestmark = pytest.mark.numbers

# the least cosine of all outputs of a batch to float32's; these models are of 24 and 36 channels, where rounding evens out less
# than in those of hundreds
CLOSE = {"float32": 1.0, "bfloat16": 0.9995, "int8": 0.99}
LENGTHS = np.array([13, 1, 7, 2, 45, 30, 12, 40, 44, 3, 45, 28])
CLASSES = [pytest.param(*value, id=name) for name, value in recorded.classes().items()]


def small(model_type, task, place, **kwargs):
    """The recorded model of a class; where there is none, the architecture's bare model under a new head."""
    name = f"{model_type}-{task}" if f"{model_type}-{task}" in recorded.NAMES else model_type
    return load_class(place).from_pretrained(recorded.MODELS_DIR / name, **kwargs)


def batch(model, task):
    """Rows of LENGTHS tokens, padded on the right, and their mask; for choices each row is one."""
    dice = np.random.default_rng(0)
    mask = (np.arange(LENGTHS.max()) < LENGTHS[:, None]).astype(np.int64)
    words = np.where(mask == 1, dice.integers(0, model.config.vocab_size, mask.shape), model.config.pad_token_id)
    arrays = recorded.example(model, words) | {"attention_mask": mask}
    if "decoder_input_ids" in arrays:
        arrays["decoder_attention_mask"] = mask
        if task == "SequenceClassification":  # read at the one end of each row
            eos = model.config.eos_token_id
            words[words == eos] += 1
            words[np.arange(len(words)), LENGTHS - 1] = eos
    if "token_type_ids" in model.input_names:
        arrays["token_type_ids"] = dice.integers(0, 2, mask.shape)
    return {name: array[:, None] for name, array in arrays.items()} if task == "MultipleChoice" else arrays


def outputs(model, inputs):
    """{name: array}."""
    made = model(**inputs).items()
    return {name: array for name, array in made if array is not None and name != "past_key_values"}


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("model_type, task, place", CLASSES)
def test_the_same_bits_in_any_company_and_close_to_float32(model_type, task, place, dtype):
    model = small(model_type, task, place, dtype=dtype)
    inputs = batch(model, task)
    together = outputs(model, inputs)
    threads = ferroformer.get_num_threads()
    try:
        for number in (1, 2):
            ferroformer.set_num_threads(number)
            again = outputs(model, inputs)
            assert all(np.array_equal(array, again[name]) for name, array in together.items()), f"{number} threads"
    finally:
        ferroformer.set_num_threads(threads)
    for row, length in enumerate(LENGTHS):
        part = {name: array[row : row + 1, ..., :length] for name, array in inputs.items() if not name.endswith("attention_mask")}
        if model.reads_padding or model.sees_padding:  # which is then no company, but belongs to the row
            length, part = inputs["input_ids"].shape[-1], {name: array[row : row + 1] for name, array in inputs.items()}
        for name, array in outputs(model, part).items():
            own = together[name][row]
            of_tokens = array.ndim > 1 and array.shape[1] == length and own.shape != array.shape[1:]
            assert np.array_equal(own[:length] if of_tokens else own, array[0]), (name, row)
    exact = outputs(small(model_type, task, place), inputs)
    real = inputs["attention_mask"].reshape(len(LENGTHS), -1) == 1
    for name, array in exact.items():
        ours, theirs = (x[real] if x.shape[:2] == real.shape else x for x in (together[name], array))
        cosine = np.vdot(ours, theirs) / np.linalg.norm(ours) / np.linalg.norm(theirs)
        assert cosine >= CLOSE[dtype] - 1e-6, (name, cosine)
        assert np.array_equal(ours, theirs) == (dtype == "float32")


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("model_type, task, place", CLASSES)
def test_packed_files(model_type, task, place, dtype, tmp_path):
    model = small(model_type, task, place, dtype=dtype)
    model.save_pretrained(tmp_path, packed=True)
    again = load_class(place).from_pretrained(tmp_path)
    assert str(again.dtype) == dtype
    inputs = batch(model, task)
    for name, array in outputs(model, inputs).items():
        assert np.array_equal(array, outputs(again, inputs)[name]), name


@pytest.mark.parametrize("name", recorded.NAMES)
def test_checkpoints_have_transformers_names(name, tmp_path):
    model = recorded.load(name)
    model.save_pretrained(tmp_path)
    saved = read_safetensors(tmp_path / "model.safetensors")
    theirs = read_safetensors(recorded.MODELS_DIR / name / "model.safetensors")
    once_more = set(model.tied_tensors) - set(saved)
    # what a head does not read; transformers' SqueezeBERT has one all the same
    poolers = {key for key in theirs if ".pooler." in key} - set(saved)
    assert not poolers or recorded.model_type(name) == "squeezebert"
    assert saved.keys() == theirs.keys() - once_more - poolers
    assert all(np.array_equal(saved[key], theirs[key]) for key in saved)
    buffers = {model.tensor_names[slot] for slot in model.buffer_slots if slot in model.tensor_names}
    parameters = {key: array for key, array in model.state_dict().items() if key not in buffers}
    assert sum(array.size for array in parameters.values()) == model.num_parameters()
    assert parameters.keys() - saved.keys() <= recorded.fixed(model) | set(model.names_in_files)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["architectures"] == [type(model).__name__] and written["model_type"] == recorded.model_type(name)
    again = type(model).from_pretrained(tmp_path)
    names = {other: key for key, other in model.names_in_files.items()}
    assert all(np.array_equal(array, again.state_dict()[names.get(key, key)]) for key, array in saved.items())
    assert again.config.to_diff_dict() == model.config.to_diff_dict() | {"architectures": written["architectures"]}


@pytest.mark.parametrize("model_type, task, place", CLASSES)
def test_auto_class(model_type, task, place, caplog):
    """It finds the class; a checkpoint without the head gets a new one, which is said, and is the same for the same seed."""
    auto = getattr(ferroformer, f"AutoModelFor{task}" if task else "AutoModel")
    caplog.set_level(logging.WARNING)
    directory = recorded.MODELS_DIR / model_type
    model, info = auto.from_pretrained(directory, output_loading_info=True)
    assert type(model) is load_class(place) and type(auto.from_config(model.config)) is type(model)
    fresh = info["missing_keys"]
    base = read_safetensors(directory / "model.safetensors")
    inside = {key.removeprefix(f"{model.base_model_prefix}.") for key in model.state_dict()} & set(base)
    computed = recorded.fixed(model) - {f"{model.base_model_prefix}.{key}" for key in inside} - inside
    assert len(inside) + len(fresh) + len(computed) == len(model.state_dict())
    assert fresh or not task or task in ("MaskedLM", "CausalLM", "Seq2SeqLM")
    assert ("newly initialized" in caplog.text) == bool(fresh)
    assert all(key.removeprefix(f"{model.base_model_prefix}.") not in base for key in fresh)
    again = auto.from_pretrained(directory)
    assert all(np.array_equal(array, again.state_dict()[key]) for key, array in model.state_dict().items())
    other = auto.from_pretrained(directory, seed=1).state_dict()
    matrices = {key for key in fresh if model.state_dict()[key].ndim == 2}
    assert all(not np.array_equal(other[key], model.state_dict()[key]) for key in matrices)


# of OPT with smaller word vectors the model inside alone has hidden states; inside of T5's labels of tokens there is an encoder alone
APART = ("opt-projected-CausalLM", "t5-TokenClassification")


@pytest.mark.parametrize("name", [name for name in recorded.NAMES if recorded.task(name) and name not in APART])
def test_the_model_inside_a_head(name, caplog):
    """AutoModel on a checkpoint with a head is the model inside: bits of hidden states and attentions."""
    head = recorded.load(name)
    model = AutoModel.from_pretrained(recorded.MODELS_DIR / name)
    end = getattr(model.config, "eos_token_id", None) if recorded.task(name) == "SequenceClassification" else None
    ids = [[5, 6, 7, 8 if end is None else end]]
    kept = ["hidden_states"] + ["attentions"] * (recorded.model_type(name) != "squeezebert")
    inputs = recorded.example(model, ids) | {f"output_{key}": True for key in kept}
    bare = model(**inputs)
    if recorded.task(name) == "MultipleChoice":
        inputs["input_ids"] = [inputs["input_ids"]]
    named = head(**inputs)
    keys = [key for key in bare if key.endswith(tuple(kept))]
    assert len(keys) in (len(kept), 5)
    for key in keys:
        assert all(np.array_equal(a, b) for a, b in zip(named[key], bare[key], strict=True)), key
    last = named.decoder_hidden_states if "decoder_input_ids" in inputs else named.hidden_states
    assert np.array_equal(bare.last_hidden_state, last[-1])


def test_all_classes_are_of_the_package():
    for name, (model_type, _, place) in recorded.classes().items():
        assert getattr(ferroformer, name) is load_class(place)
        assert getattr(ferroformer, load_class(MODELS[model_type].config).__name__) is load_class(place).config_class


@pytest.mark.parametrize("task", [None, "SequenceClassification", "MaskedLM"])
def test_a_roformer_without_its_angles_computes_them(task, tmp_path):
    name = f"roformer-{task}" if task else "roformer"
    model = recorded.load(name)
    tensors = read_safetensors(recorded.MODELS_DIR / name / "model.safetensors")
    write_safetensors(tmp_path / "model.safetensors", {k: v for k, v in tensors.items() if "embed_positions" not in k})
    model.config.save_pretrained(tmp_path)
    again, info = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] == {key for key in model.state_dict() if "embed_positions" in key}
    (angles,) = (array for key, array in again.state_dict().items() if "embed_positions" in key)
    positions, pairs = angles.shape[0], angles.shape[1] // 2
    turns = np.arange(positions)[:, None] / 10000 ** (np.arange(pairs) / pairs)
    assert np.abs(angles - np.hstack([np.sin(turns), np.cos(turns)])).max() <= 1e-6
