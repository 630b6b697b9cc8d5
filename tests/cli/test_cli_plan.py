"""The plan of a study: every shipped study passes, faults are one line and status 2."""

import json
from pathlib import Path

import pytest

from pipeline.cli.main import main
from tests.conftest import REPOSITORY

STUDIES = sorted(path.stem for path in (REPOSITORY / "configs" / "studies").glob("*.yaml"))


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.delenv("PRESET", raising=False)


def refused(capsys: pytest.CaptureFixture[str], study: str, *options: str) -> str:
    assert main(["estimate", "--study", study, *options]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def changed(folder: Path, old: str, new: str) -> str:
    text = (REPOSITORY / "configs" / "studies" / "polyps.yaml").read_text(encoding="utf-8")
    assert old in text
    path = folder / "changed.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_is_planned(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "--study", study, "--plan"]) == 0
    assert "all parameters are valid" in capsys.readouterr().out


TOO_LARGE = {  # docs/paper_studies.md, docs/hardware.md
    "polyps_adc": {"PRESET=1x24g LAUNCH=gpu1"},
    "bench": {"PRESET=1x24g LAUNCH=gpu1", "PRESET=1x80g LAUNCH=gpu1"},
}


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_every_study_fits_every_preset(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "--study", study, "--json"]) == 0
    fits = json.loads(capsys.readouterr().out)["fits"]
    presets = [fit for fit in fits if fit["machine"].startswith("PRESET=")]
    assert len(presets) == 4
    assert {fit["machine"] for fit in presets if (fit["needed"] or 0) > fit["memory"]} == TOO_LARGE.get(study, set())


def test_plan_of_polyps_counts_images_and_cells(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "--study", "polyps", "--plan"]) == 0
    text = capsys.readouterr().out
    assert "siamese: siamese, masks real, 5800 images" in text  # 4 x 1450
    assert "mask_image: mask_image, masks real with their images, 1450 images" in text
    assert "mask_image_from_mask: mask_image, masks real, 1450 images" in text
    assert "8 entries, 5 different generators" in text
    assert "12 sets x 4 segmenters (sanet, polyp_pvt, ctnet, segformer) x 3 seeds = 144 cells" in text
    assert (
        "confirm: the arm that validation chooses, the reference and the best rival, if there is one: at most 15 cells"
        in text
    )


def test_a_plan_has_a_form_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "--study", "polyps", "--plan", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["pairs"], plan["trainings"], plan["cells"], plan["confirmation"]) == (1450, 5, 144, 15)
    assert plan["generators"][0]["images"] == 5800


def test_small_study_is_counted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine and under one preset; each preset takes seconds."""
    monkeypatch.setattr("pipeline.stages.finetune.presets.names", lambda: ["1x24g"])
    assert main(["estimate", "--study", "smoke"]) == 0
    text = capsys.readouterr().out
    assert "parameters trained" in text and "PRESET=1x24g LAUNCH=gpu1" in text


def test_unknown_study_is_told_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "polypes")
    assert message.startswith("error: there is no study 'polypes'; the available ones are: ")
    assert ", demo, " in message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("size: 384", "size: 380", "data.size: Input should be a multiple of 8, found 380"),
        ("max_steps: 3000", "max_steps: 0", "finetune.max_steps: Input should be greater than 0, found 0"),
        ("precision: bf16", "precision: fp16", "finetune.precision: Input should be 'fp32' or 'bf16', found 'fp16'"),
        ("siamese: {copies: 4}", "siamese: {copies: 4, w_x: 1}", "generators.siamese.w_x is not a parameter"),
        ("  sanet: {}", "  sanett: {}", "there is no 'sanett' among the segmenters"),
    ],
)
def test_faults_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str
) -> None:
    assert message in refused(capsys, changed(tmp_path, old, new), "--plan")
