"""The reader of whole volumes, from NIfTI files to the prepared set; and all that it refuses."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.core import files, paths, tables
from pipeline.core.errors import UserError
from pipeline.data import nifti as reading
from pipeline.data.image_set import ImageSet
from pipeline.stages.prepare.prepare import names_path, prepare, report_path
from tests.data_folders import nifti
from tests.drawn_pairs import study_of_segmenters

REAL_DATA = os.environ.get("TWINSYNTH_REAL_DATA")
PLACE = np.diag([1.0, 1.0, 2.0, 1.0])
SHAPE = (8, 6, 4)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder; the data set is its sibling."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten volumes of 8 x 6 x 4 voxels of 1 x 1 x 2 mm, two labels; the last two are for testing."""
    for n in range(10):
        part = "Ts" if n > 7 else "Tr"
        volume(tmp_path / "set", n, part)
    return tmp_path / "set"


def volume(root: Path, n: int, part: str = "Tr", affine: NDArray[np.float64] = PLACE) -> None:
    rng = np.random.default_rng(n)
    label = np.zeros(SHAPE, np.uint8)
    label[2:4, 2:4, 1:3], label[4:6, 2:4, 1:3] = 1, 2
    voxels = (100 * label + rng.integers(0, 50, SHAPE)).astype(np.int16)
    nifti(root / f"images{part}" / f"v{n}.nii.gz", voxels, affine=affine)
    nifti(root / f"labels{part}" / f"v{n}.nii.gz", label, affine=affine)


def prepared(root: Path, **data: Any) -> ImageSet:
    own = {"reader": "volumes", "root": root, "num_classes": 3, "shape": list(SHAPE)}
    return prepare(study_of_segmenters(**own | data))


def refusal(root: Path, **data: Any) -> list[str]:
    """The faults that prepare names; it must have written nothing."""
    with pytest.raises(UserError) as caught:
        prepared(root, **data)
    assert not paths.outputs("drawn").exists()
    return str(caught.value).split("\n  ")


def rows_by_file(images: ImageSet) -> dict[str, Any]:
    file_of = {row["id"]: Path(row["file"]).name for row in tables.read_table(names_path("drawn"))}
    return {file_of[row["id"]]: row for row in images}


def test_volumes_are_prepared_as_images_in_0_to_1_on_one_grid(root: Path) -> None:
    images = prepared(root, window=[0, 200])
    spec, row = images.spec, rows_by_file(images)["v3.nii.gz"]
    assert (spec.ndim, spec.size, spec.channels, spec.shape, spec.spacing) == (3, 0, 1, SHAPE, (1, 1, 2))
    voxels = reading.read(root / "imagesTr" / "v3.nii.gz").astype(float)
    assert np.allclose(images.image(row)[0], np.clip(voxels / 200, 0, 1), atol=1e-6)
    assert np.bincount(images.mask(row).ravel()).tolist() == [192 - 16, 8, 8]
    assert {split: len(images.split(split)) for split in ("train", "val", "test")} == {"train": 7, "val": 1, "test": 2}
    assert files.read_json(report_path("drawn"))["splits"]["test"]["masks_with_label"] == {"0": 2, "1": 2, "2": 2}


def test_percentiles_of_each_channel_become_0_and_1(root: Path) -> None:
    images = prepared(root, percentiles=[10, 90])
    row = rows_by_file(images)["v0.nii.gz"]
    voxels = reading.read(root / "imagesTr" / "v0.nii.gz").astype(float)
    low, high = np.percentile(voxels, [10, 90])
    assert np.allclose(images.image(row)[0], np.clip((voxels - low) / (high - low), 0, 1), atol=1e-6)


def test_a_volume_that_is_stored_turned_gives_the_same_voxels(root: Path, tmp_path: Path) -> None:
    plain = rows_by_file(prepared(root))["v0.nii.gz"]
    turned = tmp_path / "turned"
    for kind in ("images", "labels"):
        for path in root.glob(f"{kind}T?/*"):
            voxels = reading.read(path)[::-1].transpose(2, 0, 1)
            place = np.array([[0, -1, 0, 7], [0, 0, 1, 0], [2, 0, 0, 0], [0, 0, 0, 1]], float)
            nifti(turned / path.relative_to(root), np.ascontiguousarray(voxels), affine=place)
    again = prepared(turned)
    row = rows_by_file(again)["v0.nii.gz"]
    assert (row["sha256"], row["mask_sha256"]) == (plain["sha256"], plain["mask_sha256"])


