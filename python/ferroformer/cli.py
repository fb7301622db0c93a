"""The command `ferroformer`: embed texts, compare them, say what the library runs on.

Exit codes: 0 done, 1 failed (one line on stderr says why), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        print(f"ferroformer: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ferroformer", description="Transformer models on the CPU.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    embed = _command(commands, "embed", "one vector per text", _embed)
    _add_texts(embed)
    embed.add_argument("--output", metavar="FILE.npy", help="write the vectors, float32 (texts, dimensions), to a file")
    embed.add_argument("--normalize", action="store_true", help="scale the vectors to length 1")
    similarity = _command(commands, "similarity", "how similar each text is to each other one", _similarity)
    _add_texts(similarity)
    env = _command(commands, "env", "version, instruction set, threads, memory", _env)
    env.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _command(commands: Any, name: str, help: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help, description=help.capitalize() + ".")
    parser.set_defaults(run=run)
    return parser


def _add_texts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="a text; without any, the lines of standard input")
    parser.add_argument("--model", required=True, metavar="PATH", help="a directory, or a name on the Hugging Face hub")
    parser.add_argument("--batch-size", type=_positive, default=32, metavar="N", help="texts at a time (default: 32)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _vectors(options: argparse.Namespace, **how: Any) -> tuple[Any, list[str], Any]:
    from .sentence_transformer import SentenceTransformer

    texts = options.texts or [line.rstrip("\r\n") for line in sys.stdin]
    if not texts:
        raise ValueError("there are no texts: give some as arguments, or as lines on standard input")
    model = SentenceTransformer(options.model)
    return model, texts, model.encode(texts, batch_size=options.batch_size, **how)


def _embed(options: argparse.Namespace) -> None:
    import numpy as np

    _, texts, vectors = _vectors(options, normalize_embeddings=options.normalize)
    if options.output:
        with open(options.output, "wb") as file:
            np.save(file, vectors)
    elif options.json:
        rows = [{"text": text, "embedding": vector.tolist()} for text, vector in zip(texts, vectors)]
        print(json.dumps(rows, ensure_ascii=False))
    else:
        for vector in vectors:
            print(*(f"{number:.8g}" for number in vector))


def _similarity(options: argparse.Namespace) -> None:
    model, texts, vectors = _vectors(options)
    scores = model.similarity(vectors, vectors)
    if options.json:
        print(json.dumps({"texts": texts, "similarity": scores.tolist()}, ensure_ascii=False))
        return
    for row in scores:
        print(*(f"{score:.4f}" for score in row), sep="\t")


def _env(options: argparse.Namespace) -> None:
    from .runtime import show_config

    facts = show_config("dicts" if options.json else "stdout")
    if facts is not None:
        print(json.dumps(facts, indent=2))
