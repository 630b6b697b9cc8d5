"""Sensor noise of images: how strong it is, and adding what an image lacks.

An autoencoder removes the noise of a camera's sensor, so synthetic images are smoother than real ones. Video codecs
solve the same problem by adding noise of the measured strength after decoding (film grain synthesis, Norkin and
Birkbeck 2018).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve

from pipeline.data.image_set import ImageSet

KERNEL = (
    np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
)  # of Immerkaer (1996); keeps white noise as strong
LOOKED_AT = 256  # images of a set whose noise is measured
MEDIAN = 0.6745  # of the absolute value of a standard normal variable


def noise_level(image: NDArray[np.floating] | NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the standard deviation [C] of the white noise in each channel of an image [C, H, W], in the image's unit.

    Immerkaer's difference of two Laplacians removes what varies smoothly. Donoho and Johnstone's (1994) median of the
    absolute values replaces Immerkaer's mean, which edges and highlights would raise.
    """
    filtered = np.stack([convolve(channel, KERNEL, mode="reflect") for channel in image.astype(np.float32)])
    return np.median(np.abs(filtered), axis=(1, 2)).astype(np.float64) / MEDIAN


@dataclass(frozen=True)
class SensorNoise:
    """The noise of a set of images."""

    level: NDArray[np.float64]  # [C], the median standard deviation over images, of values in [0, 1]
    grey: bool  # all channels of all images are equal

    @classmethod
    def of(cls, images: ImageSet) -> Self:
        """Measure a set, or LOOKED_AT of its images that are spread over it evenly."""
        rows = images.rows[:: max(1, len(images) // LOOKED_AT)]
        pictures = [images.picture(row) for row in rows]
        level = np.median([noise_level(picture) for picture in pictures], axis=0) / 255
        return cls(level, all(bool((picture == picture[:1]).all()) for picture in pictures))

    def add(
        self, image: NDArray[np.float32], rng: np.random.Generator, share: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Add white noise to an image [C, H, W] in [0, 1] until it is as noisy as the set, and clip it.

        An image that is as noisy already stays as it is. `share` [H, W] scales the noise of each pixel; it is 0 where
        pixels come from real images. Channels of grey sets get the same noise.
        """
        missing = np.sqrt(np.maximum(self.level**2 - noise_level(image) ** 2, 0))[:, None, None]
        shape = (1, *image.shape[1:]) if self.grey else image.shape
        noise = (rng.standard_normal(shape) * missing).astype(np.float32)
        return np.clip(image + (noise if share is None else noise * share), np.float32(0), np.float32(1))
