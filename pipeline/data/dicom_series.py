"""DICOM images sorted into series, and a series into slices with their place in the patient.

Source: DICOM PS3.3 (C.7.6.2 image plane).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data import dicom
from pipeline.data.dicom import Plane, StatedWindow, Window
from pipeline.data.dicom_checks import GREY, check_header
from pipeline.data.dicom_elements import numbers, text
from pipeline.data.invalid import InvalidData

PARALLEL = 1e-3  # largest difference of a direction that is the same
EVEN = 0.01  # share of the distance of slices by which one may be elsewhere
NEAR = 0.5  # share of the distance of slices within which a frame belongs to a slice
MM = 0.01  # or so many millimetres
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Image:
    """The header of one image."""

    path: Path
    series: str
    instance: str
    position: tuple[float, ...]  # mm to the left, back and top of the first pixel; empty: not stated
    orientation: tuple[float, ...]  # directions of growing columns and of growing rows
    spacing: tuple[float, ...]  # mm between rows, between columns
    shape: tuple[int, int]  # rows, columns
    window: StatedWindow | None
    is_grey: bool
    group: str = ""

    @property
    def normal(self) -> Vector:
        """The direction across the image."""
        return np.cross(self.orientation[:3], self.orientation[3:]).astype(np.float64)


@dataclass(frozen=True)
class Series:
    """The images of one series in the order of their positions."""

    images: tuple[Image, ...]

    @property
    def group(self) -> str:
        """The patient, as a keyed hash."""
        return self.images[0].group

    @property
    def window(self) -> Window | None:
        """The widest window of the images; None where one of them states none. Raises InvalidData."""
        windows = [image.window.limits() for image in self.images if image.window is not None]
        if len(windows) < len(self.images):
            return None
        return min(low for low, _ in windows), max(high for _, high in windows)

    def planes(self) -> list[Plane]:
        """Return all decoded images. Raises InvalidData that names the file."""
        return [self.plane(number) for number in range(len(self.images))]

    def plane(self, number: int) -> Plane:
        """Return one decoded image. Raises InvalidData that names the file."""
        try:
            return dicom.read_plane(self.images[number].path)
        except InvalidData as fault:
            raise InvalidData(f"{self.images[number].path.name} {fault}") from None

    def affine(self) -> NDArray[np.float64]:
        """Return [4, 4] from column, row and slice to mm (right, front, top). Raises InvalidData."""
        first, depths = self.images[0], self._depths()
        if not first.position or not first.spacing or len(self.images) < 2:
            raise InvalidData("states no positions or spacing of its images, or has one image; it is no volume")
        steps = np.diff(depths)
        if np.abs(steps - steps.mean()).max() > EVEN * steps.mean():
            raise InvalidData(
                f"has slices {steps.min():.4g} to {steps.max():.4g} mm apart; add what is missing, or resample it"
            )
        affine = np.eye(4)
        affine[:3, 0] = np.multiply(first.orientation[:3], first.spacing[1])
        affine[:3, 1] = np.multiply(first.orientation[3:], first.spacing[0])
        affine[:3, 2] = np.subtract(self.images[-1].position, first.position) / (len(self.images) - 1)
        affine[:3, 3] = first.position
        affine[:2] *= -1  # DICOM counts to the left and back
        return affine

    def _depths(self) -> Vector:
        return np.array([float(np.dot(image.position or (0, 0, 0), self.images[0].normal)) for image in self.images])

    def number_of(self, instance: str, position: tuple[float, ...]) -> int | None:
        """Return the slice that a frame of a segmentation refers to, by its image or else by its position."""
        for number, image in enumerate(self.images):
            if instance == image.instance:
                return number
        if not position or not self.images[0].position:
            return None
        depths = self._depths()
        away = np.abs(depths - float(np.dot(position, self.images[0].normal)))
        limit = max(MM, NEAR * float(np.diff(depths).min())) if len(depths) > 1 else MM
        return int(away.argmin()) if away.min() < limit else None


def read_image_header(path: Path, header: Any) -> Image:
    """Return what is known of an image before it is decoded. Raises InvalidData."""
    check_header(header)
    orientation = numbers(header, "ImageOrientationPatient", 6) or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    return Image(
        path,
        text(header, "SeriesInstanceUID"),
        text(header, "SOPInstanceUID"),
        numbers(header, "ImagePositionPatient", 3),
        orientation,
        numbers(header, "PixelSpacing", 2),
        (int(header.Rows), int(header.Columns)),
        dicom.window_of(header),
        text(header, "PhotometricInterpretation") in GREY,
    )


def sorted_series(images: Iterable[Image]) -> Series:
    """Return the images of one series in the order of their positions. Raises InvalidData where they do not fit."""
    images = list(images)
    first = images[0]
    if len({image.shape for image in images}) > 1:
        raise InvalidData("holds images of several sizes; keep those of one size in a series")
    if any(np.abs(np.subtract(image.orientation, first.orientation)).max() > PARALLEL for image in images):
        raise InvalidData("holds images of several orientations; keep those of one in a series")
    if len(images) > 1 and not all(image.position for image in images):
        raise InvalidData("holds several images without a position; give each a series of its own")
    series = Series(tuple(sorted(images, key=lambda image: float(np.dot(image.position or (0, 0, 0), first.normal)))))
    if len(images) > 1 and np.diff(series._depths()).min() < MM:
        raise InvalidData("holds several images of one position (times, contrasts?); keep one of them")
    return series


def with_groups(images: Iterable[Image], groups: Mapping[str, str]) -> list[Image]:
    """Return the images with their patients, by instance."""
    return [replace(image, group=groups[str(image.path)]) for image in images]


def by_series(images: Iterable[Image]) -> dict[str, list[Image]]:
    """Return the images of every series."""
    found = defaultdict[str, list[Image]](list)
    for image in images:
        found[image.series].append(image)
    return dict(found)
