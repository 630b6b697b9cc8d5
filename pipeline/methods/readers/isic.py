"""ISIC challenges: folders of *.jpg and folders of *_segmentation.png (2016: *_Segmentation.png), as downloaded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Self

from pydantic import model_validator

from pipeline.core.section import Section
from pipeline.data.decoding import Item
from pipeline.methods.readers import _folders
from pipeline.methods.readers._folders import PairFolders
from pipeline.stages.prepare.params import Data

SOURCE = "isic"
SUFFIX = "_segmentation"
PHOTOGRAPHS = (".jpg", ".jpeg")  # the folders of some years hold *_superpixels.png too


class Params(Section):
    """Folders below root; a split without folders is drawn from the training images."""

    root: Path
    """Folder of the data set."""
    training_images: Path
    """Folder of the training images, below `root`."""
    training_masks: Path
    """Folder of the training masks, below `root`."""
    val_images: Path | None = None
    """Folder of the validation images, below `root`; `null` draws them from the training images."""
    val_masks: Path | None = None
    """Folder of the validation masks, below `root`."""
    test_images: Path | None = None
    """Folder of the test images, below `root`; `null` draws them from the training images."""
    test_masks: Path | None = None
    """Folder of the test masks, below `root`."""

    @model_validator(mode="after")
    def images_and_masks_belong_together(self) -> Self:
        for split in ("val", "test"):
            if (getattr(self, f"{split}_images") is None) != (getattr(self, f"{split}_masks") is None):
                raise ValueError(f"{split}_images and {split}_masks must be given together")
        return self


def read(data: Data, params: Params) -> Iterator[Item]:
    """Yield pairs of every split that has folders, and faults of names."""
    root = _folders.existing(params.root, "data.root")
    folders = {
        "train": (params.training_images, params.training_masks),
        "val": (params.val_images, params.val_masks),
        "test": (params.test_images, params.test_masks),
    }
    for split, (images, masks) in folders.items():
        if images is not None and masks is not None:
            paths = (root, root / images, root / masks)
            yield from _folders.paired(PairFolders(*paths, SOURCE, split, suffix=SUFFIX, types=PHOTOGRAPHS))
