"""One engine with one model, loaded once; waits on stdin for orders (a JSON object a line) and answers on stdout.

python worker.py MODULE VARIANT CHECKPOINT FOLDER THREADS

While it waits it is blocked in a read: whose turn it is not, sleeps.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from process import kind, load, peak_memory

# A turn ends after this many seconds of calls, and after two calls at the earliest unless one took as long as that.
_TURN = 0.3


def call(engine: Any, inputs: str, how: str) -> Callable[[], Any]:
    """how: "forward" of token ids, a training "step", "write" and "logits" (writing.py), or "embed" of texts
    "by_length" or "as_given"."""
    if how == "step":
        batch = dict(np.load(inputs))
        return lambda: engine.step(**batch)
    if how == "forward":
        arrays = np.load(inputs)
        return lambda: engine.forward(arrays["ids"], arrays["mask"])
    if how in ("write", "logits"):
        given = arguments(inputs, how)
        return lambda: getattr(engine, how)(**given)
    texts = json.loads(Path(inputs).read_text(encoding="utf-8"))
    return lambda: engine.embed(texts, how == "by_length")


def arguments(inputs: str, how: str) -> dict[str, Any]:
    """Of an engine that writes."""
    given = {name: array if array.ndim else int(array) for name, array in np.load(inputs).items()}
    return given if how == "write" else {"ids": given["ids"]}


def turn(work: Callable[[], Any]) -> float:
    """Seconds of a call: the median of a turn's calls. The first, whose caches are others', does not count if short."""
    times: list[float] = []
    while sum(times) < _TURN or (len(times) < 2 and times[0] < _TURN):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:] or times)


def answer(engine: Any, order: dict[str, str], before: float) -> Any:
    """before: MB that the process had before the engine loaded a model."""
    if order["do"] == "peak":
        return peak_memory()
    if order["do"] == "before":
        return before
    if order["do"] == "held":
        return engine.held(**arguments(order["inputs"], "write")) if hasattr(engine, "held") else 0
    if order["do"] == "precision":
        return engine.precision
    if order["do"] == "gradient":
        loss, gradient = engine.gradient(**np.load(order["inputs"]))
        np.savez(order["output"], **gradient)
        return loss
    work = call(engine, order["inputs"], order["how"])
    if order["do"] == "time":
        return turn(work)
    np.save(order["output"], np.asarray(work(), np.float32))
    return None


def main() -> None:
    # The engines' own chatter on stdout must not be taken for answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    kind(*sys.argv[1:3])
    before = peak_memory()
    engine = load(*sys.argv[1:])
    print(json.dumps("ready"), file=answers)
    for line in sys.stdin:
        print(json.dumps(answer(engine, json.loads(line), before)), file=answers)


if __name__ == "__main__":
    main()
