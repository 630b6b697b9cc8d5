"""What DVC shows of a study in one row, and the list of all reports."""

from typing import Any

import pytest

from pipeline.core import files, paths
from pipeline.stages.mix.params import TrainingSet
from pipeline.stages.report.index import NUMBERS, listed_reports, write_index
from pipeline.stages.report.summary import summary
from tests.stages.report.test_reporting import Page

SETS = {
    "real": TrainingSet(),
    "real_again": TrainingSet(seed_offset=1000),
    "siamese_x1": TrainingSet(generator="siamese", multiplier=1),
    "fid": TrainingSet(generator="controlnet", multiplier=1),
}
ROLES = {"real": "reference", "real_again": "control", "siamese_x1": "arm", "fid": "rival"}
SCORES = {"siamese": {"faithfulness": 0.8, "frechet": {"efficientnet_lite0": 9.0}}, "controlnet": {"fid": 40.0}}


def comparison(segmenters: tuple[str, ...], headline: dict[str, Any] | None) -> dict[str, Any]:
    rows = [
        {"segmenter": segmenter, "training_set": name, "role": ROLES[name], "dice": number + place / 10}
        for number, segmenter in enumerate(segmenters)
        for place, name in enumerate(SETS)
    ]
    return {"arms": rows, "headline": headline}


def test_the_row_has_the_verdict_and_what_it_is_about() -> None:
    claim = {"segmenter": "unet", "training_sets": ["siamese_x1"], "verdict": "better"}
    found = summary(comparison(("unet", "other"), claim), SCORES, SETS)
    assert found == {"verdict": "better", "faithfulness": 0.8, "real": 0.0, "siamese_x1": 0.2, "fid": 0.3}
    assert list(found)[:2] == ["verdict", "faithfulness"]


def test_a_training_set_named_as_a_score_does_not_take_its_place() -> None:
    claim = {"segmenter": "unet", "training_sets": ["fid"], "verdict": "worse"}
    found = summary(comparison(("unet",), claim), SCORES, SETS)
    assert (found["fid"], found["dice of fid"], found["verdict"]) == (40.0, 0.3, "worse")


def test_without_synthetic_arms_the_segmenters_are_shown_on_the_reference() -> None:
    assert summary(comparison(("unet", "other"), None), {}, SETS) == {"verdict": "none", "unet": 0.0, "other": 1.0}


def test_the_list_names_every_report_with_its_verdict(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert list(listed_reports()) == []
    for study in ("b", "a", "c"):
        files.write_bytes(paths.report(study) / "index.html", b"page")
    for study in ("a", "b"):
        files.write_json(paths.report(study) / NUMBERS, {"title": "T & T", "verdict": f"Dice <{study}>"})
    files.write_bytes(paths.report("unfinished") / NUMBERS, b"{}")
    text = write_index().read_text(encoding="utf-8")
    links = [about["href"] for tag, about in Page(text).tags if tag == "a"]
    assert links == ["a/index.html", "b/index.html", "c/index.html"]
    assert "Dice &lt;a&gt;" in text and "T &amp; T" in text and "its numbers cannot be read" in text