def test_volumes_are_resampled_to_a_spacing_and_labels_gain_no_values(root: Path) -> None:
    images = prepared(root, spacing=[2, 1, 1], shape=[4, 8, 8], labels={0: 0, 1: 2, 2: 1})
    row = rows_by_file(images)["v0.nii.gz"]
    assert images.spec.spacing == (2, 1, 1) and images.image(row).shape == (1, 4, 8, 8)
    mask = images.mask(row)
    assert np.bincount(mask.ravel()).tolist() == [256 - 16, 8, 8]  # 2 x 2 x 2 voxels become 1 x 2 x 4
    assert mask[1, 3:5, 2:6].tolist() == [[2] * 4] * 2 and mask[2, 3:5, 2:6].tolist() == [[1] * 4] * 2
    assert reading.spacing(reading.read_affine(images.folder / row["mask"])) == (2, 1, 1)


def test_what_the_grid_cuts_away_is_told(root: Path) -> None:
    images = prepared(root, shape=[2, 6, 4])
    notes = files.read_json(report_path("drawn"))["notes"]
    assert notes == {"mask: some foreground lies outside data.shape": images.ids}
    assert np.bincount(images.mask(images.rows[0]).ravel()).tolist() == [48 - 8, 4, 4]
    assert prepared(root, shape=[4, 6, 4]) and files.read_json(report_path("drawn"))["notes"] == {}


def channels(root: Path, one_file: bool) -> None:
    """A second channel, 0 where the first is 1: in the same file, or as nnU-Net's files."""
    for path in [*root.glob("images*/*.nii.gz")]:
        first = reading.read(path).astype(np.int16)
        both = np.stack([first, 400 - first], -1).astype(np.int16)
        if one_file:
            nifti(path, both, affine=PLACE)
            continue
        path.unlink()
        for channel in range(2):
            name = f"{reading.stem(path)}_{channel:04d}.nii.gz"
            nifti(path.with_name(name), np.ascontiguousarray(both[..., channel]), affine=PLACE)


@pytest.mark.parametrize("one_file", [True, False])
def test_channels_of_one_file_and_of_nnunets_files(root: Path, one_file: bool) -> None:
    channels(root, one_file)
    images = prepared(root, channels=2, percentiles=[0, 100])
    image = images.image(images.rows[0])
    assert image.shape == (2, *SHAPE) and np.allclose(image[0] + image[1], 1, atol=1e-5)
    single = prepared(root, contrasts=[1], percentiles=[0, 100])
    assert single.spec.channels == 1 and np.array_equal(single.image(single.rows[0])[0], image[1])


def test_lists_and_groups_stand_beside_volumes(root: Path) -> None:
    (root / "splits").mkdir()
    for split, names in {"train": "v0 v1 v2", "val": "v3.nii.gz", "test": "v4 v9"}.items():
        (root / "splits" / f"{split}.txt").write_text("\n".join(names.split()))
    (root / "manifest.csv").write_text("id,group\n" + "".join(f"v{n},patient {n // 2}\n" for n in range(10)))
    rows = rows_by_file(prepared(root))
    assert {name[:2]: row["split"] for name, row in rows.items()} == {
        "v0": "train", "v1": "train", "v2": "train", "v3": "val", "v4": "test", "v9": "test"}  # fmt: skip
    assert rows["v0.nii.gz"]["group"] == rows["v1.nii.gz"]["group"] != rows["v2.nii.gz"]["group"]


def change(root: Path, name: str, **own: Any) -> None:
    path = root / name
    voxels = own.pop("voxels", None)
    nifti(path, reading.read(path) if voxels is None else voxels, **{"affine": PLACE, **own})


@pytest.mark.parametrize(
    "name, own, data, told",
    [
        ("imagesTr/v1.nii.gz", {"affine": None}, {}, "v1.nii.gz: has no spacing in its header (pixdim 0, 0, 0)"),
        ("labelsTr/v1.nii.gz", {"affine": None}, {}, "imagesTr/v1.nii.gz: has a label v1.nii.gz that has no spacing"),
        ("labelsTr/v1.nii.gz", {"voxels": np.zeros((8, 6, 5), np.uint8)}, {},
         "imagesTr/v1.nii.gz: has [8, 6, 4] voxels, but v1.nii.gz has [8, 6, 5]; they must be equal"),
        ("labelsTr/v1.nii.gz", {"affine": np.diag([1.0, 1, 4, 1])}, {},
         "imagesTr/v1.nii.gz: and v1.nii.gz lie up to 6 mm apart by their headers"),
        ("labelsTr/v1.nii.gz", {"voxels": np.full(SHAPE, 7, np.uint8)}, {},
         "imagesTr/v1.nii.gz: its label v1.nii.gz holds the values 7; data.num_classes allows 0 to 2"),
        ("labelsTr/v1.nii.gz", {"voxels": np.full(SHAPE, 0.5, np.float32)}, {}, "v1.nii.gz holds the values 0.5"),
        ("labelsTr/v1.nii.gz", {"voxels": np.full(SHAPE, 4, np.uint8)}, {"labels": {0: 0, 1: 1, 2: 2}},
         "holds the values 4; data.labels names 0, 1, 2"),
        ("imagesTr/v1.nii.gz", {"voxels": np.zeros((*SHAPE, 2), np.int16)}, {},
         "imagesTr/v1.nii.gz: has 2 channels, but data.channels is 1; they must be equal"),
        ("imagesTr/v1.nii.gz", {"affine": np.diag([1.0, 1, 2.5, 1])}, {},
         "imagesTr/v1.nii.gz: and v1.nii.gz lie up to 1.5 mm"),
        ("imagesTr/v1.nii.gz", {}, {"contrasts": [1]}, "has 1 channels; data.contrasts is [1], counted from 0"),
    ],
)  # fmt: skip
def test_volumes_that_do_not_fit_are_named(
    root: Path, name: str, own: dict[str, Any], data: dict[str, Any], told: str
) -> None:
    change(root, name, **own)
    assert any(told in line for line in refusal(root, **data))


