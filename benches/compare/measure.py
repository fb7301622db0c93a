"""Proofs, rounds, cold starts: the numbers before they are a table."""

from __future__ import annotations

import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crew import Rival, Worker, environment, wait_for_sleep
from steps import Step
from workloads import SENTENCE, Model, Workload

# float32 may differ from the truth by so much at any element; other precisions have a cosine of at least so much.
_MAX_ERROR = 1e-3
_MIN_COSINE = 0.9


@dataclass(frozen=True)
class Proof:
    max_error: float
    mean_cosine: float
    min_cosine: float

    def holds(self, rival: Rival) -> bool:
        return self.max_error <= _MAX_ERROR if rival.precision == "float32" else self.min_cosine >= _MIN_COSINE


@dataclass(frozen=True)
class Sample:
    """One number per round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """From the best to the worst round, as a share of the median."""
        return (max(self.values) - min(self.values)) / self.median


@dataclass(frozen=True)
class Memory:
    """MB: the most that was resident, what was before a model was loaded; weights and cache where an engine says."""

    peak: float
    before: float
    held: float | None


def prove(worker: Worker, workload: Workload, scratch: Path) -> Proof:
    output = scratch / "answer.npy"
    worker.ask(do="prove", how=workload.how, inputs=str(workload.inputs), output=str(output))
    found, expected = np.load(output)[workload.kept].astype(np.float64), workload.expected
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosines = (found * expected).sum(axis=1) / norms
    return Proof(float(np.abs(found - expected).max()), float(cosines.mean()), float(cosines.min()))


def rounds(workers: list[Worker], workload: Workload | Step, count: int) -> dict[Rival, Sample]:
    """Seconds per call, A B C A B C ...: whatever the machine does meanwhile, it does to all."""
    values: dict[Rival, list[float]] = {worker.rival: [] for worker in workers}
    for _ in range(count):
        for worker in workers:
            wait_for_sleep(workers)
            values[worker.rival].append(worker.ask(do="time", how=workload.how, inputs=str(workload.inputs)))
    return {rival: Sample(tuple(times)) for rival, times in values.items()}


def memory(worker: Worker, workload: Workload) -> Memory:
    """After the rounds. What is held is asked of those that know it."""
    peak, before = worker.ask(do="peak"), worker.ask(do="before")
    return Memory(peak, before, worker.ask(do="held", inputs=str(workload.inputs)) or None)


def steps(rivals: list[Rival], step: Step, threads: int, count: int) -> dict[Rival, tuple[Sample, float]]:
    """Seconds, and peak MB of processes that do nothing else. The first step, which finds memory, does not count."""
    workers = [Worker(rival, step.model.checkpoint, step.model.folder, threads) for rival in rivals]
    rounds(workers, step, 1)
    samples = rounds(workers, step, count)
    peaks = {worker.rival: worker.ask(do="peak") for worker in workers}
    for worker in workers:
        worker.dismiss()
    return {rival: (sample, peaks[rival]) for rival, sample in samples.items()}


def cold_starts(rivals: list[Rival], model: Model, threads: int, count: int) -> dict[Rival, tuple[Sample, Sample]]:
    """Wall seconds and peak MB of fresh processes; one before the first round fills the page cache."""
    values: dict[Rival, list[tuple[float, float]]] = {rival: [] for rival in rivals}
    for _ in range(count + 1):
        for rival in rivals:
            values[rival].append(_cold_start(rival, model, threads))
    columns = {rival: tuple(zip(*pairs[1:])) for rival, pairs in values.items()}
    return {rival: (Sample(wall), Sample(peak)) for rival, (wall, peak) in columns.items()}


def _cold_start(rival: Rival, model: Model, threads: int) -> tuple[float, float]:
    command = [*rival.command("cold.py", model.checkpoint, model.folder, threads), SENTENCE]
    start = time.perf_counter()
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment(threads))
    return time.perf_counter() - start, float(process.stdout.split()[-1])
