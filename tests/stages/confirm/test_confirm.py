"""The stage confirm: which cells it trains, what it publishes, and that a finished cell is never run twice."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.core import files, paths, tables
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.stages.compare.confirmation import read_confirmation
from pipeline.stages.confirm.confirm import confirm
from pipeline.stages.mix.mix import mix
from pipeline.stages.segment import grid
from pipeline.stages.segment.cells import SegmenterSetup
from pipeline.study import Params
from tests.conftest import REPOSITORY, TOY_STUDY, copies
from tests.stages.confirm.finished_grid import leave_scores, two_generators

STUDY = TOY_STUDY | {"confirm": {"seeds": [100, 101]}}
VAL = {"siamese_x1": 0.6, "siamese_x2": 0.7}  # siamese_x2 is chosen
FOLDER = paths.confirmation("toy")


@pytest.fixture
def mixed(toy_study: Params) -> Params:
    """Training sets, and the scores of a grid that chooses siamese_x2."""
    for name in toy_study.training_sets:
        mix(toy_study, name)
    leave_scores("unet", VAL)
    return parse(Params, STUDY)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The cells that are trained, in order."""
    cells: list[tuple[str, int]] = []
    run_cell = grid.run_cell

    def counted(setup: Any, cell: Any, runtime: Runtime) -> dict[str, Any]:
        result = run_cell(setup, cell, runtime)
        cells.append((cell.training_set, cell.seed))
        return result

    monkeypatch.setattr(grid, "run_cell", counted)
    return cells


def run(params: Params) -> None:
    assert params.confirm is not None
    confirm(params, params.confirm, Runtime.alone(1))


def stage(params: Params) -> None:
    """What stages/confirm.py does."""
    recipe: Callable[[Params], None] = runpy.run_path(str(REPOSITORY / "stages" / "confirm.py"))["stage"]
    recipe(params)


def test_the_chosen_arm_and_the_reference_are_trained_with_fresh_seeds(
    mixed: Params, ran: list[tuple[str, int]]
) -> None:
    stage(mixed)
    assert ran == [("real", 100), ("siamese_x2", 100), ("real", 101), ("siamese_x2", 101)]
    choice = files.read_json(FOLDER / "choice.json")
    assert (choice["segmenter"], choice["training_sets"], choice["seeds"]) == ("unet", ["siamese_x2"], [100, 101])
    assert [one["val_dice"] for one in choice["candidates"]] == pytest.approx([0.6, 0.7])
    records = files.read_json(FOLDER / "cells.json")
    assert [(one["training_set"], one["seed"], one["stream"]) for one in records] == [
        ("real", 100, "segment/100"),
        ("siamese_x2", 100, "segment/100"),
        ("real", 101, "segment/101"),
        ("siamese_x2", 101, "segment/101"),
    ]
    assert files.is_intact(FOLDER)


def test_its_tables_are_those_of_a_grid_with_these_seeds_and_sets(mixed: Params) -> None:
    run(mixed)
    shutil.rmtree("work")
    sets = {name: TOY_STUDY["training_sets"][name] for name in ("real", "siamese_x2")}
    own = parse(Params, TOY_STUDY | {"training_sets": sets, "segment": TOY_STUDY["segment"] | {"seeds": [100, 101]}})
    grid.run_grid(own, "unet", Runtime.alone(1))
    for name in ("scores.csv", "losses.csv", "protocol.csv", "protocol.json", "cells.json"):
        assert (FOLDER / name).read_bytes() == (paths.segmentation("toy", "unet") / name).read_bytes()


def test_a_second_run_trains_nothing_and_publishes_the_same(mixed: Params, ran: list[tuple[str, int]]) -> None:
    run(mixed)
    first = files.tree_sha256(FOLDER)
    shutil.rmtree(FOLDER)
    ran.clear()
    run(mixed)
    assert ran == [] and files.tree_sha256(FOLDER) == first


