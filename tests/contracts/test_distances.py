"""What distances are called, what they say where they cannot be told, and what stands beside their values."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core import paths, plugins
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec
from pipeline.evaluation.feature_cache import FeatureCache
from pipeline.methods.image_metrics._pieces import Piece, pieces
from pipeline.metrics.images.frechet import frechet_distance
from pipeline.metrics.images.score import ScoreResult, nested
from pipeline.stages.score.params import Score
from tests.conftest import blobs, copies

DISTANCES = ("frechet", "frechet_infinity", "frechet_infinity_both", "kernel", "cmmd")
VARIANTS = ["train", "train_half", "heldout"]
Sets = tuple[ImageSet, ImageSet]


class Colours:
    """A stand-in extractor of 3 features, so that small sets have more images than features."""

    id = "colours"

    def __call__(self, images: torch.Tensor) -> np.ndarray:
        return images.float().mean((-2, -1)).numpy() / 255


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two studies (training and test images, a synthetic image per training mask), and what was seen of them."""
    folder, spec = tmp_path_factory.mktemp("studies"), DatasetSpec(name="blobs", size=32)
    for study, train, test in (("small", 8, 4), ("large", 40, 45)):
        drawn = blobs(spec, {"train": train, "val": 1, "test": test})
        real = ImageSet.create(folder / paths.real(study), spec, drawn)
        ImageSet.create(folder / paths.synthetic(study, "siamese"), spec, copies(real, 1))
    return folder


@pytest.fixture
def sets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Sets:
    """8 training and 4 test images."""
    monkeypatch.chdir(folder)
    return ImageSet.open(paths.real("small")), ImageSet.open(paths.synthetic("small", "siamese"))


