"""DICOM files written by pydicom: images of one or more frames, series of slices, segmentations."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT = "1.2.840.10008.5.1.4.1.1.2"
BITS, LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
AXIAL = [1, 0, 0, 0, 1, 0]
Pixels = NDArray[Any]


def uid(name: str) -> str:
    """The same identifier for the same name."""
    return generate_uid(entropy_srcs=[name])


def dataset(path: Path, kind: str = CT, **elements: Any) -> FileDataset:
    """A data set without pixels; elements that are None are left out."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = kind, elements.pop("syntax", ExplicitVRLittleEndian)
    meta.MediaStorageSOPInstanceUID = elements.get("SOPInstanceUID", uid(str(path)))
    found = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    defaults = {
        "SOPClassUID": kind,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": uid("study"),
        "SeriesInstanceUID": uid("series"),
        "PatientID": "12345",
        "PatientName": "Musterfrau^Erika",
    }
    for keyword, value in {**defaults, **elements}.items():
        if value is not None:
            setattr(found, keyword, value)
    return found


def describe(found: FileDataset, pixels: Pixels) -> FileDataset:
    """Adds pixels [H, W], [H, W, 3], or with frames before these, and the elements that describe them."""
    colours = pixels.shape[-1] == 3 and pixels.ndim > 2
    frames = pixels.shape[0] if pixels.ndim - colours == 3 else 1
    found.Rows, found.Columns = pixels.shape[-3:-1] if colours else pixels.shape[-2:]
    found.SamplesPerPixel = 3 if colours else 1
    if colours:
        found.PlanarConfiguration = 0
    if "PhotometricInterpretation" not in found:
        found.PhotometricInterpretation = "RGB" if colours else "MONOCHROME2"
    if frames > 1:
        found.NumberOfFrames = frames
    bits = 8 * pixels.itemsize
    found.BitsAllocated = bits
    if "BitsStored" not in found:
        found.BitsStored = bits
    found.HighBit, found.PixelRepresentation = found.BitsStored - 1, int(pixels.dtype.kind == "i")
    found.PixelData = pixels.tobytes()
    return found


def write(path: Path, pixels: Pixels, **elements: Any) -> Path:
    """One image with a window of the values 0 to 100, unless other elements are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    window = {"WindowCenter": 50.5, "WindowWidth": 101}
    describe(dataset(path, **{**window, **elements}), pixels).save_as(path, enforce_file_format=True)
    return path


def series(
    folder: Path,
    volume: NDArray[np.int16],
    name: str = "series",
    spacing: Sequence[float] = (2, 0.5, 0.25),
    **elements: Any,
) -> list[Path]:
    """A series of [slices, rows, columns] in HU; `spacing` is of slices, rows, columns in mm. Names are in no order."""
    paths = []
    for number, plane in enumerate(volume):
        about = {
            "SeriesInstanceUID": uid(name),
            "SOPInstanceUID": uid(f"{name} {number}"),
            "StudyInstanceUID": uid(f"study of {name}"),
            "ImagePositionPatient": [-10, -20, 5 + spacing[0] * number],
            "ImageOrientationPatient": AXIAL,
            "PixelSpacing": list(spacing[1:]),
            "RescaleSlope": 1,
            "RescaleIntercept": -1024,
            "WindowCenter": 40,
            "WindowWidth": 400,
        }
        path = folder / f"{(7 * number) % len(volume):03d}_{uid(f'{name} {number}')[-6:]}"
        paths.append(write(path, (plane.astype(np.int32) + 1024).astype(np.uint16), **{**about, **elements}))
    return paths


def segmentation(
    path: Path,
    segments: Mapping[int, Pixels],
    name: str = "series",
    by: str = "image",
    kind: str = "BINARY",
    **elements: Any,
) -> Path:
    """Segments [slices, rows, columns] of a series, one frame for each slice that they are on.

    `by` is how a frame names its slice: "image" or "position".
    """
    frames = [(number, k, mask[k]) for number, mask in segments.items() for k in range(len(mask)) if mask[k].any()]
    found = dataset(path, BITS, SegmentationType=kind, SeriesInstanceUID=uid(f"of {name}"), **elements)
    reference = Dataset()
    reference.SeriesInstanceUID = uid(name)
    found.ReferencedSeriesSequence = Items([reference])
    found.PerFrameFunctionalGroupsSequence = Items([_frame(name, number, k, by) for number, k, _ in frames])
    orientation = Dataset()
    orientation.ImageOrientationPatient = elements.get("ImageOrientationPatient", AXIAL)
    shared = Dataset()
    shared.PlaneOrientationSequence = Items([orientation])
    found.SharedFunctionalGroupsSequence = Items([shared])
    stack = np.stack([mask for _, _, mask in frames])
    if kind == "BINARY":
        describe(found, stack.astype(np.uint8))
        found.BitsAllocated, found.BitsStored, found.HighBit = 1, 1, 0
        packed = np.packbits(stack.astype(bool).ravel(), bitorder="little").tobytes()
        found.PixelData = packed + bytes(len(packed) % 2)
    else:
        found.MaximumFractionalValue = 200
        describe(found, stack.astype(np.uint8))
    found.NumberOfFrames = len(frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    found.save_as(path, enforce_file_format=True)
    return path


def label_map(path: Path, labels: Pixels, name: str = "series") -> Path:
    """A label map [slices, rows, columns], a frame for each slice, by position."""
    found = dataset(path, LABEL_MAP, SegmentationType="LABELMAP", SeriesInstanceUID=uid(f"of {name}"))
    reference = Dataset()
    reference.SeriesInstanceUID = uid(name)
    found.ReferencedSeriesSequence = Items([reference])
    found.PerFrameFunctionalGroupsSequence = Items([_frame(name, 0, k, "position") for k in range(len(labels))])
    path.parent.mkdir(parents=True, exist_ok=True)
    describe(found, labels.astype(np.uint8)).save_as(path, enforce_file_format=True)
    return path


def _frame(name: str, segment: int, k: int, by: str) -> Dataset:
    frame = Dataset()
    if segment:
        identified = Dataset()
        identified.ReferencedSegmentNumber = segment
        frame.SegmentIdentificationSequence = Items([identified])
    if by == "image":
        source = Dataset()
        source.ReferencedSOPInstanceUID = uid(f"{name} {k}")
        derivation = Dataset()
        derivation.SourceImageSequence = Items([source])
        frame.DerivationImageSequence = Items([derivation])
    else:
        position = Dataset()
        position.ImagePositionPatient = [-10, -20, 5 + 2 * k]
        frame.PlanePositionSequence = Items([position])
    return frame
