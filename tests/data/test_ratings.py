"""Facts of clinicians' ratings: the reader, the statistics, and the scores of one arm."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.data.ratings import Rating, rating_table, read_ratings
from pipeline.evaluation.feature_cache import FeatureCache
from pipeline.methods.image_metrics import mos
from pipeline.metrics.images.score import ScoreResult
from pipeline.metrics.statistics import ratings as statistics
from pipeline.metrics.statistics.proportion import wilson_interval
from pipeline.stages.score.params import Score
from pipeline.study import Params
from tests.reference.agreement_literal import icc_literal

# Six targets, four judges (Shrout & Fleiss 1979, table 2).
SHROUT = np.array([[9.0, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
HEADER = "rater,image,arm,quality,real\n"


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_published_example_of_agreement() -> None:
    single, average = statistics.icc_2_1(SHROUT), statistics.icc_2_k(SHROUT)
    assert (round(single.value, 2), round(average.value, 2)) == (0.29, 0.62)  # their table 4
    assert (single.value, average.value) == pytest.approx(icc_literal(SHROUT))
    ends = (single.low, single.high, average.low, average.high)
    assert ends == pytest.approx((0.019, 0.761, 0.071, 0.927), abs=5e-4)  # as R psych prints them


def test_raters_who_always_agree_have_no_interval() -> None:
    found = statistics.icc_2_k(np.array([[1.0, 1, 1], [4, 4, 4], [5, 5, 5]]))
    assert (found.value, found.low, found.high) == (1, None, None)


def test_agreement_that_cannot_be_told() -> None:
    with pytest.raises(ValueError, match="neither the images nor the raters differ"):
        statistics.icc_2_k(np.full((4, 3), 3.0))
    with pytest.raises(ValueError, match="differ less in the ratings than chance"):
        statistics.icc_2_k(np.array([[1.0, 4, 3], [4, 3, 1], [3, 1, 4]]))  # equal means: a Latin square


def test_a_mean_stepped_down_by_a_strict_rater_agrees_less() -> None:
    strict = SHROUT.copy()
    strict[:, 1] -= 5  # the strictest of the four
    before, after = statistics.icc_2_k(SHROUT).value, statistics.icc_2_k(strict).value
    assert after < before  # absolute agreement, not consistency


def test_missing_ratings_are_left_out() -> None:
    holes = SHROUT.copy()
    holes[0, 0] = holes[3, 2] = np.nan
    assert statistics.mean(holes) == pytest.approx((SHROUT.sum() - 9 - 2) / 22)
    assert statistics.mean_per_rater(holes) == pytest.approx([37 / 5, 15 / 6, 24 / 5, 40 / 6])
    assert statistics.complete(holes).tolist() == SHROUT[[1, 2, 4, 5]].tolist()
    low, high = statistics.mean_interval(holes, 1000, rng())
    assert low < statistics.mean(holes) < high


def test_raters_who_differ_widen_the_interval() -> None:
    raters = np.tile([1.0, 3.0, 5.0], (8, 1))  # images do not differ: 3 +- t of 2 degrees of freedom * 2 / sqrt(3)
    assert statistics.mean_interval(raters, 200, rng()) == pytest.approx((3 - 4.3027 * 2 / 3**0.5, 3 + 4.968), abs=1e-3)


def test_one_rater_has_an_interval_of_images() -> None:
    low, high = statistics.mean_interval(SHROUT[:, :1], 4000, rng())
    assert high - low == pytest.approx(2 * 1.96 * SHROUT[:, 0].std() / np.sqrt(6), rel=0.08)


@pytest.mark.parametrize("share_missing", [0.0, 0.3])
def test_the_interval_covers_the_mean_with_three_raters(share_missing: float) -> None:
    hits = 0
    for seed in range(200):
        own = np.random.default_rng(seed)
        raters, images = 0.4 * own.normal(size=(1, 3)), 0.6 * own.normal(size=(30, 1))
        ratings = 3 + raters + images + 0.5 * own.normal(size=(30, 3))
        ratings[own.random((30, 3)) < share_missing] = np.nan
        low, high = statistics.mean_interval(ratings, 200, own)
        hits += low <= 3 <= high
    assert hits >= 184  # 92 %: two standard deviations below the 95 % asked for


def test_wilson_s_interval() -> None:
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)


def write(folder: Path, name: str, text: str, encoding: str = "utf-8") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text.encode(encoding))


def test_files_are_read_together(tmp_path: Path) -> None:
    write(tmp_path, "ann.csv", HEADER + "ann,a,real,5,1\nann,b,siamese, 2 ,0\n\n", "utf-8-sig")
    write(tmp_path, "bea.csv", 'note,real,quality,arm,image,rater\n"blurred, dark",0,3,siamese,b,bea\n')
    found = read_ratings(tmp_path)
    assert found[1] == Rating("ann", "b", "siamese", 2, is_taken_for_real=False)
    assert found[2] == Rating("bea", "b", "siamese", 3, is_taken_for_real=False)
    assert rating_table(found) == pytest.approx(np.array([[5, np.nan], [2, 3]]), nan_ok=True)
    assert read_ratings(tmp_path / "nowhere") == []


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", HEADER + "ann,a,real,6,1\n,a,real,5,yes\nann,b,real,4,1\nann,b,real,4,1\nann,c\n")
    write(tmp_path, "b.csv", "rater;image;arm;quality;real\nann;a;real;5;1\n")
    write(tmp_path, "c.csv", HEADER + "zoë,a,real,5,1\n", "latin-1")
    write(tmp_path, "d.csv", "")
    with pytest.raises(UserError) as caught:
        read_ratings(tmp_path)
    columns = "it needs rater,image,arm,quality,real"
    assert str(caught.value).replace(f"{tmp_path}/", "").splitlines() == [
        "the ratings cannot be read:",
        "a.csv, line 2: quality is '6'; it must be 1, 2, 3, 4 or 5",
        "a.csv, line 3: rater is empty",
        "a.csv, line 3: real is 'yes'; it must be 0 or 1",
        "a.csv, line 5: ann has rated b of real before; keep one line",
        "a.csv, line 6: arm is empty",
        "a.csv, line 6: quality is ''; it must be 1, 2, 3, 4 or 5",
        "a.csv, line 6: real is ''; it must be 0 or 1",
        f"b.csv, line 1: no column rater, image, arm, quality, real in 'rater;image;arm;quality;real'; {columns}",
        "c.csv: is not UTF-8 text; save it as CSV in UTF-8",
        f"d.csv, line 1: no column rater, image, arm, quality, real in ''; {columns}",
    ]


def look() -> FeatureCache:
    return FeatureCache({}, {}, {}, Score(extractors=(), resamples=200), 0, Runtime(torch.device("cpu")))


def scored() -> dict[str, ScoreResult]:
    sets = ImageSet.open(paths.real("toy")), ImageSet.open(paths.synthetic("toy", "siamese"))
    return {score.name: score for score in mos.score(*sets, look())}


def test_without_ratings_nothing_is_told(toy_study: Params) -> None:
    scores = scored()
    assert list(scores) == ["mos", "mos_real", "icc_2k", "turing_accuracy"]
    assert {score.value for score in scores.values()} == {None}
    assert scores["mos"].reason == "there are no ratings in ratings/toy"


def test_an_arm_that_nobody_rated_names_those_there_are(toy_study: Params) -> None:
    write(paths.ratings("toy"), "a.csv", HEADER + "ann,a,real,5,1\nann,b,siamse,5,1\n")
    assert scored()["mos"].reason == "nobody rated siamese; rated are: real, siamse"


def test_scores_of_one_arm(toy_study: Params) -> None:
    write(paths.ratings("toy"), "ann.csv", HEADER + "ann,a,real,5,1\nann,b,real,4,1\nann,c,siamese,2,0\nann,o,x,1,0\n")
    write(paths.ratings("toy"), "bea.csv", HEADER + "bea,a,real,4,1\nbea,c,siamese,3,1\nbea,d,siamese,1,0\n")
    scores = scored()
    # siamese: 2, 3, 1; real: 5, 4, 4; rated by both: a (5, 4) and c (2, 3); wrong once in six
    assert {name: score.value for name, score in scores.items()} == pytest.approx(
        {"mos": 2, "mos_real": 13 / 3, "icc_2k": icc_literal(np.array([[5, 4], [2, 3]]))[1], "turing_accuracy": 5 / 6}
    )
    assert {name: score.n for name, score in scores.items()} == {"mos": 2, "mos_real": 2, "icc_2k": 2,
                                                                 "turing_accuracy": 6}  # fmt: skip
    assert scores["mos"].floor == scores["mos_real"].value
    assert [score.direction for score in scores.values()] == ["higher", "higher", "higher", "lower"]
    assert (scores["turing_accuracy"].low, scores["turing_accuracy"].high) == wilson_interval(5, 6)
    low, high = scores["mos"].low, scores["mos"].high
    assert low is not None
    assert high is not None
    assert 1 <= low < 2 < high <= 5


def test_ratings_without_real_images(toy_study: Params) -> None:
    write(paths.ratings("toy"), "ann.csv", HEADER + "ann,c,siamese,2,0\nann,d,siamese,4,0\n")
    scores = scored()
    assert scores["mos"].value == 3
    assert scores["mos"].floor is None
    assert scores["mos_real"].reason == scores["turing_accuracy"].reason == "no real image was rated"
    assert scores["icc_2k"].reason == "1 raters and 2 images that all of them rated; agreement needs two of each"


def test_sets_outside_a_study_have_no_ratings(toy_study: Params, tmp_path: Path) -> None:
    assert paths.study_of(paths.synthetic("toy", "siamese")) == "toy"
    assert paths.study_of(tmp_path.resolve() / paths.synthetic("toy", "siamese")) == "toy"
    assert paths.study_of(Path("work/snapshots/siamese")) is None
