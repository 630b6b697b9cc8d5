"""Comparisons by subgroup: what a level is, what is corrected, what is refused, what the sentence says."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core import files, paths, tables
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.stages.compare.arms import compare_arms, conclude_arms
from pipeline.stages.compare.comparison import Comparison, compare, publish_comparison
from pipeline.stages.compare.design import Design
from pipeline.stages.compare.levels import Level, band_names, levels
from pipeline.stages.compare.params import Bands, Compare
from pipeline.stages.compare.results import Results
from pipeline.stages.compare.sentence import failed_controls, withdrawn
from pipeline.stages.compare.subgroups import (
    COLUMNS,
    SubgroupDifference,
    as_metrics,
    compare_subgroups,
    read_attributes,
)
from pipeline.study import Params
from tests.conftest import TOY_STUDY
from tests.reference import subgroups_literal

SETS = ("real", "real_again", "siamese_x1", "siamese_x2")
N = 60
SITE = ["A" if k < 40 else "B" if k < 56 else "" for k in range(N)]  # 40, 16 and 4 images
AREAS = tuple(k / 1000 for k in range(N))


def study(*subgroups: Any, **values: Any) -> Params:
    section = {"resamples": 2000, "subgroups": list(subgroups)}
    data = TOY_STUDY["data"] | {"attributes": {"columns": ["site", "age"], "file": "about.csv"}}
    return parse(Params, TOY_STUDY | {"data": data, "compare": section} | values)


def design(params: Params) -> Design:
    return Design(params.compare, params.training_sets, len(params.segmenters), params.seed)


def drawn(gains: dict[str, Any] | None = None, seeds: int = 3, seed: int = 0, **values: Any) -> Results:
    """Scores of all training sets; a gain is a number, or one for each test image."""
    rng, scores, gains = np.random.default_rng(seed), {}, gains or {}
    images = {split: tuple((f"set{k % 2}", f"{split}{k}") for k in range(N)) for split in ("val", "test")}
    for split in images:
        hardness = rng.normal(0.7, 0.1, N)
        for name in SETS:
            noise = rng.normal(0, 0.02, N) + rng.normal(0, 0.02, (seeds, N)) + rng.normal(0, 0.002, (seeds, 1))
            scores[name, split, "dice"] = hardness + noise + gains.get(name, 0.0)
            scores[name, split, "iou"] = 0.8 * scores[name, split, "dice"]
    about: dict[str, Any] = {"areas": {"test": AREAS}, **values}
    return Results(scores, tuple(map(str, range(seeds))), images, **about)


def attributes(**columns: Any) -> dict[str, dict[str, str]]:
    return {f"test{k}": {name: values[k] for name, values in columns.items()} for k in range(N)}


ABOUT = attributes(site=SITE, age=[str(20 + k) for k in range(N)])
HARM = np.where(np.array(SITE) == "B", -0.08, 0.03)


def compared(params: Params, results: Results) -> dict[tuple[str, str, str], SubgroupDifference]:
    rows = compare_subgroups(design(params), ABOUT, {"unet": results})
    return {(row.column, row.level, row.training_sets[0]): row for row in rows}


def verdict(row: SubgroupDifference) -> str | None:
    return row.record()["verdict"]


def test_a_planted_harm_is_found_at_its_site_only() -> None:
    rows = compared(study("site", "lesion_size"), drawn({"siamese_x1": HARM}))
    harmed = {key for key, row in rows.items() if row.is_harmed}
    assert ("site", "B", "siamese_x1") in harmed
    assert not any(key[2] == "siamese_x2" or key[:2] == ("site", "A") for key in harmed)
    assert verdict(rows["site", "A", "siamese_x1"]) == "better"
    found = rows["site", "B", "siamese_x1"]
    assert found.difference == pytest.approx(-0.08, abs=0.02)
    assert (found.n_images, found.n_units, found.n_seeds) == (16, 16, 3)


@pytest.mark.parametrize("clusters", [None, tuple(f"p{k // 2}" for k in range(N))], ids=["images", "groups"])
def test_the_numbers_of_a_level_are_those_of_plain_loops(clusters: tuple[str, ...] | None) -> None:
    params = study("site", training_sets={"real": {}, "siamese_x1": {"generator": "siamese", "multiplier": 1}})
    results = drawn({"siamese_x1": HARM / 8}, seeds=5, clusters={"test": clusters} if clusters else {})
    rows = compare_subgroups(design(params), ABOUT, {"unet": results})
    arm, reference = (results.tables[name, "test", "dice"].tolist() for name in ("siamese_x1", "real"))
    groups = clusters or tuple(map(str, range(N)))
    tested = [row for row in rows if row.level != "unknown"]
    expected = [subgroups_literal.level_difference(arm, reference, SITE, groups, r.level, 0.95) for r in tested]
    for row, (mean, low, high, p) in zip(tested, expected, strict=True):
        assert row.evidence
        found = (row.difference, row.evidence.difference_low, row.evidence.difference_high)
        assert found == pytest.approx((mean, low, high), rel=1e-9)
        assert row.evidence.p == pytest.approx(p, abs=1e-7)
    adjusted = subgroups_literal.holm([row.evidence.p for row in tested if row.evidence])
    assert [row.conclusion.p_holm for row in tested if row.conclusion] == pytest.approx(adjusted)


def test_holm_runs_over_everything_that_is_named() -> None:
    rows = compared(study("site", "lesion_size"), drawn({"siamese_x1": HARM}))
    tested = [row for row in rows.values() if row.evidence and row.conclusion]
    assert len(tested) == 2 * (2 + 3)  # two arms; the fourth size, without foreground, has one image
    for test in ("p", "p_images", "p_equivalent"):
        adjusted = subgroups_literal.holm([getattr(row.evidence, test) for row in tested])
        assert [getattr(row.conclusion, f"{test}_holm") for row in tested] == pytest.approx(adjusted)


def test_small_levels_have_a_reason_and_are_not_corrected_for() -> None:
    rows = compared(study("site"), drawn({"siamese_x1": HARM}))
    row = rows["site", "unknown", "siamese_x1"].record()
    assert row["n_images"] == 4 and row["verdict"] == "inconclusive"
    assert row["reason"] == "Only 4 test images; a verdict needs 6 independent ones."
    assert row["p"] is row["p_holm"] is row["difference_low"] is None
    groups = drawn(clusters={"test": tuple(f"p{k // 8}" for k in range(N))})
    found = compared(study("site"), groups)["site", "B", "siamese_x1"]
    assert found.n_units == 2 and found.reason is not None and "in 2 groups" in found.reason


def test_two_seeds_carry_no_verdict() -> None:
    rows = compared(study("site"), drawn({"siamese_x1": HARM}, seeds=2))
    assert {verdict(row) for row in rows.values()} == {"inconclusive"}
    assert all(row.reason for row in rows.values())


def test_every_image_lies_in_one_level() -> None:
    for subgroup in ("site", "lesion_size", "source", Bands(column="age", edges=(40, 60))):
        found = levels(subgroup, drawn(), ABOUT)
        assert (np.sum([level.images for level in found], axis=0) == 1).all()


def test_bands_include_their_lower_edge_and_keep_their_order() -> None:
    found = levels(Bands(column="age", edges=(40, 60)), drawn(), ABOUT)
    assert [(level.name, int(level.images.sum())) for level in found] == [
        ("below 40", 20),
        ("40 to below 60", 20),
        ("60 or more", 20),
    ]
    assert band_names([0.5]) == ["below 0.5", "0.5 or more"]


def test_lesion_sizes_are_thirds_of_the_images_with_foreground() -> None:
    found = levels("lesion_size", drawn(), {})
    assert [(level.name, int(level.images.sum())) for level in found] == [
        ("none", 1),
        ("small", 20),
        ("medium", 19),
        ("large", 20),
    ]
    assert found[1].definition == "foreground up to 2.03 % of the image"
    same = levels("lesion_size", drawn({"siamese_x1": HARM}, seed=5), {})  # other scores, the same levels
    assert all((one.images == other.images).all() for one, other in zip(found, same, strict=True))


def test_images_of_one_area_are_not_divided() -> None:
    found = levels("lesion_size", drawn(areas={"test": (0.0,) + (0.25,) * (N - 1)}), {})
    assert [(level.name, int(level.images.sum())) for level in found] == [("none", 1), ("small", N - 1)]
    with pytest.raises(UserError, match=r"all test images have the same lesion_size \(small\); remove it"):
        levels("lesion_size", drawn(areas={"test": (0.25,) * N}), {})


@pytest.mark.parametrize(
    ("subgroup", "values", "message"),
    [
        ("age", [str(k) for k in range(N)], r"age holds 60 different numbers; give the edges of its bands"),
        ("age", [f"p{k}" for k in range(N)], r"age holds 60 different values, more than 20"),
        (Bands(column="age", edges=(40.0,)), ["old"] * N, r"age has edges, but holds 'old', which is no number"),
        (Bands(column="age", edges=(40.0,)), ["nan"] * N, r"age has edges, but holds 'nan', which is no number"),
    ],
)
def test_columns_that_cannot_be_divided_are_refused(subgroup: Any, values: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        levels(subgroup, drawn(), attributes(age=values))


def test_what_is_missing_is_refused() -> None:
    with pytest.raises(UserError, match=r"lesion_size needs the column area"):
        levels("lesion_size", drawn(areas={}), {})
    with pytest.raises(UserError, match=r"no row of the test image 'test0'"):
        levels("site", drawn(), {})


def test_too_few_resamples_are_refused() -> None:
    params = study("site", "lesion_size", Bands(column="age", edges=(30, 40, 50, 60)))
    few = params.model_copy(update={"compare": params.compare.model_copy(update={"resamples": 400})})
    with pytest.raises(UserError, match=r"compare\.subgroups: .* 20 comparisons .* at least 800, or name fewer"):
        compared(few, drawn())


def test_a_failed_control_withdraws_the_verdicts_of_subgroups() -> None:
    params, results = study("site"), drawn({"siamese_x1": HARM, "real_again": 0.05})
    arms = conclude_arms(compare_arms(design(params), "unet", results), params.compare)
    failed = failed_controls(arms, "unet")
    assert failed
    rows = [withdrawn(row, failed) for row in compared(params, results).values()]
    assert {verdict(row) for row in rows} == {"inconclusive"}
    assert any("control real_again" in (row.record()["reason"] or "") for row in rows)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study of which prepare has left attributes.csv."""
    monkeypatch.chdir(tmp_path)
    tables.write_table(paths.attributes("toy"), [{"id": name, **row} for name, row in ABOUT.items()])


