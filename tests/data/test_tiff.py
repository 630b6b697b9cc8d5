"""TIFF: colours that are tagged as grey, planes, byte orders; what is refused, and that the commands convert it."""

import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.decoding import InvalidData, read_image, read_mask
from tests import tiff_files
from tests.drawn_pairs import picture, rectangle, save

COLOURS = np.asarray(picture("tiff"))
PLANES = np.moveaxis(COLOURS, -1, 0)
TAGGED = "image: TIFF tagged as grey, three samples per pixel read as RGB"


@pytest.mark.parametrize("order, big", [("<", False), (">", False), ("<", True)])
@pytest.mark.parametrize("extra", [0, 2])
def test_colours_that_are_tagged_as_grey_are_read_as_colours(
    order: Literal["<", ">"], big: bool, extra: int, tmp_path: Path
) -> None:
    """As the authors of CVC-ClinicDB publish it."""
    path = tiff_files.write(tmp_path / "a.tif", COLOURS, big, order, extra=extra)
    before = path.read_bytes()
    image, notes = read_image(path)
    assert (image == PLANES).all()
    assert notes == [TAGGED]
    assert path.read_bytes() == before


def test_planes_that_are_tagged_as_grey_are_read_as_colours(tmp_path: Path) -> None:
    assert (read_image(tiff_files.write(tmp_path / "a.tif", PLANES, planar=2, extra=2))[0] == PLANES).all()


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate", "packbits"])
def test_compressed_colours_that_are_tagged_as_grey(compression: str, tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", picture("tiff"), compression=compression)
    assert (read_image(path)[0] == PLANES).all()
    content = path.read_bytes()
    tag = struct.pack("<HHI", 262, 3, 1)
    at = content.index(tag) + len(tag)
    assert content[at] == 2
    path.write_bytes(content[:at] + b"\1" + content[at + 1 :])
    image, notes = read_image(path)
    assert (image == PLANES).all()
    assert notes == [TAGGED]


def test_a_grey_mask_of_three_samples_is_read(tmp_path: Path) -> None:
    mask = tiff_files.write(tmp_path / "m.tif", rectangle()[..., None].repeat(3, -1), extra=2)
    assert (read_mask(mask)[0] == rectangle()).all()


def test_a_deep_mask_of_labels_is_still_read(tmp_path: Path) -> None:
    assert (read_mask(tiff_files.write(tmp_path / "m.tif", rectangle(1).astype(np.uint16)))[0] == rectangle(1)).all()


GREY = COLOURS[..., 1]
DEEP = COLOURS.astype(np.uint16) * 257
REFUSED: list[tuple[NDArray[Any], dict[str, Any], str, NDArray[np.uint8]]] = [
    (GREY.astype(np.uint16) * 257, {}, "grey; 1 samples of 16 bits per pixel.*more than 8 bits", GREY),
    (DEEP, {"photometric": 2}, "RGB; 3 samples of 16 bits per pixel.*more than 8 bits", COLOURS),
    (GREY.astype(np.float32) / 255, {}, "1 samples of 32 bits per pixel.*more than 8 bits", GREY),
    (GREY, {"pages": 3}, "holds 3 pages, but only one can be read", GREY),
    (COLOURS, {"photometric": 0, "extra": 2}, "grey, white is zero; 3 samples of 8 bits", COLOURS),
]


@pytest.mark.parametrize("pixels, tags, told, converted", REFUSED)
def test_what_is_refused_names_a_command_that_converts_it(
    pixels: NDArray[Any], tags: dict[str, Any], told: str, converted: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = tiff_files.write(tmp_path / "IN.tif", pixels, **tags)
    with pytest.raises(InvalidData, match=told) as refused:
        read_image(path)
    assert "\n" not in str(refused.value)
    assert str(tmp_path) not in str(refused.value)
    (program,) = re.findall('python -c "(.*)"', str(refused.value))
    program = program.replace("WHITE", "1" if pixels.dtype.kind == "f" else "65535")
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    image, _ = read_image(tmp_path / "OUT.png")
    expected = converted if converted.ndim == 3 else converted[..., None].repeat(3, -1)
    assert (np.moveaxis(image, 0, -1) == expected).all()


def test_unknown_compression_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"compression 34712, which is not read .* tiffcp -c none"):
        read_image(tiff_files.write(tmp_path / "a.tif", COLOURS, photometric=2, compression=34712))


def test_a_file_far_larger_than_its_pixels_is_not_taken_into_memory(tmp_path: Path) -> None:
    path = tiff_files.write(tmp_path / "a.tif", COLOURS)
    with path.open("r+b") as file:
        file.truncate(2**33)  # sparse
    with pytest.raises(InvalidData, match="takes 8192 MiB on disk"):
        read_image(path)


def test_a_claim_of_too_many_pixels_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tiff_files.write(tmp_path / "a.tif", COLOURS)
    content = bytearray(path.read_bytes())
    at = content.index(struct.pack("<HHI", 256, 3, 1))
    struct.pack_into("<HHII", content, at, 256, 4, 1, 2**31)
    path.write_bytes(bytes(content))
    with pytest.raises(InvalidData, match="a decompression bomb"):
        read_image(path)


def test_pages_that_point_at_themselves_are_counted_once(tmp_path: Path) -> None:
    path = tiff_files.write(tmp_path / "a.tif", COLOURS, pages=2)
    content = path.read_bytes()
    (first,) = struct.unpack_from("<I", content, 4)
    (second,) = struct.unpack_from("<I", content, first + 2 + 11 * 12)
    content = bytearray(content)
    struct.pack_into("<I", content, second + 2 + 11 * 12, second)
    path.write_bytes(bytes(content))
    with pytest.raises(InvalidData, match="holds 2 pages"):
        read_image(path)


def test_other_formats_in_disguise_keep_their_messages(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    with pytest.raises(InvalidData, match="no known image format"):
        read_image(tmp_path / "a.tif")
    save(tmp_path / "b.tif", Image.fromarray(COLOURS), format="PNG")
    assert (read_image(tmp_path / "b.tif")[0] == PLANES).all()
