"""Importing the package touches little; every public name is there."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import ferroformer


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_is_lazy():
    heavy = "numpy ferroformer._native huggingface_hub tqdm socket logging json".split()
    assert run(f"import sys, ferroformer; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_classes_are_light():
    heavy = "numpy dataclasses huggingface_hub logging pathlib threading tqdm urllib".split()
    names = "AutoModel, AutoTokenizer, SentenceTransformer"
    assert run(f"import sys; from ferroformer import {names}; print([m for m in {heavy} if m in sys.modules])") == "[]"


@pytest.mark.parametrize("name", ferroformer.__all__)
def test_name(name):
    assert getattr(ferroformer, name) is not None
    assert name in dir(ferroformer)


@pytest.mark.parametrize("package", ["ferroformer", "ferroformer.generation", "ferroformer.pipelines"])
def test_type_checkers_see_the_same_names(package):
    module = importlib.import_module(package)
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    seen = next(node for node in tree.body if isinstance(node, ast.If))
    names = {f"{entry.module or alias.name}.{alias.asname}" for entry in seen.body for alias in entry.names}
    modules = ast.literal_eval(next(node for node in tree.body if isinstance(node, ast.Assign)).value)
    assert names == {f"{home or name}.{name}" for home, found in modules.items() for name in found.split()}


def test_no_other_name():
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        ferroformer.Nonsense


def test_threads():
    before = ferroformer.get_num_threads()
    try:
        ferroformer.set_num_threads(1)
        assert ferroformer.get_num_threads() == 1
        with pytest.raises(ValueError):
            ferroformer.set_num_threads(0)
    finally:
        ferroformer.set_num_threads(before)


def test_show_config(capsys):
    facts = ferroformer.show_config("dicts")
    assert capsys.readouterr().out == "" and facts["ferroformer"] == ferroformer.__version__
    assert facts["isa"] in facts["available_isas"] and facts["num_threads"] >= 1
    assert ferroformer.show_config() is None
    assert f"isa: {facts['isa']}" in capsys.readouterr().out
    with pytest.raises(ValueError, match="mode"):
        ferroformer.show_config("x")
