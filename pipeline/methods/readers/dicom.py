"""DICOM series with their segmentations (DICOM-SEG), found anywhere below a folder: slices, or with data.shape volumes.

Images belong together by their series, segmentations to a series by what they refer to; names do not matter. The
window is the file's unless one is stated. Patients are groups, as keyed hashes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.core.section import Section
from pipeline.data import dicom_checks, dicom_elements, dicom_segmentation, dicom_series, grids
from pipeline.data.decoding import Fault, InvalidData, Item, LazySample, display_path, ensure_inside
from pipeline.data.dicom_segmentation import Segmentation
from pipeline.data.dicom_series import Image, Series
from pipeline.data.labels import label_range
from pipeline.data.sample import Sample
from pipeline.methods.readers import _folders
from pipeline.stages.prepare.params import Data

SOURCE = "dicom"
BYTES = (0.0, 255.0)
MANY = 200  # files whose headers take a second or more
Classes = tuple[tuple[int, int], ...]  # segment numbers with their label


class Params(Section):
    """The folder of the files, and how intensities and segments are read."""

    root: Path
    """Folder of the data set; all files below it are examined."""
    slices: int = Field(default=8, gt=0)
    """Largest number of slices of a series, evenly spaced over those that show foreground; not for volumes."""
    window: tuple[float, float] | None = None
    """The two intensities (HU) that become black and white; `null` for the window in the files."""
    labels: dict[PositiveInt, NonNegativeInt] | None = None
    """Label of each segment number; `null` for the number itself."""

    @model_validator(mode="after")
    def window_is_in_order(self) -> Self:
        if self.window and self.window[0] >= self.window[1]:
            raise ValueError(f"window has the lower end first; found {list(self.window)}")
        return self


@dataclass(frozen=True)
class Case:
    """One series with its segmentation."""

    series: Series
    segmentation: Path
    root: Path
    window: tuple[float, float]
    classes: Classes

    @property
    def origin(self) -> str:
        """Path of the first image relative to data.root."""
        return display_path(self.series.images[0].path, self.root)

    def labels(self) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """Return labels [slices, rows, columns] and notes. Raises InvalidData that names the segmentation."""
        try:
            return dicom_segmentation.label_maps(self.segmentation, self.series, self.classes)
        except InvalidData as fault:
            raise InvalidData(f"its segmentation {display_path(self.segmentation, self.root)} {fault}") from None


def read(data: Data, params: Params) -> Iterator[Item]:
    """Yield slices or volumes that are decoded when they are needed, and faults of files and series."""
    root = _folders.existing(params.root, "data.root")
    classes = _classes(data, params)
    images, segmentations, faults = _headers(root)
    yield from faults
    if not images:
        raise UserError(f"data.root: {root} holds no DICOM image; see docs/your_own_data.md")
    unused = list(segmentations)
    for own in dicom_series.by_series(images).values():
        fitting = [one for one in segmentations if _belongs(one, own)]
        unused = [one for one in unused if one not in fitting]
        location = f"{display_path(own[0].path, root)} (series of {len(own)} images)"
        try:
            yield from _items(dicom_series.sorted_series(own), fitting, root, data, params, classes)
        except InvalidData as fault:
            yield Fault(location, str(fault))
    for one in unused:
        yield Fault(
            display_path(one.path, root),
            "is a segmentation of a series that was not found; add the series or remove the file",
        )


def _classes(data: Data, params: Params) -> Classes:
    if params.labels and (above := [label for label in params.labels.values() if label >= data.num_classes]):
        raise UserError(
            f"data.labels gives the class {above[0]}; data.num_classes allows {label_range(data.num_classes)}"
        )
    return tuple(sorted((params.labels or {number: number for number in range(1, data.num_classes)}).items()))


def _headers(root: Path) -> tuple[list[Image], list[Segmentation], list[Fault]]:
    """Return all images and segmentations below a folder, and the faults of files that are neither read nor ignored."""
    images, segmentations, faults, headers = list[Image](), list[Segmentation](), list[Fault](), list[tuple[str, Any]]()
    paths = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    for path in track(paths, "reading DICOM headers", visible=len(paths) >= MANY):
        try:
            if not dicom_elements.is_dicom(ensure_inside(path, root)):
                continue
            header = dicom_elements.read_header(path)
            if dicom_segmentation.is_segmentation(header):
                segmentations.append(dicom_segmentation.read_segmentation_header(path, header))
            elif header.get("Rows") or dicom_checks.is_image(
                header
            ):  # reports, contours and directories are passed over
                images.append(dicom_series.read_image_header(path, header))
                headers.append((str(path), header))
        except InvalidData as fault:
            faults.append(Fault(display_path(path, root), str(fault)))
    return dicom_series.with_groups(images, dicom_elements.patient_groups(headers)), segmentations, faults


def _belongs(segmentation: Segmentation, images: Sequence[Image]) -> bool:
    return images[0].series in segmentation.series or any(image.instance in segmentation.instances for image in images)


def _items(
    series: Series, segmentations: Sequence[Segmentation], root: Path, data: Data, params: Params, classes: Classes
) -> Iterator[Item]:
    """Yield the slices of a series, or the series as a volume. Raises InvalidData."""
    if len(segmentations) != 1:
        found = "no segmentation" if not segmentations else f"{len(segmentations)} segmentations"
        raise InvalidData(f"has {found} (DICOM-SEG; contours of RTSTRUCT are not read); it needs one")
    window = params.window or series.window
    if window is None and series.images[0].is_grey:
        raise InvalidData("states no window for every image; state one (data.window: [low, high])")
    case = Case(series, segmentations[0].path, root, window or BYTES, classes)
    if data.shape is not None:
        series.affine()  # a series that is no volume is refused here
        yield LazySample(case.origin, None, partial(_volume, case), series.group)
        return
    labels, _ = case.labels()
    for number in _positions(labels, params.slices):
        origin = display_path(series.images[number].path, root)
        yield LazySample(origin, None, partial(_slice, case, number), series.group)


def _positions(labels: NDArray[np.uint8], slices: int) -> list[int]:
    """Return at most `slices` evenly spaced slices, of those with foreground (of all, if there is none)."""
    candidates = np.flatnonzero(labels.any(axis=(1, 2)))
    if not len(candidates):
        candidates = np.arange(len(labels))
    spaced = np.linspace(0, len(candidates) - 1, min(slices, len(candidates)) + 2)[1:-1]
    return candidates[np.unique(np.round(spaced).astype(int))].tolist()


def _slice(case: Case, number: int) -> Sample:
    """Return one image [3, H, W] with its labels. Raises InvalidData."""
    plane, (labels, notes) = case.series.plane(number), case.labels()
    picture = np.stack([plane.grey(case.window)] * 3) if plane.colours is None else plane.colours
    origin = display_path(case.series.images[number].path, case.root)
    inverted = ("image: DICOM, MONOCHROME1 inverted",) if plane.inverted else ()
    return Sample(
        id=_folders.safe_id(origin),
        image=picture,
        masks=labels[number][None],
        source=SOURCE,
        group=case.series.group,
        origin=origin,
        notes=(*inverted, *notes),
    )


def _volume(case: Case) -> Sample:
    """Return the series as [1, X, Y, Z] in [0, 1] with its labels, axes to right, front, top. Raises InvalidData."""
    planes, (labels, notes), affine = case.series.planes(), case.labels(), case.series.affine()
    if any(plane.colours is not None for plane in planes):
        raise InvalidData("is a series of colour images; a volume has grey levels")
    low, high = case.window
    values = np.stack([plane.values for plane in planes])  # [slices, rows, columns]
    scaled = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    scaled = 1 - scaled if planes[0].inverted else scaled
    reorientation = grids.Reorientation.from_affine(affine)
    image, mask = (reorientation.apply(stored.transpose(2, 1, 0)[None]) for stored in (scaled, labels))
    return Sample(
        id=_folders.safe_id(case.origin),
        image=image,
        masks=np.asarray(mask, np.uint8),
        source=SOURCE,
        group=case.series.group,
        origin=case.origin,
        notes=notes,
        affine=reorientation.affine(affine, scaled.shape[::-1]),
    )
