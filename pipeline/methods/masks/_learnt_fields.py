"""Masks as truncated signed distances on a coarse grid, and back: smooth outlines at any size.

Distances are shares of REACH, positive inside, in [-1, 1]; a label that a mask lacks is -1 everywhere.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.methods.masks._bounds import Mask
from pipeline.methods.masks._learnt_regions import Nesting, Region, Shape, largest_pieces, painted, whole_pieces
from pipeline.methods.masks._lesions import Lesion

REACH = 0.15  # of the image's side: where distances are cut off
SHIFT = 0.5  # of REACH: how far an outline is moved at most to give a region the area asked for
Field = NDArray[np.float32]  # [labels, grid, grid]


def fields_of(mask: Mask, nesting: Nesting, grid: int) -> Field:
    """Return the distances of a mask's regions on a grid, in the order of `nesting.labels`."""
    distances = [distance(nesting.region(mask, label)) for label in nesting.labels]
    maps = torch.from_numpy(np.stack(distances))[None]
    small = F.interpolate(maps, (grid, grid), mode="bilinear", align_corners=False, antialias=True)
    return small[0].numpy()


def distance(region: Region) -> NDArray[np.float32]:
    """Return the truncated signed distance [H, W] of the pixels' centres from the edge of a region.

    What lies beyond the frame is neither inside nor outside.
    """
    if not region.any() or region.all():
        return np.full(region.shape, 1.0 if region.any() else -1.0, np.float32)
    inner, outer = (np.asarray(ndimage.distance_transform_edt(part)) for part in (region, ~region))
    signed = np.where(region, inner - 0.5, 0.5 - outer)
    return np.clip(signed / (REACH * len(region)), -1, 1).astype(np.float32)


def hints_of(shapes: dict[int, Shape], nesting: Nesting, grid: int) -> Field:
    """Return the distances, nearly, of the ellipses that regions are asked to resemble."""
    return np.stack([_ellipse_field(shapes[label].ellipse, grid) if label in shapes else _absent(grid)
                     for label in nesting.labels])  # fmt: skip


def flags_of(shapes: dict[int, Shape], nesting: Nesting) -> list[float]:
    """Return what the ellipses do not show, four numbers per label."""
    return [flag for label in nesting.labels for flag in (shapes[label].flags if label in shapes else (0.0,) * 4)]


def _absent(grid: int) -> NDArray[np.float32]:
    return np.full((grid, grid), -1.0, np.float32)


def _ellipse_field(ellipse: Lesion, grid: int) -> NDArray[np.float32]:
    line = (np.arange(grid) + 0.5) / grid
    down, right = line[:, None] - ellipse.centre[0], line[None, :] - ellipse.centre[1]
    long = math.sqrt(ellipse.area / math.pi / ellipse.aspect)
    short = long * ellipse.aspect
    cosine, sine = math.cos(ellipse.tilt), math.sin(ellipse.tilt)
    radius = np.hypot((right * cosine + down * sine) / long, (down * cosine - right * sine) / short)
    return np.clip((1 - radius) * math.sqrt(long * short) / REACH, -1, 1).astype(np.float32)


def mask_of(field: Field, shapes: dict[int, Shape], nesting: Nesting, size: int) -> Mask:
    """Return the label map [size, size] of drawn distances, with the labels, pieces and areas asked for.

    Every label has at least its deepest pixel before labels meet; a label lies within its parent; a region that the
    frame does not cut is clear of it; holes are filled unless they are asked for.
    """
    maps = F.interpolate(torch.from_numpy(field)[None].double(), (size, size), mode="bicubic", align_corners=False)
    found = dict(zip(nesting.labels, maps[0].numpy(), strict=True))
    regions: dict[int, Region] = {}
    depths: dict[int, NDArray[np.float32]] = {}
    for label in nesting.labels:
        if label in shapes:
            around = regions.get(nesting.parents[label], np.ones((size, size), bool))
            depths[label] = _levelled(found[label], around, shapes[label])
            regions[label] = _region(depths[label], shapes[label]) & around
    return whole_pieces(painted(regions, depths, nesting), shapes, nesting)


def _levelled(depth: NDArray[np.float64], around: Region, shape: Shape) -> NDArray[np.float32]:
    """Return a depth whose positive part has the area asked for, as nearly as SHIFT allows, and is not empty."""
    clear = around & _interior(len(depth))
    allowed = clear if clear.any() and not shape.ellipse.cut else around
    depth = np.where(allowed, depth, -np.inf)
    wanted = min(max(round(shape.ellipse.area * depth.size), 1), int(allowed.sum()))
    level = -np.partition(-depth.ravel(), wanted - 1)[wanted - 1]
    level = min(float(np.clip(level, -SHIFT, SHIFT)), float(depth.max()))
    return (depth - level).astype(np.float32)


def _interior(size: int) -> Region:
    inner = np.zeros((size, size), bool)
    inner[1:-1, 1:-1] = True
    return inner


def _region(depth: NDArray[np.float32], shape: Shape) -> Region:
    region = largest_pieces(depth >= 0, shape.pieces)
    return region if shape.holed else np.asarray(ndimage.binary_fill_holes(region))
