"""Masks of several lesions: scaled in place, further ones disjoint, every number recorded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.methods.masks import several

SIDE = 64


def square(top: int, left: int, size: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[top : top + size, left : left + size] = 1
    return mask


@pytest.fixture
def train(tmp_path: Path) -> ImageSet:
    masks = (square(10, 10, 12), square(30, 40, 8), square(0, 0, 10), square(20, 20, 6) + square(20, 27, 6))
    image = np.zeros((3, SIDE, SIDE), np.uint8)
    samples = ((Sample(f"i{k}", image, mask[None], "", "train"), {}) for k, mask in enumerate(masks))
    return ImageSet.create(tmp_path / "set", DatasetSpec(name="toy", size=SIDE), samples)


def regions(mask: np.ndarray) -> int:
    return int(ndimage.label(mask > 0, np.ones((3, 3)))[1])  # type: ignore[index]


def own(mask: Any) -> int:
    return len(mask.transform["scales"])


def masks(train: ImageSet, count: int = 80, **values: Any) -> list[Any]:
    return [*several.build(several.Params(**values), train, count, "0")]


def test_lesions_are_scaled_about_their_centre(train: ImageSet) -> None:
    for mask in masks(train, extra=0.0)[::4]:
        (scale,) = mask.transform["scales"]
        assert mask.pixels.sum() == round(12 * scale) ** 2
        assert np.allclose(np.argwhere(mask.pixels).mean(0), 15.5, atol=0.51)
        assert 0.85 <= scale <= 1.25
    assert len({mask.transform["scales"][0] for mask in masks(train, extra=0.0)[::4]}) == 20


def test_a_lesion_stays_as_it_is_where_the_frame_or_another_one_is_near(train: ImageSet) -> None:
    found = masks(train, extra=0.0, scale=(1.0, 1.25))
    cut, pairs = found[2], found[3::4]
    assert np.array_equal(cut.pixels, square(0, 0, 10)) and cut.transform["scales"] == [1.0]
    assert all(np.array_equal(pair.pixels, square(20, 20, 6) + square(20, 27, 6)) for pair in pairs)


def test_further_lesions_are_disjoint_and_counted(train: ImageSet) -> None:
    found = masks(train, 400)
    further = [len(mask.transform["further"]) for mask in found]
    assert [regions(mask.pixels) for mask in found] == [
        own(mask) + number for mask, number in zip(found, further, strict=True)
    ]
    assert max(further) == 2
    expected = 1 * np.exp(-0.5) * 0.5 + 2 * (1 - 1.5 * np.exp(-0.5))  # Poisson(0.5), two at most
    assert np.mean(further) == pytest.approx(expected, abs=4 * 0.65 / 20)


def test_a_crowded_image_takes_no_more(train: ImageSet) -> None:
    found = masks(train, 40, extra=10.0, most=20, tries=3)
    assert all(regions(mask.pixels) == own(mask) + len(mask.transform["further"]) for mask in found)
    assert any(len(mask.transform["further"]) < 5 for mask in found)


def test_a_scale_that_allows_no_change_only_is_refused() -> None:
    with pytest.raises(UserError, match=r"scale must be \[low, high\] with 0.1 <= low <= 1 <= high <= 10"):
        parse(several.Params, {"scale": [1.1, 1.2]})
