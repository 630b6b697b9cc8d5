"""Looks at validation images during a training, averaged weights, pictures of where a segmenter looks."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.core import files, paths, tables
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.segmentation.convergence import Convergence, mean_dice
from pipeline.segmentation.train import Course, settings, train_segmenter
from pipeline.stages.mix.mix import mix
from pipeline.stages.segment import heatmaps
from pipeline.stages.segment.grid import plan, run_grid
from pipeline.study import Params
from tests.conftest import TOY_STUDY

DENOISER = {"width_x": 4, "width_g": 4, "mult_x": [1, 2], "mult_g": [1, 2], "train_steps": 30, "steps": 2}


def study(**segment: object) -> Params:
    values = {"max_steps": 4, "batch_size": 4, "learning_rate": 1e-3, "seeds": [0], **segment}
    segmenters = {"unet": TOY_STUDY["segmenters"]["unet"], "dermosegdiff": DENOISER}
    return parse(Params, TOY_STUDY | {"segment": values, "segmenters": segmenters})


def train_split() -> ImageSet:
    return ImageSet.open(paths.real("toy")).split("train")


def test_a_look_changes_no_weight_and_finds_what_the_end_has(toy_study: Params) -> None:
    real = ImageSet.open(paths.real("toy"))
    params = study(watch_every=2, watch_images=2)
    seen = Convergence(real.split("val"), params.segment_for("dermosegdiff"))
    watched, losses = train_segmenter(
        params, "dermosegdiff", train_split(), "s", Runtime.alone(1), Course("", None, seen)
    )
    plain, alike = train_segmenter(study(), "dermosegdiff", train_split(), "s", Runtime.alone(1))
    assert losses == alike
    assert torch.equal(watched.predict(torch.ones(1, 3, 32, 32)), plain.predict(torch.ones(1, 3, 32, 32)))
    assert [(row["step"], row["n"]) for row in seen.rows] == [(2, 2), (4, 2)]
    few = real.split("val").select([real.split("val").rows[0], real.split("val").rows[-1]])
    assert seen.rows[-1]["dice"] == pytest.approx(mean_dice(watched, few, seen.chosen), abs=1e-6)


def test_dice_over_validation_images_by_hand(toy_study: Params) -> None:
    """A segmenter that calls everything foreground has Dice 2a / (1 + a) on an image of foreground share a."""

    class Everything:
        about: Mapping[str, str] = MappingProxyType({})

        def predict(self, image: torch.Tensor, num_samples: int = 1) -> torch.Tensor:
            one = torch.ones(len(image), 1, 1, 32, 32)
            return torch.cat([0 * one, one], 2)

    val = ImageSet.open(paths.real("toy")).split("val")
    shares = [float((val.mask(row) > 0).mean()) for row in val]
    expected = np.mean([2 * share / (1 + share) for share in shares])
    assert mean_dice(Everything(), val, study().segment) == pytest.approx(expected)  # type: ignore[arg-type]


def test_averaged_weights_differ_from_the_last_and_new_settings_leave_old_fingerprints(toy_study: Params) -> None:
    last, _ = train_segmenter(study(), "dermosegdiff", train_split(), "s", Runtime.alone(1))
    averaged, _ = train_segmenter(study(ema_decay=0.9), "dermosegdiff", train_split(), "s", Runtime.alone(1))
    names = [name for name, value in last.objective.named_parameters() if value.ndim > 1]
    assert names
    first, second = (dict(one.objective.named_parameters()) for one in (last, averaged))
    assert not any(torch.equal(first[name], second[name]) for name in names)
    assert not {"ema_decay", "betas", "watch_every"} & settings(study(), "unet").keys()
    assert settings(study(ema_decay=0.9, betas=[0.7, 0.99]), "unet") == settings(study(), "unet") | {
        "ema_decay": 0.9,
        "betas": (0.7, 0.99),
    }
    assert settings(study(watch_every=2, heatmap_images=1), "unet") == settings(study(), "unet")


def test_a_grid_publishes_the_curve_and_heatmaps_of_its_first_seed(toy_study: Params) -> None:
    params = study(watch_every=2, heatmap_images=2, seeds=[0, 1])
    params = params.model_copy(update={"training_sets": {"real": params.training_sets["real"]}})
    mix(params, "real")
    run_grid(params, "dermosegdiff", Runtime.alone(1))
    folder = paths.segmentation("toy", "dermosegdiff")
    rows = tables.read_table(folder / "convergence.csv")
    assert [(row["seed"], row["step"], row["n"]) for row in rows] == [
        (seed, step, "3") for seed in "01" for step in "24"
    ]
    names = sorted(path.name for path in (folder / "heatmaps" / "real").iterdir())
    assert names == ["test_0.png", "test_3.png"]
    with Image.open(folder / "heatmaps" / "real" / names[0]) as picture:
        assert picture.size == (4 * 32 + 3 * heatmaps.GAP, 32)
    cell = files.read_sealed(plan(params, "dermosegdiff")[0].path)
    assert cell is not None
    assert len(cell["convergence"]) == 2


def test_a_segmenter_without_heatmaps_leaves_no_pictures(toy_study: Params, tmp_path: Path) -> None:
    params = study(heatmap_images=2)
    trained, _ = train_segmenter(params, "unet", train_split(), "s", Runtime.alone(1))
    heatmaps.write_heatmaps(trained, ImageSet.open(paths.real("toy")).split("test"), params.segment, tmp_path / "maps")
    assert not (tmp_path / "maps").exists()


def test_hot_pixels_are_bright_and_cold_ones_keep_the_image() -> None:
    image, mask = np.full((3, 1, 2), 100, np.uint8), np.array([[1, 0]], np.uint8)
    drawn = heatmaps.picture(image, mask, 1 - mask, np.array([[1.0, 0.0]], np.float32))
    gap = [heatmaps.PAPER] * heatmaps.GAP
    assert drawn[0, :, 0].tolist() == [100, 100, *gap, 255, 0, *gap, 0, 255, *gap, round(40 + 0.6 * 252), 40]
    assert drawn[0, -2].tolist() == [191, 193, 138]  # 0.4 of 100 and 0.6 of the last colour
