"""Sentences: of a file, or of what comes with every Python."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path

_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def read(path: Path | None, count: int) -> list[str]:
    """`count` texts of a .csv or .tsv file (its first column), of another file (its lines), or of Python's manual."""
    texts = [text for text in (_python_manual() if path is None else _of_file(path)) if len(text) > 3]
    if len(texts) < count:
        raise SystemExit(f"{path or 'the manual of Python'}: {len(texts)} texts, {count} are needed")
    # Evenly from the whole, so that a file that is sorted somehow gives mixed lengths too.
    return [texts[i * len(texts) // count] for i in range(count)]


def _of_file(path: Path) -> list[str]:
    delimiter = _DELIMITERS.get(path.suffix.lower())
    with path.open(newline="", encoding="utf-8") as file:
        lines = file.read().splitlines() if delimiter is None else _first_column(file, delimiter)
    return [line.strip() for line in lines]


def _first_column(file: Iterable[str], delimiter: str) -> list[str]:
    # In files with tabs a quotation mark is usually the text's own.
    rows = csv.reader(file, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE)
    return [row[0] for row in rows if row]


def _python_manual() -> list[str]:
    from pydoc_data.topics import topics

    paragraphs = re.split(r"\n\s*\n", "\n\n".join(topics[name] for name in sorted(topics)))
    joined = (" ".join(paragraph.split()) for paragraph in paragraphs if not paragraph.startswith("   "))
    sentences = (sentence for text in joined for sentence in re.split(r"(?<=[.!?]) (?=[A-Z])", text))
    return [sentence for sentence in sentences if re.fullmatch(r"[A-Z].*[a-z].*[.!?]", sentence)]
