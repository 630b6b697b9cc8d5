"""Memory: what a header claims is not believed; a child with little memory refuses bombs, each in one line."""

import gzip
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests import data_folders
from tests.conftest import REPOSITORY
from tests.drawn_pairs import picture, save
from tests.faults.tally import count
from tests.patience import HUNG

pytestmark = pytest.mark.faults
ROOM = 700 * 2**20  # bytes of address space beyond what the imports take
CLAIMED = 100 * 2**20  # bytes of memory that refusing a mere claim may take

CHILD = """
import json, resource, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from pipeline.data import nifti
from pipeline.data.decoding import InvalidData, read_image, read_mask

def size(field):
    return int(next(l for l in open("/proc/self/status") if l.startswith(field)).split()[1]) * 1024

resource.setrlimit(resource.RLIMIT_AS, (size("VmSize") + %d, resource.RLIM_INFINITY))
before, told = size("VmHWM"), {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    for read in [nifti.read] if ".nii" in path.name else [read_image, read_mask]:
        try:
            read(path)
            told[path.name] = ["read", 0]
        except InvalidData as fault:
            told[path.name] = [str(fault)[:200], size("VmHWM") - before]
print(json.dumps(told))
"""


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def claimed_png(width: int, height: int, content: bytes = b"", *more: bytes) -> bytes:
    """A PNG whose header claims so many pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def unfolding(folder: Path) -> None:
    """Files of a few megabytes that truly unfold to more than there is room for."""
    zeros = zlib.compress(bytes(8 * 2**20), 9)
    small = bytearray(data_folders.nifti(folder / "x.nii", np.zeros((3, 4, 5), np.int16)).read_bytes())
    (folder / "x.nii").unlink()
    row = b"\0" + bytes(3 * 9400)
    (folder / "unfolds_to_more_than_there_is.png").write_bytes(claimed_png(9400, 9400, zlib.compress(row * 9400, 1)))
    (folder / "text_unfolds.png").write_bytes(
        claimed_png(8, 8, zlib.compress(bytes(8 * 25)), *[chunk(b"zTXt", b"Comment\0\0" + zeros)] * 20)
    )
    (folder / "profile_unfolds.png").write_bytes(
        claimed_png(8, 8, zlib.compress(bytes(8 * 25)), chunk(b"iCCP", b"p\0\0" + zeros))
    )
    struct.pack_into("<4h", small, 40, 3, 1024, 1024, 400)
    with gzip.open(folder / "unfolds_to_gigabytes.nii.gz", "wb", compresslevel=1) as file:
        file.write(small[:352])
        for _ in range(40):
            file.write(bytes(20 * 2**20))
    sparse = folder / "sparse.nii"  # 800 megabytes on paper, none on disk
    with sparse.open("wb") as file:
        file.write(small[:352])
        file.truncate(352 + 2 * 1024 * 1024 * 400)


def claiming(folder: Path) -> None:
    """Small files that claim gigabytes to terabytes."""
    (folder / "claims_a_billion_pixels.png").write_bytes(claimed_png(31623, 31623))
    (folder / "claims_four_billion_squared.png").write_bytes(claimed_png(2**31 - 1, 2**31 - 1))
    (folder / "unfolds_to_a_billion_pixels.png").write_bytes(
        claimed_png(40_000, 30_000, zlib.compress(bytes(2**24), 9))
    )
    save(folder / "claims.jpg", picture("bomb"))
    jpeg = bytearray((folder / "claims.jpg").read_bytes())
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 65535, 65535)
    (folder / "claims.jpg").write_bytes(jpeg)
    save(folder / "claims.bmp", picture("bomb"))
    bmp = bytearray((folder / "claims.bmp").read_bytes())
    bmp[18:26] = struct.pack("<ii", 100_000, 100_000)
    (folder / "claims.bmp").write_bytes(bmp)
    (folder / "claims.gif").write_bytes(b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b";")
    (folder / "claims.tif").write_bytes(claimed_tiff(200_000, 200_000))
    (folder / "claims_colours.tif").write_bytes(claimed_tiff(200_000, 200_000, 3))
    (folder / "claims_strips.tif").write_bytes(claimed_tiff(200, 200, 3, 2**31))
    volumes(folder)


def claimed_tiff(width: int, height: int, samples: int = 1, strips: int = 8) -> bytes:
    tags = [
        (256, width),
        (257, height),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, strips),
        (277, samples),
        (278, height),
        (279, 10),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4)


def volumes(folder: Path) -> None:
    small = bytearray(data_folders.nifti(folder / "x.nii", np.zeros((3, 4, 5), np.int16)).read_bytes())
    (folder / "x.nii").unlink()
    shapes = {
        "terabytes": (4, 32767, 32767, 32767, 32767),
        "gigabytes": (3, 1024, 1024, 1000),
        "below_nothing": (3, -1, 4, 5),
    }
    for name, shape in shapes.items():
        content = small.copy()
        struct.pack_into(f"<{len(shape)}h", content, 40, *shape)
        (folder / f"claims_{name}.nii").write_bytes(content)
        (folder / f"claims_{name}.nii.gz").write_bytes(gzip.compress(content))


@pytest.mark.parametrize("bombs", [claiming, pytest.param(unfolding, marks=pytest.mark.slow)])
def test_bombs_are_refused_within_little_memory(tmp_path: Path, bombs: Callable[[Path], None]) -> None:
    bombs(tmp_path)
    tried = len(list(tmp_path.iterdir()))
    done = subprocess.run(
        [sys.executable, "-c", CHILD % ROOM, str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=HUNG,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told: dict[str, tuple[str, int]] = json.loads(done.stdout)
    count("malformed", tried)
    assert len(told) == tried
    read = {name for name, (text, _) in told.items() if text == "read"}
    assert read <= {"profile_unfolds.png"}  # without its profile
    assert all(peak < CLAIMED for name, (_, peak) in told.items() if name.startswith("claims")), told
    assert not any(str(tmp_path) in text for text, _ in told.values())
