"""Voxels of NIfTI-1 files (.nii, .nii.gz), read by the header's own description; orientation and spacing are not used.

Layout of the header: Cox et al. 2004, nifti1.h.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from pipeline.data.decoding import Faulty

TYPES = (".nii", ".nii.gz")
HEADER, SECOND = 348, 540  # bytes of a header of NIfTI-1 and of NIfTI-2, its first number
LIMIT = 4 * 2**30  # bytes of voxels
NUMBERS = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}


def stem(path: Path) -> str:
    """The file's name without .nii or .nii.gz."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


def read(path: Path) -> NDArray[np.generic]:
    """Voxels [I, J, K] or [I, J, K, C], scaled where the header says so (then float32). Raises Faulty."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _voxels(file)
    except (OSError, EOFError, zlib.error) as error:
        raise Faulty(f"cannot be read ({error}); replace or remove the volume") from None


def _voxels(file: IO[bytes] | gzip.GzipFile) -> NDArray[np.generic]:
    header = file.read(HEADER)
    order = _byte_order(header)
    shape = _shape(struct.unpack_from(f"{order}8h", header, 40))
    dtype = _dtype(order, struct.unpack_from(f"{order}h", header, 70)[0])
    offset, slope, intercept = struct.unpack_from(f"{order}3f", header, 108)
    size = math.prod(shape) * dtype.itemsize
    if size > LIMIT:
        raise Faulty(f"claims {size / 2**30:.1f} GiB of voxels; crop it to less than {LIMIT // 2**30}")
    file.read(int(offset) - HEADER if HEADER <= offset < 2**20 else 4)
    content = file.read(size)
    if len(content) < size:
        raise Faulty(f"holds {len(content)} bytes of voxels, its header tells of {size}; it is cut off: replace it")
    voxels = np.frombuffer(content, dtype).reshape(shape, order="F")
    if slope == 0 or not math.isfinite(slope) or (slope == 1 and intercept == 0):  # 0: not scaled
        return voxels
    return voxels.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _byte_order(header: bytes) -> str:
    if len(header) < HEADER:
        raise Faulty(f"has {len(header)} bytes, too few for a NIfTI file")
    for order in "<>":
        size = struct.unpack_from(f"{order}i", header)[0]
        if size == SECOND:
            raise Faulty("is a NIfTI-2 file; save it as NIfTI-1")
        if size == HEADER:
            if header[344:347] != b"n+1":
                raise Faulty("is no single NIfTI-1 file (.hdr with .img?); save it as .nii.gz")
            return order
    raise Faulty("is no NIfTI file")


def _shape(dim: tuple[int, ...]) -> tuple[int, ...]:
    """Three or four axes; further ones of length 1 are dropped."""
    shape = dim[1 : dim[0] + 1]
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if not 3 <= len(shape) <= 4 or min(shape) < 1:
        raise Faulty(f"has the axes {list(shape)}; a volume has three, with channels four")
    return shape


def _dtype(order: str, code: int) -> np.dtype[np.generic]:
    if code not in NUMBERS:
        raise Faulty(f"holds numbers of type {code}; save it as integers or floats")
    return np.dtype(f"{order}{NUMBERS[code]}")
