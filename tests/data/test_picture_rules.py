"""Grey levels of 16 bits through a stated window, colour masks through stated colours; files by other libraries."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data.decoding import InvalidData, read_image, read_mask
from pipeline.data.picture_rules import labels_of, windowed
from pipeline.stages.prepare.params import Data
from pipeline.stages.prepare.prepare import prepare
from tests.drawn_pairs import data, study

LEVELS = np.array([[0, 100, 2147], [4095, 5000, 65535]], np.uint16)
PALETTE = ((0, 0, 0), (255, 0, 0), (0, 0, 255))


def test_a_window_is_linear_between_its_ends() -> None:
    found = windowed(LEVELS, (100, 4095))
    assert found.tolist() == [[0, 0, 131], [255, 255, 255]]  # (2147 - 100) / 3995 * 255 is 130.66


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_sixteen_grey_bits_are_read_with_a_window_and_refused_without(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    cv2.imwrite(str(path), LEVELS) if path.suffix == ".png" else tifffile.imwrite(path, LEVELS)
    pixels, notes = read_image(path, (100, 4095))
    assert pixels.shape == (3, 2, 3) and (pixels == windowed(LEVELS, (100, 4095))).all()
    assert notes == ["image: more than 8 bits, window 100 to 4095"]
    with pytest.raises(InvalidData, match=r"more than 8 bits.*data\.picture_window"):
        read_image(path)


def test_a_window_leaves_eight_bits_as_they_are(tmp_path: Path) -> None:
    grey = np.array([[0, 10], [200, 255]], np.uint8)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    pixels, notes = read_image(tmp_path / "grey.png", (0, 4095))
    assert (pixels == grey).all() and notes == []


def test_colours_of_a_mask_are_labels() -> None:
    colours = np.array([[PALETTE[2], PALETTE[0]], [PALETTE[1], PALETTE[1]]], np.uint8)
    assert labels_of(colours, PALETTE).tolist() == [[2, 0], [1, 1]]
    colours[0, 1] = (1, 2, 3)
    with pytest.raises(InvalidData, match=r"1 pixels of its mask have colours .*, for example \[1, 2, 3\]"):
        labels_of(colours, PALETTE)
    colours[:] = 255  # beyond the largest code that is known
    with pytest.raises(InvalidData, match=r"for example \[255, 255, 255\] \(4 pixels\)"):
        labels_of(colours, PALETTE)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colour_masks_of_any_storage_are_read(tmp_path: Path, mode: str) -> None:
    colours = np.array([[PALETTE[2], PALETTE[0]], [PALETTE[1], PALETTE[1]]], np.uint8)
    picture = Image.fromarray(colours)
    (picture.quantize(4) if mode == "P" else picture.convert(mode)).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png", PALETTE)[0].tolist() == [[2, 0], [1, 1]]
    if mode != "P":
        with pytest.raises(InvalidData, match=r"is a colour mask; state the colours of its labels \(data\.palette\)"):
            read_mask(tmp_path / "mask.png")


def drawn(root: Path) -> None:
    """Six pairs of 16 bits with masks of three colours."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(6):
        cv2.imwrite(str(root / f"images/i{number}.png"), rng.integers(0, 4096, (16, 16)).astype(np.uint16))
        labels = (np.arange(16)[:, None] > 4 + number).astype(int) + (np.arange(16) > 8)
        Image.fromarray(np.array(PALETTE, np.uint8)[labels]).save(root / f"masks/i{number}.png")


@pytest.mark.usefixtures("elsewhere")
def test_prepare_takes_both_rules(tmp_path: Path) -> None:
    drawn(tmp_path / "set")
    images = prepare(study(root=tmp_path / "set", num_classes=3, picture_window=[0, 4095], palette=PALETTE))
    row = next(iter(images))
    assert set(np.unique(images.mask(row))) == {0, 1, 2}
    assert images.image(row).max() > 240
    with pytest.raises(UserError, match="the data set has 12 faults"):
        prepare(study(root=tmp_path / "set", num_classes=3))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"picture_window": [5, 5]}, "its first level, black, must be lower"),
        ({"palette": PALETTE}, "palette names 3 colours, but num_classes is 2"),
        ({"palette": [[0, 0, 0], [0, 0, 0]]}, "palette names a colour twice"),
        ({"palette": [[0, 0, 0], [0, 0, 256]]}, "palette.1.2"),
        ({"size": 0, "shape": [8, 8, 8], "picture_window": [0, 9]}, "are for pictures"),
    ],
)
def test_rules_that_make_no_sense_are_refused(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        parse(Data, {"reader": "kvasir", "size": 8, **keys})


def test_rules_that_are_not_used_leave_no_trace_in_fingerprints() -> None:
    assert not {"picture_window", "palette"} & data().model_dump().keys()
