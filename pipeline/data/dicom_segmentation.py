"""DICOM-SEG: which series a segmentation belongs to, and the labels that it draws on the slices of this series.

Source: DICOM PS3.3 (C.8.20): frames of one segment each, as bits or fractions, or a label map.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data import dicom
from pipeline.data.dicom_checks import check_pixels
from pipeline.data.dicom_elements import numbers, read_dataset, read_header, text
from pipeline.data.dicom_series import PARALLEL, Series
from pipeline.data.invalid import InvalidData

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # SOP classes: by bits, as label map


@dataclass(frozen=True)
class Segmentation:
    """The header of one segmentation."""

    path: Path
    series: frozenset[str]  # that it refers to
    instances: frozenset[str]  # images that it refers to


def is_segmentation(header: Any) -> bool:
    """Return whether a header is that of a segmentation."""
    return text(header, "SOPClassUID") in SEGMENTATIONS


def read_segmentation_header(path: Path, header: Any) -> Segmentation:
    """Return what a segmentation refers to."""
    referenced = header.get("ReferencedSeriesSequence") or ()
    series = {text(item, "SeriesInstanceUID") for item in referenced}
    return Segmentation(path, frozenset(series - {""}), frozenset(_source(frame) for frame in _frames(header)) - {""})


def _frames(header: Any) -> list[Any]:
    return list(header.get("PerFrameFunctionalGroupsSequence") or ())


def _source(frame: Any) -> str:
    """Return the image that a frame was drawn on; empty where it is not stated."""
    for derivation in frame.get("DerivationImageSequence") or ():
        for source in derivation.get("SourceImageSequence") or ():
            return text(source, "ReferencedSOPInstanceUID")
    return ""


@lru_cache(maxsize=1)  # the slices of one series are asked for one after the other
def label_maps(
    segmentation: Path, series: Series, classes: tuple[tuple[int, int], ...]
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Return labels [slices, rows, columns] of a series and notes; `classes` are segment numbers with their label.

    Raises InvalidData where frames lie on no slice, segments have no label, or two labels meet in one pixel.
    """
    header = read_header(segmentation)
    check_pixels(header)
    shape = int(header.Rows), int(header.Columns)
    if shape != series.images[0].shape:
        raise InvalidData(
            f"has {shape[1]} x {shape[0]} pixels, its series {series.images[0].shape[1]} x {series.images[0].shape[0]}"
        )
    frames, notes = _decoded_frames(segmentation, header)
    labels = np.zeros((len(series.images), *shape), np.uint8)
    for number, (frame, about) in enumerate(zip(frames, _frames(header), strict=True), 1):
        place = series.number_of(_source(about), _position(about))
        if place is None:
            raise InvalidData(f"has a frame ({number}) that lies on no slice of its series")
        _check_orientation(about, header, series)
        for segment, mask in _segments(frame, about, header):
            _draw(labels[place], mask, segment, dict(classes))
    return labels, notes


def _decoded_frames(path: Path, header: Any) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return [frames, rows, columns]: bits, fractions above half as bits, or the numbers of segments."""
    stored = dicom.decoded(read_dataset(path))
    frames = stored[None] if stored.ndim == 2 else stored
    if len(frames) != len(_frames(header)):
        raise InvalidData(f"holds {len(frames)} frames and describes {len(_frames(header))}; replace it")
    if text(header, "SegmentationType") != "FRACTIONAL":
        return frames, ()
    most = numbers(header, "MaximumFractionalValue", 1) or (255.0,)
    return frames > most[0] / 2, ("mask: fractions of a DICOM-SEG, foreground is what exceeds a half",)


def _position(frame: Any) -> tuple[float, ...]:
    for plane in frame.get("PlanePositionSequence") or ():
        return numbers(plane, "ImagePositionPatient", 3)
    return ()


def _check_orientation(frame: Any, header: Any, series: Series) -> None:
    """Raise InvalidData where a frame is turned against its series."""
    shared = [*(header.get("SharedFunctionalGroupsSequence") or ()), frame]
    planes = [plane for group in shared for plane in group.get("PlaneOrientationSequence") or ()]
    for plane in planes:
        turned = np.subtract(numbers(plane, "ImageOrientationPatient", 6), series.images[0].orientation)
        if np.abs(turned).max() > PARALLEL:
            raise InvalidData("is turned against its series (ImageOrientationPatient); resample it onto the series")


def _segments(frame: NDArray[Any], about: Any, header: Any) -> Iterable[tuple[int, NDArray[np.bool_]]]:
    """Yield the numbers of the segments in a frame with their masks."""
    if text(header, "SegmentationType") == "LABELMAP":
        yield from ((int(segment), frame == segment) for segment in np.unique(frame) if segment)
        return
    groups = [about, *(header.get("SharedFunctionalGroupsSequence") or ())]
    for item in (item for group in groups for item in group.get("SegmentIdentificationSequence") or ()):
        yield int(item.ReferencedSegmentNumber), frame.astype(bool)
        return
    raise InvalidData("has a frame that names no segment; replace it")


def _draw(labels: NDArray[np.uint8], mask: NDArray[np.bool_], segment: int, classes: Mapping[int, int]) -> None:
    """Write the label of a segment into a slice. Raises InvalidData."""
    if not mask.any():
        return
    if segment not in classes:
        known = ", ".join(map(str, sorted(classes)))
        raise InvalidData(f"holds the segment {segment}; labels are known of {known} (data.num_classes, data.labels)")
    label = classes[segment]
    taken = (labels[mask] != 0) & (labels[mask] != label)
    if label and taken.any():
        raise InvalidData(
            f"has {int(taken.sum())} pixels in two segments of different labels; give both one label (data.labels), or"
            " leave one out by the label 0"
        )
    if label:
        labels[mask] = label
