"""PH2 (Mendonca et al. 2013): the official folders, or images/ and masks/ by stem. Research use only."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.core.section import Section
from pipeline.data.decoding import FilePair, Item
from pipeline.methods.readers import _folders
from pipeline.methods.readers._lists import key, read_splits, selected
from pipeline.stages.prepare.params import Data

SOURCE = "ph2"
OFFICIAL = ("PH2 Dataset images", "PH2Dataset/PH2 Dataset images")  # below root


class Params(Section):
    """The folder of the data set."""

    root: Path
    """Folder of the data set."""


def read(data: Data, params: Params) -> Iterator[Item]:
    """Yield pairs, and faults of names; both layouts may have splits/*.txt of stems (IMD002)."""
    root = _folders.existing(params.root, "data.root")
    official = [root / name for name in OFFICIAL if (root / name).is_dir()]
    return _official(root, official[0]) if official else _folders.listed_pairs(root, SOURCE)


def _official(root: Path, folder: Path) -> Iterator[Item]:
    cases = {key(case.name): case for case in sorted(folder.iterdir()) if case.is_dir()}
    splits, faults = read_splits(root, cases)
    yield from faults
    for name in sorted(selected(splits, cases)):
        yield from _pair(root, cases[name], splits.get(name))


def _pair(root: Path, case: Path, split: str | None) -> Iterator[Item]:
    """Yield IMDxxx/IMDxxx_Dermoscopic_Image/IMDxxx.bmp with IMDxxx/IMDxxx_lesion/IMDxxx_lesion.bmp."""
    image = case / f"{case.name}_Dermoscopic_Image" / f"{case.name}.bmp"
    mask = case / f"{case.name}_lesion" / f"{case.name}_lesion.bmp"
    return _folders.pair_or_faults(FilePair(_folders.safe_id(case.name), image, mask, root, split=split, source=SOURCE))
