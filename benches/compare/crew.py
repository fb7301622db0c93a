"""Worker processes as the driver sees them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import environments

PRECISIONS = ("float32", "bfloat16", "int8")


@dataclass(frozen=True)
class Rival:
    """An engine in one of its variants."""

    engine: str
    variant: str
    home: str = "engines"  # the folder of its code: "engines" or "writers"

    @property
    def label(self) -> str:
        return f"{self.engine} {self.variant}"

    @property
    def precision(self) -> str:
        """In which it is compared. What an engine chooses by itself, it chooses among floats of 16 bits."""
        first = self.variant.split()[0]
        return first if first in PRECISIONS else "bfloat16"

    def command(self, script: str, checkpoint: Path, folder: Path, threads: int) -> list[str]:
        what = (f"{self.home}.{self.engine}", self.variant, checkpoint, folder, threads)
        return [str(environments.python(self.engine)), str(environments.HERE / script), *map(str, what)]


def environment(threads: int) -> dict[str, str]:
    """The number of threads for whoever asks the environment for it; numpy's own products stay on one."""
    # RAYON_NUM_THREADS is what the tokenizers of all engines go by
    names = ("FERROFORMER_NUM_THREADS", "OMP_NUM_THREADS", "RAYON_NUM_THREADS")
    return os.environ | dict.fromkeys(names, str(threads)) | {"OPENBLAS_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


class Worker:
    def __init__(self, rival: Rival, checkpoint: Path, folder: Path, threads: int) -> None:
        self.rival = rival
        self._process = subprocess.Popen(
            rival.command("worker.py", checkpoint, folder, threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(threads),
        )
        self._answer()

    def ask(self, **order: Any) -> Any:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.rival.label} died with status {self._process.wait()}")
        return json.loads(line)

    def sleeps(self) -> bool:
        """Whether none of its threads runs, spinning included."""
        stats = Path(f"/proc/{self._process.pid}/task").glob("*/stat")
        return all(stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "R" for stat in stats)

    def dismiss(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def wait_for_sleep(workers: list[Worker]) -> None:
    """Return when no worker's thread spins any more; OpenMP's, for one, do so for 0.2 s after their work."""
    deadline = time.monotonic() + 5
    while not all(worker.sleeps() for worker in workers):
        if time.monotonic() > deadline:
            awake = [worker.rival.label for worker in workers if not worker.sleeps()]
            raise RuntimeError(f"{', '.join(awake)} would not sleep; the others' times would not be theirs")
        time.sleep(0.01)
