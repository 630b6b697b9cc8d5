"""The grid of cells: who runs what, what is shared, and what is never run twice."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from benchmarks import grid as benchmark
from pipeline.core import files, paths, tables
from pipeline.core.errors import UserError
from pipeline.core.runtime import Counter, Runtime
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.segmentation import scoring, train
from pipeline.stages.judge.judge import load_judges
from pipeline.stages.judge.train import train_judge
from pipeline.stages.mix.mix import mix
from pipeline.stages.segment import grid
from pipeline.stages.segment.cells import Cell, SegmenterSetup
from pipeline.study import Params, load_params
from tests.conftest import REPOSITORY, TOY_STUDY

SCORE_COLUMNS = ["segmenter", "training_set", "seed", "split", "test_set", "image", "area"]


@pytest.fixture
def mixed(toy_study: Params) -> Params:
    for name in toy_study.training_sets:
        mix(toy_study, name)
    return toy_study


def variant(changes: dict[str, Any]) -> Params:
    return parse(Params, TOY_STUDY | changes)


def plan(params: Params) -> list[Cell]:
    return grid.plan(SegmenterSetup.of(params, "unet"))


def fingerprints(params: Params) -> dict[tuple[str, int], str]:
    return {(cell.training_set, cell.seed): cell.fingerprint for cell in plan(params)}


class Store:
    """What torch.distributed's store does for a counter."""

    def __init__(self) -> None:
        self.value = 0

    def add(self, _name: str, step: int) -> int:
        self.value += step
        return self.value


def cells(count: int) -> list[Cell]:
    return [Cell("real", n, f"segment/{n}", None, f"cell{n}") for n in range(count)]  # type: ignore[arg-type]


def test_processes_share_the_cells_without_doubles() -> None:
    store = Store()
    one, two = (grid.claims(cells(5), Counter(store, "c")) for _ in range(2))
    taken = [next(one), next(two), next(two), next(one), next(two)]
    assert sorted(cell.seed for cell in taken) == [0, 1, 2, 3, 4]
    assert next(one, None) is None
    assert next(two, None) is None


def test_the_main_process_waits_for_a_cell_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(grid, "POLL", 0.01)
    mine, theirs = cells(2)
    ran: list[Cell] = []

    def finish(cell: Cell) -> None:
        ran.append(cell)
        files.write_json(cell.path, {})

    late = threading.Timer(0.2, lambda: files.write_json(theirs.path, {}))
    late.start()
    assert list(grid.finished([mine, theirs], iter([mine]), finish)) == [mine, theirs]
    assert ran == [mine]


def test_every_cell_of_the_toy_has_its_own_fingerprint(mixed: Params) -> None:
    found = fingerprints(mixed)
    assert len(found) == len(set(found.values())) == 4 * 2


def test_equal_content_with_equal_seeds_is_one_cell_whatever_its_name(mixed: Params) -> None:
    found = fingerprints(variant({"training_sets": {"real_again": {}}, "compare": {"reference": "real_again"}}))
    assert found["real_again", 0] == fingerprints(mixed)["real", 0] != found["real_again", 1]


@pytest.mark.parametrize(
    "changes",
    [
        {"threads": 2},
        {"segment": TOY_STUDY["segment"] | {"max_steps": 3}},
        {"segmenters": {"unet": {"weights": "none", "decoder_channels": [8, 8, 8, 8, 16]}}},
        {"segmenters": {"unet": {"weights": "packaged", "decoder_channels": [8, 8, 8, 8, 8]}}},
    ],
)
def test_what_changes_results_changes_the_cell(mixed: Params, changes: dict[str, Any]) -> None:
    assert not set(fingerprints(mixed).values()) & set(fingerprints(variant(changes)).values())


def test_another_list_of_seeds_keeps_finished_cells(mixed: Params) -> None:
    more = fingerprints(variant({"segment": TOY_STUDY["segment"] | {"seeds": [1, 0, 5]}}))
    assert {key: more[key] for key in fingerprints(mixed)} == fingerprints(mixed)


