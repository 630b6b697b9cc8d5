"""Headers of TIFF files: what is not read is refused before it is decoded; colours that are tagged as grey are mended.

Pillow decodes the pixels. Source: TIFF 6.0 (Adobe 1992); BigTIFF as libtiff documents it.
"""

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image, TiffImagePlugin

from pipeline.data.invalid import InvalidData

MAGIC = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True)}  # Pillow knows no BigTIFF of order >
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, EXTRA = 256, 257, 258, 259, 262, 277, 338
DEFAULTS = {WIDTH: 0, HEIGHT: 0, BITS: 1, COMPRESSION: 1, PHOTOMETRIC: 0, SAMPLES: 1}
INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # types of the values above
GREY, RGB = 1, 2
KINDS = {0: "grey, white is zero", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "CIELab"}
JPEG = (6, 7)
MOST_VALUES = 16  # of one tag
SCALE = "import cv2; cv2.imwrite('OUT.png', cv2.convertScaleAbs(cv2.imread('IN.tif', -1), alpha=255/WHITE))"
PAGE = "import cv2; cv2.imwrite('OUT.png', cv2.imreadmulti('IN.tif')[1][0])"
COLOURS = "import tifffile, PIL.Image; PIL.Image.fromarray(tifffile.imread('IN.tif')[..., :3]).save('OUT.png')"


@dataclass(frozen=True)
class Header:
    """The first page of a file; `entries` are the raw records of its tags, by tag."""

    order: str  # of bytes, as struct writes it
    big: bool
    entries: dict[int, bytes]
    values: dict[int, tuple[int, ...]]
    pages: int

    def value(self, tag: int) -> int:
        """Return the largest value of a tag of DEFAULTS."""
        return max(self.values.get(tag, ()), default=DEFAULTS[tag])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.value(WIDTH), self.value(HEIGHT)

    @property
    def grey_in_name_only(self) -> bool:
        """Whether the tag says grey where each pixel has three samples of 8 bits, as some programs save colours."""
        said = self.value(PHOTOMETRIC), self.value(SAMPLES), self.value(BITS)
        return said == (GREY, 3, 8) and self.value(COMPRESSION) not in JPEG

    def __str__(self) -> str:
        kind = KINDS.get(self.value(PHOTOMETRIC), f"photometric tag {self.value(PHOTOMETRIC)}")
        return f"TIFF ({kind}; {self.value(SAMPLES)} samples of {self.value(BITS)} bits per pixel)"


def read_header(path: Path) -> Header | None:
    """Return the header of a file, without its pixels; None where it is no TIFF or damaged."""
    with path.open("rb") as file:
        magic = MAGIC.get(file.read(4))
        if magic is None:
            return None
        try:
            return _read(file, *magic)
        except (struct.error, ValueError, OverflowError):
            return None


def check_header(found: Header, kind: str, deep: bool = False) -> None:
    """Refuse pages, more than 8 bits per sample (one grey plane of a mask may have them) and unknown compression.

    `kind` is "image" or "mask"; `deep`: one grey plane of an image may have 16 bits. Raises InvalidData with the
    command that converts the file.
    """
    if found.pages > 1:
        raise InvalidData(
            f"is a TIFF that holds {found.pages} pages, but only one can be read; to take the first: {_command(PAGE)}"
        )
    bits, compression = found.value(BITS), found.value(COMPRESSION)
    may_be_deep = kind == "mask" or (deep and bits == 16)
    if bits > 8 and (not may_be_deep or found.value(SAMPLES) > 2):
        raise InvalidData(
            f"is a {found} with more than 8 bits, which cannot be read; 16 grey bits can with data.picture_window:"
            " [0, WHITE];"
            f" or, with WHITE the value that is to be white: {_command(SCALE)}"
        )
    if compression not in TiffImagePlugin.COMPRESSION_INFO:
        raise InvalidData(
            f"is a {found} of compression {compression}, which is not read "
            "(none, LZW, deflate, PackBits and JPEG are); with libtiff's tools: tiffcp -c none IN.tif OUT.tif"
        )