def whole(params: Params, results: Results) -> Comparison:
    def read(segmenter: str, training_sets: Any, metrics: Any = ()) -> Results:
        return results

    return compare(params, read)


GAIN = {"siamese_x1": HARM, "siamese_x2": -0.2}


@pytest.mark.usefixtures("here")
def test_the_sentence_names_a_harmed_subgroup() -> None:
    gains = {name: gain + 0.05 for name, gain in GAIN.items()} | {"siamese_x1": np.where(HARM < 0, -0.05, 0.1)}
    comparison = whole(study("site", "lesion_size"), drawn(gains))
    first = comparison.verdict.partition(". ")[0]
    assert first.startswith("Synthetic data helped: unet, siamese_x1")
    assert ", but worse for site B (-" in first
    assert "siamese_x2" not in comparison.verdict
    assert comparison.headline is not None
    assert [one["level"] for one in comparison.headline.record()["harmed"]] == ["B"]
    assert comparison.verdicts["unet"] == comparison.verdict


@pytest.mark.usefixtures("here")
def test_the_sentence_names_the_harm_before_it_calls_itself_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.stages.compare.sentence.close_call", lambda *_: "close: p = 0.04")
    comparison = whole(study("site"), drawn({"siamese_x1": np.where(HARM < 0, -0.05, 0.1), "siamese_x2": -0.2}))
    assert re.search(r"generator, but worse for site B \([^)]*\); close: p = 0.04", comparison.verdict)


