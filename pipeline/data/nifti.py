"""NIfTI-1 files (.nii, .nii.gz): voxels as the header describes them, their affine, and encoding.

Layout of the header: Cox et al. 2004, nifti1.h.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import IO, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.data.decoding import InvalidData, decoder_message

T = TypeVar("T")
TYPES = (".nii", ".nii.gz")
HEADER, HEADER_2 = 348, 540  # bytes of a header of NIfTI-1 and of NIfTI-2, its first number
LIMIT = 4 * 2**30  # bytes of voxels
PART = 2**24  # bytes read at once
SFORM, QFORM = 254, 252  # offsets of the codes in the header; 0: there is no such affine
MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # unit of the header: unknown, m, mm, um
LEVEL = 4  # of compression
NUMBERS = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}


def stem(path: PurePath) -> str:
    """Return the name of a file without .nii or .nii.gz."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


def read(path: Path) -> NDArray[np.generic]:
    """Return voxels [I, J, K] or [I, J, K, C], scaled if the header says so (then float32). Raises InvalidData."""
    return _read(path, _voxels)


def read_shape(path: Path) -> tuple[int, ...]:
    """Return the shape [I, J, K] or [I, J, K, C] from the header alone. Raises InvalidData."""
    return _read(path, lambda file: _shape_of(file.read(HEADER)))


def read_affine(path: Path) -> NDArray[np.float64]:
    """Return [4, 4] from voxel indices to mm (right, front, top). Raises InvalidData if there is no spacing."""
    return _read(path, _affine)


def encode(voxels: NDArray[np.generic], affine: NDArray[np.float64] | None) -> bytes:
    """Encode voxels [I, J, K] or [I, J, K, C], uint8 or float32, as .nii.gz; equal volumes give equal bytes."""
    affine = np.eye(4) if affine is None else affine
    header = bytearray(HEADER + 4)
    struct.pack_into("<i", header, 0, HEADER)
    axes = [voxels.ndim, *voxels.shape, *(1 for _ in range(7 - voxels.ndim))]
    struct.pack_into("<8h", header, 40, *axes)
    code = next(code for code, kind in NUMBERS.items() if np.dtype(kind) == voxels.dtype)
    struct.pack_into("<2h", header, 70, code, 8 * voxels.dtype.itemsize)
    struct.pack_into("<8f", header, 76, 1.0, *spacing(affine), 1.0, 0.0, 0.0, 0.0)
    struct.pack_into("<3f", header, 108, HEADER + 4, 1.0, 0.0)
    header[123] = 2  # mm
    struct.pack_into("<h", header, SFORM, 1)
    struct.pack_into("<12f", header, 280, *affine[:3].ravel())
    header[344:348] = b"n+1\0"
    return gzip.compress(bytes(header) + voxels.tobytes(order="F"), LEVEL, mtime=0)


