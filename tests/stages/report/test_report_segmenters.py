"""The report of what segmenters draw: Dice over sampling steps, raters and samples, scores that only some sets have."""

import re

import numpy as np
import pytest

from pipeline.core import paths, tables
from pipeline.core.files import write_bytes
from pipeline.data.image_set import png
from pipeline.stages.report import extra_tables, pictures, rater_samples
from pipeline.stages.report.page import write_report
from pipeline.study import Params
from tests.explained import unexplained
from tests.finished_study import leave_results


@pytest.fixture
def study(toy_study: Params) -> Params:
    """A study of which every stage has left its files."""
    leave_results()
    return toy_study


STEPS = [
    {"segmenter": "unet", "training_set": "real", "seed": seed, "step": step, "n": 4, "dice": dice}
    for seed, curve in ((0, (0.5, 0.75, 0.875)), (1, (0.25, 0.5, 0.625)))
    for step, dice in enumerate(curve, 1)
]
LINE = {"segmenter": "unet", "training_set": "real", "kind": "weighted", "dice": 0.8, "size_rho": "", "class_rho": 1.0}
SCORES = {"ged": 0.3125, "ci_printed": 0.5, "dsc_pooled": 0.9, "se_pooled": 0.7}
SHOWN, OTHER = np.full((10, 20, 3), 9, np.uint8), np.zeros((10, 20, 3), np.uint8)


def leave_steps() -> None:
    tables.write_table(paths.segmentation("toy", "unet") / "steps.csv", STEPS)


def leave_pictures() -> None:
    folder = paths.segmentation("toy", "unet") / "samples"
    for name in ("case_2", "case_1"):
        write_bytes(folder / "real" / f"{name}.png", png(SHOWN))
    write_bytes(folder / "siamese_x1" / "case_1.png", png(OTHER))


def leave_scores() -> None:
    rows = [LINE | SCORES | {"kind": "test_set", "ged": 0.9}, LINE | SCORES]
    tables.write_table(paths.segmentation("toy", "unet") / "protocol.csv", rows)


def test_dice_over_sampling_steps_is_drawn_for_each_training_set(study: Params) -> None:
    assert list(rater_samples.drawings(study.study, study.segmenters)) == []
    leave_steps()
    (drawn,) = rater_samples.drawings(study.study, study.segmenters)
    assert "trained on real" in drawn.alt_text and "unet: 0.375, 0.625, 0.750." in drawn.alt_text
    assert drawn.inline().startswith("<svg")


def test_raters_and_samples_are_shown_for_the_compared_training_set(study: Params) -> None:
    assert rater_samples.galleries(study.study, ["unet"], "real") == {}
    assert rater_samples.sheet(study.study, "unet", "real") is None
    leave_pictures()
    (one, two) = rater_samples.galleries(study.study, ["unet"], "real", side=20)["unet"]
    assert (one.id, two.id) == ("case_1", "case_2")
    assert one.picture == pictures.uri(SHOWN.repeat(4, 0).repeat(4, 1))
    sheet = rater_samples.sheet(study.study, "unet", "real")
    assert sheet is not None and sheet.shape == (10 + 12 + 10, 20, 3)


def test_further_scores_are_those_of_all_test_images(study: Params) -> None:
    assert extra_tables.score_tables(study.study, study.segmenters) == []
    leave_scores()
    agreement, pooled, sizes = extra_tables.score_tables(study.study, study.segmenters)
    assert agreement.columns == ("GED²", "CI, printed form")
    assert agreement.rows == [("unet", "real", [0.3125, 0.5])]
    assert pooled.columns == ("DSC pooled", "per image", "SE pooled")
    assert sizes.rows == [("unet", "real", [None, 1.0])]


def test_sections_of_the_page(study: Params) -> None:
    leave_steps()
    leave_pictures()
    leave_scores()
    write_report(study)
    text = (paths.report("toy") / "index.html").read_text(encoding="utf-8")
    for name in ("sampling", "raters", "further"):
        assert f'<section id="{name}">' in text and f'<a href="#{name}">' in text
    assert unexplained(text) == []
    assert "case_1: the masks of its raters above, samples of unet below" in text
    found = text[text.index("<h3>Agreement with several raters</h3>") :]
    assert re.findall(r"<td>([^<]*)</td>", found)[:3] == ["unet", "0.312", "0.500"]
    for name in ("sampling_steps_real.svg", "raters_unet.png"):
        assert (paths.report("toy") / "figures" / name).is_file()
