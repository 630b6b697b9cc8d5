"""A study without generators from the first stage to the report: in one process, and in a fresh clone under DVC."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.core import paths, tables
from pipeline.core.runtime import Runtime
from pipeline.stages.segment.grid import run_grid
from pipeline.study import Params, load_params
from tests.conftest import REPOSITORY
from tests.e2e.test_smoke import DVC, call, clone

STUDY = REPOSITORY / "configs" / "studies" / "smoke_segmenters.yaml"


def recipe(name: str) -> Callable[..., None]:
    """What a stage runs."""
    found: dict[str, Any] = runpy.run_path(str(REPOSITORY / "stages" / f"{name}.py"), run_name="stage")
    return next(found[key] for key in ("stage", name) if callable(found.get(key)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All stages but segment as DVC runs them; segment without its launcher."""
    folder = tmp_path_factory.mktemp("segmenters")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        params: Params = load_params(STUDY)
        for stage in ("records", "prepare", "base", "judge"):
            recipe(stage)(params)
        recipe("mix")(params, "real")
        for segmenter in params.segmenters:
            run_grid(params, segmenter, Runtime.alone(1))
        for stage in ("confirm", "compare", "report"):
            recipe(stage)(params)
    return folder


def check(folder: Path) -> None:
    """What the study leaves, however it was run."""
    metrics = json.loads((folder / "reports" / "smoke_segmenters" / "numbers.json").read_text())
    assert set(metrics) == {"arms", "segmenters", "title", "verdict"}
    assert set(metrics["segmenters"]) == {"dice", "hd95"}
    assert metrics["verdict"].startswith("Dice against unet, all trained on real (n = 8 images, 2 seeds)")
    page = (folder / "reports" / "smoke_segmenters" / "index.html").read_text(encoding="utf-8")
    assert "<h2>Segmenters against each other</h2>" in page and "HD95 (lower is better)" in page
    assert "Multiplier curve" not in page and "Scores of the synthetic images" not in page
    assert (folder / "reports" / "smoke_segmenters" / "figures" / "differences_segmenters_Dice.svg").is_file()


def test_the_study_runs_to_its_report(finished: Path) -> None:
    check(finished)


def test_what_is_not_made_says_so(finished: Path) -> None:
    for name in ("base", "judge"):
        told = json.loads((finished / "outputs" / "smoke_segmenters" / name / "metrics.json").read_text())
        assert told == {name: "none: the study has no generators"}


def test_the_table_holds_the_difference_of_the_scores(finished: Path) -> None:
    folder = finished / paths.outputs("smoke_segmenters")
    means = {}
    for name in ("unet", "plain"):
        rows = tables.read_table(folder / "segmentation" / name / "scores.csv")
        means[name] = [float(row["dice"]) for row in rows if row["split"] == "test"]
    expected = sum(means["plain"]) / 16 - sum(means["unet"]) / 16
    rows = tables.read_table(folder / "comparison" / "segmenters.csv")
    row = next(row for row in rows if (row["metric"], row["segmenter"]) == ("dice", "plain"))
    assert float(row["difference"]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_dvc_runs_the_study_once(tmp_path: Path) -> None:
    folder = clone(tmp_path, "smoke_segmenters")
    call(folder, [*DVC, "repro"])
    check(folder)
    assert "Running stage" not in call(folder, [*DVC, "repro"])
