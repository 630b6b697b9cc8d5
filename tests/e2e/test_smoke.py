"""The whole loop in a fresh clone: dvc repro runs the smoke study; again, or under another launch, it does nothing."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

DVC = [sys.executable, "-m", "dvc"]


def clone(target: Path, study: str, source: Path = REPOSITORY) -> Path:
    """The source tree's files that git knows or would know, as a repository of its own, with one study in place."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=source, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name)
    shutil.copyfile(source / "configs" / "studies" / f"{study}.yaml", target / "params.yaml")
    call(target, ["git", "init", "-q"])
    return target


def call(folder: Path, command: list[str], **variables: str) -> str:
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": binaries, "PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1", **variables}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = clone(tmp_path_factory.mktemp("smoke"), "smoke")
    call(folder, [*DVC, "repro"])
    return folder


def test_metrics_hold_every_arm_score_and_the_verdict(finished: Path) -> None:
    metrics = json.loads((finished / "reports" / "smoke" / "numbers.json").read_text())
    arms = metrics["arms"]["unet"]
    assert set(arms) == {"real", "real_again", "siamese_x1", "siamese_x2", "siamese_x2_screened", "controlnet_x1"}
    for arm in arms.values():
        for name in ("dice", "iou"):
            assert 0 <= arm[name]["low"] <= arm[name]["mean"] <= arm[name]["high"] <= 1
    assert set(metrics["faithfulness"]) == {"siamese", "controlnet", "shuffled"}
    assert 0 <= metrics["judge"]["dice"] <= 1
    assert "inconclusive" in metrics["verdict"].lower()  # two seeds and eight images can show nothing


def test_dvc_shows_one_row_that_fits_a_terminal(finished: Path) -> None:
    shown = [line for line in call(finished, [*DVC, "metrics", "show"]).splitlines() if line.strip()]
    assert len(shown) == 2 and shown[1].startswith("reports/smoke/metrics.json")
    assert {"verdict", "real", "siamese_x1", "siamese_x2", "faithfulness"} <= set(shown[0].split())
    assert "smoke" in (finished / "reports" / "index.html").read_text(encoding="utf-8")


