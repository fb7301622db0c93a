"""Finding files: a directory never asks the hub, and what is missing is said."""

import os
import sys

import pytest

from ferroformer import AutoModel
from ferroformer.errors import CorruptModelError
from ferroformer.hub import plain_name, resolve_file


def test_local_file(tmp_path, no_network):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.json").write_text("{}")
    assert resolve_file(tmp_path, "a.json", required=True, subfolder="sub") == tmp_path / "sub" / "a.json"
    assert resolve_file(tmp_path, "a.json", required=False) is None
    assert resolve_file(tmp_path, "a.json", required=False, subfolder="nowhere") is None


def test_local_directories_need_no_hub_package(tmp_path, monkeypatch, no_network, tiny):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    AutoModel.from_pretrained(tiny)
    with pytest.raises(ImportError, match=r'pip install "ferroformer\[hub\]"'):
        resolve_file("someone/something", "config.json", required=True)


def test_missing_file_lists_what_is_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no config.json in .*it is empty"):
        resolve_file(tmp_path, "config.json", required=True)
    (tmp_path / "vocab.txt").touch()
    with pytest.raises(FileNotFoundError, match="it holds vocab.txt"):
        resolve_file(tmp_path, "config.json", required=True)
    with pytest.raises(FileNotFoundError, match="no such directory"):
        resolve_file(tmp_path, "config.json", required=True, subfolder="nowhere")


@pytest.mark.parametrize("name", ["/no/such/directory", "./nowhere", "a/b/c", "", "with\0nul"])
def test_no_directory_and_no_hub_name(name, no_network):
    with pytest.raises(FileNotFoundError, match="no directory"):
        resolve_file(name, "config.json", required=True)


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(NotADirectoryError, match="is a file"):
        resolve_file(tmp_path / "model.safetensors", "config.json", required=True)


def test_not_a_regular_file(tmp_path):
    (tmp_path / "config.json").mkdir()
    with pytest.raises(CorruptModelError, match="not a regular file"):
        resolve_file(tmp_path, "config.json", required=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_permission_error_stays_one(tmp_path):
    (tmp_path / "locked").mkdir(mode=0)
    with pytest.raises(PermissionError):
        resolve_file(tmp_path / "locked", "config.json", required=False)


@pytest.mark.parametrize("how", ["local_files_only", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_means_no_network(tmp_path, monkeypatch, no_network, how):
    pytest.importorskip("huggingface_hub")
    if how != "local_files_only":
        monkeypatch.setenv(how, "1")
    where = {"cache_dir": tmp_path, "local_files_only": how == "local_files_only"}
    with pytest.raises(FileNotFoundError, match="no config.json in the hub's 'someone/something'"):
        resolve_file("someone/something", "config.json", required=True, **where)
    assert resolve_file("someone/something", "config.json", required=False, **where) is None


def test_cached_file_is_found_offline(tmp_path, no_network):
    pytest.importorskip("huggingface_hub")
    commit = "0" * 40
    repository = tmp_path / "models--someone--something"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "snapshots" / commit / "config.json").write_text("{}")
    found = resolve_file("someone/something", "config.json", required=True, cache_dir=tmp_path, local_files_only=True)
    assert found.read_text() == "{}"


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "C:\\x", "//host/x", "a\0b", "", ".", "..", "a/b", 3, None])
def test_names_in_files_stay_in_their_directory(name):
    with pytest.raises(CorruptModelError, match="plain file name"):
        plain_name(name, "index.json")


def test_plain_name():
    assert plain_name("model-00001-of-00002.safetensors", "index.json") == "model-00001-of-00002.safetensors"
