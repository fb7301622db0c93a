"""The command line: output, and exit codes that tell the truth."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest

from ferroformer import SentenceTransformer, cli


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


@pytest.mark.parametrize("command", [[], ["embed"], ["similarity"], ["env"]])
def test_help(command):
    done = subprocess.run([sys.executable, "-m", "ferroformer", *command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("usage: ferroformer")
