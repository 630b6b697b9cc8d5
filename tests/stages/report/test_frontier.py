"""The frontier in the report: which arm and which attack a row shows, what is absent and why, its figure and table."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.core import files, paths, tables
from pipeline.core.section import parse
from pipeline.stages.compare.comparison import read_comparison
from pipeline.stages.report import frontier, frontier_figure
from pipeline.stages.report.frontier import FrontierRow, frontier_rows
from pipeline.stages.report.frontier_figure import Spot, places
from pipeline.stages.report.page import page, write_report
from pipeline.study import Params
from tests.attacked_generators import STUDY, attacked_study, write_arms
from tests.explained import sections, unexplained


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A study with several attacked generators, of which every stage has left its files."""
    monkeypatch.chdir(tmp_path)
    return attacked_study()


def rows_of(study: Params) -> list[FrontierRow]:
    return frontier_rows("toy", study.generators, read_comparison("toy"))


def test_every_multiplier_has_a_row_of_the_arm_that_validation_prefers(study: Params) -> None:
    rows = [row for row in rows_of(study) if row.generator == "siamese"]
    assert [(row.training_set, row.multiplier, row.chosen) for row in rows] == [
        ("siamese_x1", 1, False),
        ("siamese_x2", 2, True),  # siamese_x2_share is better on test images, but not on validation images
    ]
    assert rows[1].difference == pytest.approx(0.05) and rows[1].difference_low == pytest.approx(0.0)
    assert (rows[1].verdict, rows[1].suspects, rows[1].audited) == ("inconclusive", 1, 8)


def test_the_attack_is_the_strongest_one_on_the_generator_itself(study: Params) -> None:
    row = rows_of(study)[0]  # the attack on the base has the highest AUC of all
    assert (row.attack, row.auc, row.auc_low, row.auc_high, row.attacks) == ("loss", 0.81, 0.7, 0.9, 2)


def test_epsilon_comes_from_the_generator(study: Params) -> None:
    by_name = {row.generator: row for row in rows_of(study)}
    private = by_name["controlnet_eps8"]
    assert (private.epsilon, private.delta, private.privacy_unit) == (pytest.approx(7.98), 0.0125, "training pair")
    assert private.epsilon_text == "7.98"
    assert [by_name[name].epsilon_text for name in ("siamese", "copy_paste", "unused")] == ["none"] * 3


def test_images_from_outside_have_a_privacy_that_is_not_known(study: Params) -> None:
    folder = {"generators": {"siamese": {"method": "folder", "copies": 1, "folder": "elsewhere"}}}
    generators = parse(Params, STUDY | folder | {"training_sets": {"real": {}}}).generators
    (row,) = frontier_rows("toy", generators, {"arms": []})
    assert row.epsilon_text == "not known"


def test_what_is_missing_has_its_reason(study: Params) -> None:
    row = rows_of(study)[-1]
    assert (row.generator, row.no_attack, row.no_arm) == ("unused", frontier.NO_ATTACK, frontier.NO_ARM)
    path = paths.audit("toy", "siamese") / "membership.json"
    record = files.read_json(path)
    for attacks, absent, reason in (
        (record["attacks"][2:], {}, frontier.ONLY_BASE),
        ([], {"autoencoder": "none"}, frontier.ONLY_BASE),
        ([], {"loss": "it diverged", "autoencoder": "none"}, "loss: it diverged"),
    ):
        files.write_json(path, record | {"attacks": attacks, "absent": absent})
        found = rows_of(study)[0]
        assert (found.auc, found.no_attack) == (None, reason)
    path.unlink()  # an audit of an earlier version
    assert rows_of(study)[0].no_attack == frontier.NO_ATTACK


def test_the_figure_shows_one_labelled_point_per_attacked_generator(study: Params) -> None:
    (drawn,) = frontier_figure.drawings(["unet"], rows_of(study), "real")
    text = drawn.inline()
    for name in ("siamese", "controlnet_eps8", "controlnet_eps1", "copy_paste"):
        assert f">{name}<" in text
    assert ">unused<" not in text
    labels = [f">epsilon: {name}<" for name in ("none", "7.98", "0.98")]
    assert sorted(labels, key=text.index) == labels
    assert "siamese, epsilon none: Dice +0.050, AUC 0.81" in drawn.alt_text
    assert "copy_paste, epsilon none: Dice +0.010, AUC 0.97" in drawn.alt_text  # without an interval of the AUC
    assert drawn.svg() == drawn.svg()


def test_the_figure_names_the_reference_of_its_arms(study: Params) -> None:
    rows = [replace(row, reference="real_50") for row in rows_of(study)]
    (drawn,) = frontier_figure.drawings(["unet"], rows, "real")
    assert "Dice minus real_50" in drawn.alt_text and "Dice minus real_50" in drawn.inline()
    (mixed,) = frontier_figure.drawings(["unet"], [*rows[:3], *rows_of(study)[3:]], "real")
    assert mixed.alt_text.startswith("Dice minus the reference of its limit over the AUC")


def test_each_segmenter_has_a_figure_and_rows(study: Params) -> None:
    write_arms(("unet", "other"))
    rows = rows_of(study)
    assert [row.segmenter for row in rows if row.generator == "siamese"] == ["unet", "unet", "other", "other"]
    assert [one.name for one in frontier_figure.drawings(["unet", "other"], rows, "real")] == [
        "frontier_unet",
        "frontier_other",
    ]


def test_the_page_shows_the_figure_and_the_table_and_files_hold_them(study: Params) -> None:
    write_report(study)
    text = page(study)
    shown = text[text.index('<section id="frontier">') :].partition("</section>")[0]
    assert "0.81 <span" in shown and "[0.70, 0.90]" in shown and "loss, highest of 2" in shown
    assert "delta 0.0125 per training pair" in shown and "none: no training set holds its images" in shown
    assert shown.count("chosen by validation") == 4
    assert sections(text)["frontier"].drawings == 1 and unexplained(text) == []
    lines = tables.read_table(paths.report("toy") / "frontier.csv")
    assert [line["epsilon"] for line in lines] == ["none", "none", "7.98", "0.98", "none", "none"]
    assert lines[-1]["no_arm"] == frontier.NO_ARM and lines[0]["auc"] == "0.81"
    assert (paths.report("toy") / "figures" / "frontier_unet.svg").is_file()


def test_without_an_attack_the_page_says_how_to_get_one(study: Params) -> None:
    for name in study.generators:
        (paths.audit("toy", name) / "membership.json").unlink()
    write_report(study)
    text = page(study)
    assert "frontier" not in sections(text)
    assert "With <code>audit.membership</code>, the report also compares" in text
    assert {line["no_attack"] for line in tables.read_table(paths.report("toy") / "frontier.csv")} == {
        frontier.NO_ATTACK
    }
    assert not list((paths.report("toy") / "figures").glob("frontier_*"))


def spot(name: str, x: float, y: float) -> Spot:
    return Spot(name, "none", x, y, (x - 0.01, x + 0.01), (y - 0.01, y + 0.01))


def test_labels_keep_clear_of_each_other_and_of_the_rim() -> None:
    """Two points on one spot, one in the upper right corner."""
    twins = places([spot("first_entry", 0.5, 0.5), spot("second_entry", 0.5, 0.5)], (0, 1), (0, 1))
    assert twins[0] != twins[1]
    ((right, up),) = places([spot("in_the_corner", 0.99, 0.99)], (0, 1), (0, 1))
    assert right < 0 and up < 0
