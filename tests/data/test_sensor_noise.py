"""The strength of sensor noise and adding it: known noise is found, the missing part is added, real pixels stay."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.data.sensor_noise import KERNEL, SensorNoise, noise_level, unclipped

Colours = NDArray[np.float32]


def smooth(side: int = 96) -> Colours:
    """Three smooth channels with a bright square; its edges must not count as noise."""
    y, x = np.mgrid[0:side, 0:side] / side
    image = np.stack([0.4 + 0.2 * np.sin(3 * x + shift) * np.cos(2 * y) for shift in range(3)])
    image[:, 20:30, 40:50] = 0.9
    return image.astype(np.float32)


def noisy(level: float, seed: int = 0) -> Colours:
    image = smooth()
    return (image + level * np.random.default_rng(seed).standard_normal(image.shape)).astype(np.float32)


def level_of(image: Colours, rows: slice = slice(None)) -> NDArray[np.float64]:
    region = np.zeros(image.shape[1:], bool)
    region[rows] = True
    return noise_level(image, region & unclipped(image))


def noise(level: float, grey: bool = False) -> SensorNoise:
    return SensorNoise(np.array([level] * 3), grey)


@pytest.mark.parametrize("level", [0.004, 0.012, 0.05])
def test_the_level_is_that_of_the_noise_whatever_the_edges(level: float) -> None:
    assert level_of(noisy(level)) == pytest.approx([level] * 3, rel=0.06)


def test_the_level_is_that_of_its_definition() -> None:
    """Pixel by pixel: |sum of kernel times neighbours|, its median, over that of a standard normal variable."""
    image = noisy(0.02)[:1, :9, :7]
    padded = np.pad(image[0], 1, mode="symmetric").astype(np.float64)
    values = [
        abs(sum(KERNEL[a, b] * padded[y + a, x + b] for a in range(3) for b in range(3)))
        for y in range(9)
        for x in range(7)
    ]
    assert float(np.square(KERNEL.astype(np.float64)).sum()) == pytest.approx(1)  # white noise keeps its variance
    median = 0.6744897501960817  # of |x|, x normal
    assert math.erf(median / math.sqrt(2)) == pytest.approx(0.5)
    assert noise_level(image, np.ones((9, 7), bool))[0] == pytest.approx(np.median(values) / median, rel=1e-3)


@pytest.mark.parametrize("width", [10, 40, 60])
def test_borders_and_highlights_neither_count_nor_get_noise(width: int) -> None:
    """Up to 60 of 96 columns are black, which would draw a median over all pixels to 0."""
    bordered = noisy(0.02)
    bordered[:, :, :width], bordered[:, -8:, -8:] = 0.0, 1.0
    assert level_of(bordered) == pytest.approx([0.02] * 3, rel=0.1)
    plain = smooth()
    plain[:, :, :width], plain[:, -8:, -8:] = 0.0, 1.0
    found = noise(0.02).add(plain, np.random.default_rng(0))
    assert not found[:, :, :width].any() and (found[:, -8:, -8:] == 1).all()
    assert level_of(found) == pytest.approx([0.02] * 3, rel=0.1)


def test_what_is_missing_is_added() -> None:
    for own in (0.0, 0.01):
        found = noise(0.02).add(noisy(own, 1), np.random.default_rng(2))
        assert level_of(found) == pytest.approx([0.02] * 3, rel=0.06)
    loud = noisy(0.05)
    assert np.array_equal(noise(0.02).add(loud, np.random.default_rng(2)), np.clip(loud, 0, 1))


def test_bytes_are_as_noisy_as_bytes() -> None:
    """Rounding adds noise of its own, which the level of the training images, bytes as well, has in it."""
    real = (noisy(0.003) * 255).round().astype(np.float32) / 255
    found = noise(float(level_of(real).mean())).add(smooth(), np.random.default_rng(3))
    again = (found * 255).round() / 255
    assert again[:, 40:].std() == pytest.approx(real[:, 40:].std(), rel=0.02)
    assert level_of(again.astype(np.float32)) == pytest.approx(level_of(real), abs=0.3 / 255)


def test_a_synthetic_lesion_gets_what_it_lacks_and_real_pixels_stay() -> None:
    """The real surroundings are as noisy as the set, the lesion is smooth."""
    image, share = noisy(0.02), np.zeros((96, 96), np.float32)
    image[:, 60:80], share[60:80] = smooth()[:, 60:80], 1
    found = noise(0.02).add(image, np.random.default_rng(0), share)
    assert np.array_equal(found[:, :60], image[:, :60]) and np.array_equal(found[:, 80:], image[:, 80:])
    assert level_of(found, slice(61, 79)) == pytest.approx([0.02] * 3, rel=0.1)


def test_grey_images_stay_grey_and_flat_ones_have_no_noise() -> None:
    grey = np.repeat(smooth()[:1], 3, axis=0)
    found = noise(0.02, grey=True).add(grey, np.random.default_rng(0))
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])
    assert not np.array_equal(found, grey)
    for flat in (0.0, 0.5, 1.0):
        assert not level_of(np.full((3, 16, 16), flat, np.float32)).any()
