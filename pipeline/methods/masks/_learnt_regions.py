"""Label maps as nested regions: which classes lie inside others in all training masks, and how a region is shaped.

The region of a class is its pixels and those of all classes inside it, so that a disc with a cup is a disc.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.methods.masks._bounds import TOUCHING, Mask, lesions
from pipeline.methods.masks._lesions import Lesion, fitted_ellipse

Region = NDArray[np.bool_]  # [H, W]


@dataclass(frozen=True)
class Nesting:
    """The foreground labels of a data set, and in which other label each lies (0: in none)."""

    labels: tuple[int, ...]  # outer ones before those inside them
    parents: dict[int, int]

    @classmethod
    def of(cls, masks: Iterable[Mask], num_classes: int) -> Self:
        """Find the labels that lie inside another one in all masks that have them.

        A label lies inside another one if no pixel of it is left when the other one's holes are filled.
        """
        if num_classes == 2:
            return cls((1,), {1: 0})
        count = num_classes
        inside, seen = np.ones((count, count), bool), np.zeros(count, bool)
        np.fill_diagonal(inside, False)
        for mask in masks:
            there = np.unique(mask[mask > 0])
            filled = {outer: np.asarray(ndimage.binary_fill_holes(mask == outer)) for outer in there.tolist()}
            for inner in there.tolist():
                pixels = mask == inner
                inside[inner] &= [outer in filled and bool(filled[outer][pixels].all()) for outer in range(count)]
            seen[there] = True
        inside[~seen] = False
        depths = inside.sum(1)
        order = sorted(range(1, count), key=lambda label: (depths[label], label))
        parents = {label: max(np.flatnonzero(inside[label]), key=lambda p: depths[p], default=0) for label in order}
        return cls(tuple(order), {label: int(parent) for label, parent in parents.items()})

    def within(self, label: int) -> list[int]:
        """Return a label and all labels inside it."""
        found = [label]
        for other in self.labels:  # parents come first
            if self.parents[other] in found:
                found.append(other)
        return found

    def region(self, mask: Mask, label: int) -> Region:
        """Return the region [H, W] of a label."""
        return np.isin(mask, self.within(label))


@dataclass(frozen=True)
class Shape:
    """The region of one label in numbers, which a drawn region is asked for."""

    ellipse: Lesion
    pieces: int  # connected parts, without specks
    holed: bool

    @property
    def flags(self) -> tuple[float, ...]:
        """What the ellipse does not show, for the network; zeros stand for a label that is not there."""
        return 1.0, float(min(self.pieces, 4) - 1), float(self.ellipse.cut), float(self.holed)


def shapes_of(mask: Mask, nesting: Nesting) -> dict[int, Shape]:
    """Measure the regions of all labels of a mask."""
    regions = {label: nesting.region(mask, label) for label in nesting.labels if (mask == label).any()}
    return {label: _shape(label, region) for label, region in regions.items()}


def _shape(label: int, region: Region) -> Shape:
    pieces = lesions(region.astype(np.uint8))[1]
    filled = np.asarray(ndimage.binary_fill_holes(region))
    return Shape(fitted_ellipse(label, region), pieces, bool(filled.sum() > region.sum()))


def largest_pieces(region: Region, most: int) -> Region:
    """Return the `most` largest connected parts of a region; the one with the first pixel of equal ones."""
    parts, number = ndimage.label(region, TOUCHING)  # type: ignore[misc]
    if number <= most:
        return region
    sizes = np.bincount(parts.ravel())[1:]
    kept = np.argsort(-sizes, kind="stable")[:most] + 1
    return np.isin(parts, kept)


def painted(regions: dict[int, Region], depths: dict[int, NDArray[np.float32]], nesting: Nesting) -> Mask:
    """Return the label map of regions: the deepest of those that meet, and inner labels over those around them."""
    size = len(next(iter(regions.values())))
    mask = np.zeros((size, size), np.uint8)
    for parent in (0, *nesting.labels):
        siblings = [label for label in regions if nesting.parents[label] == parent]
        if siblings:
            depth = np.stack([np.where(regions[label], depths[label], -np.inf) for label in siblings])
            inside = (mask == parent) & np.isfinite(depth.max(0))
            mask[inside] = np.array(siblings, np.uint8)[depth.argmax(0)][inside]
    return mask


def whole_pieces(mask: Mask, shapes: dict[int, Shape], nesting: Nesting) -> Mask:
    """Return a mask whose labels have no more pieces than asked for; what is too much falls to what lies around it.

    Inner labels go first, so that the region of an outer one is what is left.
    """
    mask = mask.copy()
    for label in reversed(nesting.labels):
        if label in shapes:
            region = nesting.region(mask, label)
            lost = region & ~largest_pieces(region, shapes[label].pieces)
            mask[lost] = nesting.parents[label]
    return mask


def spread_rows(number: int, most: int) -> Sequence[int]:
    """Return positions of at most `most` of `number` rows, evenly spread."""
    return range(0, number, max(1, -(-number // most)))
