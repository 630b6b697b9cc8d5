"""Training masks under smooth random displacements without folds; see masks/_bounds.py for what they keep."""

from collections.abc import Callable
from functools import partial
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from pipeline.data.image_set import ImageSet
from pipeline.methods.masks import _warp
from pipeline.methods.masks._bounds import Bounds, Mask
from pipeline.methods.masks._sequence import LazyMasks
from pipeline.methods.masks._varied import MaskTransformer, Strength, Transform, transformed_masks


class Params(Bounds):
    """How far and how finely outlines are displaced."""

    sigma: float = Field(default=0.08, ge=0.01, le=0.5)
    """Smoothness: standard deviation of the smoothing kernel, as a share of the image's side."""
    amplitude: float = Field(default=0.05, gt=0, le=0.25)
    """Longest displacement in the image, as a share of its side; at most `sigma`."""

    @model_validator(mode="after")
    def displacements_are_smooth(self) -> Self:
        if self.amplitude > self.sigma:
            raise ValueError(
                f"amplitude {self.amplitude} exceeds sigma {self.sigma}: such displacements fold the image; raise sigma"
            )
        return self


def build(params: Params, train: ImageSet, count: int | None, seed: str) -> LazyMasks:
    """Mask k is training mask k modulo their number under a displacement of its own. Raises UserError."""
    return transformed_masks(MaskTransformer("elastic", train, seed, params, partial(_draw, params), lookup), count)


def lookup(size: int, transform: Transform) -> _warp.Lookup | None:
    """Return where the pixels of the displaced mask come from; None where the displacement folds the image."""
    rng = np.random.default_rng(int(transform["field"]))
    vectors = transform["amplitude"] * size * _warp.displacement(rng, size, transform["sigma"])
    down, right = np.indices((size, size)) + vectors
    return None if _warp.folds(vectors) else _warp.nearest(down, right)


def _draw(params: Params, rng: np.random.Generator, mask: Mask) -> Callable[[Strength], Transform]:
    field = str(rng.integers(2**63))  # text: as a number it would lose digits in JSON readers

    def at_strength(strength: Strength) -> Transform:
        amplitude = round(strength * params.amplitude, 6)
        return {"method": "elastic", "sigma": params.sigma, "amplitude": amplitude, "field": field}

    return at_strength
