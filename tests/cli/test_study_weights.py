"""Everything that a study fetches is listed before it starts, and fetched at once."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.cli import study_weights
from pipeline.cli.main import main
from pipeline.cli.study_weights import base_state, study_states
from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.networks import pretrained
from pipeline.stages.base import base_source
from pipeline.study import Params
from tests.conftest import REPOSITORY, TOY_STUDY

HUB = {"source": "stable-diffusion-v1-5/stable-diffusion-v1-5"}


def study(segmenters: dict[str, Any], **changes: Any) -> Params:
    values = {"segmenters": {"unet": {}} | segmenters, "base": HUB, **changes}
    return parse(Params, TOY_STUDY | values)


@pytest.fixture
def nothing_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(base_source, "missing_files", lambda base: "about 4.3 GB, unet/x.safetensors (3.4 GB)")
    monkeypatch.setattr(study_weights, "_is_cached", lambda repository: False)
    monkeypatch.setattr(pretrained, "present", lambda *_: None)


def told(params: Params, fetch: bool = False) -> dict[str, tuple[str, str]]:
    states = study_states(params, fetch)
    return {one.extractor.split()[0]: (one.state, one.published.source if one.published else "") for one in states}


@pytest.mark.usefixtures("nothing_here")
def test_base_encoders_extractors_and_networks_of_hints_are_listed() -> None:
    encoders = {name: {"weights": "hub"} for name in ("sanet", "polyp_pvt", "ctnet")}
    generators = {"siamese": {"copies": 2, "conditioning": "soft_edge_hed"}}
    score = TOY_STUDY.get("score", {}) | {"extractors": ["efficientnet_lite0", "inception"]}
    found = told(
        study({**encoders, "own": {"method": "unet", "weights": "encoder.pth"}}, generators=generators, score=score)
    )
    assert found["base.source"] == ("missing", f"hf:{HUB['source']}")
    assert found["segmenters.ctnet.weights"] == ("missing", "hf:nvidia/mit-b3")
    for name in ("sanet", "polyp_pvt"):
        state, source = found[f"segmenters.{name}.weights"]
        assert state == "missing" and source.startswith("hf:timm/")
    assert found["segmenters.own.weights"] == ("missing", "")
    assert found["soft_edge_hed"][0] == "missing" and found["inception"][0] == "missing"
    assert found["efficientnet_lite0"] == ("packaged", "")
    assert "segmenters.unet.weights" not in found  # packaged


@pytest.mark.usefixtures("nothing_here")
def test_what_is_missing_is_fetched_as_the_stages_would(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(base_source, "on_hub", lambda base: asked.append(base.source))
    module = SimpleNamespace(hub_repository=lambda options: "owner/encoder", build=lambda *_: asked.append("encoder"))
    load = plugins.load
    monkeypatch.setattr(plugins, "load", lambda kind, name: module if kind == "segmenters" else load(kind, name))
    params = study({"sanet": {"weights": "hub"}})
    found = told(params, fetch=True)
    assert found["base.source"][0] == found["segmenters.sanet.weights"][0] == "fetched"
    assert asked == [HUB["source"], "encoder"]

    def fail(*_: Any) -> None:
        raise UserError("there is no network")

    monkeypatch.setattr(base_source, "on_hub", fail)
    module.build = fail
    again = list(study_states(params, fetch=True))
    assert [(one.state, one.about) for one in again[:2]] == [("missing", "there is no network")] * 2


def test_a_base_of_files_is_here_or_not(tmp_path: Path) -> None:
    base = study({}).base
    (tmp_path / "sd.safetensors").write_bytes(b"")
    here = base.model_copy(update={"source": str(tmp_path / "sd.safetensors")})
    assert base_state(here, fetch=False).state == "present"
    gone = base_state(base.model_copy(update={"source": str(tmp_path / "other.ckpt")}), fetch=True)
    assert gone.state == "missing" and "download v1-5-pruned" in gone.about


def test_a_study_that_trains_its_own_base_needs_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert main(["weights", "--study", "smoke", "--list", "--json"]) == 0
    assert {row["state"] for row in json.loads(capsys.readouterr().out)} == {"packaged"}


def test_sizes_are_those_of_the_guide() -> None:
    lines = (REPOSITORY / "docs" / "weights.md").read_text(encoding="utf-8").splitlines()
    for name in plugins.names("features"):
        published = plugins.load("features", name).WEIGHTS
        if published is not None:
            (line,) = [line for line in lines if f"`{name}`" in line and published.file in line]
            assert f" {published.size / 1e9:.1f} GB " in line
