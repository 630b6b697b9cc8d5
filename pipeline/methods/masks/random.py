"""Training masks mirrored, scaled, turned and shifted within bounds; see masks/_bounds.py for what they keep."""

from collections.abc import Callable
from functools import partial
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from pipeline.data.image_set import ImageSet
from pipeline.methods.masks import _warp
from pipeline.methods.masks._bounds import Bounds, Mask, check_range
from pipeline.methods.masks._sequence import LazyMasks
from pipeline.methods.masks._varied import MaskTransformer, Strength, Transform, transformed_masks


class Params(Bounds):
    """The largest changes. Each mask draws its own, evenly up to these."""

    flip_vertical: bool = True
    """Turn half of the masks upside down."""
    flip_horizontal: bool = True
    """Mirror half of the masks left to right."""
    scale: tuple[float, float] = (0.8, 1.25)
    """Smallest and largest factor on lengths, drawn evenly on the logarithm."""
    rotate: float = Field(default=30.0, ge=0, le=180)
    """Largest rotation in degrees, either way, about the lesion's centre."""
    shift: float = Field(default=0.1, ge=0, le=0.5)
    """Largest shift along either axis, as a share of the image's side."""

    @model_validator(mode="after")
    def scale_allows_no_change(self) -> Self:
        check_range("scale", self.scale, 0.1, 10)
        return self


def build(params: Params, train: ImageSet, count: int | None, seed: str) -> LazyMasks:
    """Mask k is training mask k modulo their number under a transform of its own. Raises UserError."""
    return transformed_masks(MaskTransformer("random", train, seed, params, partial(_draw, params), lookup), count)


def lookup(size: int, transform: Transform) -> _warp.Lookup:
    """Return where the pixels of the transformed mask come from; `transform` is the one that a mask records."""
    flips = (transform["flip_vertical"], transform["flip_horizontal"])
    centre, shift = np.array(transform["centre"]), np.array(transform["shift"])
    return _warp.similarity(size, flips, transform["scale"], transform["rotate"], centre, shift)


def _draw(params: Params, rng: np.random.Generator, mask: Mask) -> Callable[[Strength], Transform]:
    flips = {
        "flip_vertical": bool(rng.random() < 0.5) and params.flip_vertical,
        "flip_horizontal": bool(rng.random() < 0.5) and params.flip_horizontal,
    }
    stretch = rng.uniform(*np.log(params.scale))
    angle = rng.uniform(-params.rotate, params.rotate)
    shift = rng.uniform(-params.shift, params.shift, 2)
    centre = _centre(mask)

    def at_strength(strength: Strength) -> Transform:
        scale = float(np.clip(_rounded(np.exp(strength * stretch)), *params.scale))
        moved = {"scale": scale, "rotate": _rounded(strength * angle), "shift": [_rounded(strength * s) for s in shift]}
        return {"method": "random", **flips, **moved, "centre": [_rounded(c) for c in centre]}

    return at_strength


def _centre(mask: Mask) -> np.ndarray:
    """Return the foreground's mean position (down, right) in shares of the side; the centre where there is none."""
    pixels = np.argwhere(mask)
    return (pixels.mean(0) + 0.5) / len(mask) if len(pixels) else np.array([0.5, 0.5])


def _rounded(value: float) -> float:
    """Round a number as it is recorded, before it is used: the recorded transform is the one that made the mask."""
    return round(float(value), 6)
