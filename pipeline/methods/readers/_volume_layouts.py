"""Published sets of volumes as they are unpacked, in the parts of ImgX-DiffSeg's authors (Fu et al. 2023, v0.3.1)."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.data import nifti
from pipeline.data.decoding import Fault, display_path

LAST_CT = 500  # AMOS: volumes with higher numbers are MR
VALIDATION = 2  # male pelvic MR: volumes of each institution
LISTS = {"amos": "dataset.json", "male_pelvic_mr": "institution.txt"}


@dataclass(frozen=True)
class VolumeFiles:
    """The files of one volume: one per channel or one for all, and its label."""

    name: str
    root: Path
    images: tuple[Path, ...]
    label: Path
    split: str | None
    group: str = ""

    @property
    def origin(self) -> str:
        """Path of the first image file relative to data.root."""
        return display_path(self.images[0], self.root)


def list_volumes(layout: str, root: Path) -> Iterator[VolumeFiles | Fault]:
    """Yield the volumes that the list of a published set names, each with its split, and faults of the list."""
    listed: dict[str, Callable[[Path], list[VolumeFiles]]] = {"amos": amos, "male_pelvic_mr": male_pelvic_mr}
    try:
        cases = listed[layout](root)
    except OSError as error:
        yield Fault(LISTS[layout], f"cannot be read ({error.strerror}); data.layout {layout} takes its splits from it")
        return
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        yield Fault(LISTS[layout], f"is not as published ({error}); download it again")
        return
    for case in cases:
        missing = [path for path in (*case.images, case.label) if not path.is_file()]
        yield from (
            Fault(display_path(path, root), f"is listed in {LISTS[layout]} but does not exist; add it")
            for path in missing
        )
        if not missing:
            yield case


def amos(root: Path) -> list[VolumeFiles]:
    """Return the CT volumes of AMOS 2022 in the order of dataset.json.

    The official training part is for training; of the official validation part, the first tenth is for validation and
    the rest for tests, because the labels of the official test part are not published. MR is left out.
    """
    content = json.loads((root / "dataset.json").read_text(encoding="utf-8-sig"))
    train, held_out = _of_ct(content["training"]), _of_ct(content["validation"])
    tests_from = len(held_out) // 10
    return [
        *_named(root, train, "train"),
        *_named(root, held_out[:tests_from], "val"),
        *_named(root, held_out[tests_from:], "test"),
    ]


def _of_ct(entries: Sequence[Any]) -> list[Any]:
    return [entry for entry in entries if _number(str(entry["image"])) <= LAST_CT]


def _number(path: str) -> int:
    found = re.search(r"amos_(\d+)\.nii(\.gz)?$", path)
    if found is None:
        raise ValueError(f"it lists {path!r}, which is not named amos_NUMBER.nii.gz")
    return int(found[1])


def _named(root: Path, entries: Sequence[Any], split: str) -> list[VolumeFiles]:
    files = [(root / str(entry["image"]), root / str(entry["label"])) for entry in entries]
    return [VolumeFiles(nifti.stem(image), root, (image,), label, split) for image, label in files]


def male_pelvic_mr(root: Path) -> list[VolumeFiles]:
    """Return the volumes of Li et al. 2022 in the order of institution.txt, whose lines hold a key and an institution.

    Each institution gives its first two volumes to validation, the following ones up to two below three quarters of its
    volumes to training, and the others to tests. For the published list these are 14, 411 and 164 volumes.
    """
    of_institution: dict[str, list[str]] = {}
    for line in (root / "institution.txt").read_text(encoding="utf-8-sig").splitlines():
        if line.strip():
            key, institution = line.split()
            of_institution.setdefault(institution, []).append(key)
    return [case for keys in of_institution.values() for case in _of_institution(root, keys)]


def _of_institution(root: Path, keys: Sequence[str]) -> Iterator[VolumeFiles]:
    tests_from = max(VALIDATION, 3 * len(keys) // 4 - VALIDATION)
    for place, key in enumerate(keys):
        split = "val" if place < VALIDATION else "train" if place < tests_from else "test"
        image, label = (root / "data" / f"{key}_{kind}.nii" for kind in ("img", "mask"))
        yield VolumeFiles(key, root, (image,), label, split)
