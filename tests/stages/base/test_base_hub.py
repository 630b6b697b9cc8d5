"""Bases of the hub: from a cache in its official format, from a hub on this machine, and nowhere."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.stages.base import base, base_import, base_source
from pipeline.stages.base.params import Base
from tests.tiny_base import write_tiny_base

COMMIT = "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
UNET = "unet/diffusion_pytorch_model.safetensors"
NON_EMA = "unet/diffusion_pytorch_model.non_ema.safetensors"
Cache = Path


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository's files: EMA weights under the plain name, others beside it."""
    folder = write_tiny_base(tmp_path_factory.mktemp("published"), "epsilon")
    save_file({key: value + 1 for key, value in load_file(folder / UNET).items()}, folder / NON_EMA)
    return folder


@pytest.fixture
def cache(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """A cache as huggingface_hub keeps it: blobs by hash, a snapshot of links by commit, and the branch's commit."""
    repository = tmp_path / "hub" / "models--stable-diffusion-v1-5--stable-diffusion-v1-5"
    for path in sorted(p for p in published.rglob("*") if p.is_file()):
        blob = repository / "blobs" / files.sha256(path)
        link = repository / "snapshots" / COMMIT / path.relative_to(published)
        files.write_bytes(blob, path.read_bytes())
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    files.write_bytes(repository / "refs" / "main", COMMIT.encode())
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return repository / "snapshots" / COMMIT


def test_cached_base_is_taken_offline_with_its_commit(cache: Cache, tmp_path: Path) -> None:
    about = base_import.import_base(Base(source=base_source.SD15), tmp_path / "base")
    assert about["kind"] == "hub" and about["commit"] == COMMIT and about["revision"] is None
    assert about["unet_from"] == UNET and about["files"][UNET] == files.sha256(cache / UNET)
    assert not any(path.is_symlink() for path in (tmp_path / "base").rglob("*"))


def test_non_ema_weights_are_another_file_of_the_repository(cache: Cache, tmp_path: Path) -> None:
    settings = Base(source=base_source.SD15, revision=COMMIT, weights="non_ema")
    about = base_import.import_base(settings, tmp_path / "base")
    assert about["unet_from"] == NON_EMA and about["revision"] == about["commit"] == COMMIT
    got, plain = load_file(tmp_path / "base" / UNET)["conv_in.bias"], load_file(cache / UNET)["conv_in.bias"]
    assert torch.equal(got, plain + 1)


def test_withdrawn_id_is_an_alias_and_says_so(cache: Cache, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = Base(source="runwayml/stable-diffusion-v1-5")
    about = base_import.import_base(settings, tmp_path / "base")
    assert about["commit"] == COMMIT and base.origin(settings) == base_source.SD15
    told = (
        "runwayml/stable-diffusion-v1-5 was withdrawn from the hub; taking stable-diffusion-v1-5/stable-diffusion-v1-5"
    )
    assert told in caplog.text


def test_missing_weights_are_told_in_one_message(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / UNET).unlink()
    (cache / "vae" / "config.json").unlink()

    def never(*_: object) -> None:
        raise AssertionError("weights were read before all files were there")

    monkeypatch.setattr("pipeline.networks.stable_diffusion.weight_file.read", never)
    with pytest.raises(UserError) as caught:
        base_import.import_base(Base(source=base_source.SD15), tmp_path / "base")
    told = str(caught.value)
    assert f"{base_source.SD15} is not here (HF_HUB_OFFLINE is set, so nothing is downloaded)" in told
    assert f"Missing, about 3.4 GB: {UNET} (3.4 GB) and 1 small files" in told
    assert f"`hf download {base_source.SD15} vae/config.json {UNET}`" in told
    assert str(tmp_path / "hub") in told and "source: scratch" in told and "\n" not in told
    assert not (tmp_path / "base").exists()


def test_nothing_in_the_cache_asks_for_all_and_for_the_revision(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"about 4.3 GB: .* and 7 small files.*--revision fp32`"):
        base_import.import_base(Base(source="nobody/nothing", revision="fp32"), tmp_path / "base")


FETCH = """
import json, sys
from pipeline.stages.base import base_source
from pipeline.stages.base.params import Base
from pipeline.core.errors import UserError
try:
    found = base_source.on_hub(Base(source="someone/a-base", weights=sys.argv[1]))
    print(json.dumps([found.commit, {name: str(path) for name, path in found.files.items()}]))
except UserError as error:
    print(json.dumps([None, str(error)]))
"""


@pytest.fixture
def hub(published: Path) -> Iterator[str]:
    """The address of a hub on this machine that serves one repository's files as the real one does."""

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            name = self.path.partition("/resolve/")[2].partition("/")[2]
            path = published / name
            there = self.path.startswith("/someone/a-base/resolve/") and path.is_file()
            self.body = path.read_bytes() if there else b""
            self.send_response(200 if there else 404)
            self.send_header("Content-Length", str(len(self.body)))
            self.send_header("X-Repo-Commit", COMMIT)
            etag = f'"{sha256(self.body).hexdigest()}"'
            self.send_header(*(("ETag", etag) if there else ("X-Error-Code", "EntryNotFound")))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(self.body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def fetch(weights: str, cache: Path, **environment: str) -> tuple[str | None, dict[str, str] | str]:
    """What a process of its own finds, with the hub's library reading this environment."""
    own = {"HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": "0", **environment}
    clean = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    command = [sys.executable, "-c", FETCH, weights]
    told = subprocess.run(command, check=True, capture_output=True, text=True, env={**clean, **own})
    commit, found = json.loads(told.stdout.splitlines()[-1])
    return commit, found


def test_hub_of_the_environment_is_asked_and_then_the_cache(hub: str, published: Path, tmp_path: Path) -> None:
    commit, found = fetch("non_ema", tmp_path, HF_ENDPOINT=hub)
    assert commit == COMMIT and isinstance(found, dict)
    assert NON_EMA in found and UNET not in found  # nothing is downloaded that is not taken
    assert files.sha256(Path(found[NON_EMA])) == files.sha256(published / NON_EMA)
    assert fetch("non_ema", tmp_path, HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="1") == (commit, found)


def test_hub_that_does_not_answer_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def refused(*_: object, local_files_only: bool, **__: object) -> str:
        asked.append(local_files_only)
        raise LocalEntryNotFoundError("not here") from ConnectionError("refused")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refused)
    monkeypatch.setattr("pipeline.networks.pretrained.offline", lambda: False)
    with pytest.raises(UserError, match=r"nobody/nothing is not here \(ConnectionError: refused\)"):
        base_source.on_hub(Base(source="nobody/nothing"))
    assert not asked[0] and len(asked) > 10 and all(asked[1:])


@pytest.mark.slow  # the hub's library tries again for 20 seconds
def test_hub_that_does_not_answer_is_told(tmp_path: Path) -> None:
    commit, told = fetch("ema", tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert commit is None and isinstance(told, str)
    assert told.startswith("base.source: someone/a-base is not here (") and "ConnectError" in told
    assert "about 4.3 GB" in told
