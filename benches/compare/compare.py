"""ferroformer beside other engines: the same checkpoints, the same inputs, the same threads.

    python benches/compare/compare.py --wheel dist/ferroformer-*.whl [--texts FILE] [--record DIRECTORY]

Sections: what is installed (`size`), sentences and ids through an encoder (`sentences`, `tokens`), a process's whole
life (`cold`), fine-tuning (`training`), gpt2, a translator and t5-small that write (`writing`).

Every engine has an environment of its own and, for each variant, model and number of threads, a process that stays
loaded. Each is proved right on each input before it is timed; the rounds alternate. Engines are compared within a
precision: how many times the first engine's time the best of the others takes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import environments
import gradients
import machine
import measure
import preparation
import report
import steps
import texts
import workloads
import writing
import writing_proof
from crew import PRECISIONS, Rival, Worker
from measure import Proof, Sample
from steps import Step
from workloads import Model, Workload

CACHE = environments.HERE / ".cache"
# Seconds that one variant of one engine takes for a round of a section on two cores of a Zen 4; a rough mean.
_ROUND = {"size": 0.0, "sentences": 3.5, "tokens": 6.0, "cold": 0.4, "training": 10.0, "writing": 8.0}


def main() -> None:
    arguments = _arguments()
    wanted = [engine for engine in arguments.engines if preparation.takes_part(engine, arguments.sections)]
    arguments.engines = [engine for engine in wanted if preparation.installed(engine, arguments.wheel)]
    environments.note(f"about {_minutes(arguments):.0f} minutes, installing and converting not counted")
    found = {engine: environments.stack(engine) for engine in arguments.engines}
    facts = [*machine.describe(["python", *sys.argv]), report.versions(found)]
    head = "\n".join(f"- {fact}" for fact in facts)
    print(head)
    for name, text in _parts(arguments):
        print(f"\n{text}", flush=True)
        if arguments.record:
            # As soon as it is there: a run that is killed keeps what it had.
            arguments.record.mkdir(parents=True, exist_ok=True)
            (arguments.record / f"{name}.md").write_text(f"{head}\n\n{text}\n", encoding="utf-8")


def _parts(arguments: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Names and tables, a part per section and number of threads."""
    if "size" in arguments.sections:
        yield "size", _size(arguments)
    for threads in arguments.threads:
        for section in arguments.sections:
            if section != "size":
                yield f"{section}-{threads}", _TIMED[section](arguments, threads)


# --- sections ---------------------------------------------------------------------------------
def _size(arguments: argparse.Namespace) -> str:
    own = [engine for engine in arguments.engines if engine != preparation.BORROWED]
    return f"## Installed\n\n{report.stacks({engine: environments.stack(engine) for engine in own})}"


def _sentences(arguments: argparse.Namespace, threads: int) -> str:
    model = workloads.minilm(CACHE)
    works = workloads.sentence_workloads(model, texts.read(arguments.texts, arguments.count))
    return _timings(model, works, arguments, threads)


def _tokens(arguments: argparse.Namespace, threads: int) -> str:
    model = workloads.bert_base(CACHE)
    return _timings(model, workloads.token_workloads(model), arguments, threads)


def _cold(arguments: argparse.Namespace, threads: int) -> str:
    model = workloads.minilm(CACHE)
    preparation.prepare(model, arguments.engines)
    rivals = _chosen(arguments, lambda engine: preparation.cold_variants(engine, model))
    environments.note(f"cold start, {_of(threads)}")
    proofs = {rival: _proof_of_start(rival, model, threads) for rival in rivals}
    right = [rival for rival in rivals if proofs[rival].holds(rival)]
    samples = measure.cold_starts(right, model, threads, arguments.rounds)
    title = f"## Cold start: fresh process, load {model.name}, one embedding, exit: {_of(threads)}"
    return f"{title}\n\n{report.cold_starts(samples, proofs)}"


def _proof_of_start(rival: Rival, model: Model, threads: int) -> Proof:
    worker = Worker(rival, model.checkpoint, model.folder, threads)
    proof = measure.prove(worker, workloads.one_sentence(model), model.folder)
    worker.dismiss()
    return proof


def _training(arguments: argparse.Namespace, threads: int) -> str:
    """Each process does one work, so that its memory is that of the work."""
    rivals = _chosen(arguments, preparation.training_variants)
    results: dict[Step, report.Trained] = {}
    for model, works in steps.chosen(CACHE, arguments.works):
        environments.note(f"{model.name}, {_of(threads)}: gradients")
        few = steps.batch(model, [16, 9])
        proofs = {rival: gradients.prove(rival, model, few, threads) for rival in rivals}
        right = [rival for rival in rivals if proofs[rival].holds]
        for step in works:
            environments.note(f"training, {_of(threads)}: {step.name}")
            results[step] = report.Trained(proofs, measure.steps(right, step, threads, arguments.rounds))
    title = f"## Training: forward, backward, clip, AdamW, of a classifier in float32: {_of(threads)}"
    return f"{title}\n\n{report.steps(results, arguments.peak and arguments.peak * threads)}"


