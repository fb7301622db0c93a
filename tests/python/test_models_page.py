"""The table of docs/models.md is what the table of architectures, the recorded models and the tests of dtypes say."""

from pathlib import Path

from ferroformer.models.auto import MODELS

from . import recorded
from .test_models_laws import CLOSE

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
DTYPES = {"float32": "f32", "bfloat16": "bf16", "int8": "int8"}
TASKS = {
    None: "bare",
    "SequenceClassification": "sequence classification",
    "TokenClassification": "token classification",
    "QuestionAnswering": "question answering",
    "MaskedLM": "masked LM",
    "CausalLM": "causal LM",
    "Seq2SeqLM": "text to text",
    "MultipleChoice": "multiple choice",
    "NextSentencePrediction": "next sentence",
    "PreTraining": "pre-training",
}


def cell(model_type, task, recordings):
    """The dtypes in which a class is tested: f32 in bold where its outputs are compared with recorded ones."""
    if task is not None and task not in MODELS[model_type].heads:
        return ""
    exact = "**f32**" if (model_type, task) in recordings else "f32"
    return " ".join(exact if dtype == "float32" else DTYPES[dtype] for dtype in CLOSE)


def table():
    recordings = {(recorded.model_type(name), recorded.task(name)) for name in recorded.NAMES}
    rows = [["", *TASKS.values()], ["---"] * (len(TASKS) + 1)]
    rows += [[f"`{name}`", *(cell(name, task, recordings) for task in TASKS)] for name in sorted(MODELS)]
    return "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |").replace("|  |", "| |") for row in rows)


def test_the_page_has_the_table():
    assert {task for _, task, _ in recorded.classes().values()} == set(TASKS)
    assert CLOSE.keys() == DTYPES.keys()
    assert table() in PAGE.read_text(), f"docs/models.md is to have this table:\n{table()}"


def test_the_page_says_of_each_architecture_what_is_refused():
    text = PAGE.read_text()
    for name in MODELS:
        assert f"\n- `{name}`: " in text, name
