"""The built-in default: procedural endoscopy images, deterministic per (seed, id); see pipeline.data.phantom."""

from collections.abc import Iterator

import numpy as np
from pydantic import Field

from pipeline.core.errors import UserError
from pipeline.core.section import Section
from pipeline.data import phantom
from pipeline.data.sample import Sample
from pipeline.stages.prepare.params import Data

SOURCE = "phantom"
SMALLEST = 32  # pixels; below, a lesion has too few


class Params(Section):
    """How many images to draw, and how difficult they are."""

    train: int = Field(gt=0)
    """Training images to draw."""
    val: int = Field(gt=0)
    """Validation images to draw."""
    test: int = Field(gt=0)
    """Test images to draw."""
    seed: int = Field(default=0, ge=0)
    """Seed of the drawing, apart from the study's."""
    faintness: float = Field(default=0.7, ge=0, le=1)
    """How faint lesions are: with 0 every lesion is plain, with 1 most are faint."""
    distractors: int = Field(default=4, ge=0, le=10)
    """Largest number of blotches with a lesion's tint in one image."""


def read(data: Data, params: Params) -> Iterator[Sample]:
    """Yield images [3, H, W] and masks [1, H, W]; of 3 classes 1 is the lesion, 2 an instrument. Raises UserError."""
    if data.num_classes > 3:
        raise UserError(
            f"data.num_classes is {data.num_classes}; the phantom draws 2 (lesion) or 3 (and an instrument)"
        )
    if data.size < SMALLEST:
        raise UserError(f"data.size is {data.size}; the phantom needs at least {SMALLEST} pixels")
    prompt = _prompt(data)
    counts = {"train": params.train, "val": params.val, "test": params.test}
    return (_sample(data, params, prompt, split, n) for split, count in counts.items() for n in range(count))


def _prompt(data: Data) -> str:
    if isinstance(data.prompt, str):
        return data.prompt
    if SOURCE not in data.prompt:
        raise UserError(f"data.prompt has no prompt for the source {SOURCE}; it has: {', '.join(data.prompt)}")
    return data.prompt[SOURCE]


def _sample(data: Data, params: Params, prompt: str, split: str, n: int) -> Sample:
    name = f"{split}_{n:04d}"
    difficulty = phantom.Difficulty(params.faintness, params.distractors)
    image, labels = phantom.draw(f"phantom/{params.seed}/{name}", data.size, difficulty, data.num_classes == 3)
    return Sample(name, image, np.expand_dims(labels, 0), prompt, split, SOURCE)
