"""PH2 (Mendonca et al. 2013): the official folders, or images/ and masks/ by stem. Research use only."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.core.section import Section
from pipeline.data.decoding import Item, Reference
from pipeline.methods.readers import _folders
from pipeline.methods.readers._lists import chosen, key, read_splits
from pipeline.stages.prepare.params import Data

SOURCE = "ph2"
OFFICIAL = ("PH2 Dataset images", "PH2Dataset/PH2 Dataset images")  # below root


class Params(Section):
    """Where the data set is."""

    root: Path


def read(data: Data, params: Params) -> Iterator[Item]:
    """References to pairs, and faults of names; both layouts may have splits/*.txt of stems (IMD002)."""
    root = _folders.existing(params.root, "data.root")
    official = [root / name for name in OFFICIAL if (root / name).is_dir()]
    return _official(root, official[0]) if official else _folders.listed(root, SOURCE)


def _official(root: Path, folder: Path) -> Iterator[Item]:
    cases = {key(case.name): case for case in sorted(folder.iterdir()) if case.is_dir()}
    splits, faults = read_splits(root, cases)
    yield from faults
    for name in sorted(chosen(splits, cases)):
        yield from _pair(root, cases[name], splits.get(name))


def _pair(root: Path, case: Path, split: str | None) -> Iterator[Item]:
    """IMDxxx/IMDxxx_Dermoscopic_Image/IMDxxx.bmp with IMDxxx/IMDxxx_lesion/IMDxxx_lesion.bmp."""
    image = case / f"{case.name}_Dermoscopic_Image" / f"{case.name}.bmp"
    mask = case / f"{case.name}_lesion" / f"{case.name}_lesion.bmp"
    return _folders.present(Reference(_folders.safe_id(case.name), image, mask, root, split=split, source=SOURCE))
