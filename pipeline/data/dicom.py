"""Images of DICOM files of one frame: intensities in the file's units, and the window that the file states.

Source: DICOM PS3.3 (C.11.1 rescale, C.11.2 windows).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.dicom_checks import DECOMPRESS, GREY, check_header
from pipeline.data.dicom_elements import numbers, read_dataset, read_header, silent, text
from pipeline.data.invalid import InvalidData
from pipeline.data.picture_rules import Pixels, windowed

LINEAR, EXACT = "LINEAR", "LINEAR_EXACT"  # VOI LUT functions that are windows
Window = tuple[float, float]  # intensities that become black and white


@dataclass(frozen=True)
class Plane:
    """One decoded frame: grey intensities in the file's units, or colours, with the window that the file states."""

    values: NDArray[np.float32]  # [H, W]; empty for colours
    colours: Pixels | None  # [3, H, W]
    window: "StatedWindow | None"  # of the file
    inverted: bool  # MONOCHROME1: low intensities are bright

    def grey(self, window: Window) -> Pixels:
        """Return grey levels [H, W] through a window, bright as the file means them."""
        levels = windowed(self.values, window)
        return 255 - levels if self.inverted else levels


def read_plane(path: Path) -> Plane:
    """Return the frame of a file of one frame. Raises InvalidData with the command that converts what is not read."""
    header = read_header(path)
    check_header(header)
    dataset = read_dataset(path)
    photometric = text(header, "PhotometricInterpretation")
    if photometric not in GREY:
        return Plane(np.zeros((0, 0), np.float32), _colours(dataset, photometric), None, False)
    values = _values(dataset)
    return Plane(values, None, window_of(header), photometric == "MONOCHROME1")


def read_picture(path: Path, window: Window | None = None) -> tuple[Pixels, list[str]]:
    """Return colours [3, H, W] through the window that is stated, else the file's; and notes. Raises InvalidData."""
    plane = read_plane(path)
    if plane.colours is not None:
        return plane.colours, ["image: DICOM"]
    chosen = window or (plane.window and plane.window.limits())
    if chosen is None:
        raise InvalidData(
            "is a DICOM file without a window; state which values are black and white (data.picture_window: [0, 4095])"
        )
    said = "stated" if window else "of the file"
    inverted = ", MONOCHROME1 inverted" if plane.inverted else ""
    return np.stack([plane.grey(chosen)] * 3), [f"image: DICOM, window {said}{inverted}"]


def read_size(path: Path) -> tuple[int, int]:
    """Return width and height of the one frame of a file. Raises InvalidData."""
    header = read_header(path)
    check_header(header)
    return int(header.Columns), int(header.Rows)


@dataclass(frozen=True)
class StatedWindow:
    """A window as a file states it, which may be one that cannot be used."""

    function: str
    centre: float
    width: float

    def limits(self) -> Window:
        """Return the values that become black and white. Raises InvalidData where the window cannot be used."""
        if self.function not in (LINEAR, EXACT):
            raise InvalidData("has a window that is not linear (VOILUTFunction); state a window instead")
        if self.width <= (1 if self.function == LINEAR else 0):
            raise InvalidData(f"has a window of width {self.width:g}; state a window instead")
        if self.function == EXACT:
            return self.centre - self.width / 2, self.centre + self.width / 2
        return self.centre - 0.5 - (self.width - 1) / 2, self.centre - 0.5 + (self.width - 1) / 2


def window_of(header: Any) -> StatedWindow | None:
    """Return the first window that the file states; None without one."""
    centres, widths = (numbers(header, key, 0) for key in ("WindowCenter", "WindowWidth"))
    if not centres or not widths:
        return None
    return StatedWindow(text(header, "VOILUTFunction") or LINEAR, centres[0], widths[0])


def decoded(dataset: Any) -> NDArray[Any]:
    """Return the stored pixels of a data set, YBR as RGB. Raises InvalidData."""
    from pydicom.pixels import pixel_array

    with silent():
        try:
            return pixel_array(dataset)
        except MemoryError:
            raise InvalidData("needs more memory than there is") from None
        except Exception as error:  # noqa: BLE001, what damaged pixels raise is up to pydicom and its decoders
            raise InvalidData(
                f"holds pixels that cannot be decoded ({type(error).__name__}); it is damaged, or try {DECOMPRESS}"
            ) from None


def _values(dataset: Any) -> NDArray[np.float32]:
    """Return intensities [H, W] after slope and intercept; bits beyond those stored (overlays) are cut off."""
    stored = decoded(dataset).astype(np.int64)
    bits = int(dataset.get("BitsStored") or dataset.BitsAllocated)
    stored &= (1 << bits) - 1
    if int(dataset.get("PixelRepresentation") or 0):
        stored -= (stored >> (bits - 1)) << bits
    slope, intercept = numbers(dataset, "RescaleSlope", 1), numbers(dataset, "RescaleIntercept", 1)
    return (stored * (slope or (1.0,))[0] + (intercept or (0.0,))[0]).astype(np.float32)


def _colours(dataset: Any, photometric: str) -> Pixels:
    """Return [3, H, W] of 8 bits. Raises InvalidData."""
    from pydicom.pixels import apply_color_lut

    if int(dataset.BitsAllocated) != 8 and photometric != "PALETTE COLOR":
        raise InvalidData("is a DICOM file of colours with more than 8 bits, and 8 are read; save it with 8")
    stored = decoded(dataset)
    if photometric == "PALETTE COLOR":
        table = apply_color_lut(stored, dataset)
        stored = (table >> 8 if table.dtype == np.uint16 else table).astype(np.uint8)
    return np.moveaxis(np.asarray(stored, np.uint8)[..., :3], -1, 0)
