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


def test_the_studies_of_two_bases_differ_in_the_base_alone() -> None:
    two, xl = (load_params(REPOSITORY / "configs" / "studies" / f"polyps_{name}.yaml") for name in ("sd21", "sdxl"))
    assert xl == two.model_copy(update={"study": "polyps_sdxl", "base": xl.base, "report": xl.report})


def test_the_studies_of_other_bases_train_as_the_study_of_the_paper() -> None:
    paper, two = (
        load_params(REPOSITORY / "configs" / "studies" / f"{name}.yaml") for name in ("polyps", "polyps_sd21")
    )
    assert two.finetune == paper.finetune.model_copy(update={"validate_every": None, "sample_every": None})
    assert two.data == paper.data.model_copy(update={"size": 512})
    assert (two.segment, two.generate, two.confirm) == (paper.segment, paper.generate, paper.confirm)


def test_the_private_pairs_are_none_that_the_base_has_seen() -> None:
    """Otherwise epsilon would say nothing of them; and delta has to be below 1 / pairs."""
    demo, private = (
        load_params(REPOSITORY / "configs" / "studies" / f"{name}.yaml") for name in ("demo", "demo_private")
    )
    assert private.base.source == "outputs/demo/base"
    alike = ("size", "num_classes", "prompt", "reader")
    assert [getattr(private.data, key) for key in alike] == [getattr(demo.data, key) for key in alike]
    assert (private.data.options["seed"], demo.data.options.get("seed", 0)) == (1, 0)
    budgets = {name: entry.privacy for name, entry in private.generators.items() if entry.privacy is not None}
    assert budgets.keys() == {name for name in private.generators if name.startswith("private")}
    for name, budget in budgets.items():
        pairs = private.generators[name].limit or private.data.options["train"]
        assert budget.epsilon == 8 and 0.09 < budget.delta * pairs <= 0.1
    assert {entry.mask_params["folder"] for entry in private.generators.values()} == {"outputs/demo/real/masks"}
