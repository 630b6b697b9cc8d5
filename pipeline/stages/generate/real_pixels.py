"""Which training image lends pixels to a synthetic one, where lesions are drawn into it, and what its mask then is."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from pipeline.core import seeding
from pipeline.core.contracts import ConditioningMask, RealImages
from pipeline.core.errors import UserError
from pipeline.data.holes import Region, drawn_share, hole_of
from pipeline.data.image_set import ImageSet, Row
from pipeline.stages.finetune.params import GeneratorEntry, KeepBackground
from pipeline.stages.generate.placement import Image, Lesion, Mask, place, smaller, surroundings

CANDIDATES = 20  # training images that are searched for a free place
SCALES = (1.0, 0.8, 0.64, 0.51, 0.41, 0.33)  # of a mask without a place of its own; larger ones are tried first


@dataclass(frozen=True)
class Background:
    """A training image that lends pixels to one synthetic image."""

    id: str
    image: Image
    label: Mask  # of the synthetic image: what is drawn, and the lesions of the image that stay visible
    new: Region  # the lesions that are drawn
    placed: tuple[dict[str, Any], ...] = ()  # per moved mask its source, scale and shift; none: drawn in its own place

    def columns(self, kept: bool) -> dict[str, str]:
        """Return the columns of the synthetic image; `placed` (JSON text) where a background is kept."""
        placed = {"placed": json.dumps(list(self.placed), sort_keys=True)} if kept else {}
        return {"background_id": self.id, **placed}


@dataclass(frozen=True)
class Backgrounds:
    """Chooses the background of every image of an entry."""

    name: str  # of the entry
    entry: GeneratorEntry
    train: ImageSet
    stream: int | str

    @cached_property
    def rows(self) -> dict[str, Row]:
        """The training images by id."""
        return {row["id"]: row for row in self.train}

    def masks(self, masks: Sequence[ConditioningMask]) -> Sequence[ConditioningMask]:
        """Return the masks that can be used: without a lesion there is nothing to draw into a background."""
        if self.entry.keep_background is None:
            return masks
        filled = [number for number, mask in enumerate(masks) if mask.pixels.any()]
        return _Filled(masks, filled)

    def choose(self, mask: ConditioningMask, copy: int) -> Background:
        """Return the background of one image. Raises UserError where no training image can be one."""
        keep = self.entry.keep_background
        if keep is not None and keep.placement == "add":
            return self._added(mask, copy, keep)
        if (row := self.rows.get(mask.source_id)) is None:
            raise UserError(
                f"generators.{self.name}: mask {mask.id} ({self.entry.masks}) belongs to no training image that could"
                " lend its pixels; use masks: real, elastic or random, or keep_background: {placement: add}"
            )
        return self._own(row, mask)

    def _own(self, row: Row, mask: ConditioningMask) -> Background:
        return Background(row["id"], self.train.picture(row), mask.pixels, mask.pixels > 0)

    def _added(self, mask: ConditioningMask, copy: int, keep: KeepBackground) -> Background:
        """Return a free place for as many lesions as fit; for none the own place of a training mask.

        A mask that has no place of its own is made smaller and smaller.
        """
        rng = seeding.numpy_rng(self.stream, "background", mask.id, copy)
        row = self.rows.get(mask.source_id)
        is_own = row is not None and np.array_equal(self.train.mask(row), mask.pixels)
        lesions = [self._lesion(mask, row if is_own else None, keep.margin), *self._further(keep, rng)]
        scales = SCALES[:1] if is_own else SCALES
        for scale, count in product(scales, range(len(lesions), 0, -1)):
            fitting = [smaller(one, scale) for one in lesions[:count]]
            if (found := self._free_place(fitting, scale, keep, rng)) is not None:
                return found
        if row is not None and is_own:
            return self._own(row, mask)
        raise UserError(
            f"generators.{self.name}.keep_background: no training image has a free place for mask {mask.id}"
            f" ({(mask.pixels > 0).mean():.0%} of the image) with margin {keep.margin} and {keep.lesions} lesion(s);"
            " use smaller masks, a smaller margin, fewer lesions, or masks: real"
        )

    def _free_place(
        self, lesions: Sequence[Lesion], scale: float, keep: KeepBackground, rng: np.random.Generator
    ) -> Background | None:
        """Return the first of some training images, drawn at random, with room for all lesions; None without one."""
        others = [row for row in self.train if row["id"] != lesions[0].source_id]
        for index in rng.permutation(len(others))[:CANDIDATES].tolist():
            row = others[index]
            image = self.train.picture(row)
            if (found := place(lesions, image, self.train.mask(row), keep.margin, rng)) is not None:
                moves = zip(lesions, found.shifts, strict=True)
                placed = ({"source_id": one.source_id, "scale": scale, "shift": [*shift]} for one, shift in moves)
                return Background(row["id"], image, found.label, found.new, tuple(placed))
        return None

    def _lesion(self, mask: ConditioningMask, row: Row | None, margin: float) -> Lesion:
        """Return a mask to be placed; `row` is the training image whose own mask it is."""
        around = None if row is None else surroundings(self.train.picture(row), mask.pixels, margin)
        return Lesion(mask.source_id, mask.pixels, around)

    def _further(self, keep: KeepBackground, rng: np.random.Generator) -> Iterator[Lesion]:
        """Yield the masks of random training images for all lesions but the first."""
        missing = keep.lesions - 1
        for index in rng.permutation(len(self.train)).tolist() if missing else []:
            row = self.train.rows[index]
            mask = self.train.mask(row)
            if missing and mask.any():
                missing -= 1
                yield Lesion(row["id"], mask, surroundings(self.train.picture(row), mask, keep.margin))


@dataclass(frozen=True)
class _Filled(Sequence[ConditioningMask]):
    """The masks at these positions of a sequence."""

    masks: Sequence[ConditioningMask]
    positions: Sequence[int]

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> ConditioningMask:  # type: ignore[override]
        return self.masks[self.positions[index]]

    @property
    def digest(self) -> str:
        """Of what the masks are made of beside the training set; part of fingerprints."""
        return getattr(self.masks, "digest", "")


def real_images(backgrounds: Sequence[Background], entry: GeneratorEntry) -> RealImages:
    """Return what a generator needs of the backgrounds of a batch."""
    keep, strength = entry.keep_background, entry.from_image.strength if entry.from_image else None
    images = np.stack([one.image for one in backgrounds])
    if keep is None:
        everywhere = np.ones((len(images), *images.shape[2:]), bool)
        return RealImages(images, everywhere, everywhere.astype(np.float32), strength)
    holes = np.stack([hole_of(one.new, keep.margin) for one in backgrounds])
    shares = np.stack([drawn_share(one.new, keep.margin, keep.feather) for one in backgrounds])
    return RealImages(images, holes, shares, strength)
