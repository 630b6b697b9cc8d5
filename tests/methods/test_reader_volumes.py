"""Readers of volumes and of several raters' masks, and the NIfTI-1 files behind them."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.data import nifti as reading
from pipeline.data.decoding import Fault, FilePair, InvalidData, Item, LazySample, decode
from pipeline.data.sample import Sample
from pipeline.methods.readers.multirater import merge_masks
from tests.data_folders import cimd, msd, nifti
from tests.drawn_pairs import data, rectangle, save

REAL_DATA = os.environ.get("TWINSYNTH_REAL_DATA")
VOXELS = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


def read(reader: str, **values: Any) -> list[Item]:
    section = data(reader, **values)
    own = plugins.read_params("readers", reader, section.options, "data")
    return list(plugins.load("readers", reader).read(section, own))


def made(items: list[Item]) -> list[Any]:
    """The items with those that wait for their turn decoded, or their faults."""
    found = [decode(item) if isinstance(item, LazySample) else [item] for item in items]
    return [own for item in found for own in (item if isinstance(item, list) else [item])]


def samples(items: list[Item]) -> list[Sample]:
    """All items, decoded; no fault is tolerated."""
    items = made(items)
    assert [str(item) for item in items if not isinstance(item, Sample)] == []
    return [item for item in items if isinstance(item, Sample)]


def fault(items: list[Item]) -> str:
    (found,) = [str(item) for item in made(items) if isinstance(item, Fault)]
    return found


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_voxels_are_read_in_either_byte_order(name: str, order: str, tmp_path: Path) -> None:
    found = reading.read(nifti(tmp_path / name, VOXELS, order=order))
    assert np.array_equal(found, VOXELS)
    assert reading.stem(tmp_path / name) == "v"


def test_values_are_scaled_as_the_header_says(tmp_path: Path) -> None:
    assert np.array_equal(reading.read(nifti(tmp_path / "v.nii", VOXELS, slope=2, intercept=-1)), 2 * VOXELS - 1)
    assert np.array_equal(reading.read(nifti(tmp_path / "v.nii", VOXELS, slope=0, intercept=9)), VOXELS)


def test_axes_of_length_one_behind_the_third_are_dropped(tmp_path: Path) -> None:
    assert reading.read(nifti(tmp_path / "v.nii", VOXELS[..., None, None])).shape == (2, 3, 4)
    assert reading.read(nifti(tmp_path / "v.nii", VOXELS[:, :, None])).shape == (2, 3, 1, 4)


@pytest.mark.parametrize(
    "position, content, told",
    [
        (0, b"\x1c\x02\0\0", "NIfTI-2"),
        (0, b"\0\0\0\0", "is not a NIfTI file"),
        (344, b"ni1\0", "hdr with .img"),
        (70, b"\x80\0", "numbers of type 128"),
        (42, b"\xff\x7f\xff\x7f\xff\x7f", "GiB of voxels"),
        (42, b"\x03\0\x03\0\x04\0", "holds 48 bytes of voxels, but its header states 72"),
        (40, b"\x02\0", "has the axes [2, 3]"),
        (42, b"\0\0", "has the axes [0, 3, 4]"),
    ],
)
def test_what_a_header_must_not_say(position: int, content: bytes, told: str, tmp_path: Path) -> None:
    path = nifti(tmp_path / "v.nii", VOXELS)
    whole = bytearray(path.read_bytes())
    whole[position : position + len(content)] = content
    path.write_bytes(whole)
    with pytest.raises(InvalidData) as refused:
        reading.read(path)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    "content, told", [(b"", "0 bytes, too few"), (b"x" * 400, "not a NIfTI"), (None, "cannot be read")]
)
def test_files_that_are_no_volumes(content: bytes | None, told: str, tmp_path: Path) -> None:
    path = tmp_path / "v.nii.gz" if content is None else tmp_path / "v.nii"
    path.write_bytes(content if content is not None else b"no gzip")
    with pytest.raises(InvalidData, match=told):
        reading.read(path)


def test_slices_with_foreground_are_taken_upright_and_grouped(tmp_path: Path) -> None:
    image = np.zeros((4, 5, 6), np.uint8)
    image[1, 3, 2:5] = 200  # from the left 1, from the front 3: 1 from the top when the front looks up
    nifti(tmp_path / "imagesTr" / "a.nii.gz", image)
    nifti(tmp_path / "labelsTr" / "a.nii.gz", (image > 0).astype(np.uint8))
    found = samples(read("msd_slices", root=tmp_path))
    assert [(s.id, s.group, s.split, s.origin) for s in found] == [
        (f"a_s{k:03d}", "a", None, f"imagesTr/a.nii.gz, slice {k}") for k in (2, 3, 4)
    ]
    assert (found[0].image.shape, found[0].masks.shape) == ((3, 5, 4), (1, 5, 4))
    assert np.argwhere(found[0].masks[0]).tolist() == [[1, 1]]


def test_slices_are_spaced_evenly_over_those_with_foreground(tmp_path: Path) -> None:
    label = np.zeros((4, 4, 30), np.uint8)
    label[:, :2, 10:21] = 1
    nifti(tmp_path / "imagesTr" / "a.nii", label)
    nifti(tmp_path / "labelsTr" / "a.nii", label)
    found = [s.origin.rpartition(" ")[2] for s in samples(read("msd_slices", root=tmp_path, slices=4))]
    assert found == ["12", "14", "16", "18"]  # 10 + 10 k / 5 for k = 1 to 4


def test_a_window_sets_black_and_white(tmp_path: Path) -> None:
    nifti(tmp_path / "imagesTr" / "a.nii", (VOXELS * 10).astype(np.int16))  # 0 to 230
    nifti(tmp_path / "labelsTr" / "a.nii", np.ones((2, 3, 4), np.uint8))
    found = samples(read("msd_slices", root=tmp_path, window=[0, 100], axis=0))
    assert (
        found[0].image[0].tolist()
        == np.rot90(np.array([[0, 26, 51, 76], [102, 128, 153, 178], [204, 230, 255, 255]])).tolist()
    )


def test_labels_of_test_volumes_make_the_test_split(tmp_path: Path) -> None:
    msd(tmp_path, volumes=2)
    msd(tmp_path / "more", volumes=1)
    for kind in ("images", "labels"):
        (tmp_path / "more" / f"{kind}Tr").rename(tmp_path / f"{kind}Ts")
    found = samples(read("msd_slices", root=tmp_path, num_classes=3))
    assert Counter(s.split for s in found) == {None: 6, "test": 3}


def test_channels_of_one_file_and_of_several(tmp_path: Path) -> None:
    both = np.stack([VOXELS, VOXELS[::-1]], -1)
    nifti(tmp_path / "one/imagesTr/a.nii", both)
    for channel in (0, 1):
        nifti(tmp_path / f"more/imagesTr/a_000{channel}.nii", np.ascontiguousarray(both[..., channel]))
    for place in ("one", "more"):
        nifti(tmp_path / place / "labelsTr/a.nii", np.ones((2, 3, 4), np.uint8))
    for channel in (0, 1):
        one, more = (samples(read("msd_slices", root=tmp_path / p, channel=channel)) for p in ("one", "more"))
        assert all(np.array_equal(a.image, b.image) for a, b in zip(one, more, strict=True))
    assert "has 2 channels; data.channel is 2" in fault(read("msd_slices", root=tmp_path / "one", channel=2))


def test_volumes_that_do_not_fit_are_named(tmp_path: Path) -> None:
    nifti(tmp_path / "imagesTr/a.nii", VOXELS)
    nifti(tmp_path / "labelsTr/a.nii", np.ones((2, 3, 5), np.uint8))
    assert fault(read("msd_slices", root=tmp_path)).startswith(
        "imagesTr/a.nii: has [2, 3, 4] voxels, but its label has [2, 3, 5]"
    )
    nifti(tmp_path / "labelsTr/a.nii", 300 * VOXELS)
    assert "not a map of whole numbers 0 to 255" in fault(read("msd_slices", root=tmp_path))
    (tmp_path / "labelsTr/a.nii").rename(tmp_path / "labelsTr/b.nii")
    told = [str(item) for item in read("msd_slices", root=tmp_path)]
    assert told[0].startswith("labelsTr/b.nii: has no image")
    assert told[1].startswith("imagesTr/a.nii: has no label")


def test_raters_are_merged_by_votes() -> None:
    votes = [np.array([[number < seen for seen in (0, 1, 2, 3, 4)]], np.uint8) for number in range(4)]
    assert merge_masks(votes, "union").tolist() == [[0, 1, 1, 1, 1]]
    assert merge_masks(votes, "majority").tolist() == [[0, 0, 1, 1, 1]]  # half of four is enough
    assert merge_masks(votes[:3], "majority").tolist() == [[0, 0, 1, 1, 1]]
    assert merge_masks(votes, "intersection").tolist() == [[0, 0, 0, 0, 1]]


def test_cases_have_the_split_of_their_folder_and_a_patient(tmp_path: Path) -> None:
    cimd(tmp_path)
    found = samples(read("multirater", root=tmp_path))
    assert Counter(s.split for s in found) == {"train": 12, "test": 4}
    assert (found[0].id, found[0].group, found[0].origin) == ("training_0", "training-0", "training/0/image_0.png")
    assert all((s.masks[0] * 255 == rectangle(255, 80, 72)).all() for s in found)  # three of four see it
    assert not any(s.masks.any() for s in samples(read("multirater", root=tmp_path, rater="intersection")))


def test_one_rater_is_taken_from_his_file(tmp_path: Path) -> None:
    cimd(tmp_path)
    found = read("multirater", root=tmp_path, rater=3)
    assert {item.mask.name for item in found if isinstance(item, FilePair)} == {"label3_.png"}
    assert len(found) == 16
    with pytest.raises(UserError, match=r"data\.rater is 4, but there are 4 raters, counted from 0"):
        read("multirater", root=tmp_path, rater=4)


def test_more_classes_need_one_rater(tmp_path: Path) -> None:
    cimd(tmp_path)
    with pytest.raises(UserError, match="majority needs two classes; with 3, name one rater"):
        read("multirater", root=tmp_path, num_classes=3)


def test_a_missing_rater_and_masks_of_two_sizes_are_named(tmp_path: Path) -> None:
    cimd(tmp_path)
    (tmp_path / "training/5/label2_.png").unlink()
    save(tmp_path / "training/7/label0_.png", rectangle(255, 10, 10))
    told = [str(item) for item in made(read("multirater", root=tmp_path)) if isinstance(item, Fault)]
    assert told == [
        "training/5: holds the masks of 3 raters, other cases of 4 (missing: label2_); add or remove some",
        "training/7: holds masks of several sizes; they must be equal",
    ]


def test_the_middle_of_a_case_is_taken(tmp_path: Path) -> None:
    """Image and masks are 80 x 72 and the square has 70: from row 1 and column 5 on."""
    cimd(tmp_path)
    whole, cut = (samples(read("multirater", root=tmp_path, rater="all", crop=crop))[0] for crop in (None, 70))
    assert (cut.image == whole.image[:, 1:71, 5:75]).all()
    assert (cut.masks == whole.masks[:, 1:71, 5:75]).all()
    assert cut.masks.any()
    told = str(made(read("multirater", root=tmp_path, crop=73))[0])
    assert "masks of 80 x 72 pixels; they must be equal and at least as large as data.crop, 73" in told
    save(tmp_path / "training/0/image_0.png", rectangle(255, 90, 80))
    assert "of 80 x 72 and 90 x 80 pixels" in str(made(read("multirater", root=tmp_path, crop=70))[0])


def test_a_folder_without_cases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no training/<case>/label0_\.png"):
        read("multirater", root=tmp_path)


@pytest.mark.skipif(REAL_DATA is None, reason="TWINSYNTH_REAL_DATA names no folder with real data sets")
def test_real_volumes_and_raters() -> None:
    assert REAL_DATA is not None
    assert len(samples(read("msd_slices", root=Path(REAL_DATA) / "msd_hippocampus", num_classes=3))) == 800
    assert len(samples(read("multirater", root=Path(REAL_DATA) / "lidc_4rater"))) == 650