def test_tables_and_no_second_run(mixed: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    grid.run_grid(mixed, "unet", Runtime.alone(1))
    folder = paths.segmentation("toy", "unet")
    first = files.tree_sha256(folder)
    scores = tables.read_table(folder / "scores.csv")
    assert len(scores) == 4 * 2 * (3 + 4)
    assert list(scores[0]) == [*SCORE_COLUMNS, "dice", "iou", "jaccard_65", "nsd", "hd95", "dice_swept", "iou_swept"]
    assert {row["split"] for row in scores} == {"val", "test"}
    lines = tables.read_table(folder / "protocol.csv")
    real = [float(row["dice"]) for row in scores if (row["training_set"], row["split"]) == ("real", "test")]
    assert [line["kind"] for line in lines[:3]] == ["test_set", "weighted", "macro"]
    assert float(lines[1]["dice"]) == pytest.approx(sum(real) / len(real), abs=1e-6)
    losses = tables.read_table(folder / "losses.csv")
    assert len(losses) == 4 * 2 * 2
    assert float(losses[0]["dice"]) > 0
    records = {(r["training_set"], r["seed"]): r for r in files.read_json(folder / "cells.json")}
    assert (records["siamese_x2", 1]["n_real"], records["siamese_x2", 1]["n_synthetic"]) == (8, 16)
    assert records["real_again", 1]["stream"] == "segment/1001"
    here = {"device": "cpu", "torch": torch.__version__.split("+")[0]}
    assert all(here.items() <= record.items() for record in records.values())

    def never(*_: object) -> None:
        raise AssertionError("a finished cell was run again")

    monkeypatch.setattr(grid, "run_cell", never)
    grid.run_grid(mixed, "unet", Runtime.alone(1))
    assert files.tree_sha256(folder) == first


def test_a_cell_finished_before_machines_were_recorded_stays_readable(mixed: Params) -> None:
    cell = plan(mixed)[0]
    old = {"steps": 2, "weights": {"source": "none"}, "scores": [], "losses": []}
    files.write_sealed(cell.path, old)
    assert cell.is_finished
    record = cell.record("unet", cell.result)
    assert (record.device, record.torch) == (None, None)


def test_arms_with_one_seed_start_from_the_same_weights(mixed: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    def initial(stream: str, training_set: str) -> float:
        monkeypatch.setattr(train, "fit", lambda *_, **__: [])
        images = ImageSet.open(paths.training_set("toy", training_set))
        entry = mixed.segmenters["unet"]
        segmenter, _ = train.train_segmenter("unet", entry, mixed.segment, images, stream, Runtime.alone(1))
        return sum(float(weight.detach().double().abs().sum()) for weight in segmenter.objective.parameters())

    assert initial("segment/0", "real") == initial("segment/0", "siamese_x2") != initial("segment/1", "real")


def test_a_training_set_that_was_not_made_is_named(toy_study: Params) -> None:
    with pytest.raises(UserError, match=r"training_sets/real is not a finished image set"):
        plan(toy_study)


@pytest.mark.parametrize("split", ["val", "test"])
def test_an_empty_split_is_refused_before_anything_is_trained(mixed: Params, split: str) -> None:
    real = ImageSet.open(paths.real("toy"))
    ImageSet.finish(real.folder, real.spec, [row for row in real if row["split"] != split])
    with pytest.raises(UserError, match=f"holds no image of the split {split}; run the stage prepare again"):
        plan(mixed)


def test_the_judge_is_published_with_its_score_and_loads(mixed: Params, toy_batch: Any) -> None:
    train_judge(mixed, Runtime.alone(1))
    metrics = files.read_json(paths.judge("toy") / "metrics.json")
    assert metrics["n"] == 4
    assert 0 <= metrics["iou"] <= metrics["dice"] <= 1
    real = ImageSet.open(paths.real("toy"))
    (judge,) = load_judges(mixed.judge, mixed.segmenters, "toy", real).segmenters
    assert judge.predict(toy_batch.image).shape == (4, 1, 2, 32, 32)
    other = variant({"segmenters": {"unet": {"weights": "none", "decoder_channels": [9] * 5}}})
    with pytest.raises(UserError, match="weights of another network"):
        load_judges(other.judge, other.segmenters, "toy", real)


def test_all_segmenters_are_kept_and_finished_cells_are_run_again_only_for_that(
    mixed: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"training_sets": {"real": {}, "real_again": {"seed_offset": 1000}}}
    grid.run_grid(variant(few), "unet", Runtime.alone(1))
    folder = paths.segmentation("toy", "unet")
    scores = files.sha256(folder / "scores.csv")
    assert not (folder / "kept").exists()
    keeping_all = variant(few | {"segment": TOY_STUDY["segment"] | {"keep": "all"}})
    assert fingerprints(keeping_all) == fingerprints(variant(few))
    grid.run_grid(keeping_all, "unet", Runtime.alone(1))
    kept = sorted(path.parent.relative_to(folder / "kept").as_posix() for path in folder.rglob("kept.json"))
    assert kept == ["real/seed_0", "real/seed_1", "real_again/seed_0", "real_again/seed_1"]
    assert files.sha256(folder / "scores.csv") == scores

    def never(*_: object) -> None:
        raise AssertionError("a finished cell was run again")

    monkeypatch.setattr(grid, "run_cell", never)
    grid.run_grid(keeping_all, "unet", Runtime.alone(1))


def test_best_seed_is_that_of_validation_even_where_test_says_otherwise(mixed: Params) -> None:
    alone = {"training_sets": {"real": {}}}
    grid.run_grid(variant(alone), "unet", Runtime.alone(1))
    better_on = {0: "test", 1: "val"}
    for cell in plan(variant(alone)):
        result = cell.result
        for row in result["scores"]:
            row["dice"] = 0.9 if row["split"] == better_on[cell.seed] else 0.1
        files.write_sealed(cell.path, result)
    grid.run_grid(variant(alone | {"segment": TOY_STUDY["segment"] | {"keep": "best_seed"}}), "unet", Runtime.alone(1))
    kept = paths.segmentation("toy", "unet") / "kept"
    assert [path.parent.name for path in kept.rglob("kept.json")] == ["seed_1"]
    assert len(list(paths.WORK.rglob("kept.json"))) == 1 + 1  # of the cell, and beside the tables


def test_synthetic_images_are_not_scored(mixed: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    synthetic = ImageSet.open(paths.synthetic("toy", "siamese"))
    with pytest.raises(UserError, match=r"is synthetic \(16 are\); scores need real images"):
        scoring.score_set(object(), synthetic, mixed.segment)  # type: ignore[arg-type]


def test_a_test_set_that_does_not_exist_cannot_be_unseen(mixed: Params) -> None:
    with pytest.raises(UserError, match=r"unseen names 'ETIS'; the sources of test images are: blobs"):
        plan(variant({"segment": TOY_STUDY["segment"] | {"unseen": ["ETIS"]}}))


def test_native_scores_need_a_set_that_was_prepared_for_them(mixed: Params) -> None:
    native = {"data": TOY_STUDY["data"] | {"native_masks": True}}
    with pytest.raises(UserError, match=r"val_0 has no mask of its own size; set data.native_masks: true"):
        plan(variant(native | {"segment": TOY_STUDY["segment"] | {"resolution": "native"}}))


def test_benchmark_of_the_grid_has_eight_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    benchmark.material(benchmark.study(steps=1, pixels=32))
    assert len({cell.fingerprint for cell in plan(load_params())}) == 8


@pytest.mark.dist
def test_one_and_two_processes_give_the_same_tables(mixed: Params, tmp_path: Path) -> None:
    YAML().dump(TOY_STUDY, tmp_path / "params.yaml")
    launch(2, tmp_path)
    two = files.tree_sha256(paths.segmentation("toy", "unet"))
    for name in ("work", "outputs/toy/segmentation"):
        shutil.rmtree(name)
    grid.run_grid(mixed, "unet", Runtime.alone(1))
    assert files.tree_sha256(paths.segmentation("toy", "unet")) == two


def launch(processes: int, folder: Path) -> None:
    """Runs the stage under `accelerate launch` on this machine's CPU."""
    options = f"--cpu --num_machines 1 --mixed_precision no --dynamo_backend no --num_processes {processes}"
    stage = str(REPOSITORY / "stages" / "segment.py")
    command = [sys.executable, "-m", "accelerate.commands.launch", *options.split(), stage]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
