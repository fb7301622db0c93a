"""Lets one engine convert a checkpoint. Runs in the engine's environment.

python prepare.py MODULE CHECKPOINT FOLDER

MODULE: engines.NAME or writers.NAME.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main() -> None:
    module = importlib.import_module(sys.argv[1])
    if hasattr(module, "prepare"):
        module.prepare(Path(sys.argv[2]), Path(sys.argv[3]))


if __name__ == "__main__":
    main()
