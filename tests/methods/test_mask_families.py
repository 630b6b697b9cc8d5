"""Which synthetic images belong together: a source may have several masks, few have one, or none is a real image."""

from typing import Any

import numpy as np
import pytest

from pipeline.core import paths
from pipeline.data.image_set import ImageSet
from pipeline.methods.image_metrics import _pieces, faithfulness, lpips
from pipeline.methods.image_metrics._groups import image_units
from pipeline.methods.image_metrics._partners import families, partners
from pipeline.methods.image_metrics._pieces import pieces
from pipeline.metrics.statistics.resampling import bootstrap_means
from pipeline.stages.score.params import Score
from pipeline.study import Params


class Places:
    """A cache whose feature row of an image is its place in the set, and whose distance of two images is 1."""

    settings = Score(resamples=100)
    seed = 0

    def features(self, images: ImageSet, extractor: str) -> Any:
        return np.arange(len(images))[:, None]

    def distances(self, first: ImageSet, second: ImageSet, extractor: str) -> Any:
        self.pairs = list(zip(first, second, strict=True))
        return np.ones(len(first), np.float32)


@pytest.fixture
def real(toy_study: Params) -> ImageSet:
    return ImageSet.open(paths.real("toy"))


@pytest.fixture
def made(toy_study: Params) -> ImageSet:
    """Two copies of eight training masks; the rows do not tell the mask, as those of older sets."""
    return ImageSet.open(paths.synthetic("toy", "siamese"))


def turned(made: ImageSet) -> ImageSet:
    """As masks `random` with count 16: the second image of each source follows another mask of it."""
    return made.select(row | {"copy": 0, "mask_id": f"random_{k}", "masks": "random"} for k, row in enumerate(made))


def drawn(made: ImageSet) -> ImageSet:
    """As masks `shapes`: eight masks without a training image, two copies each."""
    return made.select(row | {"source_id": "shapes", "mask_id": f"shapes_{row['source_id']}"} for row in made)


def sources(images: ImageSet, rows: Any) -> list[str]:
    return [images.rows[k]["source_id"] for k in rows[:, 0]]


@pytest.mark.parametrize("kind", ["copies", "turned", "few"])
def test_a_source_has_one_place_in_both_sets_and_is_in_one_half_only(real: ImageSet, made: ImageSet, kind: str) -> None:
    few = made.select(row for row in made if row["source_id"] in ("train_2", "train_3", "train_5", "train_6"))
    images = {"copies": made, "turned": turned(made), "few": few}[kind]
    train = real.split("train")
    whole, half, _ = pieces(real, images, Places(), "x")  # type: ignore[arg-type]
    assert len(whole.real) == (4 if kind == "few" else 8)
    assert sources(images, whole.synthetic) == [train.ids[k] for k in whole.real[:, 0]]
    assert len(set(sources(images, whole.synthetic))) == len(whole.real)
    assert not set(sources(images, half.synthetic)) & {train.ids[k] for k in half.real[:, 0]}
    assert half.stand_in is not None
    assert sources(images, half.synthetic) == [train.ids[k] for k in half.stand_in[:, 0]]


def test_second_masks_follow_after_all_first_ones(real: ImageSet, made: ImageSet) -> None:
    images = turned(made)
    order = _pieces._order(images, set(real.ids), 0)
    first = [images.rows[k]["source_id"] for k in order[:8]]
    assert sorted(first) == [f"train_{n}" for n in range(8)]
    assert [images.rows[k]["source_id"] for k in order[8:]] == first


def test_masks_of_a_procedure_stand_alone_and_turned_masks_stay_with_their_source(made: ImageSet) -> None:
    assert families(made) == families(turned(made)) == [f"train_{k // 2}" for k in range(16)]
    assert families(drawn(made)) == [f"shapes_train_{k // 2}" for k in range(16)]


def test_no_partner_for_masks_of_a_procedure(real: ImageSet, made: ImageSet) -> None:
    assert partners(real.split("train"), drawn(made)).synthetic == []


def test_strangers_have_masks_of_another_family(made: ImageSet) -> None:
    for images in (turned(made), drawn(made)):
        names = families(images)
        other = faithfulness.mismatched_masks(images, np.random.default_rng(0))
        assert len(other) == 16 and len(set(other.values())) == 8
        assert all(names[other[row["id"]]] != name for row, name in zip(images, names, strict=True))


def test_intervals_do_not_collapse_where_all_masks_have_one_source_id(real: ImageSet, made: ImageSet) -> None:
    """The old cluster, the source id alone, left one cluster: every draw was the mean."""
    values = np.arange(16.0)
    one = bootstrap_means(values, [row["source_id"] for row in drawn(made)], 100, np.random.default_rng(0))
    assert np.ptp(one) == 0
    sample = faithfulness._Sample("faithfulness", values, image_units(drawn(made), real))
    assert np.ptp(sample.draws(Places())) > 1  # type: ignore[arg-type]


def test_diversity_of_one_mask_pairs_its_copies_and_not_the_other_masks_of_its_source(
    real: ImageSet, made: ImageSet
) -> None:
    cache: Any = Places()
    assert lpips._intra_mask(real, turned(made), cache, "lpips_alex").value is None  # one image per mask
    assert lpips._intra_mask(real, drawn(made), cache, "lpips_alex").value == 1
    assert all(one["mask_id"] == other["mask_id"] for one, other in cache.pairs)


def test_diversity_of_a_set_pairs_different_families_and_has_a_floor_where_they_are_training_images(
    real: ImageSet, made: ImageSet
) -> None:
    cache: Any = Places()
    assert lpips._intra_set(real, drawn(made), cache, "lpips_alex").floor is None
    assert all(one["mask_id"] != other["mask_id"] for one, other in cache.pairs)
    assert lpips._intra_set(real, turned(made), cache, "lpips_alex").floor == 1
    assert all(one["source_id"] != other["source_id"] for one, other in cache.pairs)