@pytest.fixture
def larger(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Sets:
    """40 training and 45 test images."""
    monkeypatch.chdir(folder)
    return ImageSet.open(paths.real("large")), ImageSet.open(paths.synthetic("large", "siamese"))


def look(*extractors: str, unavailable: dict[str, str] | None = None, seed: int = 0) -> FeatureCache:
    settings = Score(extractors=(*extractors, *(unavailable or {})), resamples=200, kid_subsets=10, kid_subset_size=6)
    runtime = Runtime(torch.device("cpu"))
    return FeatureCache({name: Colours() for name in extractors}, {}, unavailable or {}, settings, seed, runtime)


def scored(metric: str, sets: Sets, cache: FeatureCache) -> dict[tuple[str, str], ScoreResult]:
    return {(score.name, score.variant): score for score in plugins.load("image_metrics", metric).score(*sets, cache)}


@pytest.mark.parametrize(
    ("metric", "extractor", "names"),
    [
        ("frechet", "inception", {"fid"}),
        ("frechet", "inception_legacy", {"fid_legacy"}),
        ("frechet", "dinov2_s", {"frechet.dinov2_s"}),
        ("frechet_infinity", "inception", {"fid_infinity"}),
        ("frechet_infinity", "inception_legacy", {"fid_infinity_legacy"}),
        ("frechet_infinity", "clip_b32", {"frechet_infinity.clip_b32"}),
        ("frechet_infinity_both", "inception", {"fid_infinity_both"}),
        ("frechet_infinity_both", "inception_legacy", {"fid_infinity_both_legacy"}),
        ("frechet_infinity_both", "clip_b32", {"frechet_infinity_both.clip_b32"}),
        ("kernel", "inception", {"kid"}),
        ("kernel", "inception_legacy", {"kid_legacy"}),
        ("kernel", "clip_l14_336", {"kernel.clip_l14_336"}),
        ("cmmd", "clip_l14_336", {"cmmd", "cmmd_unbiased"}),
    ],
)
def test_published_names_belong_to_their_extractor(metric: str, extractor: str, names: set[str], sets: Sets) -> None:
    assert {name for name, _ in scored(metric, sets, look(extractor))} == names


def test_cmmd_on_another_extractor_has_another_name_and_cmmd_itself_is_null(sets: Sets) -> None:
    scores = scored("cmmd", sets, look("inception"))
    assert {name for name, _ in scores} == {"cmmd", "cmmd_unbiased", "mmd_rbf.inception", "mmd_rbf_unbiased.inception"}
    for variant in VARIANTS:
        assert scores["mmd_rbf.inception", variant].value is not None
        missing = scores["cmmd", variant]
        assert (missing.value, missing.reason) == (None, "score.extractors does not name clip_l14_336")


@pytest.mark.parametrize("metric", DISTANCES)
def test_missing_weights_leave_null_with_the_reason_and_the_images_there_were(metric: str, sets: Sets) -> None:
    cache = look("inception", unavailable={"efficientnet_lite0": "not a file of weights"})
    scores = [s for (name, _), s in scored(metric, sets, cache).items() if name.endswith(".efficientnet_lite0")]
    heldout = 8 if metric == "frechet_infinity" else 4  # all synthetic images, however few the real ones
    assert {score.variant: score.n for score in scores} == {"train": 8, "train_half": 4, "heldout": heldout}
    assert {score.value for score in scores} == {None}
    assert {score.reason for score in scores} == {"not a file of weights"}
    assert all(value is None for value in nested(scores)[scores[0].key[0]].values())


def test_sizes_told_without_features_are_those_of_the_pieces(sets: Sets) -> None:
    found = {piece.variant: len(piece.real) for piece in pieces(*sets, look("inception"), "inception")}
    assert found == {"train": 8, "train_half": 4, "heldout": 4}  # as above, where there are no features


def test_too_few_images_say_how_many_there_are_and_how_many_are_needed(sets: Sets) -> None:
    few = sets[0], sets[1].select(sets[1].rows[:2])
    reasons = {metric: scored(metric, few, look("clip_l14_336")) for metric in DISTANCES}
    assert all(score.value is None for scores in reasons.values() for score in scores.values())
    assert reasons["frechet"]["frechet.clip_l14_336", "train"].reason == (
        "2 images per set; a covariance and its jackknife need 3"
    )
    assert (
        reasons["cmmd"]["cmmd", "heldout"].reason == "2 images per set; an unbiased estimate and its jackknife need 3"
    )


def test_an_extrapolation_needs_more_images_than_features(larger: Sets) -> None:
    given = scored("frechet_infinity", larger, look("inception"))["fid_infinity", "train"]
    assert (given.n, given.reason) == (40, None)

    class Wide:
        id = "wide"

        def __call__(self, images: torch.Tensor) -> np.ndarray:
            return images.float().flatten(1)[:, :40].numpy()

    cache = look("inception")
    cache = FeatureCache({"inception": Wide()}, {}, {}, cache.settings, 0, cache.runtime)
    score = scored("frechet_infinity", larger, cache)["fid_infinity", "train"]
    assert (score.value, score.reason) == (None, "40 synthetic images; an extrapolation of 40 features needs 41")


@pytest.mark.parametrize("metric", DISTANCES)
def test_every_value_has_an_interval_around_it_and_a_floor(metric: str, larger: Sets) -> None:
    for score in scored(metric, larger, look("clip_l14_336")).values():
        assert score.value is not None
        assert score.low is not None
        assert score.high is not None
        assert score.low < score.value < score.high
        assert score.floor is not None  # 45 test images: as many as there are training images
        assert (score.seed, score.n) == (0, 20 if score.variant == "train_half" else 40)


def test_the_floor_against_the_training_images_are_as_many_test_images_or_none(larger: Sets) -> None:
    def train(sets: Sets) -> Piece:
        return next(pieces(*sets, look("inception"), "inception"))

    piece = train(larger)
    score = scored("frechet", larger, look("inception"))["fid", "train"]
    assert piece.stand_in is not None
    assert score.floor == pytest.approx(frechet_distance(piece.real, piece.stand_in))
    real, synthetic = larger
    fewer = real.select([*real.split("train"), *real.split("test").rows[:39]])
    assert train((fewer, synthetic)).stand_in is None


def test_p_is_given_where_the_sets_are_independent(larger: Sets) -> None:
    cache = look("clip_l14_336")
    tinted = Changed(cache.probes, {}, {}, cache.settings, 0, cache.runtime)
    for metric, name in (("kernel", "kernel.clip_l14_336"), ("cmmd", "cmmd"), ("cmmd", "cmmd_unbiased")):
        scores = scored(metric, larger, tinted)
        assert scores[name, "train"].p_value is None  # pairs of a synthetic and a real image of one mask
        assert scores[name, "train_half"].p_value == pytest.approx(1 / 201)
        assert scores[name, "heldout"].p_value == pytest.approx(1 / 201)


def test_real_images_in_place_of_synthetic_ones_have_a_large_p(larger: Sets) -> None:
    real, _ = larger
    ps = [
        scored("kernel", (real, real.split("train")), look("x", seed=k))["kernel.x", "heldout"].p_value for k in (0, 1)
    ]
    assert min(p for p in ps if p is not None) > 0.02


def test_cmmd_is_a_thousand_times_the_discrepancy_of_directions(larger: Sets) -> None:
    """Brighter images point in the same direction: colours of unit length hardly differ."""
    piece = next(pieces(*larger, look("clip_l14_336"), "clip_l14_336"))
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (piece.real, piece.synthetic)]
    gap = unit[0].mean(0) - unit[1].mean(0)
    score = scored("cmmd", larger, look("clip_l14_336"))["cmmd", "train"]
    assert score.value == pytest.approx(10 * gap @ gap, rel=0.01)


