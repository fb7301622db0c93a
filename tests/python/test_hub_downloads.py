"""Models in hub repositories: from a small hub on this machine, then from the cache that all programs share."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ferroformer import AutoConfig, AutoModel, BertModel

from .conftest import read_safetensors
from .test_loading import WORDS, edit_config, same
from .test_loading import split as split_safetensors
from .test_torch_files import split as split_torch
from .test_torch_files import to_torch

NAME = "someone/something"


class Hub:
    """Serves directories as revisions of one repository; `asked` are the (method, path) of all requests."""

    def __init__(self):
        self.revisions, self.token, self.asked = {}, None, []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                hub.answer(self, with_body=False)

            def do_GET(self):
                hub.answer(self, with_body=True)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request, with_body):
        self.asked.append((request.command, request.path))
        revision, _, name = request.path.removeprefix(f"/{NAME}/resolve/").partition("/")
        directory = self.revisions.get(revision)
        if not request.path.startswith(f"/{NAME}/resolve/") or self.hidden_from(request):
            status, headers, body = 401, {"X-Error-Code": "RepoNotFound"}, b""
        elif directory is None:
            status, headers, body = 404, {"X-Error-Code": "RevisionNotFound"}, b""
        elif not (directory / name).is_file():
            status, headers, body = 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit(revision)}, b""
        else:
            body = (directory / name).read_bytes()
            status, headers = 200, {"X-Repo-Commit": commit(revision), "ETag": f'"{hash(body)}"'}
        request.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(body))}).items():
            request.send_header(key, value)
        request.end_headers()
        if with_body:
            request.wfile.write(body)

    def hidden_from(self, request):
        return self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}"


def commit(revision):
    return revision.encode().hex().ljust(40, "0")[:40]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub; the cache is empty and the user's token is none."""
    constants = pytest.importorskip("huggingface_hub.constants")
    hub = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    yield hub
    hub.close()


@pytest.mark.parametrize("change", [None, split_safetensors, to_torch, split_torch])
def test_every_kind_of_checkpoint_is_downloaded_once(hub, tiny, change, tmp_path, monkeypatch):
    model = BertModel.from_pretrained(tiny)
    if change is not None:
        change(tiny)
    hub.revisions["main"] = tiny
    assert same(AutoModel.from_pretrained(NAME), model)
    assert {"GET", "HEAD"} == {method for method, _ in hub.asked}
    folder = tmp_path / "cache" / "models--someone--something" / "snapshots" / commit("main")
    assert {path.name for path in folder.iterdir()} == {path.name for path in tiny.iterdir()}
    # all that is there, and all that is not, is known from now on
    hub.asked.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert same(AutoModel.from_pretrained(NAME), model)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert same(AutoModel.from_pretrained(NAME, local_files_only=True), model)
    assert not hub.asked


def test_revision(hub, tiny, tmp_path):
    other = BertModel(AutoConfig.from_pretrained(tiny), seed=7)
    other.save_pretrained(tmp_path / "other")
    hub.revisions |= {"main": tiny, "v2": tmp_path / "other"}
    assert same(AutoModel.from_pretrained(NAME, revision="v2"), other)
    assert same(AutoModel.from_pretrained(NAME), BertModel.from_pretrained(tiny))
    assert same(AutoModel.from_pretrained(NAME, revision="v2", local_files_only=True), other)
    with pytest.raises(FileNotFoundError, match="revision 'v3'"):
        AutoModel.from_pretrained(NAME, revision="v3")


def test_subfolder_and_cache_dir(hub, tiny, tmp_path):
    hub.revisions["main"] = tiny.parent
    model = AutoModel.from_pretrained(NAME, subfolder="tiny", cache_dir=tmp_path / "elsewhere")
    assert same(model, BertModel.from_pretrained(tiny))
    assert (tmp_path / "elsewhere" / "models--someone--something").is_dir() and not (tmp_path / "cache").exists()
    with pytest.raises(FileNotFoundError, match="config.json"):
        AutoModel.from_pretrained(NAME, subfolder="tiny", local_files_only=True)


def test_token(hub, tiny):
    hub.revisions["main"], hub.token = tiny, "hf_secret"
    for token in (None, False, "hf_wrong"):
        with pytest.raises(FileNotFoundError, match="neither a directory nor a model on the hub") as caught:
            AutoModel.from_pretrained(NAME, token=token)
        assert "hf_wrong" not in str(caught.value)
    assert same(AutoModel.from_pretrained(NAME, token="hf_secret"), BertModel.from_pretrained(tiny))


def test_force_download(hub, tiny):
    hub.revisions["main"] = tiny
    AutoModel.from_pretrained(NAME)
    hub.asked.clear()
    AutoModel.from_pretrained(NAME, force_download=True)
    assert {method for method, path in hub.asked if path.endswith("/model.safetensors")} == {"GET", "HEAD"}


def test_loading_info(hub, tiny):
    edit_config(tiny, vocab_size=60)
    hub.revisions["main"] = tiny
    arguments = {"ignore_mismatched_sizes": True, "output_loading_info": True}
    _, info = AutoModel.from_pretrained(NAME, **arguments)
    assert info["mismatched_keys"] == {(WORDS, (50, 12), (60, 12))}
    assert not info["missing_keys"] and not info["unexpected_keys"]


def test_nothing_there(hub, tiny):
    (tiny / "model.safetensors").unlink()
    hub.revisions["main"] = tiny
    with pytest.raises(FileNotFoundError, match="no file named model.safetensors, .* found in 'someone/something'"):
        AutoModel.from_pretrained(NAME)


def test_a_hub_that_does_not_answer(hub, tiny, monkeypatch, tmp_path):
    """The cache serves, with what it knows not to be there; what it does not know is not taken for missing."""
    model = BertModel.from_pretrained(tiny)
    to_torch(tiny)
    hub.revisions["main"] = tiny
    AutoModel.from_pretrained(NAME)
    AutoConfig.from_pretrained(NAME, cache_dir=tmp_path / "half")
    hub.close()
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between attempts
    assert same(AutoModel.from_pretrained(NAME), model)
    with pytest.raises(ConnectionError, match="cannot be reached, and model.safetensors of 'someone/something'"):
        AutoModel.from_pretrained(NAME, cache_dir=tmp_path / "half")
