"""Lets one engine convert a checkpoint. Runs in the engine's environment.

python prepare.py ENGINE CHECKPOINT FOLDER
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main() -> None:
    module = importlib.import_module(f"engines.{sys.argv[1]}")
    if hasattr(module, "prepare"):
        module.prepare(Path(sys.argv[2]), Path(sys.argv[3]))


if __name__ == "__main__":
    main()
