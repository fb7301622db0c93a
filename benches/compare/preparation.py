"""Who takes part, and what they need before they start: environments, and checkpoints in their own formats."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path
from typing import Any

import environments
from crew import Rival
from workloads import Model

# Too large to be installed for a comparison: it takes part where the Python that runs this has it.
BORROWED = "torch"
ENGINES = ("ferroformer", "onnxruntime", "openvino", "ctranslate2", BORROWED)
# Converters with environments of their own, so that no engine is charged for them: who needs which, in this order.
_TOOLS = {
    "onnx_tools": ("export.py", ("onnxruntime", "openvino")),
    "openvino_tools": ("openvino_int8.py", ("openvino",)),
}


def installed(engine: str, wheel: Path) -> bool:
    if engine == BORROWED:
        return environments.borrow(engine, ("torch", "transformers", "tokenizers"))
    environments.install(engine, wheel if engine == "ferroformer" else None)
    return True


def variants(engine: str) -> list[Rival]:
    return [Rival(engine, variant) for variant in _assigned(engine, "VARIANTS")]


def cold_variants(engine: str, model: Model) -> list[Rival]:
    """Those of `variants`, and those that differ in their start only, as far as they could be prepared."""
    more = [Rival(engine, variant) for variant in _assigned(engine, "COLD_VARIANTS")]
    return variants(engine) + [rival for rival in more if (model.folder / rival.variant).is_dir()]


def training_variants(engine: str) -> list[Rival]:
    return [Rival(engine, variant) for variant in _assigned(engine, "TRAINING_VARIANTS")]


def prepare(model: Model, engines: list[str]) -> None:
    """Everything that engines convert before they load; done once."""
    for tool, (script, users) in _TOOLS.items():
        if set(users) & set(engines):
            environments.install(tool)
            _once(model, tool, [script])
    for engine in engines:
        if engine != BORROWED:
            _once(model, engine, ["prepare.py", engine])


def _assigned(engine: str, name: str) -> tuple[str, ...]:
    """Read, not imported: the engine itself is not installed here."""
    source = (environments.HERE / "engines" / f"{engine}.py").read_text(encoding="utf-8")
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
            values: tuple[str, ...] = ast.literal_eval(statement.value)
            return values
    return ()


def _once(model: Model, environment: str, command: list[str]) -> None:
    """Again only if the packages or the code have changed."""
    stamp = model.folder / f"{environment}.ready"
    sources = [environments.HERE / command[0], environments.HERE / "engines" / f"{environment}.py"]
    state = environments.state(environment) + "".join(s.read_text(encoding="utf-8") for s in sources if s.exists())
    if stamp.exists() and stamp.read_text(encoding="utf-8") == state:
        return
    environments.note(f"{model.name}: {' '.join(command)}")
    _run(environment, command, model)
    stamp.write_text(state, encoding="utf-8")


def _run(environment: str, command: list[str], model: Model) -> None:
    script, *arguments = command
    whole: list[Any] = [environments.python(environment), environments.HERE / script, *arguments]
    subprocess.run([*map(str, whole), str(model.checkpoint), str(model.folder)], check=True, stdout=subprocess.DEVNULL)