def test_a_killed_run_goes_on_after_its_last_finished_cell(
    mixed: Params, ran: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = grid.run_cell

    def killed(*arguments: Any) -> dict[str, Any]:
        if len(ran) == 3:
            raise KeyboardInterrupt
        return counted(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(grid, "run_cell", killed)
        with pytest.raises(KeyboardInterrupt):
            run(mixed)
    assert len(ran) == 3 and not FOLDER.exists()
    run(mixed)
    assert ran[3:] == [("siamese_x2", 101)]


def test_another_choice_trains_the_new_arm_only(mixed: Params, ran: list[tuple[str, int]]) -> None:
    run(mixed)
    leave_scores("unet", {"siamese_x1": 0.8, "siamese_x2": 0.7})
    ran.clear()
    run(mixed)
    assert ran == [("siamese_x1", 100), ("siamese_x1", 101)]
    assert files.read_json(FOLDER / "choice.json")["training_sets"] == ["siamese_x1"]
    assert {row["training_set"] for row in tables.read_table(FOLDER / "scores.csv")} == {"real", "siamese_x1"}


def test_a_cell_that_a_grid_has_trained_is_not_run_again(mixed: Params, ran: list[tuple[str, int]]) -> None:
    """The seeds of another grid of the same study: the work folder holds its cells."""
    earlier = parse(Params, TOY_STUDY | {"segment": TOY_STUDY["segment"] | {"seeds": [100, 101]}})
    setup = SegmenterSetup.of(earlier, "unet")
    grid.run_cells(setup, grid.plan(setup)[:1], "an earlier grid", Runtime.alone(1))
    assert ran == [("real", 100)]
    run(mixed)
    assert ran == [("real", 100), ("siamese_x2", 100), ("real", 101), ("siamese_x2", 101)]


def test_both_generators_of_a_treatment_are_confirmed(toy_study: Params, ran: list[tuple[str, int]]) -> None:
    real = ImageSet.open(paths.real("toy"))
    ImageSet.create(paths.synthetic("toy", "siamese_b"), real.spec, copies(real, 2))
    params = parse(Params, STUDY | two_generators())
    for name in params.training_sets:
        mix(params, name)
    leave_scores("unet", {"siamese_x1": 0.6, "siamese_x2": 0.8, "siamese_b_x1": 0.61, "siamese_b_x2": 0.5})
    run(params)
    assert files.read_json(FOLDER / "choice.json")["training_sets"] == ["siamese_x2", "siamese_b_x2"]
    assert {name for name, _ in ran} <= {"real", "siamese_x2", "siamese_b_x2"}
    rows = tables.read_table(FOLDER / "scores.csv")
    assert {row["training_set"] for row in rows} == {"real", "siamese_x2", "siamese_b_x2"}
    assert {row["seed"] for row in rows} == {"100", "101"}


def test_the_chosen_segmenter_is_trained_with_its_own_settings(mixed: Params, ran: list[tuple[str, int]]) -> None:
    leave_scores("small", {"siamese_x1": 0.75, "siamese_x2": 0.7})
    small = TOY_STUDY["segmenters"]["unet"] | {"method": "unet", "segment": {"max_steps": 3}}
    run(parse(Params, STUDY | {"segmenters": TOY_STUDY["segmenters"] | {"small": small}}))
    records = files.read_json(FOLDER / "cells.json")
    assert {(one["segmenter"], one["steps"]) for one in records} == {("small", 3)}
    assert {name for name, _ in ran} == {"real", "siamese_x1"}


def test_no_model_of_a_confirmation_is_kept(mixed: Params) -> None:
    run(parse(Params, STUDY | {"segment": TOY_STUDY["segment"] | {"keep": "all"}}))
    assert not (FOLDER / "kept").exists() and not list(paths.WORK.rglob("kept.json"))


def test_a_process_beside_the_main_one_publishes_nothing(mixed: Params) -> None:
    assert mixed.confirm is not None
    confirm(mixed, mixed.confirm, replace(Runtime.alone(1), rank=1))
    assert len(list(paths.WORK.glob("segment-*/cell.json"))) == 4
    assert not FOLDER.exists()


@pytest.mark.parametrize(("rank", "publishes"), [("0", True), ("1", False)])
def test_without_the_section_one_process_writes_a_record_and_none_loads_torch(
    rank: str, publishes: bool, tmp_path: Path
) -> None:
    (tmp_path / "params.yaml").write_text(json.dumps(TOY_STUDY | {"confirm": None}))
    script = REPOSITORY / "stages" / "confirm.py"
    program = (
        f"import runpy, sys; runpy.run_path({str(script)!r}, run_name='__main__'); sys.exit('torch' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "RANK": rank}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / FOLDER / "choice.json").exists() == publishes


@pytest.mark.dist
def test_one_and_two_processes_give_the_same_confirmation(mixed: Params, tmp_path: Path) -> None:
    YAML().dump(STUDY, tmp_path / "params.yaml")
    options = "--cpu --num_machines 1 --mixed_precision no --dynamo_backend no --num_processes 2"
    command = [sys.executable, "-m", "accelerate.commands.launch", *options.split()]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(REPOSITORY / "stages" / "confirm.py")],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    two = files.tree_sha256(FOLDER)
    shutil.rmtree("work")
    shutil.rmtree(FOLDER)
    run(mixed)
    assert files.tree_sha256(FOLDER) == two


def test_the_best_rival_is_trained_again_too(mixed: Params, ran: list[tuple[str, int]]) -> None:
    sets = {**STUDY["training_sets"], "real_longer": {"steps": 2.0}, "real_strong": {"augment": "strong"}}
    params = parse(Params, STUDY | {"training_sets": sets})
    mix(params, "real_longer")
    mix(params, "real_strong")
    leave_scores("unet", VAL | {"real_longer": 0.9, "real_strong": 0.8})
    run(params)
    assert ran == [(name, seed) for seed in (100, 101) for name in ("real", "siamese_x2", "real_longer")]
    assert files.read_json(FOLDER / "choice.json")["rival"] == "real_longer"
    found = read_confirmation("toy")
    assert found and {name for name, *_ in found[1].tables} == {"real", "siamese_x2", "real_longer"}
