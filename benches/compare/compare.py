"""ferroformer beside other engines: the same checkpoints, the same inputs, the same threads.

    python benches/compare/compare.py --wheel dist/ferroformer-*.whl [--texts FILE] [--record DIRECTORY]

Every engine has an environment of its own and, for each model and number of threads, a process that stays loaded. Each
is proved right on each input before it is timed; the rounds alternate. Ratios are against the first engine: above 1 is
slower.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from pathlib import Path

import environments
import machine
import measure
import report
import workloads
from crew import Rival, Worker
from workloads import Model, Workload

CACHE = environments.HERE / ".cache"
# Too large to be installed for a comparison: it takes part where the Python that runs this has it.
BORROWED = "torch"
ENGINES = ("ferroformer", "onnxruntime", "openvino", "ctranslate2", BORROWED)


def main() -> None:
    arguments = _arguments()
    engines = [engine for engine in arguments.engines if _installed(engine, arguments.wheel)]
    rivals = [Rival(engine, variant) for engine in engines for variant in _variants(engine)]
    found = {engine: environments.stack(engine) for engine in engines}
    facts = [*machine.describe(["python", *sys.argv]), report.versions(found)]
    parts = ["\n".join(f"- {fact}" for fact in facts)]
    for section in arguments.sections:
        parts += _SECTIONS[section](rivals, arguments)
    text = "\n\n".join(parts) + "\n"
    print(text)
    if arguments.record:
        arguments.record.mkdir(parents=True, exist_ok=True)
        (arguments.record / f"{'-'.join(arguments.sections)}.md").write_text(text, encoding="utf-8")


# --- sections ---------------------------------------------------------------------------------
def _sentences(rivals: list[Rival], arguments: argparse.Namespace) -> list[str]:
    model = workloads.minilm(CACHE)
    texts = workloads.read_texts(arguments.texts, arguments.count)
    return _timings(model, workloads.sentence_workloads(model, texts), rivals, arguments)


def _tokens(rivals: list[Rival], arguments: argparse.Namespace) -> list[str]:
    model = workloads.bert_base(CACHE)
    return _timings(model, workloads.token_workloads(model), rivals, arguments)


def _cold(rivals: list[Rival], arguments: argparse.Namespace) -> list[str]:
    model = workloads.minilm(CACHE)
    _prepare(model, rivals)
    parts = []
    for threads in arguments.threads:
        samples = measure.cold_starts(rivals, model, threads, arguments.rounds)
        parts += [f"## Cold start: fresh process, load {model.name}, one embedding, exit: {_of(threads)}"]
        parts += [report.cold_starts(samples)]
    return parts


def _size(rivals: list[Rival], arguments: argparse.Namespace) -> list[str]:
    own = [engine for engine in dict.fromkeys(rival.engine for rival in rivals) if engine != BORROWED]
    return ["## Installed", report.stacks({engine: environments.stack(engine) for engine in own})]


_SECTIONS = {"sentences": _sentences, "tokens": _tokens, "cold": _cold, "size": _size}


def _timings(model: Model, works: list[Workload], rivals: list[Rival], arguments: argparse.Namespace) -> list[str]:
    _prepare(model, rivals)
    parts = []
    for threads in arguments.threads:
        parts += _with_threads(model, works, rivals, threads, arguments.rounds)
    return parts


def _with_threads(model: Model, works: list[Workload], rivals: list[Rival], threads: int, rounds: int) -> list[str]:
    workers = [Worker(rival, model.checkpoint, model.folder, threads) for rival in rivals]
    proofs, samples = {}, {}
    for work in works:
        environments.note(f"{model.name}, {_of(threads)}: {work.name}")
        proofs[work.name] = {worker.rival: measure.prove(worker, work, model.folder) for worker in workers}
        right = [worker for worker in workers if proofs[work.name][worker.rival].holds(worker.rival)]
        samples[work.name] = measure.rounds(right, work, rounds)
    peaks = {worker.rival: worker.ask(do="peak") for worker in workers}
    for worker in workers:
        worker.dismiss()
    return [f"## {model.name}, {_of(threads)}", report.timings(samples, proofs, peaks)]


def _of(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


# --- preparation ------------------------------------------------------------------------------
def _installed(engine: str, wheel: Path) -> bool:
    if engine == BORROWED:
        return environments.borrow(engine, ("torch", "transformers", "tokenizers"))
    environments.install(engine, wheel if engine == "ferroformer" else None)
    return True


def _variants(engine: str) -> tuple[str, ...]:
    """Read, not imported: the engine itself is not installed here."""
    source = (environments.HERE / "engines" / f"{engine}.py").read_text(encoding="utf-8")
    statements = ast.parse(source).body
    values = (s.value for s in statements if isinstance(s, ast.Assign) and ast.unparse(s.targets[0]) == "VARIANTS")
    variants: tuple[str, ...] = ast.literal_eval(next(values))
    return variants


def _prepare(model: Model, rivals: list[Rival]) -> None:
    """Everything that engines convert before they load; done once."""
    _once(model, environments.ONNX_TOOLS, "export.py")
    for engine in dict.fromkeys(rival.engine for rival in rivals if rival.engine != BORROWED):
        _once(model, engine, "prepare.py", engine)


def _once(model: Model, environment: str, script: str, *arguments: str) -> None:
    stamp = model.folder / f"{environment}.ready"
    versions = environments.requirements(environment)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == versions:
        return
    if environment == environments.ONNX_TOOLS:
        environments.install(environment)
    command = [environments.python(environment), environments.HERE / script, *arguments, model.checkpoint, model.folder]
    subprocess.run(list(map(str, command)), check=True)
    stamp.write_text(versions, encoding="utf-8")


def _arguments() -> argparse.Namespace:
    def several(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, required=True, help="ferroformer's, as `make wheel` builds it")
    parser.add_argument("--texts", type=Path, help="a file with a text a line; default: Python's manual")
    parser.add_argument("--count", type=int, default=1000, help="texts of the end-to-end workload")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=lambda text: list(map(int, text.split(","))), default=[1, 2])
    parser.add_argument("--engines", type=several, default=list(ENGINES), help="the first is what ratios refer to")
    parser.add_argument("--sections", type=several, default=list(_SECTIONS), help=", ".join(_SECTIONS))
    parser.add_argument("--record", type=Path, help="a folder for the tables")
    return parser.parse_args()


if __name__ == "__main__":
    main()
