"""Facts of the comparison of segmenters with each other: what is paired, which way is better, what is claimed."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core import files, paths, tables
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data import manifest
from pipeline.stages.compare.comparison import collect_numbers, compare, publish_comparison
from pipeline.stages.compare.params import SegmenterComparison, base_metric
from pipeline.stages.compare.results import METRICS, Results
from pipeline.stages.compare.segmenter_comparison import (
    PairedScores,
    TTest,
    compare_segmenters,
    pair_scores,
    paired_t_test,
    sentence,
    title,
)
from pipeline.study import Params
from tests.conftest import TOY_STUDY

ALONE = {key: None for key in ("base", "finetune", "generate", "judge")}


def study(*names: str, **between: Any) -> Params:
    """Segmenters of real images; the first is the reference."""
    values = TOY_STUDY | ALONE | {"generators": {}, "training_sets": {"real": {}}, "segmenters": {n: {} for n in names}}
    asked = {"reference": names[0], **between}
    return parse(Params, values | {"compare": {"resamples": 400, "segmenters": asked}})


def results(tables: dict[str, Any], clusters: dict[str, tuple[str, ...]] | None = None) -> Results:
    """Tables [seeds, images] by metric, the same on validation and test images."""
    arrays = {name: np.array(table, float) for name, table in tables.items()}
    count = next(iter(arrays.values())).shape
    images = {split: tuple(("set", f"{split}{k}") for k in range(count[1])) for split in ("val", "test")}
    both = {("real", split, name): table for split in images for name, table in arrays.items()}
    return Results(both, tuple(map(str, range(count[0]))), images, clusters or {})


def drawn(rng: np.random.Generator, gain: float, metric: str = "dice", n: int = 60) -> dict[str, Results]:
    """Three seeds of a reference and of a segmenter whose score is higher by `gain`."""
    hardness = rng.normal(0.6, 0.1, n)
    return {
        name: results({m: hardness + add + rng.normal(0, 0.01, (3, n)) for m in dict.fromkeys([*METRICS, metric])})
        for name, add in (("unet", 0.0), ("other", gain))
    }


def compared(params: Params, found: dict[str, Results]) -> dict[str, dict[str, Any]]:
    def read(segmenter: str, training_sets: Sequence[str], metrics: Sequence[str] = METRICS) -> Results:
        assert training_sets == ["real"]
        assert set(metrics) <= {metric for _, _, metric in found[segmenter].tables}
        return found[segmenter]

    rows = compare_segmenters(params.compare, list(params.segmenters), params.seed, read)
    return {row.segmenter: row.record() for row in rows}


def test_the_paired_t_test_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, SD 1, t = 2 / (1 / sqrt 3), two degrees of freedom."""
    one, other = np.array([[2.0, 4.0, 6.0]]), np.array([[1.0, 2.0, 3.0]])
    found = paired_t_test(PairedScores(one, other, None), 0.1)
    assert found.t == pytest.approx(2 * np.sqrt(3))
    assert found.p_t == pytest.approx(0.0741799, abs=1e-6)
    assert found.t_significant is True
    assert paired_t_test(PairedScores(one, other, None), 0.05).t_significant is False


def test_cases_of_the_t_test_are_means_over_seeds_and_of_one_patient() -> None:
    seeds = np.array([[1.0, 3.0, 5.0], [3.0, 5.0, 7.0]])  # means 2, 4, 6 over 1, 2, 3
    assert paired_t_test(PairedScores(seeds, np.array([[1.0, 2.0, 3.0]] * 2), None), 0.1).p_t == pytest.approx(
        0.0741799, abs=1e-6
    )
    patients = paired_t_test(PairedScores(seeds, np.array([[1.0, 2.0, 3.0]] * 2), ("a", "a", "b")), 0.1)
    assert patients.t is not None and patients.t != pytest.approx(2 * np.sqrt(3))


def test_the_t_test_says_nothing_of_one_case_or_of_equal_differences() -> None:
    nothing = TTest()
    assert paired_t_test(PairedScores(np.ones((2, 1)), np.zeros((2, 1)), None), 0.05) == nothing
    assert paired_t_test(PairedScores(np.ones((2, 4)), np.zeros((2, 4)), None), 0.05) == nothing


def test_images_without_a_score_of_either_segmenter_are_left_out_of_both() -> None:
    own, reference = results({"hd95": [[1, np.nan, 3, 4]]}), results({"hd95": [[1, 2, np.nan, 8]]})
    both = pair_scores(own, reference, ("real", "test", "hd95"))
    assert both.scores.tolist() == [[1, 4]]
    assert both.reference.tolist() == [[1, 8]]
    nowhere = results({"hd95": [[np.nan] * 4]})
    with pytest.raises(UserError, match="no test image has a hd95 by both segmenters on real"):
        pair_scores(own, nowhere, ("real", "test", "hd95"))


