"""Published sets of volumes as they are unpacked: who is left out, and which part each volume belongs to."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core import plugins
from pipeline.data.decoding import Fault, Item, LazySample, decode
from pipeline.methods.readers import _volume_layouts
from tests.data_folders import nifti
from tests.drawn_pairs import data

VOXELS = np.zeros((2, 3, 4), np.int16)
PLACE = np.eye(4)


def read(layout: str, root: Path) -> list[Item]:
    section = data("volumes", root=root, layout=layout, size=0, shape=[2, 3, 4])
    own = plugins.read_params("readers", "volumes", section.options, "data")
    return list(plugins.load("readers", "volumes").read(section, own))


def parts(items: list[Item]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for item in items:
        assert isinstance(item, LazySample) and item.split is not None
        found[item.split].append(Path(item.origin).name)
    return found


def entry(number: int, part: str) -> dict[str, str]:
    return {kind: f"./{kind}s{part}/amos_{number:04d}.nii.gz" for kind in ("image", "label")}


def leave_amos(root: Path, train: list[int], validation: list[int]) -> None:
    listed = {"training": [entry(n, "Tr") for n in train], "validation": [entry(n, "Va") for n in validation]}
    for one in (*listed["training"], *listed["validation"]):
        for path in one.values():
            nifti(root / path, VOXELS, affine=PLACE)
    (root / "dataset.json").write_text(json.dumps(listed))


def test_amos_is_tested_on_the_official_validation_part_without_mr(tmp_path: Path) -> None:
    leave_amos(tmp_path, [7, 3, 507, 500], [*range(30, 10, -1), 501, 588])
    found = parts(read("amos", tmp_path))
    assert found["train"] == ["amos_0007.nii.gz", "amos_0003.nii.gz", "amos_0500.nii.gz"]
    assert found["val"] == ["amos_0030.nii.gz", "amos_0029.nii.gz"]  # a tenth of the 20, in the order of the list
    assert found["test"] == [f"amos_{n:04d}.nii.gz" for n in range(28, 10, -1)]


def test_the_parts_of_amos_have_the_papers_sizes() -> None:
    """200 CT and 40 MR for training, 100 and 20 for validation: 200, 10 and 90 volumes."""
    numbers = [*range(1, 301), *range(507, 567)]
    lists = numbers[:200] + numbers[300:340], numbers[200:300] + numbers[340:]
    ct = [_volume_layouts._of_ct([entry(n, "Tr") for n in part]) for part in lists]
    assert [len(ct[0]), len(ct[1]) // 10, len(ct[1]) - len(ct[1]) // 10] == [200, 10, 90]


def leave_pelvis(root: Path, institutions: list[str]) -> None:
    for n, _ in enumerate(institutions):
        for kind in ("img", "mask"):
            nifti(root / "data" / f"{n:06d}_{kind}.nii", VOXELS, affine=PLACE)
    lines = [f"{n:06d} {institution}\n" for n, institution in enumerate(institutions)]
    (root / "institution.txt").write_text("".join(lines))


def test_every_institution_of_the_pelvis_is_in_every_part(tmp_path: Path) -> None:
    leave_pelvis(tmp_path, ["UCL", "bergen"] * 8 + ["Rutgers"] * 3)
    found = parts(read("male_pelvic_mr", tmp_path))
    of_part = {part: [int(name[:6]) for name in names] for part, names in found.items()}
    assert of_part["val"] == [0, 2, 1, 3, 16, 17]
    assert of_part["train"] == [4, 6, 5, 7]  # volumes 2 and 3 of 8: up to two below three quarters
    assert of_part["test"] == [8, 10, 12, 14, 9, 11, 13, 15, 18]


def test_the_parts_of_the_pelvis_have_the_papers_sizes() -> None:
    """The sizes depend only on the remainders of the institutions' numbers of volumes, which are chosen here."""
    sizes = [93, 101, 97, 98, 96, 64, 40]
    assert sum(sizes) == 589
    keys = [[f"{size}_{n}" for n in range(size)] for size in sizes]
    cases = [case for own in keys for case in _volume_layouts._of_institution(Path(), own)]
    assert Counter(case.split for case in cases) == {"train": 411, "val": 14, "test": 164}


def faults(layout: str, root: Path) -> list[str]:
    found = read(layout, root)
    assert all(isinstance(item, Fault) for item in found)
    return [str(item) for item in found]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "dataset.json: cannot be read (No such file or directory); data.layout amos takes its splits from it"),
        ("{", "dataset.json: is not as published (Expecting property name"),
        ({"training": []}, "dataset.json: is not as published ('validation'); download it again"),
        ({"training": [{"image": "imagesTr/p7.nii.gz"}]}, "it lists 'imagesTr/p7.nii.gz', which is not named amos_NUM"),
        ({"training": 3}, "dataset.json: is not as published ("),
        ({"training": [3], "validation": []}, "dataset.json: is not as published ("),
    ],
)
def test_a_list_of_amos_that_is_not_as_published_is_named(content: Any, told: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "dataset.json").write_text(content if isinstance(content, str) else json.dumps(content))
    (line,) = faults("amos", tmp_path)
    assert told in line


def test_lines_and_files_of_the_pelvis_that_are_missing_are_named(tmp_path: Path) -> None:
    (tmp_path / "institution.txt").write_text("000001\n")
    (line,) = faults("male_pelvic_mr", tmp_path)
    assert line.startswith("institution.txt: is not as published (not enough values")
    (tmp_path / "institution.txt").write_text("000001 UCL\n\n")
    assert faults("male_pelvic_mr", tmp_path) == [
        f"data/000001_{kind}.nii: is listed in institution.txt but does not exist; add it" for kind in ("img", "mask")
    ]


def test_a_list_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    nifti(tmp_path / "amos_0001.nii.gz", VOXELS, affine=PLACE)
    (tmp_path / "root").mkdir()
    listed = {"training": [{"image": "../amos_0001.nii.gz", "label": "../amos_0001.nii.gz"}], "validation": []}
    (tmp_path / "root" / "dataset.json").write_text(json.dumps(listed))
    (item,) = read("amos", tmp_path / "root")
    assert isinstance(item, LazySample)
    found = decode(item)
    assert isinstance(found, list) and "leads out of" in str(found[0])
