"""Facts of the scores clip_i, lpips, prdc and vendi of a toy study, with stand-ins for the networks."""

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.core import paths
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.evaluation.feature_cache import FeatureCache
from pipeline.methods.image_metrics import clip_i, lpips, prdc, vendi
from pipeline.methods.image_metrics._pieces import pieces
from pipeline.metrics.images.manifold import prdc as shares
from pipeline.metrics.images.score import ScoreResult, nested
from pipeline.metrics.images.similarity import mean_cosine
from pipeline.metrics.images.vendi import vendi as kinds
from pipeline.stages.score.params import Score
from pipeline.study import Params
from tests.stand_ins import Thumbnail

Sets = tuple[ImageSet, ImageSet]
CLIPS = ("clip_b32", "clip_l14_336")


class Difference:
    """A stand-in comparer: mean absolute difference."""

    id = "difference"

    def __call__(self, first: torch.Tensor, second: torch.Tensor) -> NDArray[np.float32]:
        return (first.float() - second.float()).abs().mean((1, 2, 3)).numpy()


@pytest.fixture
def sets(toy_study: Params) -> Sets:
    return ImageSet.open(paths.real("toy")), ImageSet.open(paths.synthetic("toy", "siamese"))


def look(
    rows: tuple[str, ...] = (), distances: tuple[str, ...] = (), unavailable: dict[str, str] | None = None
) -> FeatureCache:
    settings = Score(extractors=(*rows, *distances, *(unavailable or {})), resamples=200)
    probes, comparers = {name: Thumbnail() for name in rows}, {name: Difference() for name in distances}
    return FeatureCache(probes, comparers, unavailable or {}, settings, 0, Runtime(torch.device("cpu")))


def scored(metric: ModuleType, sets: Sets, cache: FeatureCache) -> dict[tuple[str, str], ScoreResult]:
    """By name and variant; complete, and each at a place of its own."""
    scores: list[ScoreResult] = metric.score(*sets, cache)
    assert len({score.key for score in scores}) == len(scores)
    assert nested(scores)
    assert scores == metric.score(*sets, cache)
    for score in scores:
        assert (score.value is None) == (score.reason is not None)
        if score.low is not None and score.high is not None and score.value is not None:
            assert score.low <= score.value <= score.high
    return {(score.name, score.variant): score for score in scores}


def features(images: ImageSet) -> Any:
    return look(("x",)).features(images, "x")


def test_clip_i_names_and_reasons(sets: Sets) -> None:
    scores = scored(clip_i, sets, look(("other", "clip_l14_336")))
    names = {name for name, _ in scores}
    assert names == {
        *(f"clip_i_{kind}{suffix}" for kind in ("paired", "pairwise", "nearest") for suffix in ("", "_l14_336")),
        *(f"cosine_{kind}.other" for kind in ("paired", "pairwise", "nearest")),
    }
    missing = [score for score in scores.values() if score.value is None]
    assert {score.name for score in missing} == {"clip_i_paired", "clip_i_pairwise", "clip_i_nearest"}
    assert {score.reason for score in missing} == {"score.extractors does not name clip_b32"}


def test_clip_i_of_weights_that_are_not_there(sets: Sets) -> None:
    scores = scored(clip_i, sets, look(unavailable={"clip_b32": "no weights"}))
    assert {score.reason for score in scores.values()} == {"no weights"}
    assert set(scores) == set(scored(clip_i, sets, look(("clip_b32",))))  # the same places with and without weights


def test_clip_i_by_its_definitions(sets: Sets) -> None:
    real, synthetic = sets
    train, test, made = features(real.split("train")), features(real.split("test")), features(synthetic)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (made, train, test)]
    table, of_test = unit[0] @ unit[1].T, unit[2] @ unit[1].T
    scores = scored(clip_i, sets, look(("clip_b32",)))
    places = [real.split("train").ids.index(row["source_id"]) for row in synthetic]
    paired, pairwise = scores["clip_i_paired", ""], scores["clip_i_pairwise", "train"]
    nearest = scores["clip_i_nearest", "train"]
    assert paired.value == pytest.approx(table[np.arange(16), places].mean(), rel=1e-5)
    assert pairwise.value == pytest.approx(table.mean(), rel=1e-5)
    assert nearest.value == pytest.approx(table.max(1).mean(), rel=1e-5)
    assert (paired.floor, paired.n) == (None, 16)
    assert pairwise.floor == pytest.approx(of_test.mean(), rel=1e-5)
    assert nearest.floor == pytest.approx(of_test.max(1).mean(), rel=1e-5)
    assert scores["clip_i_nearest", "heldout"].floor == pytest.approx(of_test.max(0).mean(), rel=1e-5)


