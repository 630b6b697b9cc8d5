"""A sample, which is one image with its masks; and the properties that all samples of a data set share."""

from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_serializer, model_validator
from pydantic_core.core_schema import SerializerFunctionWrapHandler

from pipeline.core.section import Section

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Sample:
    """One image [C, *spatial] uint8 (volumes float32) with label maps [R, *spatial] uint8 of R raters."""

    id: str
    image: NDArray[np.generic]
    masks: NDArray[np.uint8]
    prompt: str = ""
    split: str | None = None  # train, val, test, or None if the data set has no splits
    source: str = ""  # name of the sub-collection, for prompts per source and test sets per source
    group: str = ""  # samples of one group (patient, sequence) stay in one split
    origin: str = ""  # file relative to data.root; local only, never exported
    notes: tuple[str, ...] = field(default=())  # corrections by the reader, for the data report
    native: bytes = b""  # PNG of the label map at the image's own size, if data.native_masks is set
    affine: NDArray[np.float64] | None = None  # of volumes: [4, 4], voxel indices to mm (NIfTI: right, front, top)


class DatasetSpec(Section):
    """Properties that all samples of a data set share."""

    name: str
    size: int  # pixels, square; 0 for volumes
    channels: int = 3
    num_classes: int = 2  # background included
    ndim: int = 2  # 3: volumes
    raters: int = 1
    shape: tuple[int, int, int] | None = None  # voxels of every volume, along its axes right, front, top
    spacing: tuple[float, float, float] | None = None  # mm of a voxel along them

    @property
    def spatial(self) -> tuple[int, ...]:
        """Shape [H, W] or [X, Y, Z] of every image."""
        return self.shape or (self.size, self.size)

    @model_validator(mode="after")
    def volumes_have_a_grid(self) -> Self:
        if not (self.ndim == 3) == (self.shape is not None) == (self.spacing is not None):
            raise ValueError("volumes, and only they, have ndim 3, shape and spacing")
        return self

    @model_serializer(mode="wrap")
    def _omit_unset_grid(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omit shape and spacing for pictures: fingerprints of their sets predate volumes."""
        values = handler(self)
        grid = {key: list(value) for key in ("shape", "spacing") if (value := values.pop(key)) is not None}
        return values | grid
