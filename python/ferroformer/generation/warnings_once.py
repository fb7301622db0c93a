"""Warnings that a loop would repeat."""

from __future__ import annotations

import functools
import logging


@functools.lru_cache(maxsize=256)
def warn_once(message: str) -> None:
    """Log a warning the first time that it comes."""
    logging.getLogger("ferroformer.generation").warning(message)


def warn(message: str) -> None:
    """Log a warning."""
    logging.getLogger("ferroformer.generation").warning(message)
