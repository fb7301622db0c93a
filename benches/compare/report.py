"""Results -> Markdown."""

from __future__ import annotations

from crew import Rival
from environments import Stack
from measure import Proof, Sample

Row = list[str]


def table(header: Row, rows: list[Row]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


Cells = dict[Rival, str]


def timings(
    samples: dict[str, dict[Rival, Sample]], proofs: dict[str, dict[Rival, Proof]], peaks: dict[Rival, float]
) -> str:
    """A row per engine: its times, the worst of its proofs, and the most memory it had."""
    rivals = list(peaks)
    rows = []
    for rival in rivals:
        worst = [found[rival] for found in proofs.values()]
        times = [_timing(found, rival, rivals[0]) for found in samples.values()]
        rows.append([rival.label, *times, _proof(worst, rival), f"{peaks[rival]:.0f} MB"])
    return table(["engine", *samples, "against float64", "peak RSS"], rows)


def cold_starts(samples: dict[Rival, tuple[Sample, Sample]]) -> str:
    base = next(iter(samples.values()))
    rows = [[rival.label, _time(wall, base[0]), f"{peak.median:.0f} MB"] for rival, (wall, peak) in samples.items()]
    return table(["engine", "wall", "peak RSS"], rows)


def stacks(found: dict[str, Stack]) -> str:
    rows = [[name, f"{stack.megabytes:.0f} MB", str(len(stack.packages))] for name, stack in found.items()]
    return table(["stack", "size", "packages"], rows)


def versions(found: dict[str, Stack]) -> str:
    return "engines: " + ", ".join(f"{name} {stack.packages.get(name, '?')}" for name, stack in found.items())


def _timing(found: dict[Rival, Sample], rival: Rival, first: Rival) -> str:
    return _time(found[rival], found[first]) if rival in found else "wrong, not timed"


def _time(sample: Sample, base: Sample) -> str:
    """Median, how many times the first engine's it is, half the distance between the best and the worst round."""
    ratio = sample.median / base.median
    return f"{_seconds(sample.median)}, {ratio:.2f}x ±{50 * sample.spread:.0f} %"


def _proof(found: list[Proof], rival: Rival) -> str:
    if rival.variant == "float32":
        return f"error {max(proof.max_error for proof in found):.0e}"
    return f"cosine {min(proof.min_cosine for proof in found):.6f}"


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.{2 if value < 0.1 else 0}f} ms"
