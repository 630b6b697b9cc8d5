"""Facts of cross-validation: folds that divide no group, and the comparison over all of them."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from pipeline.cli.doctor import dataset
from pipeline.cli.main import main
from pipeline.core import files, paths, tables
from pipeline.core.errors import UserError
from pipeline.data import manifest
from pipeline.data.image_set import ImageSet
from pipeline.data.splitting import assign_folds, beyond_limit
from pipeline.stages.prepare.params import Data
from pipeline.stages.prepare.prepare import prepare, report_path
from pipeline.study import Params, load_params
from tests.drawn_pairs import brighter, pair, picture, save

ROOT = Path(__file__).parents[2]


def test_folds_are_even_and_divide_no_group() -> None:
    groups = [f"patient {number // 3}" for number in range(30)]
    found = assign_folds(groups, 5, seed=0)
    assert Counter(found) == {fold: 6 for fold in range(5)}
    assert len(set(zip(groups, found, strict=True))) == 10
    backwards = assign_folds(groups[::-1], 5, seed=0)
    assert backwards[::-1] == found  # the order of the images does not matter
    assert assign_folds(groups, 5, seed=1) != found


def test_a_fold_is_one_of_the_folds() -> None:
    about = {"reader": "kvasir", "size": 8, "prompt": ""}
    assert Data.model_validate(about | {"folds": 3, "fold": 2}).fold == 2
    with pytest.raises(ValidationError, match="fold is 3 and folds is 3; folds are counted from 0"):
        Data.model_validate(about | {"folds": 3, "fold": 3})
    with pytest.raises(ValidationError, match="fold is 1 and folds is None"):
        Data.model_validate(about | {"fold": 1})


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    return load_params(ROOT / "params.yaml").model_dump()


def drawn(root: Path, lists: bool = False) -> None:
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(12):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(root / "images" / f"i{number}.png")
        Image.fromarray(np.tri(16, k=number - 6, dtype=np.uint8) * 255).save(root / "masks" / f"i{number}.png")
    rows = [f"i{number},patient {number // 2}" for number in range(12)]
    (root / "manifest.csv").write_text("\n".join(["id,group", *rows]))
    if lists:
        (root / "splits").mkdir()
        (root / "splits" / "test.txt").write_text("i0\n")


def study(shipped: dict[str, Any], root: Path, **changes: Any) -> Params:
    data = {"reader": "paired_folders", "root": str(root), "size": 16, "prompt": "", "val_share": 0.2} | changes
    return Params.model_validate(shipped | {"study": "small", "data": data})


def test_every_image_is_tested_once_and_groups_stay_whole(shipped: dict[str, Any], tmp_path: Path) -> None:
    drawn(tmp_path / "set")
    tested: Counter[str] = Counter()
    for fold in range(3):
        images = prepare(study(shipped, tmp_path / "set", folds=3, fold=fold))
        tested.update(row["id"] for row in images.split("test"))
        places = {(row["group"], row["split"]) for row in images}
        assert len(places) == 6  # six patients, each in one split
        assert all(len(images.split(split)) for split in ("train", "val", "test"))
        assert {row["group"] for row in images} == {f"group_{number:05d}" for number in range(6)}  # no patient's name
    assert set(tested.values()) == {1}
    assert len(tested) == 12


def test_a_limit_takes_whole_groups_in_every_fold_and_the_rest_has_no_masks(
    shipped: dict[str, Any], tmp_path: Path
) -> None:
    drawn(tmp_path / "set")
    tested: Counter[str] = Counter()
    for fold in range(3):
        params = study(shipped, tmp_path / "set", folds=3, fold=fold, train_limit=4, unlabelled={"rest": True})
        images = prepare(params)
        tested.update(images.split("test").ids)
        assert {split: len(images.split(split)) for split in ("train", "reserve", "val", "test")} == {
            "train": 4, "reserve": 2, "val": 2, "test": 4
        }  # fmt: skip
        assert len({(row["group"], row["split"]) for row in images}) == 6  # six patients, each in one split
        assert ImageSet.open(paths.unlabelled("small")).ids == images.split("reserve").ids
        assert prepare(params).digest == images.digest
    assert set(tested.values()) == {1} and len(tested) == 12


def test_a_limit_of_a_fold_follows_the_seed_and_not_the_names_of_files() -> None:
    groups = [f"patient {number // 2}" for number in range(40)]
    beyond = beyond_limit(groups, 10, seed=0)
    assert beyond.count(False) == 10
    assert len({*zip(groups, beyond, strict=True)}) == 20  # no group is divided
    assert beyond_limit(groups[::-1], 10, seed=0) == beyond[::-1]
    assert beyond_limit(groups, 10, seed=1) != beyond
    assert beyond_limit(["a", "a", "a"], 2, seed=0) == [False] * 3  # never none at all


def test_look_alikes_are_dealt_into_one_fold_where_they_are_regrouped(shipped: dict[str, Any], tmp_path: Path) -> None:
    root = tmp_path / "set"
    for number in range(12):
        pair(root, f"i{number}")
    for number in range(3):  # a frame later: four images in chains of look-alikes
        save(root / "images" / f"i{number + 9}.png", brighter(picture(f"i{number}"), 6))
    tested, across = Counter[str](), {"warn": 0, "regroup": 0}
    for mode in across:
        for fold in range(3):
            images = prepare(study(shipped, root, folds=3, fold=fold, near_duplicates=mode))
            told = files.read_json(report_path("small"))["near_duplicates"]
            across[mode] += len(told["pairs"])
            assert told["moved_into_train"] == []
            if mode == "regroup":
                tested.update(images.split("test").ids)
    assert across["regroup"] == 0 < across["warn"]
    assert set(tested.values()) == {1} and len(tested) == 12


def test_folds_refuse_splits_of_the_data_set_and_too_few_groups(shipped: dict[str, Any], tmp_path: Path) -> None:
    drawn(tmp_path / "set")
    with pytest.raises(UserError, match=r"data\.folds is 6, but there are 6 images or groups"):
        prepare(study(shipped, tmp_path / "set", folds=6))
    drawn(tmp_path / "listed", lists=True)
    with pytest.raises(UserError, match="the data set has splits of its own"):
        prepare(study(shipped, tmp_path / "listed", folds=3))


def test_faults_that_leave_too_few_pairs_for_the_folds_are_shown(shipped: dict[str, Any], tmp_path: Path) -> None:
    root, other = tmp_path / "set", tmp_path / "away"
    drawn(root)
    (root / "images").rename(other)
    (root / "images").mkdir()
    for file in sorted(other.iterdir()):
        (root / "images" / file.name).symlink_to(file)
    params = study(shipped, root, folds=4)
    with pytest.raises(UserError) as refusal:
        prepare(params)
    first, *lines = str(refusal.value).splitlines()
    assert first.startswith("the data set has 12 faults") and len(lines) == 12
    assert all("leads out of data.root" in line for line in lines)
    assert [finding.check for finding in dataset.findings(params.data, params.seed)] == ["data"] * 12


def finish(name: str, tests: range, gain: float) -> None:
    """Leaves what the grid of one fold leaves."""
    rng, rows = np.random.default_rng(tests.start), []
    columns = [("val", f"case_{k:05d}") for k in (0, 1)] + [("test", f"case_{k:05d}") for k in tests]
    for seed in (0, 1, 2):
        for split, image in columns:
            for arm, more in (("real", 0.0), ("x1", gain)):
                dice = 0.5 + more + rng.normal(0, 0.01)
                about = {"segmenter": "unet", "training_set": arm, "seed": seed, "split": split, "test_set": ""}
                rows.append(about | {"image": image, "dice": dice, "iou": dice})
    tables.write_table(paths.segmentation(name, "unet") / "scores.csv", rows)
    paths.real(name).mkdir(parents=True)
    with manifest.writing(paths.real(name), [{"id": image} for _, image in columns]):
        pass


def test_the_pooled_comparison_speaks_of_all_images(
    shipped: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish("small_f0", range(2, 12), 0.05)
    finish("small_f1", range(12, 32), 0.08)
    sets = {"real": {}, "x1": {"generator": "siamese", "multiplier": 1}}
    values = shipped | {"study": "small", "training_sets": sets, "segmenters": {"unet": {}}}
    values |= {"generators": {"siamese": {"copies": 1}}, "judge": {"segmenter": "unet"}}
    values["data"] = {"reader": "kvasir", "root": "x", "size": 16, "prompt": "", "folds": 2}
    files.write_json(Path("params.yaml"), Params.model_validate(values).model_dump(mode="json"))
    assert main(["study", "folds", "small_f0", "small_f1"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Synthetic data helped: unet, x1 +6.9 Dice points")
    assert "for these 2 trained generators, one per fold" in said
    row = files.read_json(paths.comparison("small_folds") / "comparison.json")["arms"][1]
    assert (row["n_images"], row["verdict"]) == (30, "better")
    assert row["difference"] == pytest.approx((10 * 0.05 + 20 * 0.08) / 30, abs=0.005)
    for wrong, told in ((["small_f0"], "but 1 studies are named"), (["small_f0"] * 2, "'case_00002' is tested in")):
        assert main(["study", "folds", *wrong]) == 2
        assert told in capsys.readouterr().err
    assert main(["study", "folds", "--partial", "small_f0"]) == 0  # settings were chosen on fold 1
    assert "for this one trained generator" in capsys.readouterr().out
    assert files.read_json(paths.comparison("small_folds") / "comparison.json")["arms"][1]["n_images"] == 10


def test_a_study_is_put_in_place_as_one_of_its_folds(
    shipped: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("configs/studies").mkdir(parents=True)
    text = (ROOT / "configs" / "studies" / "kvasir_cpu.yaml").read_text(encoding="utf-8")
    Path("configs/studies/whole.yaml").write_text(text, encoding="utf-8")
    dealt = text.replace("study: kvasir_cpu", "study: dealt").replace("data:\n", "data:\n  folds: 3\n")
    Path("configs/studies/dealt.yaml").write_text(dealt, encoding="utf-8")
    assert main(["study", "use", "dealt", "--fold", "2", "--yes"]) == 0
    params = load_params(Path("params.yaml"))
    assert (params.study, params.data.folds, params.data.fold) == ("dealt_f2", 3, 2)
    comment = "# few real pairs; validation and test stay whole"
    assert comment in text and comment in Path("params.yaml").read_text(encoding="utf-8")
    capsys.readouterr()
    for name, fold, has in (("dealt", "3", "the folds 0 to 2"), ("whole", "0", "no data.folds")):
        assert main(["study", "use", name, "--fold", fold, "--yes"]) == 2
        assert f"--fold is {fold}, but the study {name} has {has}" in capsys.readouterr().err
