"""Where weights are looked for, in which order, and what is said when they are wrong or missing."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli.main import main
from pipeline.core.errors import UserError
from pipeline.networks import pretrained
from pipeline.networks.pretrained import Unavailable, Weights
from pipeline.stages.score.params import WeightFile
from pipeline.study import Params
from tests.conftest import REPOSITORY

CONTENT = b"some weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = "0" * 64
COMMIT = "c" * 40


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, empty caches."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads are allowed; the tests' sources are files of this machine."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def by_url(folder: Path, sha256: str | None = SHA256) -> Weights:
    """Published as a URL, which leads to a file of this machine."""
    return Weights("net.pt", (folder / "published.pt").as_uri(), sha256, "MIT")


def on_hub(sha256: str | None = None) -> Weights:
    return Weights("model.safetensors", "hf:owner/net.v1", sha256, "MIT")


def put(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def in_cache_of_the_hub(folder: Path) -> Path:
    put(folder / "hub/models--owner--net.v1/refs/main", COMMIT.encode())
    return put(folder / f"hub/models--owner--net.v1/snapshots/{COMMIT}/model.safetensors")


def test_a_configured_file_comes_first(here: Path) -> None:
    put(here / "weights/net.pt")
    mine = put(here / "mine.pt")
    assert pretrained.find("net", by_url(here), {"net": WeightFile(file=str(mine))}) == mine


def test_another_extractors_entry_does_not_count(here: Path) -> None:
    put(here / "mine.pt")
    with pytest.raises(Unavailable):
        pretrained.find("net", by_url(here), {"other": WeightFile(file="mine.pt")})


def test_a_configured_file_that_is_not_there_is_told_by_its_key(here: Path) -> None:
    with pytest.raises(UserError, match=r"score\.weights\.net\.file: there is no file mine\.pt") as caught:
        pretrained.find("net", by_url(here), {"net": WeightFile(file="mine.pt")})
    assert not isinstance(caught.value, Unavailable)  # a mistake, not a missing download


@pytest.mark.parametrize("configured, published", [(OTHER, SHA256), (None, OTHER), (None, "00000000")])
def test_a_wrong_hash_is_told_with_both_hashes(configured: str | None, published: str, here: Path) -> None:
    put(here / "mine.pt")
    with pytest.raises(UserError, match=rf"mine\.pt.*{SHA256}*but 0000") as caught:
        pretrained.find("net", by_url(here, published), {"net": WeightFile(file="mine.pt", sha256=configured)})
    assert not isinstance(caught.value, Unavailable)


def test_a_configured_hash_is_trusted_instead_of_the_published_one(here: Path) -> None:
    mine = put(here / "mine.pt")
    entry = WeightFile(file=str(mine), sha256=SHA256)
    assert pretrained.find("net", by_url(here, OTHER), {"net": entry}) == mine


@pytest.mark.parametrize("published", [SHA256, SHA256[:8], None])
def test_the_folder_weights_comes_second(published: str | None, here: Path) -> None:
    put(here / "torch/hub/checkpoints/net.pt", b"not looked at")
    put(here / "weights/net.pt")
    assert pretrained.find("net", by_url(here, published), {}) == Path("weights/net.pt")


def test_a_wrong_file_in_the_folder_weights_is_not_passed_over(here: Path) -> None:
    put(here / "torch/hub/checkpoints/net.pt")
    put(here / "weights/net.pt", b"something else")
    with pytest.raises(UserError, match=r"weights/net\.pt"):
        pretrained.find("net", by_url(here), {})


def test_a_file_of_the_hub_lies_below_its_repositorys_name(here: Path) -> None:
    put(here / "weights/net.v1/model.safetensors")
    assert pretrained.find("net", on_hub(), {}) == Path("weights/net.v1/model.safetensors")


def test_the_libraries_caches_come_third_also_offline(here: Path) -> None:
    cached = put(here / "torch/hub/checkpoints/net.pt")
    assert pretrained.find("net", by_url(here), {}) == cached
    cached = in_cache_of_the_hub(here)
    assert pretrained.find("net", on_hub(), {}) == cached


def test_offline_nothing_is_downloaded_and_the_message_says_what_to_put_where(here: Path) -> None:
    put(here / "published.pt")
    with pytest.raises(Unavailable) as caught:
        pretrained.find("net", by_url(here), {})
    assert str(caught.value) == (
        f"net needs net.pt from {(here / 'published.pt').as_uri()}: it is not here, and HF_HUB_OFFLINE is set, so"
        " nothing is downloaded; put it at weights/net.pt, or name it in params.yaml as score.weights.net.file"
    )
    with pytest.raises(Unavailable, match=r"hf:owner/net\.v1.*HF_HUB_OFFLINE.*weights/net\.v1/model\.safetensors"):
        pretrained.find("net", on_hub(), {})


@pytest.mark.usefixtures("online")
def test_a_url_is_downloaded_into_torchs_cache(here: Path) -> None:
    put(here / "published.pt")
    found = pretrained.find("net", by_url(here), {})
    assert found == here / "torch/hub/checkpoints/net.pt"
    assert found.read_bytes() == CONTENT


@pytest.mark.usefixtures("online")
def test_a_download_of_something_else_leaves_nothing_behind(here: Path) -> None:
    put(here / "published.pt", b"<html>Please log in</html>")
    with pytest.raises(Unavailable, match=f"sha256*but {SHA256}"):
        pretrained.find("net", by_url(here), {})
    assert list((here / "torch/hub/checkpoints").iterdir()) == []


@pytest.mark.usefixtures("online")
def test_a_source_that_does_not_answer_is_unavailable(here: Path) -> None:
    with pytest.raises(Unavailable, match=r"the download failed \(.*No such file.*put it at weights/net\.pt"):
        pretrained.find("net", by_url(here), {})


@pytest.mark.usefixtures("online")
def test_a_file_of_the_hub_is_had_through_its_library(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repository: str, file: str, local_dir: Path | None) -> str:
        asked.append((repository, file))
        return str(put((local_dir or here) / file))

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert pretrained.find("net", on_hub(), {}) == here / "model.safetensors"
    assert pretrained.fetch("net", on_hub(SHA256)) == Path("weights/net.v1/model.safetensors")
    assert asked == [("owner/net.v1", "model.safetensors")] * 2


@pytest.mark.usefixtures("online")
def test_a_hub_without_network_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError

    def refused(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("not found") from ConnectionRefusedError("nobody answers")

    def cut(*_: object, **__: object) -> str:
        raise HTTPError("too slow")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refused)
    with pytest.raises(Unavailable, match=r"ConnectionRefusedError: nobody answers"):
        pretrained.find("net", on_hub(), {})
    monkeypatch.setattr("huggingface_hub.hf_hub_download", cut)
    with pytest.raises(Unavailable, match=r"HTTPError: too slow"):
        pretrained.find("net", on_hub(), {})


@pytest.mark.usefixtures("online")
def test_fetch_puts_a_file_into_the_folder_weights(here: Path) -> None:
    put(here / "published.pt")
    assert pretrained.fetch("net", by_url(here)) == Path("weights/net.pt")
    assert pretrained.find("net", by_url(here), {}) == Path("weights/net.pt")


def test_the_command_lists_every_extractor(toy_params: Params, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pipeline.core import plugins

    put(here / "weights/vit_small_patch14_dinov2.lvd142m/model.safetensors")
    Path("params.yaml").write_text(toy_params.model_dump_json(exclude_none=True))
    assert main(["weights"]) == 0
    told = capsys.readouterr().out
    assert all(f"{name}: " in told for name in plugins.names("features"))
    assert "present  weights/vit_small_patch14_dinov2.lvd142m/model.safetensors" in told
    assert "missing  lpips_alex needs alexnet-owt-7be5be79.pth" in told
    assert "efficientnet_lite0: comes with its package" in told


def test_the_command_names_wrong_files_and_goes_on(
    toy_params: Params, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(here / "weights/alexnet-owt-7be5be79.pth")
    Path("params.yaml").write_text(toy_params.model_dump_json(exclude_none=True))
    assert main(["weights"]) == 2
    told, error = capsys.readouterr()
    assert error == "error: these weights cannot be used as they are: lpips_alex\n"
    assert f"wrong    weights/alexnet-owt-7be5be79.pth: the file's sha256 is {SHA256}" in told
    assert "lpips_vgg: " in told


def test_finding_weights_is_light() -> None:
    program = "import json, sys; from pipeline.networks import pretrained; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert {"torch", "huggingface_hub"}.isdisjoint(json.loads(out.stdout))
