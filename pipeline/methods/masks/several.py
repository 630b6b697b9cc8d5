"""Training masks with more lesions: its own ones scaled in place, and some of other training masks beside them.

As in TumorCP (Yang et al. 2021) lesions are scaled by 0.85 to 1.25; the number of further ones is drawn from a Poisson
distribution. Lesions that touch another one stay as they are, and a further one that finds no free place is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy import ndimage

from pipeline.core import seeding
from pipeline.core.contracts import ConditioningMask
from pipeline.core.section import Section
from pipeline.data.image_set import ImageSet
from pipeline.methods.masks._bounds import TOUCHING, Mask, check_range, lesions
from pipeline.methods.masks._sequence import LazyMasks, mask_id, require_images

Region = NDArray[np.bool_]  # [H, W]
Record = dict[str, Any]


class Params(Section):
    """How many lesions are added, and how lesions are scaled."""

    extra: float = Field(default=0.5, ge=0, le=10)
    """Mean number of further lesions (Poisson)."""
    most: int = Field(default=2, ge=0, le=20)
    """Largest number of further lesions of a mask."""
    scale: tuple[float, float] = (0.85, 1.25)
    """Smallest and largest factor on the lengths of each lesion."""
    tries: int = Field(default=20, ge=1, le=1000)
    """Places that are tried for each further lesion."""

    @model_validator(mode="after")
    def scale_allows_no_change(self) -> Self:
        check_range("scale", self.scale, 0.1, 10)
        return self


def build(params: Params, train: ImageSet, count: int | None, seed: str) -> LazyMasks:
    """Mask k starts from training mask k modulo their number. Raises UserError where there is no training image."""
    number = len(require_images(train)) if count is None else count
    return LazyMasks(number, _Sampler(params, require_images(train), seed))


@dataclass(frozen=True)
class _Sampler:
    """Draws a mask on access."""

    params: Params
    train: ImageSet
    seed: str

    def __call__(self, index: int) -> ConditioningMask:
        rng = seeding.numpy_rng(self.seed, "several", index)
        row = self.train.rows[index % len(self.train)]
        pixels, scales = self._scaled(self.train.mask(row), rng)
        further = self._further(pixels, rng)
        about = {"method": "several", "scales": scales, "further": further}
        return ConditioningMask(mask_id("several", index), row["id"], about, pixels, row["prompt"], row["source"])

    def _scaled(self, source: Mask, rng: np.random.Generator) -> tuple[Mask, list[float]]:
        """Return a mask with each lesion scaled about its centre, or as it is where that would touch another one."""
        pixels, scales = source.copy(), []
        regions, number = lesions(source)
        for region in (regions == n for n in range(1, number + 1)):
            scale = round(float(rng.uniform(*self.params.scale)), 6)
            box = ndimage.find_objects(region.astype(np.uint8))[0]
            centre = [(side.start + side.stop) / 2 for side in box]
            larger = placed(region, scale, centre)
            others = np.where(region, 0, pixels)
            fits = larger is not None and not _touches(larger, others)
            scales.append(scale if fits else 1.0)
            if larger is not None and fits:
                label = int(source[region][0])
                pixels = np.where(larger, label, others).astype(np.uint8)
        return pixels, scales

    def _further(self, pixels: Mask, rng: np.random.Generator) -> list[Record]:
        """Draw further lesions into a mask; return what each is."""
        records: list[Record] = []
        for _ in range(min(int(rng.poisson(self.params.extra)), self.params.most)):
            row = self.train.rows[int(rng.integers(len(self.train)))]
            mask = self.train.mask(row)
            regions, number = lesions(mask)
            if not number:
                continue
            chosen = int(rng.integers(number)) + 1
            scale = round(float(rng.uniform(*self.params.scale)), 6)
            region = regions == chosen
            centre = self._free_place(pixels, region, scale, rng)
            if centre is not None:
                pixels[placed(region, scale, centre)] = mask[region][0]
                records.append({"lesion": f"{row['id']}/{chosen}", "scale": scale, "centre": centre})
        return records

    def _free_place(self, pixels: Mask, region: Region, scale: float, rng: np.random.Generator) -> list[float] | None:
        """Return a centre at which a scaled region touches neither a lesion nor the frame; None after all tries."""
        for _ in range(self.params.tries):
            centre = [round(float(place), 2) for place in rng.uniform(0, pixels.shape)]
            there = placed(region, scale, centre)
            if there is not None and not _touches(there, pixels):
                return centre
        return None


def placed(region: Region, scale: float, centre: Sequence[float]) -> Region | None:
    """Return a region scaled by the nearest pixel about a centre in pixels; None where it leaves or meets the frame."""
    box = ndimage.find_objects(region.astype(np.uint8))[0]
    crop = region[box]
    sides = [max(1, round(side * scale)) for side in crop.shape]
    starts = [round(middle - side / 2) for middle, side in zip(centre, sides, strict=True)]
    inner = zip(starts, sides, region.shape, strict=True)
    if any(start < 1 or start + side > limit - 1 for start, side, limit in inner):
        return None
    taken = [np.arange(side) * old // side for side, old in zip(sides, crop.shape, strict=True)]
    result = np.zeros(region.shape, bool)
    down, right = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    result[down, right] = crop[np.ix_(*taken)]
    return result


def _touches(region: Region, pixels: Mask) -> bool:
    return bool(pixels[np.asarray(ndimage.binary_dilation(region, TOUCHING), bool)].any())
