"""One virtual environment per engine: the pinned packages of engines/NAME.txt, what they need, and not even pip."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
_ENVIRONMENTS = HERE / ".envs"


@dataclass(frozen=True)
class Stack:
    """What an environment has installed."""

    packages: dict[str, str]
    megabytes: float


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def python(name: str) -> Path:
    own = _ENVIRONMENTS / name / "bin" / "python"
    return own if own.exists() else Path(sys.executable)


def borrow(name: str, modules: tuple[str, ...]) -> bool:
    """Whether this Python has the modules of an engine that has no environment of its own."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        note(f"{name} is left out: {', '.join(missing)} not installed")
    return not missing


def install(name: str, wheel: Path | None = None) -> None:
    """Make the environment unless it is there; `wheel` is installed besides the pinned packages."""
    wanted = (HERE / "engines" / f"{name}.txt").read_text(encoding="utf-8")
    if wheel is not None:
        wanted += hashlib.sha256(wheel.read_bytes()).hexdigest()
    stamp = _ENVIRONMENTS / name / "ready"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    note(f"installing {name}")
    venv.create(_ENVIRONMENTS / name, clear=True)
    packages = ["--requirement", HERE / "engines" / f"{name}.txt", *([wheel] if wheel else [])]
    pip = [sys.executable, "-m", "pip", "--python", python(name), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*map(str, pip), *map(str, packages)], check=True)
    stamp.write_text(wanted, encoding="utf-8")


def state(name: str) -> str:
    """What `install` last installed."""
    return (_ENVIRONMENTS / name / "ready").read_text(encoding="utf-8")


_LIST = """
import importlib.metadata, json, pathlib, sysconfig
root = pathlib.Path(sysconfig.get_path("purelib"))
size = sum(f.stat().st_size for f in root.rglob("*") if f.is_file())
names = {d.name.lower(): d.version for d in importlib.metadata.distributions(path=[str(root)])}
print(json.dumps([names, size / 1e6]))
"""


def stack(name: str) -> Stack:
    """The packages of an environment and the size of its site-packages, bytecode as pip compiles it included."""
    answer = subprocess.run([python(name), "-c", _LIST], check=True, capture_output=True, text=True)
    return Stack(*json.loads(answer.stdout))
