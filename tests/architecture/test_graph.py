"""dvc.yaml says the same as the code: outputs, code dependencies, parameters, stages."""

import os
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import launch
from pipeline.core import files, paths
from pipeline.core.section import read_yaml
from pipeline.study import Params, load_params
from tests.conftest import REPOSITORY

STAGES: dict[str, dict[str, Any]] = read_yaml(REPOSITORY / "dvc.yaml")["stages"]
STUDIES = sorted((REPOSITORY / "configs" / "studies").glob("*.yaml"))
G, T, S = "${item.g}", "${item.t}", "${item.s}"
STUDY = "${study}"
OUTPUTS = {
    "records": {paths.records(STUDY), *paths.entries(STUDY)},
    "prepare": {
        *(paths.real(STUDY), paths.unlabelled(STUDY)),
        *(paths.outputs(STUDY) / "real_report.json", paths.attributes(STUDY)),
    },
    "pseudo_labels": {paths.pseudo_labels(STUDY)},
    "base": {paths.base(STUDY)},
    "finetune": {paths.generator(STUDY, G), paths.finetune_seconds(STUDY, G)},
    "generate": {paths.synthetic(STUDY, G), paths.generate_seconds(STUDY, G)},
    "judge": {paths.judge(STUDY)},
    "score": {
        paths.scores(STUDY, G) / name
        for name in ("scores.json", "images.csv", "map.csv", "metrics.json", "judge_maps", files.SEAL)
    },
    "snapshots": {paths.snapshots(STUDY, G)},
    "audit": {
        paths.audit(STUDY, G) / name
        for name in (
            *("audit.json", "images.csv", "suspects.csv", "membership.json", "membership.csv"),
            *("closest.png", "metrics.json", files.SEAL),
        )
    },
    "mix": {paths.training_set(STUDY, T)},
    "segment": {paths.segmentation(STUDY, S)},
    "confirm": {paths.confirmation(STUDY)},
    "compare": {paths.comparison(STUDY)},
    "report": {
        paths.report(STUDY) / name
        for name in (
            "index.html",
            "figures",
            "numbers.json",
            "bench.csv",
            "frontier.csv",
            "metrics.json",
            "multiplier_curve.csv",
            "losses",
        )
    },
}
DATA = {
    "pseudo_labels": {paths.real(STUDY), paths.unlabelled(STUDY)},
    "base": {paths.real(STUDY), paths.unlabelled(STUDY)},
    "finetune": {paths.real(STUDY), paths.pseudo_labels(STUDY), paths.base(STUDY)},
    "generate": {*(paths.real(STUDY), paths.pseudo_labels(STUDY)), *(paths.base(STUDY), paths.generator(STUDY, G))},
    "judge": {paths.real(STUDY)},
    "score": {paths.real(STUDY), paths.synthetic(STUDY, G), paths.judge(STUDY)},
    "snapshots": {
        *(paths.real(STUDY), paths.base(STUDY), paths.judge(STUDY)),
        *(paths.generator(STUDY, G), paths.synthetic(STUDY, G)),
    },
    "audit": {
        *(paths.real(STUDY), paths.unlabelled(STUDY), paths.base(STUDY)),
        *(paths.generator(STUDY, G), paths.synthetic(STUDY, G)),
    },
    "mix": {
        *(paths.real(STUDY), paths.pseudo_labels(STUDY), paths.synthetic(STUDY, "x").parent),
        *(paths.scores(STUDY, "x").parent, paths.audit(STUDY, "x").parent),
    },
    "segment": {paths.real(STUDY), paths.unlabelled(STUDY), paths.training_set(STUDY, "x").parent},
    "confirm": {
        *(paths.real(STUDY), paths.unlabelled(STUDY)),
        *(paths.training_set(STUDY, "x").parent, paths.segmentation(STUDY, "x").parent),
    },
    "compare": {
        *(paths.real(STUDY), paths.attributes(STUDY)),
        *(paths.segmentation(STUDY, "x").parent, paths.confirmation(STUDY)),
    },
}


def names(items: list[Any]) -> set[Path]:
    """Paths of a list in which an item may carry settings."""
    return {Path(next(iter(item)) if isinstance(item, dict) else item) for item in items}