@pytest.mark.usefixtures("here")
def test_the_tables_are_published() -> None:
    comparison = whole(study("site"), drawn(GAIN))
    publish_comparison("toy", comparison)
    rows = tables.read_table(paths.comparison("toy") / "subgroups.csv")
    assert tuple(rows[0]) == COLUMNS and len(rows) == 6
    assert {row["reference"] for row in rows} == {"real"}
    record = files.read_json(paths.comparison("toy") / "comparison.json")
    assert record["about"]["subgroups"] == ["site"]
    numbers = as_metrics(record["subgroups"])["grid"]["site"]["B"]["unet"]["siamese_x1"]
    assert set(numbers) == {"difference", "low", "high", "verdict"}
    assert numbers["low"] < numbers["difference"] < numbers["high"] < 0


def test_without_subgroups_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # no attributes.csv is read
    comparison = whole(study(), drawn(GAIN))
    record = comparison.record()
    assert "subgroups" not in record and "subgroups" not in record["about"]
    assert "harmed" not in record["headline"]
    assert "subgroups" not in Compare().model_dump() and "attributes" not in parse(Params, TOY_STUDY).data.model_dump()
    publish_comparison("toy", comparison)
    assert not (paths.comparison("toy") / "subgroups.csv").exists()


def test_the_confirmed_treatment_is_tested_with_its_own_models() -> None:
    grid, fresh = drawn(), drawn({"siamese_x2": HARM}, seeds=5, seed=1)
    choice = {"segmenter": "unet", "training_sets": ["siamese_x2"], "reference": "real"}
    rows = compare_subgroups(design(study("site")), ABOUT, {"unet": grid}, (choice, fresh))
    confirmed = {row.level: row for row in rows if row.confirmed}
    assert {row.training_sets for row in confirmed.values()} == {("siamese_x2",)}
    assert confirmed["B"].is_harmed and confirmed["B"].n_seeds == 5
    assert confirmed["B"].record()["models"] == "confirmation"
    assert not any(row.is_harmed for row in rows if not row.confirmed)
    assert confirmed["B"].conclusion and confirmed["B"].evidence
    assert len([row for row in rows if row.evidence]) == 6  # two arms and the confirmation, at two sites


