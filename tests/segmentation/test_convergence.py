"""Looks at validation images during a training, averaged weights, pictures of where a segmenter looks."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.core import files, paths, tables
from pipeline.core.contracts import Segmenter
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.segmentation.convergence import Convergence, mean_dice
from pipeline.segmentation.params import Segment, entry_settings
from pipeline.segmentation.train import TrainingOptions, train_segmenter, training_identity
from pipeline.stages.mix.mix import mix
from pipeline.stages.segment import heatmaps
from pipeline.stages.segment.cells import SegmenterSetup
from pipeline.stages.segment.grid import plan, run_grid
from pipeline.stages.segment.rgb import BACKGROUND, GAP
from pipeline.study import Params
from tests.conftest import TOY_STUDY

DENOISER = {"width_x": 4, "width_g": 4, "mult_x": [1, 2], "mult_g": [1, 2], "train_steps": 30, "steps": 2}


def study(**segment: object) -> Params:
    values = {"max_steps": 4, "batch_size": 4, "learning_rate": 1e-3, "seeds": [0], **segment}
    segmenters = {"unet": TOY_STUDY["segmenters"]["unet"], "dermosegdiff": DENOISER}
    return parse(Params, TOY_STUDY | {"segment": values, "segmenters": segmenters})


def train_split() -> ImageSet:
    return ImageSet.open(paths.real("toy")).split("train")


def settings(params: Params, name: str) -> Segment:
    return entry_settings(params.segment, name, params.segmenters[name])


def identity(params: Params) -> dict[str, Any]:
    return training_identity(settings(params, "unet"), 1)


def trained(params: Params, name: str, *options: TrainingOptions) -> tuple[Segmenter, list[dict[str, float]]]:
    entry = params.segmenters[name]
    return train_segmenter(name, entry, settings(params, name), train_split(), "s", Runtime.alone(1), *options)


def test_a_look_changes_no_weight_and_finds_what_the_end_has(toy_study: Params) -> None:
    real = ImageSet.open(paths.real("toy"))
    params = study(watch_every=2, watch_images=2)
    seen = Convergence(real.split("val"), settings(params, "dermosegdiff"))
    watched, losses = trained(params, "dermosegdiff", TrainingOptions("", None, seen))
    plain, alike = trained(study(), "dermosegdiff")
    assert losses == alike
    assert torch.equal(watched.predict(torch.ones(1, 3, 32, 32)), plain.predict(torch.ones(1, 3, 32, 32)))
    assert [(row["step"], row["n"]) for row in seen.rows] == [(2, 2), (4, 2)]
    few = real.split("val").select([real.split("val").rows[0], real.split("val").rows[-1]])
    assert seen.rows[-1]["dice"] == pytest.approx(mean_dice(watched, few, seen.segment), abs=1e-6)


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
    last, _ = trained(study(), "dermosegdiff")
    averaged, _ = trained(study(ema_decay=0.9), "dermosegdiff")
    names = [name for name, value in last.objective.named_parameters() if value.ndim > 1]
    assert names
    first, second = (dict(one.objective.named_parameters()) for one in (last, averaged))
    assert not any(torch.equal(first[name], second[name]) for name in names)
    assert not {"ema_decay", "betas", "watch_every"} & identity(study()).keys()
    assert identity(study(ema_decay=0.9, betas=[0.7, 0.99])) == identity(study()) | {
        "ema_decay": 0.9,
        "betas": (0.7, 0.99),
    }
    assert identity(study(watch_every=2, heatmap_images=1)) == identity(study())


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
        assert picture.size == (4 * 32 + 3 * GAP, 32)
    cell = files.read_sealed(plan(SegmenterSetup.of(params, "dermosegdiff"))[0].path)
    assert cell is not None
    assert len(cell["convergence"]) == 2


def test_a_segmenter_without_heatmaps_leaves_no_pictures(toy_study: Params, tmp_path: Path) -> None:
    params = study(heatmap_images=2)
    unet, _ = trained(params, "unet")
    heatmaps.write_heatmaps(unet, ImageSet.open(paths.real("toy")).split("test"), params.segment, tmp_path / "maps")
    assert not (tmp_path / "maps").exists()


def test_hot_pixels_are_bright_and_cold_ones_keep_the_image() -> None:
    image, mask = np.full((3, 1, 2), 100, np.uint8), np.array([[1, 0]], np.uint8)
    drawn = heatmaps.picture(image, mask, 1 - mask, np.array([[1.0, 0.0]], np.float32))
    gap = [BACKGROUND] * GAP
    assert drawn[0, :, 0].tolist() == [100, 100, *gap, 255, 0, *gap, 0, 255, *gap, round(40 + 0.6 * 252), 40]
    assert drawn[0, -2].tolist() == [191, 193, 138]  # 0.4 of 100 and 0.6 of the last colour
