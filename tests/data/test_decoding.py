"""Decoding: pixels exactly as stored, upright, or a reason why not; and labels of masks."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from pipeline.data import labels
from pipeline.data.decoding import Fault, FilePair, InvalidData, decode, display_path, read_image, read_mask, resize
from tests.drawn_pairs import HEIGHT, WIDTH, picture, rectangle, save

STAIRS = np.arange(4, dtype=np.uint8).repeat(4).reshape(4, 4)  # rows of 0, 1, 2, 3


TURN = Image.Transpose
TO_STORED = {  # what a camera did to the upright image; EXIF says how to undo it
    2: TURN.FLIP_LEFT_RIGHT,
    3: TURN.ROTATE_180,
    4: TURN.FLIP_TOP_BOTTOM,
    5: TURN.TRANSPOSE,
    6: TURN.ROTATE_90,
    7: TURN.TRANSVERSE,
    8: TURN.ROTATE_270,
}


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    return tags


def test_a_palette_mask_gives_its_indices(tmp_path: Path) -> None:
    mask = Image.fromarray(STAIRS, "P")
    mask.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    assert (read_mask(save(tmp_path / "m.png", mask))[0] == STAIRS).all()


def test_a_one_bit_mask_gives_zero_and_one(tmp_path: Path) -> None:
    mask = save(tmp_path / "m.png", Image.fromarray(rectangle() > 0))
    assert (read_mask(mask)[0] == rectangle(1)).all()


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_grey_values_are_kept_in_every_mode(mode: str, tmp_path: Path) -> None:
    stored = Image.fromarray(STAIRS.astype(np.uint16)) if mode == "I;16" else Image.fromarray(STAIRS).convert(mode)
    values, notes = read_mask(save(tmp_path / "m.png", stored))
    assert (values.dtype, notes) == (np.uint8, ["mask: transparency dropped"] if mode in ("LA", "RGBA") else [])
    assert (values == STAIRS).all()


@pytest.mark.parametrize(
    "pixels, reason",
    [
        (np.zeros((4, 4, 3), np.uint8) + np.array([255, 0, 0], np.uint8), "is a colour mask"),
        (np.full((4, 4), 256, np.uint16), "holds values up to 256"),
    ],
)
def test_masks_that_hold_no_labels_are_refused(pixels: NDArray[Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=reason):
        read_mask(save(tmp_path / "m.png", Image.fromarray(pixels)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_image_upright(orientation: int, tmp_path: Path) -> None:
    """An image stored as its camera held it, beside a mask drawn on what the viewer shows."""
    upright = rectangle()
    stored = Image.fromarray(upright).convert("RGB")
    if orientation > 1:
        stored = stored.transpose(TO_STORED[orientation])
    image, notes = read_image(save(tmp_path / "i.png", stored, exif=exif(orientation)))
    assert (image == upright).all()
    assert notes == ([] if orientation == 1 else [f"image: turned upright, EXIF orientation {orientation}"])


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def bomb(path: Path) -> None:
    """A header that claims 30000 x 30000 pixels."""
    content = bytearray(path.read_bytes())
    struct.pack_into(">II", content, 16, 30000, 30000)
    struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
    path.write_bytes(content)


def animated(path: Path) -> None:
    picture("1").save(path, "GIF", save_all=True, append_images=[picture("2")])


def text(path: Path) -> None:
    path.write_text("no image")


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def deep(path: Path) -> None:
    Image.fromarray(np.full((4, 4), 9999, np.uint16)).save(path, "PNG")


DAMAGES = {
    truncated: "cannot be decoded",
    bomb: "claims more than 89 million pixels",
    animated: "holds 2 frames",
    text: "no known image format",
    nothing: "no known image format",
    deep: "more than 8 bits",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_image_is_told_without_its_folder(damage: Any, tmp_path: Path) -> None:
    path = save(tmp_path / "i.png", picture("i", 200, 200))
    damage(path)
    with pytest.raises(InvalidData, match=DAMAGES[damage]) as caught:
        read_image(path)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_jpeg_is_refused_wherever_it_breaks_off(share: float, tmp_path: Path) -> None:
    path = save(tmp_path / "i.jpg", picture("i", 200, 200))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InvalidData, match="cannot be decoded"):
        read_image(path)


def test_both_files_of_a_pair_are_told(tmp_path: Path) -> None:
    for name in ("i.png", "m.png"):
        text(tmp_path / name)
    found = decode(FilePair("x", tmp_path / "i.png", tmp_path / "m.png", tmp_path))
    assert isinstance(found, list)
    assert [fault.location for fault in found] == ["i.png", "m.png"]


def test_transparency_is_dropped_with_a_note(tmp_path: Path) -> None:
    path = save(tmp_path / "i.png", picture("i").convert("RGBA"))
    image, notes = read_image(path)
    assert (image == np.moveaxis(np.asarray(picture("i")), -1, 0)).all()
    assert notes == ["image: transparency dropped"]


def test_odd_file_names_are_shown_on_one_line() -> None:
    assert display_path(Path("/d/a\nb\udc80 é.png"), Path("/d")) == "a\\x0ab\\xdc80 é.png"
    assert str(Fault("a.png", "is odd")) == "a.png: is odd"


def test_labels_take_the_nearest_pixel_and_images_the_mean() -> None:
    image = np.zeros((3, 4, 4), np.uint8)
    image[:, :, ::2] = 200  # columns of 200 and 0: linear interpolation without antialiasing keeps one of them
    small, small_labels = resize(image, STAIRS, 2)
    assert set(small_labels.ravel().tolist()) <= {0, 1, 2, 3}
    assert abs(small.astype(int).mean() - 100) <= 1
    assert (small.max() - small.min()) < 60


def test_resizing_to_the_own_size_changes_nothing() -> None:
    image = np.moveaxis(np.asarray(picture("i", 16, 16)), -1, 0)
    same, same_labels = resize(image, rectangle(1, 16, 16), 16)
    assert (same == image).all()
    assert (same_labels == rectangle(1, 16, 16)).all()


@pytest.mark.parametrize("foreground", [1, 255])
def test_binary_masks_of_ones_or_255_are_read_exactly(foreground: int) -> None:
    found, notes = labels.label_map(rectangle(foreground), 2)
    assert (found == rectangle(1)).all()
    assert notes == []


def test_grey_levels_are_thresholded_above_127_with_a_note() -> None:
    found, notes = labels.label_map(np.array([[0, 1, 127, 128, 254, 255]], np.uint8), 2)
    assert found.tolist() == [[0, 0, 0, 1, 1, 1]]
    assert notes == ["mask: grey levels, foreground is what exceeds 127"]


@pytest.mark.parametrize(
    "values, classes, told",
    [
        ([0, 1, 2], 2, "the values 2;"),
        ([0, 100], 2, "the values 100;"),
        ([0, 1, 3, 255], 3, "the labels 3, 255; data.num_classes 3 allows 0 to 2"),
        (list(range(20)), 3, r"the labels 3, 4, 5, 6, 7, 8, 9, 10 \.\.\.;"),
    ],
)
def test_unknown_labels_are_named(values: list[int], classes: int, told: str) -> None:
    with pytest.raises(InvalidData, match=told):
        labels.label_map(np.array([values], np.uint8), classes)


def test_label_maps_are_kept_and_an_empty_mask_is_no_fault() -> None:
    assert labels.label_map(STAIRS, 4)[0].tolist() == STAIRS.tolist()
    for classes in (2, 3):
        assert labels.label_map(np.zeros((HEIGHT, WIDTH), np.uint8), classes)[1] == []
