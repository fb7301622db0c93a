"""Checkpoint directories that are whole or not there, and what a training needs to go on bit for bit.

A directory is written as `.checkpoint-12.tmp-PID` beside its place and renamed; one that goes is renamed to such a name first. One
that is written anew waits as `.checkpoint-12.old` until the new one is in its place. So what is called `checkpoint-12` is whole.
"""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from .config_files import read_config_file, write_text
from .trainer_utils import get_checkpoints, get_last_checkpoint

__all__ = ["LoopState", "clean_up", "find_checkpoint", "probe", "rotate", "write_whole"]

STATE_NAME = "trainer_state.json"
ARGS_NAME = "training_args.json"
OPTIMIZER_NAME = "optimizer.safetensors"
SCHEDULE_NAME = "scheduler.json"
LOOP_NAME = "loop_state.json"
WEIGHTS_NAME = "model.safetensors"

_LEFT_OVER = re.compile(r"\.(checkpoint-\d+)\.(old|tmp-\d+)")


@dataclass
class LoopState:
    """What the loop knows beside the TrainerState.

    epoch, batches_done: where the next step reads. loss_sum: of the steps since the last log, at `last_logged_step`; total_loss: of
    all before. generators: the states of Python's and numpy's global generators and of the collator's own.
    """

    epoch: int = 0
    batches_done: int = 0
    loss_sum: float = 0.0
    last_logged_step: int = 0
    total_loss: float = 0.0
    generators: dict[str, Any] | None = None

    def save(self, folder: str, collator: Any) -> None:
        self.generators = generator_states(collator)
        write_text(os.path.join(folder, LOOP_NAME), json.dumps(asdict(self)))

    @classmethod
    def load(cls, folder: str) -> LoopState:
        return cls(**read_config_file(os.path.join(folder, LOOP_NAME)))


def generator_states(collator: Any) -> dict[str, Any]:
    """The states of the generators that making batches may use, as JSON holds them."""
    import numpy as np

    state: Any = np.random.get_state(legacy=False)
    own = getattr(collator, "generator", None)
    return {
        "python": random.getstate(),
        "numpy": {**state, "state": {**state["state"], "key": state["state"]["key"].tolist()}},
        "collator": own.bit_generator.state if isinstance(own, np.random.Generator) else None,
    }


def restore_generators(states: dict[str, Any], collator: Any) -> None:
    """Set the generators to what `generator_states` told."""
    import numpy as np

    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    state = states["numpy"]
    np.random.set_state({**state, "state": {**state["state"], "key": np.array(state["state"]["key"], np.uint32)}})
    if states["collator"] is None:
        if hasattr(collator, "generator"):
            collator.generator = None
        return
    collator.generator = np.random.Generator(getattr(np.random, states["collator"]["bit_generator"])())
    collator.generator.bit_generator.state = states["collator"]


def find_checkpoint(resume_from_checkpoint: Any, output_dir: str) -> str | None:
    """The directory to resume from: None and False: none; True: the last one in output_dir; else a path.

    Raises ValueError if there is no last one, FileNotFoundError for a path that is no checkpoint that can be resumed.
    """
    if resume_from_checkpoint in (None, False):
        return None
    if resume_from_checkpoint is True:
        path = get_last_checkpoint(output_dir) if os.path.isdir(output_dir) else None
        if path is None:
            raise ValueError(f"resume_from_checkpoint=True, but there is no checkpoint-N in {output_dir!r}")
    else:
        path = os.fspath(resume_from_checkpoint)
    missing = [name for name in (WEIGHTS_NAME, STATE_NAME, OPTIMIZER_NAME, LOOP_NAME) if not os.path.isfile(os.path.join(path, name))]
    if missing:
        why = " (with save_only_model only the model is saved; transformers' own optimizer.pt is not read)"
        raise FileNotFoundError(f"{path!r} cannot be resumed: no {', '.join(missing)}{why if OPTIMIZER_NAME in missing else ''}")
    return path


def probe(output_dir: str, num_bytes: int) -> None:
    """Make output_dir; OSError unless it can be written and its disk has room for `num_bytes`."""
    path = os.path.join(output_dir, f".probe-{os.getpid()}")
    try:
        os.makedirs(output_dir, exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"x")
        os.unlink(path)
    except OSError as error:
        raise _os_error(error, f"output_dir={output_dir!r} cannot be written: {error.strerror or error}") from error
    free = shutil.disk_usage(output_dir).free
    if free < num_bytes:
        text = f"output_dir={output_dir!r}: {free:,} bytes are free on its disk, a model takes {num_bytes:,}"
        raise OSError(errno.ENOSPC, text)


def write_whole(path: str, fill: Callable[[str], None]) -> None:
    """Let `fill` write a directory beside `path`, and rename it. Raises OSError; what was at `path` is there as it was then."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.tmp-{os.getpid()}")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        os.makedirs(temporary)
        fill(temporary)
        _sync_all(temporary)
        _replace(temporary, path)
        _sync(folder)
    except OSError as error:
        last = get_last_checkpoint(folder) if os.path.isdir(folder) else None
        kept = f"the last checkpoint is {last}" if last else "there is no earlier checkpoint"
        raise _os_error(error, f"{path} could not be written: {error.strerror or error}; {kept}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(temporary: str, path: str) -> None:
    folder, name = os.path.split(path)
    old = os.path.join(folder, f".{name}.old")
    if os.path.isdir(path):
        shutil.rmtree(old, ignore_errors=True)
        os.rename(path, old)
    os.rename(temporary, path)
    shutil.rmtree(old, ignore_errors=True)


def clean_up(output_dir: str) -> None:
    """Remove what a killed run left half-written, and put back what it was about to replace."""
    for name in os.listdir(output_dir):
        found = _LEFT_OVER.fullmatch(name)
        if found is None:
            continue
        path, place = os.path.join(output_dir, name), os.path.join(output_dir, found[1])
        if found[2] == "old" and not os.path.exists(place):
            os.rename(path, place)
        else:
            shutil.rmtree(path, ignore_errors=True)


def rotate(output_dir: str, limit: int | None, keep: Iterable[str | None]) -> None:
    """Remove the oldest checkpoints until at most `limit` are left; those in `keep` stay."""
    if limit is None:
        return
    kept = {os.path.abspath(path) for path in keep if path is not None}
    checkpoints = sorted(get_checkpoints(output_dir), key=os.path.getmtime)  # sorted is stable: by step where times are equal
    removable = [path for path in checkpoints if os.path.abspath(path) not in kept]
    for path in removable[: max(0, len(checkpoints) - limit)]:
        folder, name = os.path.split(path)
        temporary = os.path.join(folder, f".{name}.tmp-{os.getpid()}")
        os.rename(path, temporary)
        shutil.rmtree(temporary, ignore_errors=True)


def _sync_all(folder: str) -> None:
    for root, _, names in os.walk(folder):
        for name in names:
            _sync(os.path.join(root, name))
        _sync(root)


def _sync(path: str) -> None:
    """Have the system write a file or the names in a folder to the disk."""
    if os.name != "posix" and os.path.isdir(path):
        return  # only there can a folder be opened
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _os_error(error: OSError, text: str) -> OSError:
    return OSError(text) if error.errno is None else OSError(error.errno, text)
