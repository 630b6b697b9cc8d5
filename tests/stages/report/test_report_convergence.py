"""The report of convergence, of the boundary weight and of where segmenters look."""

import numpy as np
import pytest

from pipeline.core import paths, tables
from pipeline.core.files import write_bytes
from pipeline.data.image_set import ImageSet, png
from pipeline.segmentation.params import SegmenterEntry
from pipeline.stages.report import attention_maps, boundary_weights, convergence, losses, pictures
from pipeline.stages.report.page import write_report
from pipeline.study import Params
from tests.explained import unexplained
from tests.finished_study import leave_results

HOT = np.full((8, 38, 3), 7, np.uint8)


@pytest.fixture
def study(toy_study: Params) -> Params:
    """A study with a second and a third segmenter, of which every stage has left its files."""
    leave_results()
    entries = {
        "a": SegmenterEntry.model_validate({"method": "dermosegdiff", "loss": "A"}),
        "b": SegmenterEntry.model_validate({"method": "dermosegdiff", "train_steps": 100, "gamma": 0.25}),
    }
    return toy_study.model_copy(update={"segmenters": toy_study.segmenters | entries})


def leave_curves() -> None:
    for name, rise in (("a", 0.0), ("b", 0.1)):
        folder = paths.segmentation("toy", name)
        own = {"segmenter": name, "training_set": "real"}
        dice = [
            own | {"seed": seed, "step": 5 * k, "n": 3, "dice": 0.4 + rise + 0.2 * k * seed}
            for seed in (0, 1)
            for k in (1, 2)
        ]
        tables.write_table(folder / "convergence.csv", [*dice, dice[0] | {"training_set": "siamese_x1", "dice": 0.0}])
        rows = [own | {"seed": seed, "step": k, "mse": 1 + seed - rise} for seed in (0, 2) for k in range(10)]
        rows = [row | ({"boundary": 0.5} if name == "b" else {}) for row in rows]
        tables.write_table(folder / "losses.csv", rows)


def test_dice_over_training_and_the_losses_that_segmenters_share(study: Params) -> None:
    assert list(convergence.drawings("toy", study.segmenters, "real")) == []
    leave_curves()
    dice, mse = convergence.drawings("toy", study.segmenters, "real")
    assert "a: 0.500, 0.600; b: 0.600, 0.700." in dice.alt_text  # means of 0.4 and 0.6, of 0.4 and 0.8
    assert mse.name == "loss_real: mse" and "a from 2 to 2; b from 1.9 to 1.9" in mse.alt_text
    assert losses.mean_losses(paths.segmentation("toy", "b") / "losses.csv", "real").keys() == {"boundary", "mse"}


def test_the_weight_of_the_middling_mask_is_shown_for_loss_b(study: Params) -> None:
    (one,) = boundary_weights.boundary_weights("toy", study.segmenters)
    assert (one.segmenter, one.moments) == ("b", "0 T, 0.25 T, 0.5 T, 0.75 T, 1 T")
    drawn = boundary_weights.weight_maps("toy", study.segmenters["b"].options)
    assert drawn.shape == (32, 6 * 32 + 5 * boundary_weights.GAP, 3)
    train = ImageSet.open(paths.real("toy")).split("train")
    areas = sorted(int((train.mask(row) > 0).sum()) for row in train)
    assert int((drawn[:, :32, 0] == 255).sum()) == areas[len(areas) // 2]
    maps = [drawn[:, start : start + 32, 0].astype(float) for start in range(34, drawn.shape[1], 34)]
    means = [one.mean() for one in maps]
    assert means == sorted(means)
    (curve,) = boundary_weights.drawings(study.segmenters)
    assert "t = 0 T: 0.61" in curve.alt_text  # 0.5^(0.25^0.25)


def test_sections_of_the_page(study: Params) -> None:
    leave_curves()
    write_bytes(paths.segmentation("toy", "b") / "heatmaps" / "real" / "case_1.png", png(HOT))
    shown = attention_maps.heatmaps("toy", study.segmenters, "real", side=8)
    assert list(shown) == ["b"] and shown["b"][0].picture == pictures.uri(HOT)
    write_report(study)
    text = (paths.report("toy") / "index.html").read_text(encoding="utf-8")
    for name in ("convergence", "weights", "heatmaps"):
        assert f'<section id="{name}">' in text and f'<a href="#{name}">' in text
    assert unexplained(text) == []
    for name in ("convergence_real.svg", "boundary_weight_b.png", "boundary_weight_maps_b.png", "heatmaps_b.png"):
        assert (paths.report("toy") / "figures" / name).is_file()
