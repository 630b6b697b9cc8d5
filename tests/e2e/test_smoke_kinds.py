"""Kinds of studies: volumes, several raters, diffusion segmenters on synthetic images too; through the stages."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core import paths, tables
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.stages.mix.mix import mix
from pipeline.stages.segment.grid import run_grid
from pipeline.study import Params
from tests.conftest import REPOSITORY, TOY_STUDY
from tests.data_folders import cimd, nifti

SEGMENT = {"max_steps": 4, "batch_size": 2, "learning_rate": 1.0e-3, "seeds": [0, 1], "threads": 1}
STUDY = {
    "study": "kinds",
    "seed": 0,
    "threads": 1,
    "generators": {},
    **dict.fromkeys(("base", "judge", "score", "audit")),
    "training_sets": {"real": {}},
    "report": {"title": "A study of another kind of image"},
}


def stage(name: str) -> Callable[..., None]:
    """What a stage runs."""
    found: dict[str, Any] = runpy.run_path(str(REPOSITORY / "stages" / f"{name}.py"), run_name="stage")
    return next(found[key] for key in ("stage", name) if callable(found.get(key)))


def run(params: Params) -> str:
    """All stages, segment without its launcher; the report."""
    for name in ("records", "prepare", "base", "judge"):
        stage(name)(params)
    stage("mix")(params, "real")
    for segmenter in params.segmenters:
        run_grid(params, segmenter, Runtime.alone(1))
    for name in ("confirm", "compare", "report"):
        stage(name)(params)
    return (paths.report(params.study) / "index.html").read_text(encoding="utf-8")


def volumes(root: Path) -> None:
    """Eight training and three test volumes of 14 x 12 x 10 voxels of 1 x 1 x 2 mm: two bright boxes in noise."""
    rng = np.random.default_rng(0)
    for part, count in (("Tr", 8), ("Ts", 3)):
        for n in range(count):
            label = np.zeros((14, 12, 10), np.uint8)
            first = 2 + n % 3
            label[first : first + 4, 3:9, 3:7], label[first + 4 : first + 8, 3:9, 3:7] = 1, 2
            voxels = (100 * label + rng.integers(0, 40, label.shape)).astype(np.int16)
            for kind, values in (("images", voxels), ("labels", label)):
                nifti(root / f"{kind}{part}" / f"v_{part}{n}.nii.gz", values, affine=np.diag([1.0, 1.0, 2.0, 1.0]))


def test_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    volumes(tmp_path / "data")
    trunk = {"method": "recycling", "channels": [4, 8], "blocks": 1, "heads": 2, "dropout": 0.0}
    compared = {"reference": "recycling", "metrics": ["dice", "hd95", "nsd"], "margins": {"hd95": 0.5}}
    study = STUDY | {
        "data": {"reader": "volumes", "root": "data", "shape": [12, 12, 8], "num_classes": 3, "val_share": 0.25},
        "segmenters": {"plain": trunk | {"mode": "plain"}, "recycling": trunk | {"mode": "recycle_T"}},
        "segment": SEGMENT,
        "compare": {"reference": "real", "segmenters": compared},
    }
    page = run(parse(Params, study))
    assert "12 x 12 x 8 voxels of 1 x 1 x 2 mm, 3 classes" in page
    assert "Dice over sampling steps" in page and "HD95 (mm)" in page and "volume error (ml)" in page
    rows = tables.read_table(paths.comparison("kinds") / "segmenters.csv")
    assert {(row["metric"], row["segmenter"]) for row in rows} == {
        (metric, name) for metric in ("dice", "hd95", "nsd") for name in ("plain", "recycling")
    }
    assert {row["n_images"] for row in rows} == {"3"}


def test_several_raters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cimd(tmp_path / "data")
    small = {"base": 8, "multipliers": [1, 2], "steps": 2, "groups": 4, "gaussian_filters": [4, 4]}
    compared = {"reference": "unet", "metrics": ["ged", "ci_harmonic", "dice"], "margins": {"ged": 0.02}}
    data = {"reader": "multirater", "root": "data", "rater": "all", "channels": 1, "size": 32, "num_classes": 2}
    study = STUDY | {
        "data": data,
        "segmenters": {"unet": {"method": "unet_plain32", "width": 4}, "cimd": small},
        "segment": SEGMENT | {"num_samples": 3},
        "compare": {"reference": "real", "segmenters": compared},
    }
    page = run(parse(Params, study))
    mixed = ImageSet.open(paths.training_set("kinds", "real"))
    assert all(mixed.masks(row)[-1].max() == 0 and mixed.masks(row)[0].max() == 1 for row in mixed)
    assert "Agreement with several raters" in page and "GED" in page
    rows = tables.read_table(paths.comparison("kinds") / "segmenters.csv")
    assert {row["metric"] for row in rows} == {"ged", "ci_harmonic", "dice"}
    scores = tables.read_table(paths.segmentation("kinds", "cimd") / "scores.csv")
    assert all(0 <= float(row["ged"]) <= 2 for row in scores)


def test_diffusion_segmenters_train_on_real_and_synthetic_images(toy_study: Params) -> None:
    segmenters = {
        "dermosegdiff": {"width_x": 8, "width_g": 8, "steps": 2, "samples": 2, "loss": "B", "boundary_on": "real"},
        "recycling": {"channels": [4, 8], "blocks": 1, "heads": 2},
        "cimd": {"base": 8, "multipliers": [1, 2], "steps": 2, "groups": 4, "gaussian_filters": [4, 4]},
    }
    arms = {"real": {}, "siamese_x2": {"generator": "siamese", "multiplier": 2}}
    own = {"segmenters": segmenters, "segment": SEGMENT, "training_sets": arms, "judge": {"segmenter": "cimd"}}
    params = parse(Params, TOY_STUDY | own)
    assert {name: len(mix(params, name)) for name in arms} == {"real": 8, "siamese_x2": 24}
    for name in segmenters:
        run_grid(params, name, Runtime.alone(1))
    for name in ("confirm", "compare"):
        stage(name)(params)
    rows = tables.read_table(paths.comparison("toy") / "arms.csv")
    assert {(row["segmenter"], row["training_set"]) for row in rows} == {(s, a) for s in segmenters for a in arms}
    steps = {name: tables.read_table(paths.segmentation("toy", name) / "losses.csv") for name in segmenters}
    assert all({row["training_set"] for row in rows} == set(arms) for rows in steps.values())
