"""The strength of sensor noise and adding it: known noise is found, the missing part is added, real pixels stay."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.data.sensor_noise import KERNEL, SensorNoise, noise_level


def smooth(side: int = 96) -> NDArray[np.float32]:
    """Three smooth channels with a bright square whose edges are no noise."""
    y, x = np.mgrid[0:side, 0:side] / side
    image = np.stack([0.3 + 0.2 * np.sin(3 * x + shift) * np.cos(2 * y) for shift in range(3)])
    image[:, 20:30, 40:50] = 0.9
    return image.astype(np.float32)


def noisy(level: float, seed: int = 0) -> NDArray[np.float32]:
    image = smooth()
    return (image + level * np.random.default_rng(seed).standard_normal(image.shape)).astype(np.float32)


@pytest.mark.parametrize("level", [0.004, 0.012, 0.05])
def test_the_level_is_that_of_the_noise_whatever_the_edges(level: float) -> None:
    assert noise_level(noisy(level)) == pytest.approx([level] * 3, rel=0.06)


def test_the_level_is_that_of_its_definition() -> None:
    """Pixel by pixel: |sum of kernel times neighbours|, its median, over that of a standard normal variable."""
    image = noisy(0.02)[:1, :9, :7].astype(np.float64)
    padded = np.pad(image[0], 1, mode="symmetric")
    values = [
        abs(sum(KERNEL[a, b] * padded[y + a, x + b] for a in range(3) for b in range(3)))
        for y in range(9)
        for x in range(7)
    ]
    assert float(np.square(KERNEL.astype(np.float64)).sum()) == pytest.approx(1)  # white noise keeps its variance
    median = 0.6744897501960817  # of |x|, x normal
    assert math.erf(median / math.sqrt(2)) == pytest.approx(0.5)
    assert noise_level(image)[0] == pytest.approx(np.median(values) / median, rel=1e-4)


def test_what_is_missing_is_added() -> None:
    noise = SensorNoise(np.array([0.02, 0.02, 0.02]), grey=False)
    for own in (0.0, 0.01):
        found = noise.add(noisy(own, 1), np.random.default_rng(2))
        assert noise_level(found) == pytest.approx([0.02] * 3, rel=0.06)
    loud = noisy(0.05)
    assert np.array_equal(noise.add(loud, np.random.default_rng(2)), np.clip(loud, 0, 1))


def test_real_pixels_stay_and_grey_images_stay_grey() -> None:
    image, share = smooth(), np.zeros((96, 96), np.float32)
    share[50:, :] = 1
    coloured = SensorNoise(np.array([0.02] * 3), grey=False).add(image, np.random.default_rng(0), share)
    assert np.array_equal(coloured[:, :50], image[:, :50])
    assert not np.array_equal(coloured[:, 50:], image[:, 50:])
    grey = np.repeat(image[:1], 3, axis=0)
    found = SensorNoise(np.array([0.02] * 3), grey=True).add(grey, np.random.default_rng(0))
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])
    assert not np.array_equal(found, grey)