def test_volumes_of_another_spacing_are_named_unless_one_is_asked_for(root: Path) -> None:
    for kind in ("images", "labels"):
        change(root, f"{kind}Tr/v1.nii.gz", affine=np.diag([1.0, 1, 3, 1]))
    cure = "set data.spacing to resample all to one"
    assert refusal(root)[1:] == [f"imagesTr/v1.nii.gz: has voxels of 1 x 1 x 3 mm, most others 1 x 1 x 2 mm; {cure}"]
    assert prepared(root, spacing=[1, 1, 2]).spec.spacing == (1, 1, 2)


def test_files_without_a_partner_and_missing_channels_are_named(root: Path) -> None:
    channels(root, one_file=False)
    (root / "imagesTr" / "v1_0000.nii.gz").unlink()
    (root / "labelsTr" / "v2.nii.gz").unlink()
    (root / "imagesTr" / "v3_0001.nii.gz").unlink()
    entry = {"image": "./imagesTr/v77.nii.gz", "label": "./labelsTr/v0.nii.gz"}
    (root / "dataset.json").write_text(json.dumps({"training": [entry]}))
    told = [line.partition(";")[0] for line in refusal(root, channels=2)[1:]]
    assert sorted(told) == sorted([
        "labelsTr/v1.nii.gz: lacks the channel v1_0000",
        "imagesTr/v2_0000.nii.gz: has no label",
        "imagesTr/v2_0001.nii.gz: has no label",
        "./imagesTr/v77.nii.gz: is listed in dataset.json but does not exist",
        "imagesTr/v3_0000.nii.gz: has 1 channels, but data.channels is 2",
    ])  # fmt: skip


@pytest.mark.parametrize(
    "data, told",
    [
        ({"shape": None, "size": 32}, "data.shape is missing; the reader volumes needs"),
        ({"size": 32}, "give size (pictures) or shape (volumes), not both"),
        ({"labels": {0: 0, 1: 3}}, "data.labels gives the class 3; data.num_classes allows 0 to 2"),
        ({"percentiles": [90, 10]}, "percentiles must lie between 0 and 100"),
        ({"native_masks": True}, "native_masks is for pictures"),
        ({"shape": [8, 6]}, "data.shape"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(root: Path, data: dict[str, Any], told: str) -> None:
    assert any(told in line for line in refusal(root, **data))


def test_a_qform_is_read_as_the_standard_says(tmp_path: Path) -> None:
    path = nifti(tmp_path / "v.nii", np.zeros((2, 3, 4), np.uint8))
    header = bytearray(path.read_bytes())
    struct.pack_into("<8f", header, 76, -1, 2, 3, 4, 0, 0, 0, 0)  # the third axis is turned round
    struct.pack_into("<h", header, 252, 1)
    struct.pack_into("<6f", header, 256, 0, 0, 0.5**0.5, 5, 6, 7)  # a quarter turn about the third axis
    path.write_bytes(header)
    expected = [[0, -3, 0, 5], [2, 0, 0, 6], [0, 0, -4, 7], [0, 0, 0, 1]]
    assert np.allclose(reading.read_affine(path), expected, atol=1e-6)
    header[123] = 3  # micrometres
    path.write_bytes(header)
    assert np.allclose(reading.read_affine(path)[:3], np.array(expected[:3]) / 1000, atol=1e-9)


@pytest.mark.skipif(REAL_DATA is None, reason="TWINSYNTH_REAL_DATA names no folder with real data sets")
def test_real_volumes() -> None:
    assert REAL_DATA is not None
    images = prepared(Path(REAL_DATA) / "msd_hippocampus", shape=[32, 48, 32])
    assert (len(images), images.spec.spacing) == (100, (1, 1, 1))
    assert [len(images.split(split)) for split in ("train", "val", "test")] == [72, 8, 20]
