"""What the table of scores says beside a value: groups, subsets, why there is no interval."""

import pytest

from pipeline.core import files, paths
from pipeline.metrics.images.score import ScoreResult
from pipeline.stages.report.page import page
from pipeline.stages.report.score_table import extractor_in_losses, read_scores
from pipeline.study import Params
from tests.finished_study import leave_results

KID = ScoreResult(
    "kid", 0.0123, 40, "lower", variant="train", low=0.01, high=0.02, n_groups=12, subsets=100, subset_size=30,
    subset_sd=0.00456,
)  # fmt: skip
FID = ScoreResult(
    "fid_infinity", 30.5, 40, "lower", variant="heldout", n_real=20, n_groups=1, interval_reason="one group"
)
FAITHFUL = ScoreResult("faithfulness", 0.5, 38, "higher", low=0.4, high=0.6, left_out=2)
EARLIER = {
    key: value for key, value in ScoreResult("fid_infinity", 9.0, 8, "lower", low=8.0, high=10.0).record().items()
    if key in ("name", "value", "n", "direction", "seed", "variant", "low", "high", "floor", "p_value", "reason")
}  # fmt: skip


@pytest.fixture
def study(toy_study: Params) -> Params:
    leave_results()
    records = [score.record() for score in (KID, FID, FAITHFUL)]
    files.write_json(paths.scores("toy", "siamese") / "scores.json", [*records, EARLIER])
    return toy_study


def test_notes_stand_beside_a_value(study: Params) -> None:
    rows = read_scores("toy", ["siamese"]).rows
    assert {title: row["siamese"]["notes"] for title, row in rows.items()} == {
        "kid (against train)": "12 groups; SD 0.005 over 100 subsets of m = 30",
        "fid infinity (against heldout)": "1 group; no interval: one group; 20 real images",
        "faithfulness": "2 left out",
        "fid infinity both": "",
    }


def test_the_page_shows_them(study: Params) -> None:
    text = page(study)
    assert "(12 groups; SD 0.005 over 100 subsets of m = 30)" in text
    assert "(1 group; no interval: one group; 20 real images)" in text
    assert "(2 left out)" in text


def test_numbers_of_images_that_differ_stand_for_each_generator(study: Params) -> None:
    fewer = [KID.record(), FAITHFUL.record() | {"n": 20}]
    files.write_json(paths.scores("toy", "controlnet") / "scores.json", fewer)
    counts = read_scores("toy", ["siamese", "controlnet"]).counts
    assert counts["kid (against train)"] == "40"
    assert counts["faithfulness"] == "38 / 20"


def test_an_extractor_whose_network_losses_of_the_base_use_is_named(study: Params) -> None:
    score = study.score.model_copy(update={"extractors": ("efficientnet_lite0", "gradient_histograms")})
    warned = study.model_copy(update={"score": score})
    warning = "losses that trained the base use the network of efficientnet_lite0"
    assert warning not in page(warned)
    manifest = paths.base("toy") / "manifest.json"
    known = files.read_json(manifest) if manifest.is_file() else {}
    files.write_json(manifest, known | {"perceptual": {"network": "tf_efficientnet_lite0"}})
    assert warning in page(warned)
    assert extractor_in_losses("toy", ["gradient_histograms"]) is None
