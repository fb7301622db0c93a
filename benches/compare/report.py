"""Results -> Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from crew import PRECISIONS, Rival
from environments import Stack
from gradients import GradientProof
from measure import Memory, Proof, Sample
from steps import Step
from writing import Writing
from writing_proof import WritingProof

Row = list[str]


@dataclass
class Results:
    """Of one model on one number of threads; works by their names."""

    precisions: dict[Rival, str]  # in the engines' own words
    peaks: dict[Rival, float] = field(default_factory=dict)
    proofs: dict[str, dict[Rival, Any]] = field(default_factory=dict)  # Proof, or WritingProof
    samples: dict[str, dict[Rival, Sample]] = field(default_factory=dict)

    def add(self, work: str, proofs: dict[Rival, Any], samples: dict[Rival, Sample]) -> None:
        self.proofs[work], self.samples[work] = proofs, samples


@dataclass(frozen=True)
class Trained:
    """Of one step: those whose gradient is right, with their times and peak MB."""

    proofs: dict[Rival, GradientProof]
    samples: dict[Rival, tuple[Sample, float]]


def table(header: Row, rows: list[Row]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def standings(results: Results) -> str:
    """A row per work, a column per precision: how many times the first engine's time the best of the others takes."""
    ours = _first(results.precisions)
    columns = [precision for precision in PRECISIONS if any(r.precision == precision for r in results.precisions)]
    rows = [[work, *(_standing(found, ours, each) for each in columns)] for work, found in results.samples.items()]
    return table([f"best other / {ours}", *columns], rows)


def timings(results: Results) -> str:
    """A row per engine, those of a precision together: its times, the worst of its proofs, the most memory it had."""
    rows = []
    for rival in _by_precision(results.precisions):
        times = [_time(found[rival]) if rival in found else "wrong, not timed" for found in results.samples.values()]
        proof = _proof([found[rival] for found in results.proofs.values()], rival)
        rows.append([rival.label, results.precisions[rival], *times, proof, f"{results.peaks[rival]:.0f} MB"])
    return table(["engine", "computes in", *results.samples, "against float64", "peak RSS"], rows)


def cold_starts(samples: dict[Rival, tuple[Sample, Sample]], proofs: dict[Rival, Proof]) -> str:
    ours = _first(proofs)
    walls = {rival: wall for rival, (wall, _) in samples.items()}
    rows = []
    for rival in _by_precision(proofs):
        if rival not in samples:
            rows.append([rival.label, "wrong, not timed", "", _proof([proofs[rival]], rival), ""])
            continue
        best = _best(walls, lambda other: other.engine != ours and other.precision == rival.precision)
        ratio = f"{walls[best].median / walls[rival].median:.2f}x" if best and rival.engine == ours else ""
        peak = f"{samples[rival][1].median:.0f} MB"
        rows.append([rival.label, _time(walls[rival]), ratio, _proof([proofs[rival]], rival), peak])
    return table(["engine", "wall", "best other of its precision", "against float64", "peak RSS"], rows)


def steps(results: dict[Step, Trained], peak: float | None) -> str:
    """A row per step and engine. `peak`: GFLOP/s of all cores together, to show the share of it."""
    rows = [_step(step, trained, rival, peak) for step, trained in results.items() for rival in trained.proofs]
    header = ["step", "engine", "time", "best other", "tokens/s", "GFLOP/s", "of peak", "against float64", "peak RSS"]
    return table(header, rows)


def _step(step: Step, trained: Trained, rival: Rival, peak: float | None) -> Row:
    proof = trained.proofs[rival]
    proved = f"loss {proof.loss_error:.0e}, gradient {proof.error:.0e}"
    if rival not in trained.samples:
        return [step.name, rival.engine, "wrong, not timed", "", "", "", "", proved, ""]
    times = {each: sample for each, (sample, _) in trained.samples.items()}
    seconds, giga = times[rival].median, step.operations / times[rival].median / 1e9
    best = _best(times, lambda other: other.engine != rival.engine)
    ratio = f"{times[best].median / seconds:.2f}x" if best and rival.engine == _first(trained.proofs) else ""
    share = f"{100 * giga / peak:.0f} %" if peak else "-"
    speed = [f"{step.tokens / seconds:,.0f}", f"{giga:.0f}", share]
    return [step.name, rival.engine, _time(times[rival]), ratio, *speed, proved, f"{trained.samples[rival][1]:.0f} MB"]


def writing(results: Results, works: list[Writing], memory: dict[str, dict[Rival, Memory]]) -> str:
    """A row per work and engine, those of a precision together."""
    rows = []
    for work in works:
        for rival in _by_precision(results.proofs[work.name]):
            proof = results.proofs[work.name][rival]
            what = [work.name, rival.label, results.precisions[rival]]
            proved = str(proof) if isinstance(proof, WritingProof) else _proof([proof], rival)
            if rival in results.samples[work.name]:
                sample = results.samples[work.name][rival]
                speed = [_time(sample), _seconds(sample.median / work.count), f"{work.words / sample.median:,.0f}"]
                rows.append([*what, *speed, proved, *_memory(memory[work.name][rival])])
            else:
                rows.append([*what, "wrong, not timed", "", "", proved, "", "", ""])
    speed = ["time", "a token of each row", "tokens/s"]
    sizes = ["peak RSS", "weights, keys and values", "what the model added / that"]
    return table(["work", "engine", "computes in", *speed, "against float64", *sizes], rows)


def _memory(memory: Memory) -> Row:
    """What the model added: to the process that had the engine but no model yet."""
    if memory.held is None:
        return [f"{memory.peak:.0f} MB", "", ""]
    added = (memory.peak - memory.before) / memory.held
    return [f"{memory.peak:.0f} MB", f"{memory.held:.0f} MB", f"{added:.2f}x"]


def stacks(found: dict[str, Stack]) -> str:
    rows = [[name, f"{stack.megabytes:.0f} MB", str(len(stack.packages))] for name, stack in found.items()]
    return table(["stack", "size", "packages"], rows)


def versions(found: dict[str, Stack]) -> str:
    return "engines: " + ", ".join(f"{name} {stack.packages.get(name, '?')}" for name, stack in found.items())


def _standing(samples: dict[Rival, Sample], ours: str, precision: str) -> str:
    own = _best(samples, lambda rival: rival.engine == ours and rival.precision == precision)
    other = _best(samples, lambda rival: rival.engine != ours and rival.precision == precision)
    if own is None or other is None:
        return "-"
    mine, best = samples[own].median, samples[other].median
    return f"{best / mine:.2f}x ({_seconds(mine)}; {other.label} {_seconds(best)})"


def _best(samples: dict[Rival, Sample], which: Callable[[Rival], bool]) -> Rival | None:
    return min(filter(which, samples), key=lambda rival: samples[rival].median, default=None)


def _first(rivals: Iterable[Rival]) -> str:
    return next(iter(rivals)).engine


def _by_precision(rivals: Iterable[Rival]) -> list[Rival]:
    return sorted(rivals, key=lambda rival: PRECISIONS.index(rival.precision))


def _time(sample: Sample) -> str:
    """Median, and half the distance between the best and the worst round."""
    return f"{_seconds(sample.median)} ±{50 * sample.spread:.0f} %"


def _proof(found: list[Proof], rival: Rival) -> str:
    if rival.precision == "float32":
        return f"error {max(proof.max_error for proof in found):.0e}"
    mean, lowest = min(proof.mean_cosine for proof in found), min(proof.min_cosine for proof in found)
    return f"cosine {mean:.4f}, lowest {lowest:.4f}"


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.{2 if value < 0.1 else 0}f} ms"
