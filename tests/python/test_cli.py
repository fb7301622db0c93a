"""The command line: output, and exit codes that tell the truth."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest

import ferroformer
from ferroformer import SentenceTransformer, cli

from .conftest import DATA
from .toy_generation import ToyModel


@pytest.fixture
def run(minilm, capsys, monkeypatch):
    def run(command, *arguments, stdin="", model=minilm):
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = cli.main([command, *(["--model", str(model)] if model else []), *arguments])
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


def test_embed(run, minilm):
    expected = SentenceTransformer(minilm).encode(["one", "two words"])
    for arguments, stdin in ((("one", "two words"), ""), ((), "one\ntwo words\n")):
        code, out, err = run("embed", *arguments, stdin=stdin)
        assert (code, err) == (0, "")
        assert np.allclose([[float(number) for number in line.split()] for line in out.splitlines()], expected)


def test_embed_json(run, minilm):
    code, out, _ = run("embed", "--json", "--batch-size", "1", "naïve", "b")
    rows = json.loads(out)
    assert code == 0 and [row["text"] for row in rows] == ["naïve", "b"]
    assert np.array_equal(np.float32(rows[0]["embedding"]), SentenceTransformer(minilm).encode("naïve"))


def test_embed_to_a_file(run, tmp_path):
    code, out, _ = run("embed", "--normalize", "--output", str(tmp_path / "x.npy"), "a", "b")
    vectors = np.load(tmp_path / "x.npy")
    assert (code, out, vectors.shape, vectors.dtype) == (0, "", (2, 384), np.float32)


def test_similarity(run):
    code, out, _ = run("similarity", "a cat", "a kitten", "the stock market")
    scores = np.array([[float(number) for number in line.split("\t")] for line in out.splitlines()])
    assert code == 0 and np.allclose(np.diag(scores), 1) and scores[0, 1] > scores[0, 2]
    code, out, _ = run("similarity", "--json", "a", "b")
    assert code == 0 and np.array(json.loads(out)["similarity"]).shape == (2, 2)


def test_env(run):
    code, out, _ = run("env", model=None)
    assert code == 0 and "num_threads_reason: " in out
    code, out, _ = run("env", "--json", model=None)
    assert code == 0 and json.loads(out)["num_threads"] >= 1


class Words:
    """A tokenizer of numbers, as far as the command line needs one."""

    def __call__(self, text, **options):
        ids = np.array([[int(word) for word in text.split()]])
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}

    def decode(self, ids, **options):
        return " ".join(str(int(number)) for number in ids)

    def apply_chat_template(self, chat, **options):
        return self(" ".join(f"7 {turn['content']} 8" for turn in chat))


class Translator:
    def __init__(self, model):
        self.model, self.tokenizer, self.calls = model, Words(), []

    def __call__(self, text, streamer=None, **settings):
        self.calls.append(settings)
        ids = self.model.generate(**self.tokenizer(text), streamer=streamer, max_new_tokens=5)
        return [{"translation_text": self.tokenizer.decode(ids[0, 1:])}]


def test_generate(run, monkeypatch):
    from ferroformer.models import auto, auto_tokenizer

    def loaded(thing):
        return type("Loaded", (), {"from_pretrained": staticmethod(lambda path, **options: thing)})

    model = ToyModel.random(24, 5, eos_token_id=2, pad_token_id=0)
    monkeypatch.setattr(auto, "AutoModelForCausalLM", loaded(model), raising=False)
    monkeypatch.setattr(auto_tokenizer, "AutoTokenizer", loaded(Words()))
    short = ["--max-new-tokens", "6"]
    for options, settings in ((short, {}), ([*short, "--num-beams", "3"], {"num_beams": 3})):
        expected = model.generate([[3, 4]], max_new_tokens=6, **settings)[0, 2:]
        assert run("generate", "3 4", *options) == (0, Words().decode(expected) + "\n", "")
        code, out, _ = run("generate", "--json", *options, stdin="3 4\n5 6\n")
        rows = [json.loads(line) for line in out.splitlines()]
        assert code == 0 and [row["text"] for row in rows] == ["3 4", "5 6"]
        assert rows[0]["generated_text"] == Words().decode(expected)
    drawn = model.generate([[7, 3, 8]], max_new_tokens=256, do_sample=True, seed=4, top_k=3)[0, 3:]
    options = ["--chat", "--sample", "--seed", "4", "--top-k", "3"]
    assert run("generate", "3", *options) == (0, Words().decode(drawn) + "\n", "")
    code, _, err = run("generate", "3", "--top-k", "3")
    assert code == 1 and err == "ferroformer: --top-k does nothing without --sample\n"


def test_translate(run, monkeypatch):
    translator = Translator(ToyModel.random(24, 5, True, eos_token_id=2, pad_token_id=0, decoder_start_token_id=4))
    monkeypatch.setattr("ferroformer.pipelines.pipeline", lambda task, model, **options: translator, raising=False)
    expected = [translator(text)[0]["translation_text"] for text in ("3 4", "5 6")]
    for options in ([], ["--num-beams", "2"]):
        code, out, _ = run("translate", "3 4", "5 6", "--source", "en", "--target", "fr", *options)
        assert code == 0 and out.splitlines() == expected
        assert translator.calls[-1]["src_lang"] == "en" and translator.calls[-1]["tgt_lang"] == "fr"
    code, out, _ = run("translate", "--json", "3 4")
    assert code == 0 and json.loads(out) == {"text": "3 4", "translation_text": expected[0]}


def test_failure_is_one_line(run, tmp_path):
    code, out, err = run("embed", "text", model=tmp_path)
    assert (code, out) == (1, "") and err.startswith("ferroformer: no config.json in") and err.count("\n") == 1
    code, _, err = run("embed")
    assert code == 1 and "no texts" in err


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["embed", "text"], ["embed", "--model", "x", "--batch-size", "0", "text"]]
)
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2 and "usage: ferroformer" in capsys.readouterr().err


def test_interrupted(monkeypatch, capsys):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("ferroformer.runtime.show_config", interrupt)
    assert cli.main(["env"]) == 130


def test_a_real_translator_streams(run, tmp_path):
    """What it says at once is what a search of one beam says; the pipeline's own default is four."""
    tokenizer = ferroformer.AutoTokenizer.from_pretrained(DATA / "tokenizers" / "tiny-marian-separate")
    ids = {"pad_token_id": tokenizer.pad_token_id, "decoder_start_token_id": tokenizer.pad_token_id}
    sizes = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (("layers", 1), ("ffn_dim", 8))}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = ferroformer.MarianConfig(vocab_size=len(tokenizer), d_model=8, **ids, **sizes, **heads, eos_token_id=tokenizer.eos_token_id)
    ferroformer.MarianMTModel(config, seed=1).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    answer = ferroformer.pipeline("translation", str(tmp_path))("Hello world.", max_new_tokens=7, num_beams=1)
    code, out, _ = run("translate", "--max-new-tokens", "7", "Hello world.", model=tmp_path)
    assert code == 0 and out == answer[0]["translation_text"] + "\n"


@pytest.mark.parametrize("command", [[], ["embed"], ["similarity"], ["generate"], ["translate"], ["env"]])
def test_help(command):
    done = subprocess.run([sys.executable, "-m", "ferroformer", *command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("usage: ferroformer")