def _writing(arguments: argparse.Namespace, threads: int) -> str:
    """Each process does one work here too."""
    tables = []
    for model, works in writing.chosen(CACHE, arguments.works):
        rivals = _chosen(arguments, lambda engine: preparation.writing_variants(engine, model.name))
        preparation.prepare(model, list(dict.fromkeys(rival.engine for rival in rivals)), "writers")
        results, memory = report.Results({}), {}
        for work in works:
            environments.note(f"writing, {_of(threads)}: {work.name}")
            workers = [Worker(rival, model.checkpoint, model.folder, threads) for rival in rivals]
            results.precisions |= {worker.rival: worker.ask(do="precision") for worker in workers}
            proofs = {worker.rival: writing_proof.prove(worker, work) for worker in workers}
            right = [worker for worker in workers if proofs[worker.rival].holds(worker.rival)]
            results.add(work.name, proofs, measure.rounds(right, work, arguments.rounds))
            memory[work.name] = {worker.rival: measure.memory(worker, work) for worker in right}
            for worker in workers:
                worker.dismiss()
        tables += [report.standings(results), report.writing(results, works, memory)]
    return "\n\n".join([f"## Writing, {_of(threads)}", *tables])


_TIMED = {"sentences": _sentences, "tokens": _tokens, "cold": _cold, "training": _training, "writing": _writing}


def _timings(model: Model, works: list[Workload], arguments: argparse.Namespace, threads: int) -> str:
    preparation.prepare(model, arguments.engines)
    workers = [
        Worker(rival, model.checkpoint, model.folder, threads) for rival in _chosen(arguments, preparation.variants)
    ]
    results = report.Results({worker.rival: worker.ask(do="precision") for worker in workers})
    for work in works:
        if any(part in work.name for part in arguments.works):
            environments.note(f"{model.name}, {_of(threads)}: {work.name}")
            results.add(work.name, *_measured(workers, model, work, arguments.rounds))
    results.peaks = {worker.rival: worker.ask(do="peak") for worker in workers}
    for worker in workers:
        worker.dismiss()
    return f"## {model.name}, {_of(threads)}\n\n{report.standings(results)}\n\n{report.timings(results)}"


def _measured(
    workers: list[Worker], model: Model, work: Workload, rounds: int
) -> tuple[dict[Rival, Proof], dict[Rival, Sample]]:
    """Only those that are right are timed."""
    proofs = {worker.rival: measure.prove(worker, work, model.folder) for worker in workers}
    return proofs, measure.rounds([w for w in workers if proofs[w.rival].holds(w.rival)], work, rounds)


def _chosen(arguments: argparse.Namespace, variants: Callable[[str], list[Rival]]) -> list[Rival]:
    rivals = [rival for engine in arguments.engines for rival in variants(engine)]
    return [rival for rival in rivals if rival.precision in arguments.precisions]


def _of(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def _minutes(arguments: argparse.Namespace) -> float:
    """Of all rounds and a proof; one thread takes twice as long as two, except to start."""
    of_section = _ROUND | {"sentences": _ROUND["sentences"] * arguments.count / 1000}
    variants = dict.fromkeys(_ROUND, preparation.variants)
    variants["training"] = preparation.training_variants
    variants["writing"] = lambda engine: preparation.writing_variants(engine, "gpt2")
    rivals = {section: len(_chosen(arguments, variants[section])) for section in arguments.sections}
    seconds = sum(count * of_section[section] for section, count in rivals.items())
    minutes: float = (arguments.rounds + 1) * seconds / 60 * sum(2 / threads for threads in arguments.threads)
    return minutes


# --- the command line -------------------------------------------------------------------------
def _several(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[int]:
    return list(map(int, text.split(",")))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, required=True, help="ferroformer's, as `make wheel` builds it")
    parser.add_argument("--texts", type=Path, help=f"{texts.read.__doc__} The last is the default.")
    parser.add_argument("--count", type=int, default=1000, help="texts of the end-to-end workload")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=_numbers, default=[2, 1])
    parser.add_argument("--engines", type=_several, default=list(preparation.ENGINES), help="the first is ours")
    parser.add_argument("--precisions", type=_several, default=list(PRECISIONS), help=", ".join(PRECISIONS))
    parser.add_argument("--sections", type=_several, default=list(_ROUND), help=", ".join(_ROUND))
    parser.add_argument("--works", type=lambda text: text.split(";"), default=[""], help="parts of names, by ';'")
    parser.add_argument("--peak", type=float, help="GFLOP/s of one core, from `make bench`: training's share is shown")
    parser.add_argument("--record", type=Path, help="a folder for the tables, a file per section and threads")
    return parser.parse_args()


if __name__ == "__main__":
    main()
