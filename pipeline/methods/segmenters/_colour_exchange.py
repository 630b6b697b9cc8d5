"""Colour exchange (Wei et al. 2021): an image takes the mean and spread of a reference image's colours in CIE Lab.

Differences from the published code: references are real images only, selected by the column `source` and not by file
names, and sampled anew each time; colours out of range are clipped and do not wrap around; an image of one colour takes
the reference's mean instead of becoming undefined; Lab is not rounded to bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet, Row
from pipeline.data.loading import Augment

WHITE = (0.950456, 1.0, 1.088754)  # D65
TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
EDGE = 6 / 29  # below it the cube root is a line


@dataclass(frozen=True)
class ColourExchange:
    """An augmentation: colour exchange with a reference, then another augmentation."""

    train: ImageSet
    probabilities: Mapping[str, float]  # of the sources; empty: every real image equally often
    then: Augment | None
    colours: dict[str, tuple[Tensor, Tensor]] = field(
        default_factory=dict, repr=False
    )  # of references used so far, by id
    pools: dict[str, list[Row]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Raise UserError where there is no reference for a source that is named."""
        real = [row for row in self.train if not row["synthetic"]]
        for source in self.probabilities or ("",):
            self.pools[source] = [row for row in real if source in ("", row["source"])]
            if not self.pools[source]:
                known = ", ".join(sorted({row["source"] for row in real})) or "none"
                raise UserError(
                    f"colour exchange needs real training images as references{source and f' from {source!r}'};"
                    f" real sources here: {known}; name these in colour_references, or set colour_exchange to false"
                )

    def __call__(self, image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Give an image [3, H, W] in [0, 1] the colours of a random reference."""
        sources, weights = list(self.pools), np.array(list(self.probabilities.values()) or [1.0])
        pool = self.pools[sources[int(rng.choice(len(sources), p=weights / weights.sum()))]]
        image = transfer_colours(image, *self._colours(pool[int(rng.integers(len(pool)))]))
        return (image, mask) if self.then is None else self.then(image, mask, rng)

    def _colours(self, row: Row) -> tuple[Tensor, Tensor]:
        if row["id"] not in self.colours:
            image = torch.from_numpy(self.train.image(row).copy()).float() / 255
            self.colours[row["id"]] = colour_statistics(rgb_to_lab(image))
        return self.colours[row["id"]]


def transfer_colours(image: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """Shift and scale each Lab channel of an image [3, H, W] to this mean and standard deviation; clip to [0, 1]."""
    lab = rgb_to_lab(image)
    lab_mean, lab_spread = colour_statistics(lab)
    scale = torch.where(lab_spread > 1e-6, spread / lab_spread.clamp(min=1e-6), 0.0)
    return lab_to_rgb((lab - lab_mean) * scale + mean).clamp(0, 1)


def colour_statistics(lab_image: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel of [3, H, W], both [3, 1, 1]."""
    return lab_image.mean((1, 2), keepdim=True), lab_image.std((1, 2), correction=0, keepdim=True)


def rgb_to_lab(image: Tensor) -> Tensor:
    """Convert sRGB [3, H, W] in [0, 1] to CIE Lab under D65: L in [0, 100]."""
    linear = torch.where(image > 0.04045, ((image + 0.055) / 1.055) ** 2.4, image / 12.92)
    scaled = torch.tensordot(image.new_tensor(TO_XYZ), linear, 1) / image.new_tensor(WHITE)[:, None, None]
    x, y, z = torch.where(scaled > EDGE**3, scaled.clamp(min=EDGE**3) ** (1 / 3), scaled / (3 * EDGE**2) + 4 / 29)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def lab_to_rgb(lab_image: Tensor) -> Tensor:
    """Convert CIE Lab [3, H, W] to sRGB, in [0, 1] where it is representable."""
    light = (lab_image[0] + 16) / 116
    roots = torch.stack([light + lab_image[1] / 500, light, light - lab_image[2] / 200])
    scaled = torch.where(roots > EDGE, roots**3, 3 * EDGE**2 * (roots - 4 / 29))
    to_rgb = torch.linalg.inv(lab_image.new_tensor(TO_XYZ))
    linear = torch.tensordot(to_rgb, scaled * lab_image.new_tensor(WHITE)[:, None, None], 1)
    return torch.where(linear > 0.0031308, 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055, 12.92 * linear)
