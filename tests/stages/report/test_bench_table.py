"""The generators side by side: every number is that of the stage that measured it, and times are in the CSV alone."""

from typing import Any

import pytest

from pipeline.core import files, paths, tables
from pipeline.stages.compare.comparison import read_comparison
from pipeline.stages.report.bench_table import BenchRow, bench_rows, write_bench
from pipeline.stages.report.page import page, write_report
from pipeline.study import Params
from tests.finished_study import leave_results

SCORES = {"faithfulness": 0.61, "frechet": {"efficientnet_lite0": 231.25}, "recall": {"efficientnet_lite0": 0.375}}


@pytest.fixture
def study(toy_study: Params) -> Params:
    """A finished study whose stages took 12 s for 2 steps, and 4 s for 16 images."""
    leave_results()
    files.write_json(paths.scores("toy", "siamese") / "metrics.json", SCORES | {"faithfulness_shuffled": 0.2})
    files.write_json(paths.finetune_seconds("toy", "siamese"), {"steps": 2, "seconds": 12.25})
    files.write_json(paths.generate_seconds("toy", "siamese"), {"images": 16, "seconds": 4.0})
    return toy_study


def rows_of(study: Params, comparison: dict[str, Any]) -> list[BenchRow]:
    return bench_rows(study.study, study.generators, study.score.extractors, comparison)


def test_a_row_holds_what_the_stages_have_measured(study: Params) -> None:
    (row,) = rows_of(study, read_comparison("toy"))  # the reference and the A/A arm hold no image of a generator
    assert (row.segmenter, row.training_set, row.generator, row.method) == ("unet", "siamese_x1", "siamese", "siamese")
    assert (row.faithfulness, row.frechet, row.recall, row.extractor) == (0.61, 231.25, 0.375, "efficientnet_lite0")
    assert (row.suspects, row.audited) == (1, 8)
    assert (row.difference, row.difference_low) == (pytest.approx(0.1125), pytest.approx(0.0625))
    assert (row.train_steps, row.train_seconds, row.seconds_per_image) == (2, 12.25, 0.25)


def test_what_was_not_measured_is_empty(study: Params) -> None:
    files.write_json(paths.scores("toy", "siamese") / "metrics.json", {})
    files.write_json(paths.finetune_seconds("toy", "siamese"), {"steps": 2, "seconds": None})
    paths.generate_seconds("toy", "siamese").unlink()
    (row,) = rows_of(study, read_comparison("toy"))
    assert (row.faithfulness, row.frechet, row.recall, row.extractor) == (None,) * 4
    assert (row.train_steps, row.train_seconds, row.seconds_per_image) == (None,) * 3


def test_the_page_shows_the_table_without_times_and_the_file_has_them(study: Params) -> None:
    write_report(study)
    before = (paths.report("toy") / "index.html").read_bytes()
    (line,) = tables.read_table(paths.report("toy") / "bench.csv")
    assert (line["training_set"], line["frechet"], line["train_seconds"]) == ("siamese_x1", "231.25", "12.25")
    text = page(study)
    table = text[text.index('<section id="bench">') :].partition("</section>")[0]
    assert ">0.610<" in table and ">231.2" in table and ">0.375<" in table and ">1 of 8<" in table
    files.write_json(paths.finetune_seconds("toy", "siamese"), {"steps": 2, "seconds": 99.0})
    write_report(study)
    assert (paths.report("toy") / "index.html").read_bytes() == before
    assert tables.read_table(paths.report("toy") / "bench.csv")[0]["train_seconds"] == "99.0"


def test_a_study_without_generators_has_the_header_alone(study: Params) -> None:
    comparison = read_comparison("toy")
    comparison["arms"] = [arm for arm in comparison["arms"] if arm["generator"] is None]
    rows = rows_of(study, comparison)
    assert rows == []
    write_bench(paths.report("toy") / "bench.csv", rows)
    assert (
        (paths.report("toy") / "bench.csv").read_text(encoding="utf-8").startswith("segmenter,training_set,generator")
    )
