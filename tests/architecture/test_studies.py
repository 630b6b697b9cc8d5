"""Every shipped study is valid, and the shipped params.yaml is the study demo."""

from pathlib import Path

import pytest

from pipeline.stages.prepare.validation import check_plugins
from pipeline.study import load_params
from tests.conftest import REPOSITORY

STUDIES = sorted((REPOSITORY / "configs" / "studies").glob("*.yaml"))


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.stem)
def test_study_is_valid(study: Path) -> None:
    check_plugins(load_params(study))


def test_params_yaml_is_the_study_demo() -> None:
    shipped = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")
    assert shipped == (REPOSITORY / "configs" / "studies" / "demo.yaml").read_text(encoding="utf-8")


def test_every_study_has_the_name_of_its_file() -> None:
    """So that outputs, reports and their titles carry the name by which `twinsynth study use` takes it."""
    assert [load_params(study).study for study in STUDIES] == [study.stem for study in STUDIES]


def test_three_classes_differ_from_smoke_in_nothing_else() -> None:
    smoke, three = (load_params(REPOSITORY / "configs" / "studies" / f"{name}.yaml") for name in ("smoke", "smoke3"))
    data = smoke.data.model_copy(update={"num_classes": 3})
    assert three == smoke.model_copy(update={"study": "smoke3", "data": data})