def test_training_images_as_synthetic_ones_are_their_own_partners(sets: Sets) -> None:
    real, _ = sets
    scores = scored(clip_i, (real, real.split("train")), look(("clip_b32",)))
    assert scores["clip_i_paired", ""].value == pytest.approx(1)
    assert scores["clip_i_nearest", "train"].value == pytest.approx(1)
    for kind in ("pairwise", "nearest"):
        assert scores[f"clip_i_{kind}", "heldout"].value == pytest.approx(scores[f"clip_i_{kind}", "heldout"].floor)


def test_the_jackknife_of_clip_i_leaves_out_a_mask_s_real_and_synthetic_images(sets: Sets) -> None:
    real, synthetic = sets
    score = scored(clip_i, sets, look(("clip_b32",)))["clip_i_pairwise", "train"]
    train, without = real.split("train"), []
    for mask in train.ids:
        rest = [images.select(row for row in images if row["source_id"] != mask) for images in (synthetic, train)]
        without.append(mean_cosine(*map(features, rest)))
    error = np.sqrt(7 / 8 * ((np.array(without) - np.mean(without)) ** 2).sum())
    assert score.value is not None
    assert score.low == pytest.approx(score.value - 2.3646 * error, rel=1e-4)  # t of 7 degrees of freedom


def test_images_of_strange_masks_have_no_partner(sets: Sets) -> None:
    real, synthetic = sets
    strange = synthetic.select(row | {"source_id": f"new_{row['source_id']}"} for row in synthetic)
    reason = "no synthetic image was made from the mask of a training image"
    cache = look(("clip_b32",), ("lpips_alex",))
    assert scored(clip_i, (real, strange), cache)["clip_i_paired", ""].reason == reason
    assert scored(lpips, (real, strange), cache)["lpips_paired.alex", ""].reason == reason
    mixed = synthetic.select([*strange.rows[:1], *synthetic.rows[1:]])
    cells = clip_i.per_image(real, mixed, cache)["clip_i_paired"]
    assert cells[0] is None
    assert cells[1:] == clip_i.per_image(real, synthetic, cache)["clip_i_paired"][1:]


def test_columns_per_image(sets: Sets) -> None:
    cache = look(("clip_b32",), ("lpips_alex",))
    columns = clip_i.per_image(*sets, cache) | lpips.per_image(*sets, cache)
    assert {name: len(cells) for name, cells in columns.items()} == {
        "clip_i_paired": 16, "clip_i_nearest": 16, "lpips_paired": 16
    }  # fmt: skip
    score = scored(lpips, sets, cache)["lpips_paired.alex", ""]
    assert np.mean(np.array(columns["lpips_paired"], float)) == pytest.approx(score.value, abs=1e-5)
    assert clip_i.per_image(*sets, look()) == lpips.per_image(*sets, look()) == {}


def difference(images: ImageSet, one: str, other: ImageSet, second: str) -> float:
    rows = {row["id"]: row for row in images}, {row["id"]: row for row in other}
    first, last = images.image(rows[0][one]).astype(float), other.image(rows[1][second]).astype(float)
    return float(np.abs(first - last).mean())


def test_lpips_by_its_definitions(sets: Sets) -> None:
    real, made = sets
    scores = scored(lpips, sets, look(distances=("lpips_alex",)))
    names = [f"train_{k}" for k in range(8)]
    paired = [difference(made, f"{name}_c{copy}", real, name) for name in names for copy in (0, 1)]
    within = [difference(made, f"{name}_c0", made, f"{name}_c1") for name in names]
    couples = [(a, b) for k, a in enumerate(names) for b in names[k + 1 :]]
    across = [difference(made, f"{a}_c0", made, f"{b}_c0") for a, b in couples]
    of_real = [difference(real, a, real, b) for a, b in couples]
    assert {name: score.value for (name, _), score in scores.items()} == pytest.approx(
        {"lpips_paired.alex": np.mean(paired), "lpips_intra_mask.alex": np.mean(within),
         "lpips_intra_set.alex": np.mean(across)}, rel=1e-5
    )  # fmt: skip
    assert scores["lpips_intra_set.alex", ""].floor == pytest.approx(np.mean(of_real), rel=1e-5)
    assert [score.direction for score in scores.values()] == ["lower", "higher", "higher"]
    assert [score.n for score in scores.values()] == [16, 16, 8]


