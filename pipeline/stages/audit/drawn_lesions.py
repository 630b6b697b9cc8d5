"""Lesions drawn into real backgrounds: do they repeat the real lesion that was there, or that lent its mask?

The whole image says nothing here, since most of it is real. Inside the drawn lesion, the image is compared with that
real lesion and with what all other training images show at the same place.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.image_set import ImageSet, Row
from pipeline.data.lenders import background_of
from pipeline.evaluation.feature_cache import FeatureCache

LEAST = 9  # cells of a thumbnail; a smaller lesion says nothing
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class DrawnLesions:
    """What was found for each of N synthetic images."""

    repeats: tuple[bool | None, ...]  # whether its real lesion is the most similar; None: no such lesion, or too small
    others: int  # training images that each real lesion was compared with

    @property
    def record(self) -> dict[str, Any]:
        """The counts, and the share that chance gives, as plain JSON."""
        known = [one for one in self.repeats if one is not None]
        return {"images": len(known), "nearest_to_own": sum(known), "chance": 1 / (self.others + 1)}


def compare(synthetic: ImageSet, train: ImageSet, cache: FeatureCache, probe: str) -> DrawnLesions | None:
    """Compare by thumbnails, a probe of the cache; None where no image keeps a background."""
    if not any("keep_background" in row for row in synthetic):
        return None
    search = _Search(train, cache, probe, cache.features(train, probe).astype(np.float32))
    made = cache.features(synthetic, probe).astype(np.float32)
    repeats = tuple(search.repeats(row, synthetic.mask(row), made[k]) for k, row in enumerate(synthetic))
    return DrawnLesions(repeats, len(train) - 1)


class _Search:
    def __init__(self, train: ImageSet, cache: FeatureCache, probe: str, thumbnails: NDArray[np.float32]) -> None:
        self.train, self.thumbnail, self.thumbnails = train, cache.probes[probe], thumbnails
        self.positions = {row["id"]: position for position, row in enumerate(train)}

    def repeats(self, row: Row, label: Pixels, made: NDArray[np.float32]) -> bool | None:
        """Return whether the real lesion is more like the drawn one than every other training image is."""
        origin = self._origin(row, label)
        if origin is None:
            return None
        position, lesion, shift = origin
        cells = _cells(lesion, len(made))
        if cells.sum() < LEAST:
            return None
        own = self.thumbnails[position]
        if shift != (0, 0):
            moved = np.roll(self.train.picture(self.train.rows[position]), shift, (1, 2))
            own = np.asarray(self.thumbnail(torch.from_numpy(moved)[None])[0], np.float32)
        others = np.delete(self.thumbnails, position, axis=0)
        values = _correlations(made[cells], np.concatenate([own[None], others])[:, cells])
        return bool(values[0] > values[1:].max(initial=-np.inf))

    def _origin(self, row: Row, label: Pixels) -> tuple[int, NDArray[np.bool_], tuple[int, int]] | None:
        """Return the training image with the real lesion, where the drawn one lies, and how far it was moved."""
        background = self.positions.get(background_of(row) or "")
        if "keep_background" not in row or background is None:
            return None
        if not (placed := json.loads(row["placed"])):
            return background, label > 0, (0, 0)
        first, old = placed[0], self.train.mask(self.train.rows[background])
        source = self.positions.get(first["source_id"])
        if source is None or first["scale"] != 1:
            return None
        shift = (int(first["shift"][0]), int(first["shift"][1]))
        moved = np.roll(self.train.mask(self.train.rows[source]), shift, (0, 1))
        return source, (moved > 0) & (old == 0) & (label > 0), shift


def _cells(region: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Return the cells [side, side] of a thumbnail of which a region covers more than half."""
    whole = Image.fromarray(region.astype(np.uint8) * 255)
    return np.asarray(whole.resize((side, side), Image.Resampling.BOX)) > 127


def _correlations(one: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the correlation of a vector [P] with rows [T, P]; 0 with an even one."""
    centred, many = one - one.mean(), rows - rows.mean(1, keepdims=True)
    norms = np.linalg.norm(many, axis=1) * np.linalg.norm(centred)
    return np.divide(many @ centred, norms, out=np.zeros(len(rows)), where=norms > 1e-6)
