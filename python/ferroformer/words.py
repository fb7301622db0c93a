"""Enums of the words that an argument may be."""

from __future__ import annotations

from enum import Enum


class Words(str, Enum):
    """A member equals its word; an unknown word is a ValueError that lists the known ones."""

    @classmethod
    def _missing_(cls, value: object) -> None:
        allowed = [member.value for member in cls]
        raise ValueError(f"{value} is not a valid {cls.__name__}, please select one of {allowed}")
