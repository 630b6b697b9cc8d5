"""Studies without generators: what may be left out, what is recorded instead, what is told before."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.forecast import Machine, forecast
from pipeline.cli.main import main
from pipeline.core import files, paths, skipped
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.stages.command import run
from pipeline.stages.records.records import write_records
from pipeline.stages.report.identity import as_yaml
from pipeline.stages.report.stage_outputs import unfinished_stages
from pipeline.study import Params, load_params
from tests.conftest import REPOSITORY, TOY_STUDY

STUDY = REPOSITORY / "configs" / "studies" / "smoke_segmenters.yaml"


@pytest.fixture
def params() -> Params:
    return load_params(STUDY)


def test_sections_of_generators_may_be_left_out_or_null() -> None:
    short = {key: value for key, value in TOY_STUDY.items() if key not in ("base", "finetune", "generate", "judge")}
    short |= {"training_sets": {"real": {}}, "generators": None, "score": None, "audit": None}
    study = parse(Params, short)
    assert (study.base, study.finetune, study.generate, study.judge, study.generators) == (None, None, None, None, {})
    assert parse(Params, short | {"base": None, "judge": None}) == study


@pytest.mark.parametrize("section", ["base", "finetune", "generate", "judge"])
def test_generators_need_their_sections(section: str) -> None:
    with pytest.raises(UserError, match=f"{section} is missing; a study with generators needs the section {section}"):
        parse(Params, {key: value for key, value in TOY_STUDY.items() if key != section})


def test_a_training_set_of_no_generator_is_told() -> None:
    with pytest.raises(
        UserError, match=r"siamese_x1\.generator is 'siamese'; the available ones are: none, the study has no gen"
    ):
        parse(Params, TOY_STUDY | {"generators": {}})


def test_the_report_tells_parameters_that_give_the_same_study(params: Params, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(as_yaml(params))
    assert load_params(path) == params


def test_folders_of_generators_exist_and_the_judge_has_a_record(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_records(params)
    folder = paths.records(params.study)
    assert files.read_json(folder / "judge.json") == {}
    assert not (folder / "score.json").exists() and not (folder / "audit.json").exists()
    for name in ("generators", "synthetic", "scores", "snapshots", "audit"):
        assert files.read_json(paths.outputs(params.study) / name / "entries.json") == []


def test_the_judge_of_a_study_is_recorded_with_its_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    changed = {"segmenters": {"unet": TOY_STUDY["segmenters"]["unet"] | {"segment": {"batch_size": 2}}}}
    found = []
    for values in (TOY_STUDY, TOY_STUDY | changed):
        write_records(parse(Params, values))
        found.append(files.read_json(paths.records("toy") / "judge.json"))
    assert found[0]["entry"]["weights"] == "none" and "segmenters/unet" in found[0]
    assert found[1]["entry"] == found[0]["entry"] | {"segment": {"batch_size": 2}}
    assert files.read_json(paths.entries("toy")[0]) == ["siamese"]


def test_absent_things_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    skipped.record("judge", paths.judge("toy"))
    told = files.read_json(paths.judge("toy") / "metrics.json")
    assert told == {"judge": "none: the study has no generators"}


def test_a_stage_of_generators_ends_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes(STUDY.read_bytes())

    def stage(params: Params, generator: str) -> None:
        raise AssertionError(params, generator)

    with pytest.raises(SystemExit) as stopped:
        run(stage, None, "generator", argv=[])
    assert stopped.value.code == 2
    assert "the study smoke_segmenters has no generators, so there is nothing to do" in capsys.readouterr().err


def test_every_stage_is_still_asked_for(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stages = ["records", "prepare", "pseudo_labels", "base", "judge", "mix@real", "segment@unet", "segment@plain"]
    assert unfinished_stages(params) == [*stages, "confirm", "compare", "report"]


def test_the_forecast_counts_segmenters_alone(params: Params) -> None:
    found = forecast(params, [Machine("here", 1, 8e9, 0.1)])
    assert [(part.stage, part.entry, part.steps) for part in found.work] == [
        *(("segment", "unet", 30), ("segment", "plain", 30)),  # 15 steps x 2 seeds
    ]
    assert all((part.operations or 0) > 0 for part in found.work)
    assert found.disk.base == found.disk.generators == found.disk.checkpoints == 0
    assert found.fits[0].fits and found.fits[0].needed is None


def test_the_plan_says_that_there_is_nothing_to_generate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert main(["estimate", "--study", "smoke_segmenters", "--plan"]) == 0
    told: list[Any] = capsys.readouterr().out.splitlines()
    assert "base, finetune, generate, judge, score, audit: nothing to do; the study has no generators" in told
    assert told[-1] == "compare: every segmenter with unet in dice, hd95, on the training set real"
