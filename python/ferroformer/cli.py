"""The command `ferroformer`: embed texts, compare them, continue and translate them, say what the library runs on.

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
    generate = _command(commands, "generate", "what a decoder writes after each text, as it comes", _generate)
    _add_generation(generate, max_new_tokens=256)
    generate.add_argument("--chat", action="store_true", help="each text is what the user says in a chat")
    translate = _command(commands, "translate", "each text in another language, as it comes", _translate)
    _add_generation(translate, max_new_tokens=None)
    translate.add_argument("--source", metavar="CODE", help="the language of the texts, for models of many languages")
    translate.add_argument("--target", metavar="CODE", help="the language to translate into, likewise")
    env = _command(commands, "env", "version, instruction set, threads, memory", _env)
    env.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _command(commands: Any, name: str, help: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help, description=help.capitalize() + ".")
    parser.set_defaults(run=run)
    return parser


def _add_texts(parser: argparse.ArgumentParser, batches: bool = True) -> None:
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="a text; without any, the lines of standard input")
    parser.add_argument("--model", required=True, metavar="PATH", help="a directory, or a name on the Hugging Face hub")
    if batches:
        parser.add_argument(
            "--batch-size", type=_positive, default=32, metavar="N", help="texts at a time (default: 32)"
        )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_generation(parser: argparse.ArgumentParser, max_new_tokens: int | None) -> None:
    _add_texts(parser, batches=False)
    default = "" if max_new_tokens is None else f" (default: {max_new_tokens})"
    parser.add_argument(
        "--max-new-tokens", type=_positive, default=max_new_tokens, metavar="N", help=f"tokens at most{default}"
    )
    parser.add_argument("--num-beams", type=_positive, metavar="N", help="search with N beams; a text then comes whole")
    parser.add_argument("--sample", action="store_true", help="draw tokens; by the four that follow")
    parser.add_argument("--temperature", type=float, metavar="T")
    parser.add_argument("--top-k", type=int, metavar="K")
    parser.add_argument("--top-p", type=float, metavar="P")
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "int8"), help="how weights are held and multiplied")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _texts(options: argparse.Namespace) -> list[str]:
    texts = options.texts or [line.rstrip("\r\n") for line in sys.stdin]
    if not texts:
        raise ValueError("there are no texts: give some as arguments, or as lines on standard input")
    return texts


def _vectors(options: argparse.Namespace, **how: Any) -> tuple[Any, list[str], Any]:
    from .sentence_transformer import SentenceTransformer

    texts = _texts(options)
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


def _generation_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of `generate` that the command line names."""
    drawing = {name: getattr(options, name) for name in ("temperature", "top_k", "top_p", "seed")}
    drawing = {name: value for name, value in drawing.items() if value is not None}
    if drawing and not options.sample:
        raise ValueError(f"--{next(iter(drawing)).replace('_', '-')} does nothing without --sample")
    settings = {"max_new_tokens": options.max_new_tokens, "num_beams": options.num_beams}
    settings = {name: value for name, value in settings.items() if value is not None}
    return settings | drawing | ({"do_sample": True} if options.sample else {})


def _streamer(options: argparse.Namespace, model: Any, tokenizer: Any) -> Any:
    """What prints words as they come; None where a text comes whole."""
    from .generation import TextStreamer

    whole = options.json or (options.num_beams or model.generation_config.num_beams or 1) > 1
    return None if whole else TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)


def _show(options: argparse.Namespace, text: str, key: str, answer: str) -> None:
    print(json.dumps({"text": text, key: answer}, ensure_ascii=False) if options.json else answer, flush=True)


def _generate(options: argparse.Namespace) -> None:
    from .models import auto
    from .models.auto_tokenizer import AutoTokenizer

    texts = _texts(options)
    # Any: the class is made from the table of architectures
    models: Any = auto
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = models.AutoModelForCausalLM.from_pretrained(options.model, dtype=options.dtype)
    settings, streamer = _generation_settings(options), _streamer(options, model, tokenizer)
    for text in texts:
        if options.chat:
            chat = [{"role": "user", "content": text}]
            inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="np")
        else:
            inputs = tokenizer(text, return_tensors="np")
        ids = inputs["input_ids"]
        found = model.generate(ids, attention_mask=inputs["attention_mask"], streamer=streamer, **settings)
        if streamer is None:
            _show(options, text, "generated_text", tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True))


def _translate(options: argparse.Namespace) -> None:
    from .pipelines import pipeline

    texts = _texts(options)
    translator: Any = pipeline("translation", options.model, dtype=options.dtype)
    settings = _generation_settings(options) | {"src_lang": options.source, "tgt_lang": options.target}
    settings = {name: value for name, value in settings.items() if value is not None}
    streamer = _streamer(options, translator.model, translator.tokenizer)
    if streamer is not None:  # of one sequence, whatever the pipeline would search with
        settings |= {"streamer": streamer, "num_beams": 1}
    for text in texts:
        answer = translator(text, **settings)
        if streamer is None:
            _show(options, text, "translation_text", answer[0]["translation_text"])


def _env(options: argparse.Namespace) -> None:
    from .runtime import show_config

    facts = show_config("dicts" if options.json else "stdout")
    if facts is not None:
        print(json.dumps(facts, indent=2))
