"""Places for new lesions in real images: inside the field of view, away from the frame and from other lesions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.data.holes import Region, hole_of

TRIES = 16  # places drawn per lesion and image; of those that are free the one with the most similar surroundings wins
DARK = 10  # luma of the black around the field of view, at most
RIM = 3  # pixels of the field of view's edge that stay clear
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)
Image = NDArray[np.uint8]  # [3, H, W]
Mask = NDArray[np.uint8]  # [H, W] label map


@dataclass(frozen=True)
class Lesion:
    """A mask to be placed, and the mean Lab colour around it where it comes from; None: no image shows it."""

    source_id: str
    mask: Mask
    surroundings: NDArray[np.float64] | None = None  # [3]


@dataclass(frozen=True)
class Placed:
    """Lesions in one image: the label map with its old lesions, what is new, and how far each mask was moved."""

    label: Mask
    new: Region
    shifts: tuple[tuple[int, int], ...]  # pixels down and right, one per lesion


def place(
    lesions: Sequence[Lesion], image: Image, mask: Mask, margin: float, rng: np.random.Generator
) -> Placed | None:
    """Place lesions in an image that has a mask of its own; None where one of them finds no free place.

    Their holes touch neither an old lesion nor its margin, so that none is cut; the label map shows all of them.
    """
    lab, field = lab_of(image), field_of_view(image)
    label, new = mask.copy(), np.zeros(mask.shape, np.bool_)
    shifts: list[tuple[int, int]] = []
    for lesion in lesions:
        taken = hole_of(label > 0, margin)
        shift = _best_place(lesion, lab, field, taken, margin, rng)
        if shift is None:
            return None
        moved = shifted(lesion.mask, *shift)
        label[moved > 0] = moved[moved > 0]
        new[moved > 0] = True
        shifts.append(shift)
    return Placed(label, new, tuple(shifts))


def _best_place(
    lesion: Lesion, lab: NDArray[np.float32], field: Region, taken: Region, margin: float, rng: np.random.Generator
) -> tuple[int, int] | None:
    """Return the free place whose surroundings have the colour most like the lesion's own; the first without colour."""
    if not lesion.mask.any():
        return None
    best: tuple[float, tuple[int, int]] | None = None
    rows, columns = (allowed_shifts(lesion.mask.max(1 - axis) > 0) for axis in (0, 1))
    for _ in range(TRIES):
        shift = (int(rng.integers(*rows, endpoint=True)), int(rng.integers(*columns, endpoint=True)))
        moved = shifted(lesion.mask, *shift) > 0
        if (moved & (taken | ~field)).any() or ((hole := hole_of(moved, margin)) & taken).any():
            continue
        distance = _colour_distance(lesion, lab, hole & ~moved)
        if best is None or distance < best[0]:
            best = distance, shift
    return None if best is None else best[1]


def _colour_distance(lesion: Lesion, lab: NDArray[np.float32], ring: Region) -> float:
    if lesion.surroundings is None or not ring.any():
        return 0.0
    return float(np.linalg.norm(lab[ring].mean(0) - lesion.surroundings))


def surroundings(image: Image, mask: Mask, margin: float) -> NDArray[np.float64] | None:
    """Return the mean Lab colour [3] of the margin around an image's lesions, or None without a margin."""
    ring = hole_of(mask > 0, margin) & (mask == 0)
    return lab_of(image)[ring].mean(0).astype(np.float64) if ring.any() else None


def smaller(lesion: Lesion, scale: float) -> Lesion:
    """Return a lesion with its mask shrunk to a share of its lengths; one that the frame cuts stays at the frame."""
    if scale == 1:
        return lesion
    centres = (_fixed_line(lesion.mask.max(1 - axis) > 0) for axis in (0, 1))
    axes = [np.rint(centre + (np.arange(len(lesion.mask)) - centre) / scale).astype(int) for centre in centres]
    inside = [(axis >= 0) & (axis < len(lesion.mask)) for axis in axes]
    rows, columns = (np.where(within, axis, 0) for axis, within in zip(axes, inside, strict=True))
    shrunk = np.where(np.outer(*inside), lesion.mask[np.ix_(rows, columns)], 0)
    return replace(lesion, mask=shrunk.astype(lesion.mask.dtype))


def _fixed_line(occupied: NDArray[np.bool_]) -> float:
    """Return the position that a mask, which occupies these lines [N], shrinks to: its middle, or the frame."""
    first, last = np.flatnonzero(occupied)[[0, -1]].tolist()
    end = len(occupied) - 1
    if (first == 0) == (last == end):
        return (first + last) / 2
    return 0 if first == 0 else end


def allowed_shifts(occupied: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the smallest and largest shift along one axis, of whose lines [N] the mask occupies these.

    A mask that is clear of the frame stays clear of it; one that the frame cuts stays where it is along that axis.
    """
    first, last = np.flatnonzero(occupied)[[0, -1]].tolist()
    end = len(occupied) - 1
    return (0, 0) if first == 0 or last == end else (1 - first, end - 1 - last)


def shifted(mask: Mask, down: int, right: int) -> Mask:
    """Return a mask moved by whole pixels; `allowed_shifts` sees to it that nothing leaves the image."""
    return np.roll(mask, (down, right), (0, 1))


def field_of_view(image: Image) -> Region:
    """Return where an image shows anything: brighter than the black around it, without the rim and without gaps."""
    bright = np.tensordot(np.array(LUMA), image.astype(np.float64), 1) > DARK
    whole = np.asarray(ndimage.binary_fill_holes(bright), bool)
    return np.asarray(ndimage.binary_erosion(whole, iterations=RIM, border_value=1), bool)


def lab_of(image: Image) -> NDArray[np.float32]:
    """Return CIE Lab [H, W, 3] of an image, L in 0 to 100."""
    colours = np.moveaxis(image, 0, -1).astype(np.float32) / 255
    return np.asarray(cv2.cvtColor(colours, cv2.COLOR_RGB2LAB), np.float32)