def test_left_out_images_leave_their_patients_in_place() -> None:
    clusters = {"test": ("a", "a", "b", "c")}
    own, other = results({"hd95": [[1, np.nan, 3, 4]]}, clusters), results({"hd95": [[0, 0, 0, 0]]}, clusters)
    assert pair_scores(own, other, ("real", "test", "hd95")).units == ("a", "b", "c")


def test_segmenters_scored_on_other_images_are_refused() -> None:
    with pytest.raises(UserError, match="not scored on the same test images"):
        pair_scores(results({"dice": [[1, 2]]}), results({"dice": [[1, 2, 3]]}), ("real", "test", "dice"))


@pytest.mark.parametrize(("gain", "verdict"), [(0.1, "better"), (-0.1, "worse"), (0.0, "equivalent")])
def test_a_true_difference_in_dice_is_told(gain: float, verdict: str) -> None:
    rows = compared(study("unet", "other"), drawn(np.random.default_rng(3), gain))
    assert rows["unet"]["role"] == "reference" and rows["unet"]["verdict"] is None
    row = rows["other"]
    assert row["verdict"] == verdict
    assert row["difference"] == pytest.approx(gain, abs=0.005)
    assert row["difference_low"] < row["difference"] < row["difference_high"]
    assert row["t_significant"] is (gain != 0)
    assert row["n_images"] == 60 and row["n_seeds"] == 3


@pytest.mark.parametrize(
    ("gain", "images", "words"),
    [
        (
            0.0062,
            60,
            r"equivalent, yet not zero: other .*\] \(close: p = 0\.04\d+ for equivalence at the 0\.05 level; ",
        ),
        (
            0.0066,
            60,
            r"better: other .*\] \(close: p = 0\.06\d+ for equivalence at the 0\.05 level; the verdict [^)]*\)\.$",
        ),
        (0.1, 60, r"better: other [^(]*\]\.$"),
        (0.1, 5, r"inconclusive: other [^(]*\]\. Only 5 test images; a verdict needs 6 independent ones\.$"),
    ],
)
def test_the_sentence_tells_what_is_close_and_what_is_too_little(gain: float, images: int, words: str) -> None:
    params, found = study("unet", "other"), drawn(np.random.default_rng(3), gain, n=images)
    rows = compare_segmenters(params.compare, list(params.segmenters), params.seed, lambda name, *_: found[name])
    assert re.search(words, sentence(rows, params.compare))


@pytest.mark.parametrize("metric", ["ged", "hd95_2"])
def test_less_is_better_where_it_is(metric: str) -> None:
    params = study("unet", "other", metrics=[metric], margins={metric: 0.01})
    row = compared(params, drawn(np.random.default_rng(4), -0.1, metric))["other"]
    assert row["verdict"] == "better"
    assert row["difference"] < 0 < row["effect_size"]
    assert row["share_improved"] > 0.95
    assert row["worst_tenth"] > row["difference"]  # the images that gain least
    assert compared(params, drawn(np.random.default_rng(4), 0.1, metric))["other"]["verdict"] == "worse"


def test_a_further_metric_may_be_called_lower() -> None:
    params = study("unet", "other", metrics=["mistakes"], lower=["mistakes"])
    assert compared(params, drawn(np.random.default_rng(5), -0.1, "mistakes"))["other"]["verdict"] == "better"


def test_p_is_corrected_over_segmenters_and_by_metric() -> None:
    rng = np.random.default_rng(6)
    found = drawn(rng, 0.004, "ci_harmonic")
    found["third"] = drawn(rng, 0.0, "ci_harmonic")["other"]
    params = study("unet", "other", "third", metrics=["dice", "ci_harmonic"])
    scores = compare_segmenters(params.compare, list(params.segmenters), params.seed, lambda name, *_: found[name])
    rows = [score.record() for score in scores]
    for metric in ("dice", "ci_harmonic"):
        own = [row for row in rows if row["metric"] == metric and row["role"] == "segmenter"]
        smallest = min(own, key=lambda row: row["p"])
        assert smallest["p_holm"] == pytest.approx(min(1, 2 * smallest["p"]))


def test_one_seed_decides_nothing_but_has_its_t_test() -> None:
    rng = np.random.default_rng(7)
    found = {name: results({"dice": rng.normal(add, 0.01, (1, 30))}) for name, add in (("unet", 0.5), ("other", 0.7))}
    row = compared(study("unet", "other"), found)["other"]
    assert row["verdict"] == "inconclusive"
    assert row["t_significant"] is True
    assert row["images_needed"] is None and row["seed_sd"] is None


