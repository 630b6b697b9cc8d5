"""Sensor noise of images: how strong it is, and adding what an image lacks.

An autoencoder removes the noise of a camera's sensor, so synthetic images are smoother than real ones. Video codecs
solve the same problem by adding noise of the measured strength after decoding (film grain synthesis, Norkin and
Birkbeck 2018).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve, maximum_filter, minimum_filter

from pipeline.data.image_set import ImageSet

KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6  # keeps the strength of white noise
LOOKED_AT = 256  # images of a set whose noise is measured, at most
MEDIAN = 0.6745  # of the absolute value of a standard normal variable
DARK, BRIGHT = 8 / 255, 247 / 255  # beyond them a sensor is clipped, or an image has a border: there is no noise
ROUNDING = 1 / 12 / 255**2  # variance that rounding to bytes adds
Colours = NDArray[np.float32]  # [C, H, W] in [0, 1]
Region = NDArray[np.bool_]  # [H, W]


def unclipped(image: Colours) -> Region:
    """Return the pixels that, with all their neighbours, are neither nearly black nor nearly white in any channel."""
    low = np.stack([minimum_filter(channel, 3) for channel in image])
    high = np.stack([maximum_filter(channel, 3) for channel in image])
    return np.logical_and.reduce((low > DARK) & (high < BRIGHT))


def noise_level(image: Colours, region: Region) -> NDArray[np.float64]:
    """Return the standard deviation [C] of the white noise in a region of an image; 0 where the region is empty.

    Immerkaer's (1996) difference of two Laplacians removes what varies smoothly. Donoho and Johnstone's (1994) median
    of the absolute values replaces Immerkaer's mean, which edges and highlights would raise. Fine texture counts as
    noise.
    """
    if not region.any():
        return np.zeros(len(image))
    filtered = np.stack([convolve(channel, KERNEL, mode="reflect") for channel in image])
    return np.median(np.abs(filtered[:, region]), axis=1).astype(np.float64) / MEDIAN


@dataclass(frozen=True)
class SensorNoise:
    """The noise of a set of images."""

    level: NDArray[np.float64]  # [C], the median standard deviation over images, of values in [0, 1]
    grey: bool  # all channels of all images are equal

    @classmethod
    def of(cls, images: ImageSet) -> Self:
        """Measure a set, or LOOKED_AT of its images that are spread over it evenly."""
        places = np.unique(np.linspace(0, len(images) - 1, min(len(images), LOOKED_AT)).round().astype(int))
        pictures = [np.float32(1 / 255) * images.picture(images.rows[place]) for place in places]
        level = np.median([noise_level(picture, unclipped(picture)) for picture in pictures], axis=0)
        return cls(level, all(bool((picture == picture[:1]).all()) for picture in pictures))

    def add(self, image: Colours, rng: np.random.Generator, share: Colours | None = None) -> Colours:
        """Add white noise to an image [C, H, W] in [0, 1] until it is as noisy as the set, and clip it.

        Clipped pixels get none, and an image that is as noisy already stays as it is. `share` [H, W] is the share of a
        pixel that is synthetic: it scales the noise, and what is missing is measured where it is above a half. Channels
        of grey sets get the same noise.
        """
        region = unclipped(image)
        synthetic = region if share is None else region & (share > 0.5)
        wanted = self.level**2 - ROUNDING - noise_level(image, synthetic) ** 2
        missing = np.sqrt(np.maximum(wanted, 0))[:, None, None]
        shape = (1, *image.shape[1:]) if self.grey else image.shape
        noise = rng.standard_normal(shape) * missing * region * (1 if share is None else share)
        return np.clip(image + noise.astype(np.float32), np.float32(0), np.float32(1))
