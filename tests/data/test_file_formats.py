"""Every row of the table of file formats in docs/your_own_data.md, with files that other libraries wrote."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from pipeline.data import nifti
from pipeline.data.decoding import FORMATS, IMAGE_TYPES, InvalidData, read_image, read_mask
from pipeline.data.labels import label_map
from tests.conftest import REPOSITORY
from tests.drawn_pairs import HEIGHT, WIDTH, picture, rectangle

COLOURS = np.asarray(picture("formats"))
PLANES = np.moveaxis(COLOURS, -1, 0)
GREY = COLOURS[..., 1]
MASK = rectangle()
LABELS = rectangle(1) + rectangle(1)[::-1, ::-1] * 2
BGR = np.ascontiguousarray(COLOURS[..., ::-1])
OPAQUE = np.full((HEIGHT, WIDTH), 99, np.uint8)
TABLE = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)


def by_opencv(pixels: np.ndarray, *options: int) -> Callable[[Path], None]:
    return lambda path: cv2.imwrite(str(path), pixels, options) or pytest.fail("not written")


def by_tifffile(pixels: np.ndarray, **options: Any) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, pixels, **options)


def by_pillow(pixels: np.ndarray, mode: str | None = None, **options: Any) -> Callable[[Path], None]:
    image = Image.fromarray(pixels)
    return lambda path: (image if mode is None else image.convert(mode)).save(path, **options)


def with_palette(path: Path) -> None:
    image = Image.fromarray(LABELS, "P")
    image.putpalette(TABLE.ravel().tolist())
    image.save(path)


DROPPED = ["image: transparency dropped"]
IMAGES: dict[str, tuple[str, Callable[[Path], None], np.ndarray, list[str]]] = {
    "PNG colours": ("a.png", by_opencv(BGR), PLANES, []),
    "PNG grey": ("a.png", by_opencv(GREY), np.stack([GREY] * 3), []),
    "PNG one bit": ("a.png", by_pillow(MASK > 0), np.stack([MASK] * 3), []),
    "PNG colours and transparency": ("a.png", by_opencv(np.dstack([BGR, OPAQUE])), PLANES, DROPPED),
    "PNG grey and transparency": ("a.png", by_pillow(np.dstack([GREY, OPAQUE])), np.stack([GREY] * 3), DROPPED),
    "PNG palette": ("a.png", with_palette, np.moveaxis(TABLE[LABELS], -1, 0), []),
    "BMP colours": ("a.bmp", by_opencv(BGR), PLANES, []),
    "BMP grey, which is a palette": ("a.bmp", by_opencv(GREY), np.stack([GREY] * 3), []),
    "WebP": ("a.webp", by_opencv(BGR, cv2.IMWRITE_WEBP_QUALITY, 101), PLANES, []),  # above 100: without loss
    "GIF": ("a.gif", by_pillow(MASK), np.stack([MASK] * 3), []),
    "TIFF colours, LZW": ("a.tif", by_opencv(BGR), PLANES, []),
    "TIFF colours, deflate": ("a.tif", by_tifffile(COLOURS, photometric="rgb", compression="zlib"), PLANES, []),
    "TIFF colours, PackBits": ("a.tif", by_pillow(COLOURS, compression="packbits"), PLANES, []),
    "TIFF plane by plane": ("a.tif", by_tifffile(PLANES, photometric="rgb", planarconfig="separate"), PLANES, []),
    "TIFF colours tagged as grey": (
        *("a.tif", by_tifffile(COLOURS, photometric="minisblack", planarconfig="contig"), PLANES),
        ["image: TIFF tagged as grey, three samples per pixel read as RGB"],
    ),
    "TIFF colours and transparency": (
        *("a.tif", by_tifffile(np.dstack([COLOURS, OPAQUE]), photometric="rgb", extrasamples=["unassalpha"])),
        *(PLANES, DROPPED),
    ),
    "TIFF grey, white is zero": ("a.tif", by_tifffile(GREY, photometric="miniswhite"), np.stack([255 - GREY] * 3), []),
    "TIFF tiles": ("a.tif", by_tifffile(GREY, tile=(16, 16)), np.stack([GREY] * 3), []),
    "TIFF of 64 bits": ("a.tif", by_tifffile(COLOURS, photometric="rgb", bigtiff=True), PLANES, []),
    "TIFF palette": (
        "a.tif",
        by_tifffile(LABELS, photometric="palette", colormap=np.resize(TABLE.T.astype(np.uint16) * 257, (3, 256))),
        np.moveaxis(np.resize(TABLE.T, (3, 256)).T[LABELS], -1, 0),
        [],
    ),
}


@pytest.mark.parametrize("name, write, expected, notes", IMAGES.values(), ids=IMAGES)
def test_images_are_read_exactly(
    name: str, write: Callable[[Path], None], expected: np.ndarray, notes: list[str], tmp_path: Path
) -> None:
    write(tmp_path / name)
    pixels, found = read_image(tmp_path / name)
    assert (pixels == expected).all()
    assert found == notes


def test_jpeg_is_read_as_opencv_reads_it(tmp_path: Path) -> None:
    by_opencv(BGR, cv2.IMWRITE_JPEG_QUALITY, 90)(tmp_path / "a.jpg")
    pixels, notes = read_image(tmp_path / "a.jpg")
    theirs = cv2.imread(str(tmp_path / "a.jpg"))[..., ::-1]
    assert np.abs(np.moveaxis(pixels, 0, -1).astype(int) - theirs).max() <= 4  # rounding of two decoders
    assert notes == []


MASKS: dict[str, tuple[str, Callable[[Path], None], int, list[str]]] = {
    "PNG 0 and 255": ("m.png", by_opencv(MASK), 2, []),
    "PNG labels": ("m.png", by_opencv(LABELS), 3, []),
    "PNG indices of a palette": ("m.png", with_palette, 3, []),
    "PNG labels of 16 bits": ("m.png", by_opencv(LABELS.astype(np.uint16)), 3, []),
    "PNG grey stored as colours": ("m.png", by_opencv(np.dstack([MASK] * 3)), 2, []),
    "PNG with transparency": (
        *("m.png", by_opencv(np.dstack([MASK, MASK, MASK, OPAQUE])), 2),
        ["mask: transparency dropped"],
    ),
    "BMP of one bit": ("m.bmp", by_pillow(MASK > 0), 2, []),
    "BMP of 24 bits": ("m.bmp", by_opencv(np.dstack([MASK] * 3)), 2, []),
    "TIFF": ("m.tif", by_tifffile(LABELS), 3, []),
    "TIFF of 16 bits": ("m.tif", by_tifffile(LABELS.astype(np.uint16)), 3, []),
    "GIF": ("m.gif", by_pillow(MASK), 2, []),
    "JPEG": (
        *("m.jpg", by_opencv(MASK, cv2.IMWRITE_JPEG_QUALITY, 60), 2),
        ["mask: grey levels, foreground is what exceeds 127"],
    ),
}


@pytest.mark.parametrize("name, write, classes, notes", MASKS.values(), ids=MASKS)
def test_masks_are_read_exactly(
    name: str, write: Callable[[Path], None], classes: int, notes: list[str], tmp_path: Path
) -> None:
    write(tmp_path / name)
    values, found = read_mask(tmp_path / name)
    labels, remarks = label_map(values, classes)
    assert (labels == (MASK > 0 if classes == 2 else LABELS)).all()
    assert [*found, *remarks] == notes


def frames(path: Path) -> None:
    Image.fromarray(COLOURS).save(path, save_all=True, append_images=[Image.fromarray(COLOURS[::-1].copy())])


REFUSED: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "PNG of 16 grey bits": (
        "a.png",
        by_opencv(GREY.astype(np.uint16) * 257),
        r"more than 8 bits.*data\.picture_window",
    ),
    "WebP of two frames": ("a.webp", frames, "holds 2 frames"),
    "GIF of two frames": ("a.gif", frames, "holds 2 frames"),
    "TIFF of three pages": ("a.tif", by_tifffile(np.stack([GREY] * 3), photometric="minisblack"), "holds 3 pages"),
    "TIFF of floats": ("a.tif", by_tifffile(GREY.astype(np.float32)), "more than 8 bits"),
    "TIFF of 16-bit colours": ("a.tif", by_tifffile(COLOURS.astype(np.uint16), photometric="rgb"), "more than 8 bits"),
}


@pytest.mark.parametrize("name, write, named", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_says_what_it_is(name: str, write: Callable[[Path], None], named: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    with pytest.raises(InvalidData, match=named):
        read_image(tmp_path / name)


@pytest.mark.parametrize("pixels", [BGR, np.dstack([BGR, OPAQUE])], ids=["colours", "with transparency"])
@pytest.mark.parametrize("read", [read_image, read_mask])
def test_colours_of_16_bits_are_refused_and_the_command_converts_them(
    read: Callable[[Path], Any], pixels: np.ndarray, tmp_path: Path
) -> None:
    """Pillow reads the upper eight bits alone: colours of 12 bits would be all but black."""
    cv2.imwrite(str(tmp_path / "IN.png"), pixels.astype(np.uint16) * 16)
    with pytest.raises(InvalidData, match=r"is a PNG of colours.* with 16 bits, and 8 are read") as refused:
        read(tmp_path / "IN.png")
    (program,) = re.findall('python -c "(.*)"', str(refused.value))
    subprocess.run([sys.executable, "-c", program.replace("WHITE", str(255 * 16))], cwd=tmp_path, check=True)
    assert (read_image(tmp_path / "OUT.png")[0] == PLANES).all()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.float32])
def test_volumes_of_nibabel_are_read(suffix: str, kind: type[np.generic], tmp_path: Path) -> None:
    voxels = (np.arange(60).reshape(3, 4, 5) % 50).astype(kind)
    affine = np.array([[0, -2, 0, 9], [3, 0, 0, -8], [0, 0, 4, 7], [0, 0, 0, 1]], float)
    nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / f"v{suffix}")
    assert (nifti.read(tmp_path / f"v{suffix}") == voxels).all()
    assert np.allclose(nifti.read_affine(tmp_path / f"v{suffix}"), affine)


def test_slope_and_intercept_of_nibabel_are_applied(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2)), np.eye(4), dtype=np.int16)
    image.header.set_slope_inter(2, -1000)
    content = np.linspace(-1000, 1000, 8).reshape(2, 2, 2)
    nibabel.save(nibabel.Nifti1Image(content, np.eye(4), image.header, dtype=np.int16), tmp_path / "v.nii.gz")
    assert np.allclose(nifti.read(tmp_path / "v.nii.gz"), content, atol=0.1)


def test_nifti_2_is_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti2Image(np.zeros((2, 2, 2), np.int16), np.eye(4)), tmp_path / "v.nii.gz")
    with pytest.raises(InvalidData, match="is a NIfTI-2 file; save it as NIfTI-1"):
        nifti.read(tmp_path / "v.nii.gz")


def test_the_table_of_the_documentation_names_every_format() -> None:
    page = (REPOSITORY / "docs" / "your_own_data.md").read_text(encoding="utf-8")
    table = page.partition("## File formats")[2].partition("\n##")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("|")]
    named = " ".join(rows).lower()
    kinds = {kind for kind in FORMATS if kind != "DIB"} | {"DICOM", "DICOM-SEG", "NIfTI-1"}
    assert [kind for kind in kinds if kind.lower() not in named] == []
    by_suffix = {".jpg": "jpeg", ".tif": "tiff", ".dcm": "dicom"}
    assert [s for s in IMAGE_TYPES if by_suffix.get(s, s[1:]) not in named] == []
