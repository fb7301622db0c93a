"""Models of transformers with recorded answers: every directory of tests/data/models, and the classes that read them."""

import json

from ferroformer.models.auto import MODELS, load_class

from .conftest import DATA, read_safetensors

MODELS_DIR = DATA / "models"
# every recorded model, by the name of its directory
NAMES = sorted(path.parent.name for path in MODELS_DIR.glob("*/cases.json"))


def classes():
    """Of every class in the table of architectures: {its name: (model type, task or None, where it is)}."""
    places = {}
    for model_type, entry in MODELS.items():
        for task, place in {None: entry.model, **entry.heads}.items():
            name = place.rpartition(":")[2] if isinstance(place, str) else place.__name__
            places[name] = (model_type, task, place)
    return places


def cases(name, call=None):
    """The recorded calls of a model, of all kinds or only "forward" or "train"."""
    listed = json.loads((MODELS_DIR / name / "cases.json").read_text())
    return [case for case in listed if call in (None, case["call"])]


def arrays(name, case, *kinds):
    """For each kind ("in", "out", "grad", "after"): {name: array} of a case."""
    tensors = read_safetensors(MODELS_DIR / name / "cases.safetensors.gz")
    starts = [f"{case}/{kind}/" for kind in kinds]
    return [{key.removeprefix(start): a for key, a in tensors.items() if key.startswith(start)} for start in starts]


def model_type(name):
    return classes()[cases(name)[0]["cls"]][0]


def task(name):
    """The task in the name of its class; None for a model without a head."""
    return classes()[cases(name)[0]["cls"]][1]


def model_class(name):
    return load_class(classes()[cases(name)[0]["cls"]][2])


def load(name, **kwargs):
    return model_class(name).from_pretrained(MODELS_DIR / name, **kwargs)


def example(model, ids):
    """The arrays of a call; the decoder of an encoder-decoder reads what its encoder reads."""
    return {"input_ids": ids} | ({"decoder_input_ids": ids} if "decoder_input_ids" in model.input_names else {})


def fixed(model):
    """The names of what is no parameter, or of parameters that no training changes."""
    return {model.tensor_names[slot] for slot in model.fixed_slots if slot in model.tensor_names}


def names(*tasks):
    """Of models with one of these heads."""
    return [name for name in NAMES if task(name) in tasks]