@pytest.mark.usefixtures("here")
def test_attributes_without_the_column_are_refused() -> None:
    assert read_attributes("toy", Compare(subgroups=("lesion_size", "source"))) == {}
    with pytest.raises(UserError, match=r"attributes\.csv has no column device; run the stage prepare again"):
        read_attributes("toy", Compare(subgroups=("device",)))


@pytest.mark.parametrize(
    ("subgroups", "message"),
    [
        (["device"], r"compare\.subgroups names 'device'; the available ones are: source, lesion_size, site, age"),
        (["site", "site"], r"names 'site' twice"),
        ([{"column": "source", "edges": [1]}], r"source takes no edges"),
        ([{"column": "age", "edges": [60, 40]}], r"edges must be finite and ascend, found \[60\.0, 40\.0\]"),
        ([{"column": "age", "edges": []}], r"edges"),
    ],
)
def test_wrong_subgroups_are_refused(subgroups: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        study(*subgroups)


def test_subgroups_need_an_arm() -> None:
    alone = {key: None for key in ("base", "finetune", "generate", "judge")} | {"generators": {}}
    with pytest.raises(UserError, match=r"there is no generator"):
        study("lesion_size", **alone, training_sets={"real": {}})


def test_levels_are_arrays_over_images() -> None:
    level = Level("site", "A", np.array([True, False]))
    assert level.definition == "" and level.images.sum() == 1