def refusal(found: Header) -> str:
    """Return why a file whose pixels have no known meaning is not read, and what converts its first three samples."""
    return (
        f"is a {found}, which is not read (grey, palette or RGB, with or without transparency, are); "
        f"if its first three samples are red, green and blue: {_command(COLOURS)}"
    )


def as_rgb(path: Path, found: Header) -> io.BytesIO:
    """Return a file, in memory, whose first page has the photometric tag RGB. Raises InvalidData.

    A second directory of tags is put behind the file; the file on disk stays as it is.
    """
    pixels, size = found.value(WIDTH) * found.value(HEIGHT), path.stat().st_size
    if pixels > (Image.MAX_IMAGE_PIXELS or pixels):
        raise Image.DecompressionBombError
    if size > 6 * pixels + 2**20:  # twice what the pixels take
        raise InvalidData(f"takes {size // 2**20} MiB on disk, more than its {pixels} pixels need; save it again")
    content = bytearray(path.read_bytes())
    content += bytes(-len(content) % 8)
    count, _, offset = _layout(found.order, found.big)
    struct.pack_into(offset, content, 8 if found.big else 4, len(content))
    entries = {tag: entry for tag, entry in found.entries.items() if tag != EXTRA}
    entries[PHOTOMETRIC] = _short(found, PHOTOMETRIC, RGB)
    content += struct.pack(count, len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(8)
    return io.BytesIO(content)


def _command(program: str) -> str:
    return f'python -c "{program}"'


def _layout(order: str, big: bool) -> tuple[str, str, str]:
    """Return the formats of a count of tags, of one tag and of an offset."""
    return (f"{order}Q", f"{order}HHQ8s", f"{order}Q") if big else (f"{order}H", f"{order}HHI4s", f"{order}I")


def _short(found: Header, tag: int, value: int) -> bytes:
    _, record, _ = _layout(found.order, found.big)
    return struct.pack(record, tag, 3, 1, struct.pack(f"{found.order}H", value))


def _read(file: BinaryIO, order: str, big: bool) -> Header:
    _, _, offset = _layout(order, big)
    file.seek(8 if big else 4)
    entries, following = _directory(file, order, big, _unpack(file, offset))
    values = {tag: _values(file, order, entry) for tag, entry in entries.items() if tag in DEFAULTS}
    return Header(order, big, entries, values, 1 + _count(file, order, big, following))


def _directory(file: BinaryIO, order: str, big: bool, start: int) -> tuple[dict[int, bytes], int]:
    """Return the tags at `start` and where the next page's are."""
    count, record, offset = _layout(order, big)
    file.seek(start)
    tags, size = min(_unpack(file, count), 2**16), struct.calcsize(record)
    raw = file.read(tags * size)
    entries = [raw[at : at + size] for at in range(0, tags * size, size)]
    return {struct.unpack_from(f"{order}H", entry)[0]: entry for entry in entries}, _unpack(file, offset)


def _count(file: BinaryIO, order: str, big: bool, start: int) -> int:
    """Return the number of further pages; a chain that returns to itself ends there."""
    count, record, offset = _layout(order, big)
    seen = set[int]()
    while start and start not in seen:
        try:
            file.seek(start)
            file.seek(_unpack(file, count) * struct.calcsize(record), io.SEEK_CUR)
            following = _unpack(file, offset)
        except (struct.error, ValueError, OverflowError, OSError):
            break  # no page there
        seen.add(start)
        start = following
    return len(seen)


def _values(file: BinaryIO, order: str, entry: bytes) -> tuple[int, ...]:
    """Return the integers of one tag. Raises struct.error."""
    _, kind, count, content = struct.unpack(_layout(order, len(entry) == 20)[1], entry)
    if kind not in INTEGERS or not 0 < count <= MOST_VALUES:
        return ()
    form = f"{order}{count}{INTEGERS[kind]}"
    if struct.calcsize(form) > len(content):
        file.seek(struct.unpack(f"{order}{'Q' if len(content) == 8 else 'I'}", content)[0])
        content = file.read(struct.calcsize(form))
    return struct.unpack_from(form, content)


def _unpack(file: BinaryIO, form: str) -> int:
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]
