"""Kvasir-SEG (Jha et al. 2020): images/*.jpg, masks/*.jpg or *.png, optional splits/*.txt. Research use only."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.core.section import Section
from pipeline.data.decoding import Item
from pipeline.methods.readers import _folders
from pipeline.stages.prepare.params import Data

SOURCE = "kvasir"


class Params(Section):
    """The folder of the data set."""

    root: Path
    """Folder of the data set."""


def read(data: Data, params: Params) -> Iterator[Item]:
    """Yield pairs, and faults of names and lists. The masks are JPEG with grey levels: thresholded later."""
    return _folders.listed_pairs(_folders.existing(params.root, "data.root"), SOURCE)