def test_report_is_one_file_that_asks_for_nothing(finished: Path) -> None:
    page = (finished / "reports" / "smoke" / "index.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in page
    assert 'src="http' not in page and 'href="http' not in page and "@import" not in page


def test_snapshots_are_scored_beside_the_finished_generator(finished: Path) -> None:
    with (finished / "outputs" / "smoke" / "snapshots" / "siamese" / "steps.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows if row["score"] == "faithfulness"] == ["2", "4"]
    assert {row["n"] for row in rows if row["score"] == "faithfulness"} == {"12"}  # first copies only
    assert "Quality over training" in (finished / "reports" / "smoke" / "index.html").read_text(encoding="utf-8")


def test_each_generator_made_its_copies_of_every_training_mask(finished: Path) -> None:
    for generator, copies in (("siamese", 2), ("controlnet", 1)):
        folder = finished / "outputs" / "smoke" / "synthetic" / generator
        rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
        assert len(rows) == 12 * copies
        assert {row["split"] for row in rows} == {"train"} and all(row["synthetic"] for row in rows)
        assert all((folder / row["file_name"]).is_file() and (folder / row["mask"]).is_file() for row in rows)


def test_screening_keeps_the_faithful_share_and_is_told(finished: Path) -> None:
    folder = finished / "outputs" / "smoke" / "training_sets" / "siamese_x2_screened"
    record = json.loads((folder / "screening.json").read_text())
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    assert (record["images"], record["dropped"]["screen"]) == (24, 5)  # 0.8 of 24 are 19 whole images
    assert len(rows) == 12 + record["kept"] and record["kept"] == 24 - len(record["dropped_images"]) <= 19
    assert "<h2>Screening</h2>" in (finished / "reports" / "smoke" / "index.html").read_text(encoding="utf-8")


def test_the_arm_that_validation_chose_was_trained_again_with_a_fresh_seed(finished: Path) -> None:
    folder = finished / "outputs" / "smoke" / "confirmation"
    choice = json.loads((folder / "choice.json").read_text())
    candidates = {one["training_sets"][0]: one["val_dice"] for one in choice["candidates"]}
    assert set(candidates) == {"siamese_x1", "siamese_x2", "siamese_x2_screened", "controlnet_x1"}
    assert choice["training_sets"] == [max(candidates, key=lambda name: candidates[name])]
    cells = json.loads((folder / "cells.json").read_text())
    assert [(one["training_set"], one["seed"]) for one in cells] == [("real", 100), (choice["training_sets"][0], 100)]
    grid = json.loads((finished / "outputs" / "smoke" / "segmentation" / "unet" / "cells.json").read_text())
    assert not {one["fingerprint"] for one in cells} & {one["fingerprint"] for one in grid}


def test_a_release_card_describes_the_study_and_notices_a_changed_file(finished: Path, tmp_path: Path) -> None:
    verb, target = [sys.executable, "-m", "pipeline.cli", "release"], tmp_path / "card"
    call(finished, [*verb, "siamese", "--output", str(target)])
    card = json.loads((target / "release_card.json").read_text())
    assert (card["trained_on"]["images"], card["trained_on"]["base"]["source"]) == (12, "scratch")
    assert {"dvc.lock", "params.yaml"} < {one["path"] for one in card["files"]}
    assert {one["training_set"] for one in card["effect"]["arms"]} == {
        "siamese_x1",
        "siamese_x2",
        "siamese_x2_screened",
    }
    assert len(card["audits"]["attacks"]["results"]) == 4
    assert "are those that the card describes" in call(finished, [*verb, "--check", str(target)])
    changed = tmp_path / "changed"
    for one in card["files"]:
        (changed / one["path"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(finished / one["path"], changed / one["path"])
    weights = next(one["path"] for one in card["files"] if one["what"] == "generator")
    (changed / weights).write_bytes(b"another")
    command = [*verb, "--check", str(target), "--files", str(changed), "--json"]
    done = subprocess.run(command, cwd=finished, env={**os.environ, "PYTHONPATH": str(finished)}, capture_output=True)
    assert done.returncode == 1
    assert json.loads(done.stdout)["problems"] == [{"path": weights, "problem": "differs"}]


def test_the_frontier_has_a_point_for_each_generator(finished: Path) -> None:
    with (finished / "reports" / "smoke" / "frontier.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["generator"], row["multiplier"]) for row in rows] == [
        ("siamese", "1"),
        ("siamese", "2"),
        ("controlnet", "1"),
    ]
    assert {row["epsilon"] for row in rows} == {"none"} and all(0 <= float(row["auc"]) <= 1 for row in rows)
    assert (finished / "reports" / "smoke" / "figures" / "frontier_unet.svg").is_file()


def test_second_run_and_another_launch_have_nothing_to_do(finished: Path) -> None:
    for variables in ({}, {"LAUNCH": "cpu2"}):
        assert "Running stage" not in call(finished, [*DVC, "repro"], **variables)


def test_clone_that_pulls_has_nothing_to_do(finished: Path, tmp_path: Path) -> None:
    remote, second = tmp_path / "remote", tmp_path / "second"
    second.mkdir()
    clone(second, "smoke", finished)
    shutil.copyfile(finished / "dvc.lock", second / "dvc.lock")
    for folder in (finished, second):
        call(folder, [*DVC, "remote", "add", "--force", "--default", "--local", "here", str(remote)])
    call(finished, [*DVC, "push"])
    call(second, [*DVC, "pull"])
    assert "Running stage" not in call(second, [*DVC, "repro"])
    assert (second / "reports" / "smoke" / "index.html").is_file()


def test_new_training_set_runs_only_what_depends_on_it(finished: Path) -> None:
    path = finished / "params.yaml"
    before = path.read_text()
    path.write_text(before.replace("  siamese_x2: {generator: siamese, multiplier: 2}\n", ""))
    try:
        told = call(finished, [*DVC, "repro", "--dry"])
    finally:
        path.write_text(before)
    stages = {line.split("'")[1].split("@")[0] for line in told.splitlines() if line.startswith("Running stage")}
    assert stages <= {"mix", "segment", "confirm", "compare", "report"} and "segment" in stages


def test_bad_parameter_ends_with_one_message(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((finished / "params.yaml").read_text().replace("copies: 2", "copys: 2"))
    done = subprocess.run(
        [sys.executable, str(finished / "stages" / "prepare.py")],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(finished)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and "generators.siamese.cop" in done.stderr
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_three_classes_go_through_the_whole_graph(tmp_path: Path) -> None:
    folder = clone(tmp_path, "smoke3")
    call(folder, [*DVC, "repro"])
    scores = (folder / "outputs" / "smoke3" / "segmentation" / "unet" / "scores.csv").read_text().splitlines()
    assert "dice_2" in scores[0].split(",")