def test_names_of_metrics() -> None:
    assert [base_metric(name) for name in ("hd95_2", "hd95_left_out", "dice", "ci_harmonic")] == [
        *("hd95", "hd95", "dice", "ci_harmonic"),
    ]
    assert title("dice_12") == "Dice of class 12"
    assert title("hd95_left_out") == "HD95 without empty masks"
    assert SegmenterComparison(reference="a").sign("dice_1") == 1


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"reference": "segnet"}, "compare.segmenters.reference is 'segnet'; the available ones are: unet, other"),
        ({"training_set": "fake"}, "compare.segmenters.training_set is 'fake'; the available ones are: real"),
        (
            {"metrics": ["hd95"]},
            "hd95 is not a share of 1; set margins.hd95, the difference below which two segmenters are equivalent",
        ),
        ({"metrics": ["dice", "dice"]}, r"metrics must differ"),
        ({"margins": {"nsd": 0.1}}, "margins names 'nsd'; the metrics are: dice"),
        ({"margins": {"dice": 0}}, "margins.dice must be above 0, found 0"),
        ({"metric": "dice"}, "compare.segmenters.metric is not a parameter; did you mean metrics?"),
    ],
)
def test_bad_parameters_are_named(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as caught:
        study("unet", "other", **asked)
    assert told in str(caught.value)


def test_one_segmenter_has_none_to_be_compared_with() -> None:
    with pytest.raises(UserError, match=r"compare\.segmenters needs a second entry of segmenters"):
        study("unet")


def write_scores(params: Params, found: dict[str, Results], empty: str = "") -> None:
    """scores.csv of every segmenter; the first image has no value of the metric `empty`."""
    for name, own in found.items():
        rows: dict[tuple[str, str, str], dict[str, Any]] = {}
        for (arm, split, metric), table in own.tables.items():
            for seed, scores in zip(own.seeds, table, strict=True):
                for (test_set, image), value in zip(own.images[split], scores, strict=True):
                    about = {"segmenter": name, "training_set": arm, "seed": seed, "split": split}
                    row = rows.setdefault((seed, split, image), about | {"test_set": test_set, "image": image})
                    row[metric] = "" if metric == empty and image.endswith("0") else value
        tables.write_table(paths.segmentation(params.study, name) / "scores.csv", list(rows.values()))
    ids = [{"id": image, "split": split} for split, names in found["unet"].images.items() for _, image in names]
    paths.real(params.study).mkdir(parents=True)
    with manifest.writing(paths.real(params.study), ids):
        pass


def three_seeds(params: Params) -> Params:
    return params.model_copy(update={"segment": params.segment.model_copy(update={"seeds": (0, 1, 2)})})


def test_files_hold_the_rows_and_the_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    params = three_seeds(study("unet", "other", metrics=["dice", "ged"]))
    write_scores(params, drawn(np.random.default_rng(8), 0.1, "ged", n=20), empty="ged")
    publish_comparison(params.study, compare(params))
    rows = tables.read_table(paths.comparison("toy") / "segmenters.csv")
    assert [(row["metric"], row["segmenter"], row["n_images"]) for row in rows] == [
        *(("dice", "unet", "20"), ("dice", "other", "20"), ("ged", "unet", "18"), ("ged", "other", "18")),
    ]  # without the images 0 and 10
    assert [row["verdict"] for row in rows] == ["", "better", "", "worse"]
    told = files.read_json(paths.comparison("toy") / "comparison.json")
    assert told["verdict"].startswith(
        "Dice against unet, all trained on real (n = 20 images, 3 seeds): better: other +0.099 ["
    )
    metrics = collect_numbers(params.study, [], has_judge=False)
    assert set(metrics) == {"arms", "segmenters", "verdict"}
    assert metrics["segmenters"]["ged"]["other"]["verdict"] == "worse"


def test_a_metric_that_nobody_scored_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    params = three_seeds(study("unet", "other", metrics=["ci"]))
    write_scores(params, drawn(np.random.default_rng(8), 0.1, n=12))
    with pytest.raises(UserError, match="has no column 'ci'; the available ones are: dice, iou"):
        compare(params)


def test_a_missing_dice_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    params = three_seeds(study("unet", "other"))
    write_scores(params, drawn(np.random.default_rng(8), 0.1, n=12), empty="dice")
    with pytest.raises(UserError, match="has no dice of real, seed 0, val image 'val0'"):
        compare(params)


def test_without_a_difference_claims_are_rare() -> None:
    """Three seeds; a network's mean differs from seed to seed by 2 points, an image's score by 6 between networks."""
    rng, params, claims, tested = np.random.default_rng(11), study("unet", "other", "third"), 0, 0
    for _ in range(30):
        hardness = rng.normal(0.7, 0.15, 60)
        found = {
            name: results({"dice": hardness + rng.normal(0, 0.06, 60) + rng.normal(0, [[0.02]] * 3, (3, 1))})
            for name in params.segmenters
        }
        rows = compared(params, found)
        claims += any(row["verdict"] in ("better", "worse") for row in rows.values())
        tested += any(row.get("t_significant") for row in rows.values())
    assert claims <= 3  # of 30
    assert tested >= 1  # the t-test over cases takes a lucky training for a better method
