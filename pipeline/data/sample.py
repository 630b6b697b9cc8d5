"""A sample: one image with its masks; and what all samples of a data set have in common."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.parsing import Section

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Sample:
    """One image [C, *spatial] uint8 (volumes float32) with label maps [R, *spatial] uint8 of R raters."""

    id: str
    image: NDArray[np.generic]
    masks: NDArray[np.uint8]
    prompt: str = ""
    split: str | None = None  # train, val, test, or None where the data set brings no split
    source: str = ""  # name of the sub-collection, for prompts per source and test sets per source
    group: str = ""  # samples of one group (patient, sequence) stay in one split
    origin: str = ""  # file relative to data.root; local only, never exported
    notes: tuple[str, ...] = field(default=())  # what the reader had to mend, for the data report
    native: bytes = b""  # PNG of the label map at the image's own size, where data.native_masks asks for it


class DatasetSpec(Section):
    """What all samples of a data set have in common."""

    name: str
    size: int  # pixels, square
    channels: int = 3
    num_classes: int = 2  # background included
    ndim: int = 2
    raters: int = 1
