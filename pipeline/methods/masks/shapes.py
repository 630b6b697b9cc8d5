"""Procedural lesions: number, sizes and places as in the training masks, with new outlines.

Mask k resamples training mask k modulo their number: every lesion of it, of every class, is drawn anew from a Gaussian
kernel about its area, centre and aspect (a smoothed bootstrap), as a smooth random closed curve.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pydantic import Field

from pipeline.core import seeding
from pipeline.core.contracts import ConditioningMask
from pipeline.core.errors import UserError
from pipeline.core.section import Section
from pipeline.data.image_set import ImageSet, Row
from pipeline.methods.masks._bounds import Mask
from pipeline.methods.masks._curves import region, waves
from pipeline.methods.masks._lesions import (
    Lesion,
    Spread,
    measure_lesions,
    measure_spreads,
    resample_lesion,
    visible_shares,
)
from pipeline.methods.masks._sequence import LazyMasks, mask_id, require_images

MEASURED = 1000  # most training masks from which the width of the kernel is measured
VISIBLE = 0.5  # least share of each class in view, as a multiple of that in the training mask
LesionOutline = tuple[Lesion, list[list[float]]]  # with the Fourier descriptors of its outline


class Params(Section):
    """How far the drawn lesions depart from those of the training masks."""

    bandwidth: float = Field(default=0.3, ge=0, le=1)
    """Width of the kernel about each training lesion, in standard deviations over the training masks."""
    roughness: float = Field(default=0.25, ge=0, le=0.5)
    """Roughness of the outlines; 0 gives ellipses."""
    tries: int = Field(default=20, ge=1, le=1000)
    """Masks that are tried; afterwards the training mask itself is taken."""


def build(params: Params, train: ImageSet, count: int | None, seed: str) -> LazyMasks:
    """Mask k has the classes of training mask k modulo their number. Raises UserError where all masks are empty."""
    step = -(-len(require_images(train)) // MEASURED)
    measured = _measured(train, train.rows[::step]) or _measured(train, train.rows)
    if not measured:
        raise UserError(f"{train.folder}: every training mask is empty, so there are no lesions to imitate")
    return LazyMasks(
        len(train) if count is None else count, _ShapeSampler(params, train, measure_spreads(measured), seed)
    )


def _measured(train: ImageSet, rows: Sequence[Row]) -> list[Lesion]:
    return [lesion for row in rows for lesion in measure_lesions(train.mask(row))]


@dataclass(frozen=True)
class _ShapeSampler:
    """Draws a mask on access."""

    params: Params
    train: ImageSet
    spread: Mapping[int, Spread]  # per label
    seed: str

    def __call__(self, index: int) -> ConditioningMask:
        rng = seeding.numpy_rng(self.seed, "shapes", index)
        row, source = self._source(index, rng)
        pixels, shapes = self._draw_like(source, rng)
        about = {"method": "shapes", "drawn_from": row["id"], "shapes": [_record(shape) for shape in shapes]}
        return ConditioningMask(mask_id("shapes", index), "shapes", about, pixels, row["prompt"], row["source"])

    def _draw_like(self, source: Mask, rng: np.random.Generator) -> tuple[Mask, list[LesionOutline]]:
        """Draw a mask like `source`; return it and its shapes, or the source and none where no try shows each class."""
        lesions = measure_lesions(source)
        required = {label: VISIBLE * share for label, share in visible_shares(source, lesions).items()}
        for _ in range(self.params.tries):
            shapes = [self._vary(lesion, rng) for lesion in lesions]
            pixels = draw(shapes, len(source))
            visible = visible_shares(pixels, [lesion for lesion, _ in shapes])
            if all(visible[label] >= share for label, share in required.items()):
                return pixels, shapes
        return source, []

    def _source(self, index: int, rng: np.random.Generator) -> tuple[Row, Mask]:
        """Return training mask `index` modulo their number; where it is empty, a random one that is not."""
        positions = (index % len(self.train), *rng.permutation(len(self.train)).tolist())
        pairs = ((self.train.rows[position], self.train.mask(self.train.rows[position])) for position in positions)
        return next((row, mask) for row, mask in pairs if mask.any())

    def _vary(self, lesion: Lesion, rng: np.random.Generator) -> LesionOutline:
        spread = (
            self.spread.get(lesion.label) or measure_spreads([lesion])[lesion.label]
        )  # of a label that none measured had
        transformed_masks = resample_lesion(lesion, spread, self.params.bandwidth, rng)
        return transformed_masks, waves(rng, self.params.roughness).tolist()


def draw(shapes: Sequence[LesionOutline], size: int) -> Mask:
    """Paint the label map [size, size] of shapes, small ones over large ones."""
    pixels = np.zeros((size, size), np.uint8)
    for lesion, descriptors in sorted(shapes, key=lambda shape: -shape[0].area):
        pixels[region(lesion, np.array(descriptors), size)] = lesion.label
    return pixels


def _record(shape: LesionOutline) -> dict[str, Any]:
    lesion, descriptors = shape
    return {**asdict(lesion), "centre": [*lesion.centre], "waves": descriptors}
