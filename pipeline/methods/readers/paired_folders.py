"""Your own pairs: images/ and masks/ by stem; optional splits/{train,val,test}.txt and manifest.csv."""

from collections.abc import Iterator
from pathlib import Path
from typing import Self

from pydantic import model_validator

from pipeline.core.section import Section
from pipeline.data.decoding import Item
from pipeline.methods.readers import _folders
from pipeline.stages.prepare.params import Data


class Params(Section):
    """The folders of the pairs, and the name of their source."""

    root: Path
    """Folder of the data set."""
    images: Path = Path("images")
    """Folder of the images, below `root`."""
    masks: Path = Path("masks")
    """Folder of the masks, below `root`. It may be the images' own folder where `mask_suffix` distinguishes the masks.
    """
    mask_suffix: str = ""
    """Suffix of the masks' names: `_mask` for `case7_mask.png`."""
    source: str = "default"
    """Name of the source, which `data.prompt` may refer to."""
    source_column: str = ""
    """Column of `manifest.csv` that names the source of each image instead. The names are published."""

    @model_validator(mode="after")
    def one_folder_needs_a_suffix(self) -> Self:
        if self.images == self.masks and not self.mask_suffix:
            raise ValueError("images and masks are one folder; mask_suffix must say which files are masks")
        return self


def read(data: Data, params: Params) -> Iterator[Item]:
    """Yield pairs, and faults of names and lists; a group of column `group` of the manifest is never divided."""
    root = _folders.existing(params.root, "data.root")
    subfolders = _folders.Subfolders(params.images, params.masks, params.mask_suffix)
    return _folders.listed_pairs(root, params.source, params.source_column, subfolders)