def spacing(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the distance in mm of neighbouring voxels along the three axes."""
    x, y, z = np.sqrt((affine[:3, :3] ** 2).sum(0)).tolist()
    return x, y, z


def _read(path: Path, parse: Callable[[IO[bytes] | gzip.GzipFile], T]) -> T:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return parse(file)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidData(f"cannot be read ({decoder_message(error)}); replace or remove the volume") from None
    except MemoryError:
        raise InvalidData("needs more memory than is available; crop it") from None


def _affine(file: IO[bytes] | gzip.GzipFile) -> NDArray[np.float64]:
    """Return the affine by the sform of the header, else its qform, else its spacing alone (axes as stored)."""
    header = file.read(HEADER)
    order = _byte_order(header)
    pixdim = struct.unpack_from(f"{order}8f", header, 76)
    affine = np.eye(4)
    if struct.unpack_from(f"{order}h", header, SFORM)[0] > 0:
        affine[:3] = np.reshape(struct.unpack_from(f"{order}12f", header, 280), (3, 4))
    elif struct.unpack_from(f"{order}h", header, QFORM)[0] > 0:
        numbers = struct.unpack_from(f"{order}6f", header, 256)
        affine[:3, :3] = _rotation(*numbers[:3]) * np.array(pixdim[1:4])
        affine[:3, 2] *= -1 if pixdim[0] < 0 else 1
        affine[:3, 3] = numbers[3:]
    else:
        affine[:3, :3] = np.diag(pixdim[1:4])
    affine[:3] *= MM.get(header[123] & 7, 1.0)
    if not np.isfinite(affine).all() or min(spacing(affine)) <= 0 or abs(np.linalg.det(affine)) < 1e-12:
        sides = ", ".join(f"{value:g}" for value in pixdim[1:4])
        raise InvalidData(
            f"has no spacing in its header (pixdim {sides}); write the size of a voxel in mm into its header"
        )
    return affine


def _rotation(b: float, c: float, d: float) -> NDArray[np.float64]:
    """Return the rotation matrix of a unit quaternion whose first number is not stored."""
    a = math.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )


def _voxels(file: IO[bytes] | gzip.GzipFile) -> NDArray[np.generic]:
    header = file.read(HEADER)
    order, shape = _byte_order(header), _shape_of(header)
    dtype = _dtype(order, struct.unpack_from(f"{order}h", header, 70)[0])
    offset, slope, intercept = struct.unpack_from(f"{order}3f", header, 108)
    size = math.prod(shape) * dtype.itemsize
    if size > LIMIT:
        raise InvalidData(f"claims {size / 2**30:.1f} GiB of voxels; crop it to less than {LIMIT // 2**30}")
    file.read(int(offset) - HEADER if HEADER <= offset < 2**20 else 4)
    content = _read_bytes(file, size)
    if len(content) < size:
        raise InvalidData(
            f"holds {len(content)} bytes of voxels, but its header states {size}; it is truncated: replace it"
        )
    voxels = np.frombuffer(content, dtype).reshape(shape, order="F")
    if slope == 0 or not math.isfinite(slope) or (slope == 1 and intercept == 0):  # 0: not scaled
        return voxels
    return voxels.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _read_bytes(file: IO[bytes] | gzip.GzipFile, size: int) -> bytearray:
    """Read at most `size` bytes; memory is allocated for the bytes that exist, not for those that a header claims."""
    content = bytearray()
    while len(content) < size and (part := file.read(min(size - len(content), PART))):
        content += part
    return content


def _byte_order(header: bytes) -> str:
    if len(header) < HEADER:
        raise InvalidData(f"has {len(header)} bytes, too few for a NIfTI file")
    for order in "<>":
        size = struct.unpack_from(f"{order}i", header)[0]
        if size == HEADER_2:
            raise InvalidData("is a NIfTI-2 file; save it as NIfTI-1")
        if size == HEADER:
            if header[344:347] != b"n+1":
                raise InvalidData("is not a single NIfTI-1 file (.hdr with .img?); save it as .nii.gz")
            return order
    raise InvalidData("is not a NIfTI file")


def _shape_of(header: bytes) -> tuple[int, ...]:
    return _parse_shape(struct.unpack_from(f"{_byte_order(header)}8h", header, 40))


def _parse_shape(dim: tuple[int, ...]) -> tuple[int, ...]:
    """Return three or four axes; further ones of length 1 are dropped."""
    shape = dim[1 : dim[0] + 1] if 0 <= dim[0] <= 7 else ()
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if not 3 <= len(shape) <= 4 or min(shape) < 1:
        raise InvalidData(f"has the axes {list(shape)}; a volume has three, or four with channels")
    return shape


def _dtype(order: str, code: int) -> np.dtype[np.generic]:
    if code not in NUMBERS:
        raise InvalidData(f"holds numbers of type {code}; save it as integers or floats")
    return np.dtype(f"{order}{NUMBERS[code]}")
