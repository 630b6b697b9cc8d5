"""The polyp benchmark of PraNet (Fan et al. 2020): TrainDataset and TestDataset/<set>; every test set is a source."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.core.section import Section
from pipeline.data.decoding import Item
from pipeline.methods.readers import _folders
from pipeline.stages.prepare.params import Data

TRAIN = "train"  # the source of all training images; the benchmark does not state their origin


class Params(Section):
    """The folder of the benchmark."""

    root: Path
    """Folder of the benchmark."""


def read(data: Data, params: Params) -> Iterator[Item]:
    """Yield pairs, and faults of names; validation is drawn from the training images (data.val_share)."""
    root = _folders.existing(params.root, "data.root")
    yield from _pairs(root, root / "TrainDataset", TRAIN, "train")
    test_sets = sorted(path for path in _folders.existing(root / "TestDataset", "data.root").iterdir() if path.is_dir())
    for folder in test_sets:
        yield from _pairs(root, folder, folder.name, "test")


def _pairs(root: Path, folder: Path, source: str, split: str) -> Iterator[Item]:
    images, masks = _first_existing(folder, "images", "image"), _first_existing(folder, "masks", "mask")
    return _folders.paired(_folders.PairFolders(root, images, masks, source, split, prefix=f"{source}_"))


def _first_existing(folder: Path, *names: str) -> Path:
    """Return the first of the folders that exists. Raises UserError."""
    existing = [folder / name for name in names if (folder / name).is_dir()]
    if not existing:
        raise UserError(f"data.root: {folder} has no folder {' or '.join(names)}; the layout of PraNet has one")
    return existing[0]