def expected_stages(params: Params) -> set[str]:
    single = {"records", "prepare", "pseudo_labels", "base", "judge", "confirm", "compare", "report"}
    by_generator = ("finetune", "generate", "score", "snapshots", "audit")
    single |= {f"{stage}@{name}" for stage in by_generator for name in params.generators}
    single |= {f"mix@{name}" for name in params.training_sets}
    return single | {f"segment@{name}" for name in params.segmenters}


@pytest.mark.parametrize("stage", OUTPUTS)
def test_outputs_are_where_the_code_puts_them(stage: str) -> None:
    written = chain.from_iterable(STAGES[stage].get(key, []) for key in ("outs", "metrics", "plots"))
    assert names(list(written)) == OUTPUTS[stage]


@pytest.mark.parametrize("stage", DATA)
def test_stages_depend_on_what_they_read(stage: str) -> None:
    inputs = {
        path for path in names(STAGES[stage]["deps"]) if path.parts[0] == "outputs" and "records" not in path.parts
    }
    assert inputs == DATA[stage]


def test_every_stage_says_what_it_does_and_has_a_script() -> None:
    assert list(STAGES) == list(OUTPUTS)
    for name, stage in STAGES.items():
        assert stage["desc"]
        assert f"stages/{name}.py" in stage["cmd"]
        assert {f"stages/{name}.py", "stages"} & set(stage["deps"])
        assert (REPOSITORY / "stages" / f"{name}.py").is_file()


RECORDS = "outputs/${study}/records"
ENTRIES = {
    "prepare": {"reader"},
    "finetune": {f"generators/{G}"},
    "generate": {f"generators/{G}", f"masks/{G}"},
    "judge": {"judge"},
    "pseudo_labels": {"pseudo_labels"},
    "score": {"score", "judge"},
    "snapshots": {"score", "judge", f"generators/{G}"},
    "audit": {"audit", f"generators/{G}"},
    "segment": {f"segmenters/{S}"},
    "confirm": {"confirm"},
}


@pytest.mark.parametrize("stage", [name for name in OUTPUTS if name != "records"])
def test_a_stage_depends_on_its_record_and_on_those_of_its_entry(stage: str) -> None:
    """The record of a stage holds all code that it imports, the record of an entry the code of its plug-in."""
    expected = {f"{RECORDS}/{name}.json" for name in {f"stages/{stage}", *ENTRIES.get(stage, ())}}
    assert {path for path in STAGES[stage]["deps"] if path.startswith(RECORDS)} == expected


def test_no_stage_but_the_first_lists_source_files() -> None:
    listed = {name: [dep for dep in stage["deps"] if dep.startswith("pipeline")] for name, stage in STAGES.items()}
    assert {name: deps for name, deps in listed.items() if deps} == {"records": ["pipeline"]}
    assert "stages" in STAGES["records"]["deps"]


def test_the_graph_can_be_read_in_one_go() -> None:
    assert len((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8").splitlines()) <= 256


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.stem)
def test_every_study_names_the_sections_that_dvc_watches(study: Path) -> None:
    """DVC refuses a parameter that params.yaml does not hold, even where the code has a default."""
    values = read_yaml(study)
    run = [stage for stage in STAGES.values() if "generators" not in str(stage.get("matrix")) or values["generators"]]
    watched = {key for stage in run for key in stage["params"] if isinstance(key, str) and "$" not in key}
    assert {key for key in watched if key.split(".")[0] not in values} == set()


def test_dvc_lists_one_stage_per_entry() -> None:
    """Pins that a matrix over a mapping iterates its keys."""
    dvc = [sys.executable, "-m", "dvc", "stage", "list", "--name-only"]
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    listed = subprocess.run(dvc, cwd=REPOSITORY, check=True, capture_output=True, text=True, env=environment)
    assert set(listed.stdout.split()) == expected_stages(load_params(REPOSITORY / "params.yaml"))


def test_the_stages_that_share_their_work_are_launched_on_what_is_there() -> None:
    start = "python -m pipeline.cli.launch stages/"
    launched = {name for name, stage in STAGES.items() if stage["cmd"].startswith(start)}
    assert launched == {"finetune", "generate", "score", "snapshots", "segment", "confirm"}
    assert set(launch.ON_CPU) < launched and set(launch.OF_BASE) < launched