def test_lpips_names_its_net_and_what_is_missing(sets: Sets) -> None:
    both = scored(lpips, sets, look(distances=("lpips_vgg",), rows=("x",), unavailable={"lpips_alex": "no weights"}))
    assert {name for name, _ in both} == {f"lpips_{k}.{net}" for k in ("paired", "intra_mask", "intra_set")
                                          for net in ("alex", "vgg")}  # fmt: skip
    assert {score.reason for (name, _), score in both.items() if name.endswith("alex")} == {"no weights"}
    unnamed = scored(lpips, sets, look())
    assert {score.reason for score in unnamed.values()} == {"score.extractors does not name lpips_alex"}


def test_one_copy_and_one_mask_have_no_diversity(sets: Sets) -> None:
    real, synthetic = sets
    cache = look(distances=("lpips_alex",))
    once = scored(lpips, (real, synthetic.take(1)), cache)
    assert once["lpips_intra_mask.alex", ""].reason == "one image per mask; two copies make a pair"
    one = scored(lpips, (real, synthetic.select(synthetic.rows[:2])), cache)
    assert one["lpips_intra_set.alex", ""].reason == "images of one mask only; a pair needs two masks"


def test_pairs_are_bounded(sets: Sets, monkeypatch: pytest.MonkeyPatch) -> None:
    real, synthetic = sets
    monkeypatch.setattr(lpips, "PAIRS", 5)
    asked: list[int] = []
    seen = FeatureCache.distances
    monkeypatch.setattr(FeatureCache, "distances", lambda self, *a: asked.append(len(a[0])) or seen(self, *a))
    lpips.score(real, synthetic, look(distances=("lpips_alex",)))
    assert asked == [16, 8, 5, 5]  # paired, one pair per mask, five pairs of masks, the same of real images


def test_prdc_of_the_pieces_with_floors(sets: Sets) -> None:
    scores = scored(prdc, sets, look(("x",)))
    piece = next(pieces(*sets, look(("x",)), "x"))
    expected = shares(piece.real, piece.synthetic, 5)
    assert {name: scores[f"{name}.x", "train"].value for name in expected} == expected
    for name in expected:
        assert scores[f"{name}.x", "heldout"].reason == "4 images per set; 5 neighbours need at least 7"
        high = scores[f"{name}.x", "train"].high
        assert high is not None
        assert name == "density" or high <= 1


def test_prdc_and_vendi_of_missing_weights_keep_their_places(sets: Sets) -> None:
    name = "efficientnet_lite0"
    for metric in (prdc, vendi):
        there, gone = (scored(metric, sets, cache) for cache in (look((name,)), look(unavailable={name: "gone"})))
        assert list(there) == list(gone)
        assert {score.reason for score in gone.values()} == {"gone"}


def test_vendi_of_first_copies_against_real_images_of_the_same_masks(sets: Sets) -> None:
    real, synthetic = sets
    score = scored(vendi, sets, look(("x",)))["vendi.x", ""]
    assert score.value == pytest.approx(kinds(features(synthetic.take(1))))
    assert score.floor == pytest.approx(kinds(features(real.split("train"))))
    assert score.n == 8


def test_images_all_alike_have_the_least_diversity(sets: Sets) -> None:
    real, synthetic = sets
    image = synthetic.image(synthetic.rows[0])
    alike = ((replace(synthetic.sample(row), image=image), {"source_id": row["source_id"], "copy": row["copy"]})
             for row in synthetic)  # fmt: skip
    same = ImageSet.create(paths.synthetic("toy", "alike"), real.spec, alike)
    cache = look(("x",), ("lpips_alex",))
    assert scored(vendi, (real, same), cache)["vendi.x", ""].value == pytest.approx(1)
    assert scored(lpips, (real, same), cache)["lpips_intra_set.alex", ""].value == 0
    few = scored(vendi, (real, synthetic.select(synthetic.rows[:4])), cache)["vendi.x", ""]
    assert few.reason == "2 images; a diversity and its jackknife need 3"
