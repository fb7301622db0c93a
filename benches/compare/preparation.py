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
ENGINES = ("ferroformer", "onnxruntime", "openvino", "ctranslate2", "llama_cpp_python", BORROWED)
# Converters with environments of their own, so that no engine is charged for them: who needs which, in this order.
_TOOLS: dict[str, list[tuple[str, str, tuple[str, ...]]]] = {
    "engines": [
        ("onnx_tools", "export.py", ("onnxruntime", "openvino")),
        ("openvino_tools", "openvino_int8.py", ("openvino",)),
    ],
    "writers": [
        ("onnx_tools", "export_decoder.py", ("onnxruntime",)),
        ("openvino_tools", "openvino_decoder.py", ("openvino",)),
        ("llama_tools", "gguf_decoder.py", ("llama_cpp_python",)),
    ],
}


def takes_part(engine: str, sections: list[str]) -> bool:
    """What only writes is not compiled where nothing is written."""
    return _code(engine, "engines").exists() or "writing" in sections


def installed(engine: str, wheel: Path) -> bool:
    if engine == BORROWED:
        return environments.borrow(engine, ("torch", "transformers", "tokenizers"))
    environments.install(engine, wheel if engine == "ferroformer" else None)
    return True


def variants(engine: str) -> list[Rival]:
    return [Rival(engine, variant) for variant in _assigned(engine, "VARIANTS")]


def writing_variants(engine: str, model: str) -> list[Rival]:
    """Of an engine that writes with this model."""
    if model not in _assigned(engine, "MODELS", "writers"):
        return []
    return [Rival(engine, variant, "writers") for variant in _assigned(engine, "VARIANTS", "writers")]


def cold_variants(engine: str, model: Model) -> list[Rival]:
    """Those of `variants`, and those that differ in their start only, as far as they could be prepared."""
    more = [Rival(engine, variant) for variant in _assigned(engine, "COLD_VARIANTS")]
    return variants(engine) + [rival for rival in more if (model.folder / rival.variant).is_dir()]


def training_variants(engine: str) -> list[Rival]:
    return [Rival(engine, variant) for variant in _assigned(engine, "TRAINING_VARIANTS")]


def prepare(model: Model, engines: list[str], home: str = "engines") -> None:
    """Everything that engines convert before they load; done once."""
    for tool, script, users in _TOOLS[home]:
        if set(users) & set(engines):
            environments.install(tool)
            _once(model, tool, [script])
    for engine in engines:
        if engine != BORROWED and _code(engine, home).exists():
            _once(model, engine, ["prepare.py", f"{home}.{engine}"])


def _assigned(engine: str, name: str, home: str = "engines") -> tuple[str, ...]:
    """Read, not imported: the engine itself is not installed here."""
    source = _code(engine, home)
    for statement in ast.parse(source.read_text(encoding="utf-8") if source.exists() else "").body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
            values: tuple[str, ...] = ast.literal_eval(statement.value)
            return values
    return ()


def _code(engine: str, home: str) -> Path:
    return environments.HERE / home / f"{engine}.py"


def _once(model: Model, environment: str, command: list[str]) -> None:
    """Again only if the packages or the code have changed."""
    stamp = model.folder / f"{environment}.ready"
    named = [f"{name.replace('.', '/')}.py" for name in command[1:]]
    sources = [environments.HERE / name for name in (command[0], *named)]
    state = environments.state(environment) + "".join(source.read_text(encoding="utf-8") for source in sources)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == state:
        return
    environments.note(f"{model.name}: {' '.join(command)}")
    _run(environment, command, model)
    stamp.write_text(state, encoding="utf-8")


def _run(environment: str, command: list[str], model: Model) -> None:
    script, *arguments = command
    whole: list[Any] = [environments.python(environment), environments.HERE / script, *arguments]
    subprocess.run([*map(str, whole), str(model.checkpoint), str(model.folder)], check=True, stdout=subprocess.DEVNULL)
