"""The exchange rate in the report: its figure, its sentences and tables, and what is refused."""

from typing import Any

import pytest

from pipeline.core import files, paths
from pipeline.stages.compare.exchange_rows import Rate
from pipeline.stages.report import exchange
from pipeline.stages.report.page import page, write_report
from pipeline.study import Params
from tests.explained import sections, unexplained
from tests.finished_study import leave_results

SENTENCE = "100 real + 4x siamese = 163 real pairs [121, 240]"
REFUSAL = "From 50 to 100 real pairs the curve rises by 0.1 points, less than twice the standard error of that rise."
SIZES = (50, 100, 200, 400)


def point(line: str, n: int, dice: float, residual: float | None = None) -> dict[str, Any]:
    row: dict[str, Any] = {"segmenter": "unet", "line": line, "n_real": n, "models": 5, "dice": dice}
    return row | {"low": dice - 0.02, "high": dice + 0.03, "residual": residual}


def rate(n: int, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = vars(Rate("unet", "4x siamese", f"x4_{n}", "siamese", 4, n, 4 * n, 0.7654))
    return row | more


MEASURED = {"equivalent": 163.0, "equivalent_low": 121.0, "equivalent_high": 240.0, "rate": 1.63, "rate_low": 1.21}
MEASURED |= {"rate_high": 2.4, "low": 0.75, "high": 0.78, "power_law": 171.0, "step": 50, "labels_worth": 0.0234}
MEASURED |= {"labels_worth_low": 0.01, "labels_worth_high": 0.04, "images_worth": 0.0123, "images_worth_low": 0.002}
MEASURED |= {"images_worth_high": 0.025, "sentence": SENTENCE}
MEASURED |= {"cost": "the synthetic images replace 189 minutes of labelling [63, 420]; 400 images take 0.4 GPU hours"}


@pytest.fixture
def study(toy_study: Params) -> Params:
    """A study whose stage compare has left learning curves."""
    leave_results()
    path = paths.comparison("toy") / "comparison.json"
    points = [point("real", n, 0.6 + 0.05 * place, 0.0042) for place, n in enumerate(SIZES)]
    points += [point("4x siamese", 50, 0.68), point("4x siamese", 100, 0.7654)]
    fit = {"segmenter": "unet", "n_real": list(SIZES), "dice": [0.6, 0.65, 0.7, 0.75], "low": [0.58] * 4}
    fit |= {"high": [0.78] * 4, "power_law": [0.6, 0.66, 0.71, 0.74]}
    rates = [rate(50, sentence=f"50 real + 4x siamese: no rate is stated. {REFUSAL}", refusal=REFUSAL)]
    rates += [rate(100, **MEASURED)]
    control: dict[str, Any] = {"line": "steps 2.0", "generator": None, "multiplier": 0, "images": 0, "cost": None}
    control |= {"sentence": "100 real, steps 2.0 = 110 real pairs [90, 130]"}
    control |= dict.fromkeys(key for key in MEASURED if key.startswith("images_worth"))
    rates += [rate(100, **MEASURED | control)]
    more = {"learning_curve": points, "learning_fits": [fit], "exchange": rates}
    files.write_json(path, files.read_json(path) | more)
    return toy_study


def test_the_page_says_what_images_are_worth_and_what_they_cost(study: Params) -> None:
    text = page(study)
    assert f"unet: {SENTENCE}. Costs: the synthetic images replace 189 minutes of labelling [63, 420];" in text
    assert f"no rate is stated. {REFUSAL}</p>" in text
    assert f"none: {REFUSAL}" in text
    assert "163 real pairs [121, 240]</td>" in text
    assert "50 labels: 0.023" in text and "200 images: 0.012" in text
    assert "110 real pairs [90, 130]</td>" in text and ">0 images" not in text
    assert "exchange" in sections(text) and unexplained(text) == []


def test_the_figure_reads_the_rate_off_the_curve(study: Params) -> None:
    comparison = files.read_json(paths.comparison("toy") / "comparison.json")
    (drawn,) = exchange.drawings(["unet"], comparison)
    assert "Real images alone: 0.600 at 50, 0.650 at 100" in drawn.alt_text and SENTENCE in drawn.alt_text
    assert REFUSAL not in drawn.alt_text
    labels = ("real images alone", "power law", "4x siamese")
    assert all(f">{label}<" in drawn.inline() for label in labels)
    assert drawn.svg() == drawn.svg()


def test_numbers_and_figures_are_written(study: Params) -> None:
    write_report(study)
    folder = paths.report("toy")
    found = files.read_json(folder / "numbers.json")["exchange"]["unet"]["4x siamese"]
    assert found["100"]["sentence"] == SENTENCE and found["50"]["equivalent"] is None
    assert (folder / "figures" / "learning_curve_unet.svg").is_file()


def test_a_study_without_limits_has_no_such_section(toy_study: Params) -> None:
    leave_results()
    assert "exchange" not in sections(page(toy_study))
