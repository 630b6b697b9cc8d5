"""The reader dicom: series and segmentations, written by pydicom, become slices or volumes; misfits are named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data.decoding import Fault, LazySample
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import Sample
from pipeline.methods.readers.dicom import Params
from pipeline.stages.prepare.prepare import prepare
from tests import dicom_files
from tests.drawn_pairs import data, picture, study, study_of_segmenters

SLICES, ROWS, COLUMNS = 6, 20, 24


def volume(name: str = "series") -> NDArray[np.int16]:
    """Smooth HU from -160 to 240 that depend on the name."""
    planes = [np.asarray(picture(f"{name} {k}", COLUMNS, ROWS).convert("L")) for k in range(SLICES)]
    return (np.stack(planes).astype(np.int16) * 400) // 255 - 160


def lesion(first: int = 2, last: int = 4, left: int = 3) -> NDArray[np.bool_]:
    mask = np.zeros((SLICES, ROWS, COLUMNS), bool)
    mask[first : last + 1, 5:12, left : left + 8] = True
    return mask


def read(root: Path, **values: Any) -> list[Any]:
    section = data("dicom", **{"root": str(root), "slices": SLICES, **values})
    params = plugins.read_params("readers", "dicom", section.options, "data")
    return list(plugins.load("readers", "dicom").read(section, params))


def samples(items: list[Any]) -> list[Sample]:
    assert [str(item) for item in items if isinstance(item, Fault)] == []
    return [item.load() for item in items if isinstance(item, LazySample)]


def faults(items: list[Any]) -> list[str]:
    return [str(item) for item in items if isinstance(item, Fault)]


def of_volume(root: Path, **values: Any) -> Sample:
    (sample,) = samples(read(root, size=0, shape=[COLUMNS, ROWS, SLICES], **values))
    return sample


def levels(hu: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    return np.round(255 * np.clip((hu.astype(float) - low) / (high - low), 0, 1)).astype(np.uint8)


@pytest.mark.parametrize("by", ["image", "position"])
def test_slices_with_foreground_are_read_through_the_files_window(by: str, tmp_path: Path) -> None:
    """Centre 40 and width 400: -160 is black and 239 white. The order is that of positions, whatever the names."""
    hu = volume()
    dicom_files.series(tmp_path / "images", hu)
    dicom_files.segmentation(tmp_path / "anywhere/seg", {1: lesion()}, by=by)
    found = samples(read(tmp_path))
    assert len(found) == 3
    by_slice = {number: levels(hu[number], -160, 239) for number in (2, 3, 4)}
    for sample in found:
        (number,) = [k for k, plane in by_slice.items() if (sample.image == plane).all()]
        assert (sample.masks[0] == lesion()[number]).all()
    assert len({sample.id for sample in found}) == 3


def test_a_stated_window_goes_before_the_files(tmp_path: Path) -> None:
    hu = volume()
    dicom_files.series(tmp_path, hu)
    dicom_files.segmentation(tmp_path / "seg", {1: lesion(3, 3)})
    (sample,) = samples(read(tmp_path, window=[0, 100]))
    assert (sample.image[0] == levels(hu[3], 0, 100)).all()


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    hu = volume()
    dicom_files.series(tmp_path, hu, PhotometricInterpretation="MONOCHROME1")
    dicom_files.segmentation(tmp_path / "seg", {1: lesion(3, 3)})
    (sample,) = samples(read(tmp_path))
    assert (sample.image[0] == 255 - levels(hu[3], -160, 239)).all()
    assert sample.notes == ("image: DICOM, MONOCHROME1 inverted",)
    assert np.allclose(of_volume(tmp_path).image[0, :, ::-1].transpose(2, 1, 0)[:, ::-1, ::-1].max(), 1, atol=0.1)


def test_a_volume_has_its_place_in_the_patient(tmp_path: Path) -> None:
    """Axes go to the right, front and top (DICOM: left, back, top), in mm."""
    hu = volume()
    dicom_files.series(tmp_path, hu)
    dicom_files.segmentation(tmp_path / "seg", {1: lesion()})
    sample = of_volume(tmp_path)
    assert sample.image.shape == (1, COLUMNS, ROWS, SLICES)
    stored = np.clip((hu.astype(float) + 160) / 399, 0, 1)
    assert np.allclose(sample.image[0][::-1, ::-1], stored.transpose(2, 1, 0), atol=1e-6)
    assert (sample.masks[0][::-1, ::-1] == lesion().transpose(2, 1, 0)).all()
    assert sample.affine is not None
    corner = sample.affine @ [COLUMNS - 1, ROWS - 1, 0, 1]  # the first pixel of the first slice
    assert np.allclose(corner[:3], [10, 20, 5])
    assert np.allclose(np.diag(sample.affine)[:3], [0.25, 0.5, 2])


def test_a_sagittal_series_is_turned(tmp_path: Path) -> None:
    """Columns run to the back, rows to the bottom, slices to the left."""
    hu = volume()
    for number, plane in enumerate(hu):
        about = {
            "SOPInstanceUID": dicom_files.uid(f"series {number}"),
            "ImagePositionPatient": [3 * number, -20, 30],
            "ImageOrientationPatient": [0, 1, 0, 0, 0, -1],
            "PixelSpacing": [0.5, 0.25],
        }
        stored = (plane.astype(np.int32) + 1024).astype(np.uint16)
        window = {"RescaleIntercept": -1024, "RescaleSlope": 1, "WindowCenter": 40, "WindowWidth": 400}
        dicom_files.write(tmp_path / str(number), stored, **about, **window)
    dicom_files.segmentation(tmp_path / "seg", {1: lesion()}, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    sample = of_volume(tmp_path)
    stored = np.clip((hu.astype(float) + 160) / 399, 0, 1)  # [left, bottom, back]
    assert np.allclose(sample.image[0][::-1, ::-1, ::-1], stored.transpose(0, 2, 1), atol=1e-6)
    assert (sample.masks[0][::-1, ::-1, ::-1] == lesion().transpose(0, 2, 1)).all()
    assert sample.affine is not None and np.allclose(np.diag(sample.affine)[:3], [3, 0.25, 0.5])


def test_several_segments_are_labels(tmp_path: Path) -> None:
    dicom_files.series(tmp_path, volume())
    dicom_files.segmentation(tmp_path / "seg", {1: lesion(left=2), 2: lesion(left=14)})
    expected = lesion(left=2) + 2 * lesion(left=14)
    for sample, plane in zip(samples(read(tmp_path, num_classes=3)), expected[2:5], strict=True):
        assert (sample.masks[0] == plane).all()
    (first, *_) = samples(read(tmp_path, labels={1: 1, 2: 1}))
    assert (first.masks[0] == (expected[2] > 0)).all()
    (first, *_) = samples(read(tmp_path, labels={1: 0, 2: 1}))
    assert (first.masks[0] == (expected[2] == 2)).all()


def test_fractions_above_a_half_are_foreground_with_a_note(tmp_path: Path) -> None:
    dicom_files.series(tmp_path, volume())
    fractions = np.where(lesion(), 150, 90).astype(np.uint8)
    dicom_files.segmentation(tmp_path / "seg", {1: fractions}, kind="FRACTIONAL")
    first, *_ = samples(read(tmp_path))
    assert (first.masks[0] == lesion()[2]).all()
    assert "fractions of a DICOM-SEG" in first.notes[0]


def test_a_label_map_is_read(tmp_path: Path) -> None:
    dicom_files.series(tmp_path, volume())
    labels = lesion(left=2) + 2 * lesion(left=14)
    dicom_files.label_map(tmp_path / "seg", labels)
    found = samples(read(tmp_path, num_classes=3))
    assert len(found) == 3
    assert (found[0].masks[0] == labels[2]).all()


def test_a_single_picture_needs_no_position(tmp_path: Path) -> None:
    """As radiographs have none; colours stay colours."""
    about = {"SOPInstanceUID": dicom_files.uid("series 0")}
    colours = np.asarray(picture("radiograph", COLUMNS, ROWS))
    dicom_files.write(tmp_path / "a", colours, WindowCenter=None, WindowWidth=None, **about)
    dicom_files.segmentation(tmp_path / "seg", {1: lesion(0, 0)[:1]})
    (sample,) = samples(read(tmp_path))
    assert (np.moveaxis(sample.image, 0, -1) == colours).all()
    assert (sample.masks[0] == lesion(0, 0)[0]).all()


def test_other_dicom_objects_and_other_files_are_passed_over(tmp_path: Path) -> None:
    dicom_files.series(tmp_path, volume())
    dicom_files.segmentation(tmp_path / "seg", {1: lesion()})
    report = dicom_files.dataset(tmp_path / "report", "1.2.840.10008.5.1.4.1.1.88.11")
    report.save_as(tmp_path / "report", enforce_file_format=True)
    (tmp_path / "LICENSE").write_text("text")
    assert len(samples(read(tmp_path))) == 3


def sized(root: Path) -> None:
    dicom_files.write(root / "x", np.zeros((8, 8), np.uint16), SeriesInstanceUID=dicom_files.uid("series"))


def turned(root: Path) -> None:
    about = {"ImagePositionPatient": [-10, -20, 99], "ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}
    dicom_files.write(root / "x", np.zeros((ROWS, COLUMNS), np.uint16), **about)


def unplaced(root: Path) -> None:
    dicom_files.write(root / "x", np.zeros((ROWS, COLUMNS), np.uint16))


def doubled(root: Path) -> None:
    about = {"ImagePositionPatient": [-10, -20, 7], "ImageOrientationPatient": dicom_files.AXIAL}
    dicom_files.write(root / "x", np.zeros((ROWS, COLUMNS), np.uint16), **about)


def second(root: Path) -> None:
    dicom_files.segmentation(root / "other", {1: lesion()})


def removed(root: Path) -> None:
    (root / "seg").unlink()


def small(root: Path) -> None:
    dicom_files.segmentation(root / "seg", {1: lesion()[:, :8, :8]})


def elsewhere(root: Path) -> None:
    mask = np.zeros((SLICES + 3, ROWS, COLUMNS), bool)
    mask[SLICES + 2] = lesion()[2]
    dicom_files.segmentation(root / "seg", {1: mask}, by="position")


def unknown(root: Path) -> None:
    dicom_files.segmentation(root / "seg", {7: lesion()})


def overlapping(root: Path) -> None:
    dicom_files.segmentation(root / "seg", {1: lesion(), 2: lesion(left=5)})


def against(root: Path) -> None:
    dicom_files.segmentation(root / "seg", {1: lesion()}, ImageOrientationPatient=[0, 1, 0, 1, 0, 0])


def damaged(root: Path) -> None:
    path = next(path for path in sorted(root.iterdir()) if path.name != "seg")
    path.write_bytes(path.read_bytes()[:400])


BAD: dict[Callable[[Path], None], str] = {
    sized: "(series of 7 images): holds images of several sizes",
    turned: "holds images of several orientations",
    unplaced: "holds several images without a position",
    doubled: "holds several images of one position (times, contrasts?)",
    second: "has 2 segmentations",
    removed: "has no segmentation (DICOM-SEG; contours of RTSTRUCT are not read)",
    small: "its segmentation seg has 8 x 8 pixels, its series 24 x 20",
    elsewhere: "its segmentation seg has a frame (1) that lies on no slice of its series",
    unknown: "its segmentation seg holds the segment 7; labels are known of 1, 2",
    overlapping: "pixels in two segments of different labels",
    against: "its segmentation seg is turned against its series",
    damaged: "is a DICOM file without an image; it is cut off",
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_what_does_not_fit_is_one_fault(spoil: Callable[[Path], None], tmp_path: Path) -> None:
    dicom_files.series(tmp_path, volume())
    dicom_files.segmentation(tmp_path / "seg", {1: lesion()})
    spoil(tmp_path)
    found = faults(read(tmp_path, num_classes=3))
    assert len(found) == 1
    assert BAD[spoil] in found[0]
    assert "Erika" not in found[0] and "12345" not in found[0] and str(tmp_path) not in found[0]


def test_a_missing_slice_is_told_of_volumes(tmp_path: Path) -> None:
    paths = dicom_files.series(tmp_path, volume())
    dicom_files.segmentation(tmp_path / "seg", {1: lesion(4, 4)})
    paths[2].unlink()
    assert len(samples(read(tmp_path))) == 1
    assert "has slices 2 to 4 mm apart" in faults(read(tmp_path, size=0, shape=[8, 8, 8]))[0]


def test_a_series_without_window_asks_for_one(tmp_path: Path) -> None:
    dicom_files.series(tmp_path, volume(), WindowCenter=None, WindowWidth=None)
    dicom_files.segmentation(tmp_path / "seg", {1: lesion()})
    assert "state one (data.window: [low, high])" in faults(read(tmp_path))[0]
    assert len(samples(read(tmp_path, window=[-160, 240]))) == 3


def test_slices_with_different_windows_share_the_widest(tmp_path: Path) -> None:
    for number, (centre, width) in enumerate(((40, 400), (100, 100), (-200, 300))):
        about = {"ImagePositionPatient": [0, 0, number], "SOPInstanceUID": dicom_files.uid(f"series {number}")}
        values = (volume()[number] + 1024).astype(np.uint16)
        window = {"WindowCenter": centre, "WindowWidth": width, "RescaleIntercept": -1024, "RescaleSlope": 1}
        dicom_files.write(tmp_path / str(number), values, **window, **about)
    dicom_files.segmentation(tmp_path / "seg", {1: lesion(0, 0)[:3]})
    (sample,) = samples(read(tmp_path))
    assert (sample.image[0] == levels(volume()[0], -350, 239)).all()


def test_a_segmentation_of_nothing_is_named(tmp_path: Path) -> None:
    dicom_files.series(tmp_path, volume())
    dicom_files.segmentation(tmp_path / "seg", {1: lesion()})
    dicom_files.segmentation(tmp_path / "lost", {1: lesion()}, name="another")
    assert faults(read(tmp_path)) == [
        "lost: is a segmentation of a series that was not found; add the series or remove the file"
    ]


def test_what_the_parameters_cannot_mean_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="window has the lower end first"):
        parse(Params, {"root": "x", "window": [5, 5]})
    dicom_files.series(tmp_path, volume())
    with pytest.raises(UserError, match=r"data.labels gives the class 2; data.num_classes allows 0 to 1"):
        read(tmp_path, labels={1: 2})
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no DICOM image"):
        read(tmp_path / "empty")


@pytest.fixture
def patients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight series of four patients; the working folder is another one."""
    for number in range(8):
        name, about = f"series {number}", {"PatientID": f"id {number // 2}"}
        dicom_files.series(tmp_path / f"set/{number}", volume(name), name, **about)
        dicom_files.segmentation(tmp_path / f"set/{number}/seg.dcm", {1: lesion(left=number)}, name)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "set"


def test_prepare_makes_sets_of_slices_and_of_volumes(patients: Path) -> None:
    images = prepare(study("dicom", root=patients, val_share=0.25, test_share=0.25))
    assert len(images) == 24
    splits: dict[str, set[str]] = {}
    for row in images:
        splits.setdefault(row["group"], set()).add(row["split"])
    assert len(splits) == 4 and all(len(one) == 1 for one in splits.values())
    params = study_of_segmenters(
        reader="dicom", root=str(patients), shape=[COLUMNS, ROWS, SLICES], val_share=0.25, test_share=0.25
    )
    volumes = prepare(params)
    assert isinstance(volumes, ImageSet) and len(volumes) == 8
    row = next(iter(volumes))
    assert volumes.image(row).shape == (1, COLUMNS, ROWS, SLICES)
    assert set(np.unique(volumes.mask(row))) == {0, 1}
