"""Subgroups on the page: a table per column, the harmed ones open and named."""

from typing import Any

import pytest

from pipeline.core import files, paths
from pipeline.stages.compare.comparison import collect_numbers
from pipeline.stages.compare.subgroups import COLUMNS
from pipeline.stages.report.page import page
from pipeline.stages.report.subgroups import summary
from pipeline.study import Params
from tests.explained import sections, unexplained
from tests.finished_study import leave_results


def row(column: str, level: str, verdict: str, **values: Any) -> dict[str, Any]:
    about = {"column": column, "level": level, "definition": "", "segmenter": "unet", "training_set": "siamese_x1"}
    about |= {"models": "grid", "n_images": 40, "n_units": 40, "n_seeds": 3, "reference_dice": 0.7, "dice": 0.64}
    about |= {"difference": -0.0625, "difference_low": -0.0925, "difference_high": -0.0325, "p": 0.001}
    return dict.fromkeys(COLUMNS) | about | {"verdict": verdict} | values


ROWS = [
    row("site", "A", "better", models="confirmation"),
    row("site", "<B>", "worse", p_holm=0.0123),
    row("lesion_size", "small", "inconclusive", p=None, reason="Only 4 test images.", definition="up to 2 %"),
]


@pytest.fixture
def study(toy_study: Params) -> Params:
    """A finished study whose comparison has subgroups."""
    leave_results()
    path = paths.comparison("toy") / "comparison.json"
    files.write_json(path, files.read_json(path) | {"subgroups": ROWS})
    return toy_study


def test_the_page_shows_a_table_per_column_and_opens_what_is_harmed(study: Params) -> None:
    text = page(study)
    assert unexplained(text) == []
    assert "subgroups" in sections(text)
    assert "<details open><summary>site</summary>" in text and "<details><summary>lesion_size</summary>" in text
    assert "&lt;B&gt;" in text and "-0.062 " in text and "0.012" in text
    assert "Only 4 test images." in text and "(trained again)" in text


def test_rows_name_a_reference_of_their_own(study: Params) -> None:
    path = paths.comparison("toy") / "comparison.json"
    comparison = files.read_json(path)
    comparison["subgroups"] = [*ROWS, row("site", "A", "better", reference="real_8")]
    for arm, reference in zip(comparison["arms"][-2:], ("real", "real_8"), strict=True):
        arm["reference"] = reference
    files.write_json(path, comparison)
    text = page(study)
    assert '<br><span class="quiet">against real_8</span></td><td class="sentence">better' in text
    assert "compares an arm with the real images of its limit alone on the test images" in text


def test_without_subgroups_there_is_no_section(toy_study: Params) -> None:
    leave_results()
    assert 'id="subgroups"' not in page(toy_study)


def test_the_summary_counts_what_was_tested() -> None:
    assert summary(ROWS) == (
        "Of 2 tested comparisons, the arm is worse in 1 (siamese_x1 on site <B>) and better in 1 (siamese_x1 on site A,"
        " trained again). 1 had too few images or seeds for a test."
    )
    assert summary(ROWS[2:]) == "No comparison could be tested, because each has too few images or seeds."
    assert summary([]) == ""
    other = row("site", "A", "better", segmenter="nnunet")
    assert "better in 2 (unet, siamese_x1 on site A, trained again; nnunet, siamese_x1 on site A)" in summary(
        [*ROWS, other]
    )
    assert summary(ROWS[:1]).startswith("Of 1 tested comparison, the arm is worse in none and better in 1")


def test_numbers_hold_the_subgroups(study: Params) -> None:
    numbers = collect_numbers("toy", ["siamese"], has_judge=True)["subgroups"]
    assert numbers["grid"]["site"]["<B>"]["unet"]["siamese_x1"]["verdict"] == "worse"
    assert set(numbers) == {"grid", "confirmation"}