class Changed(FeatureCache):
    """A cache in which the colours of all sets but the real ones are others."""

    def features(self, images: ImageSet, extractor: str) -> np.ndarray:
        rows = super().features(images, extractor)
        return rows if images.folder.name == "real" else rows * [1.0, 1.6, 0.5]


def test_a_kernel_distance_names_its_subsets_and_their_spread(larger: Sets) -> None:
    """The deviation over subsets, as papers print it, stays; the error of their mean falls with their number."""

    def of(**changes: Any) -> ScoreResult:
        settings = Score(extractors=("inception",), resamples=100, **changes)
        cache = FeatureCache({"inception": Colours()}, {}, {}, settings, 0, Runtime(torch.device("cpu")))
        return scored("kernel", larger, cache)["kid", "train"]

    few, many = of(kid_subsets=20, kid_subset_size=8), of(kid_subsets=500, kid_subset_size=8)
    assert (few.subsets, few.subset_size, many.subsets) == (20, 8, 500)
    for score in (few, many):
        assert score.subset_sd is not None
        assert score.standard_error == pytest.approx(score.subset_sd / np.sqrt(score.subsets or 0))
    assert many.subset_sd == pytest.approx(few.subset_sd, rel=0.5)
    assert (few.standard_error or 0) > 3 * (many.standard_error or 0)
    whole = of(kid_subset_size=1000)
    assert (whole.subsets, whole.subset_size, whole.subset_sd, whole.standard_error) == (1, 40, None, 0)


def test_the_published_extrapolation_takes_all_real_images(larger: Sets) -> None:
    """45 test images against all 40 synthetic ones; the variant takes as many of each."""
    published = scored("frechet_infinity", larger, look("inception"))
    both = scored("frechet_infinity_both", larger, look("inception"))
    assert (published["fid_infinity", "heldout"].n, published["fid_infinity", "heldout"].n_real) == (40, 45)
    assert (both["fid_infinity_both", "heldout"].n, both["fid_infinity_both", "heldout"].n_real) == (40, None)
    fewer = larger[0].select(row for row in larger[0] if row["split"] != "test" or row["id"] < "test_2")
    few = scored("frechet_infinity", (fewer, larger[1]), look("inception"))["fid_infinity", "heldout"]
    assert (few.n, few.n_real, few.reason) == (40, 12, None)
    assert few.floor is not None  # the training images, as many as synthetic ones
    reason = "2 real images; a covariance and its jackknife need 3"
    two = fewer.select([*fewer.split("train"), *fewer.split("test").rows[:2]])
    assert scored("frechet_infinity", (two, larger[1]), look("inception"))["fid_infinity", "heldout"].reason == reason


@pytest.mark.parametrize("metric", DISTANCES)
def test_tinted_images_are_further_away(metric: str, larger: Sets) -> None:
    cache = look("clip_l14_336")
    tinted = Changed(cache.probes, {}, {}, cache.settings, 0, cache.runtime)
    before, after = scored(metric, larger, cache), scored(metric, larger, tinted)
    for key, score in before.items():
        assert (after[key].value or 0) > (score.value or 0)
        assert after[key].floor == score.floor
