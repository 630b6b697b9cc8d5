"""The user's own masks: read as training masks are, refused with a reason and all at once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.methods.masks import bank
from pipeline.methods.masks._sequence import LazyMasks

SIZE = 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bank").mkdir()
    return tmp_path / "bank"


def training(folder: Path, classes: int, sources: tuple[str, ...]) -> ImageSet:
    image, mask = np.zeros((3, SIZE, SIZE), np.uint8), np.ones((1, SIZE, SIZE), np.uint8)
    samples = [Sample(f"t{n}", image, mask, f"A {name}.", "train", name) for n, name in enumerate(sources)]
    spec = DatasetSpec(name="toy", size=SIZE, num_classes=classes)
    return ImageSet.create(folder, spec, ((sample, {}) for sample in samples))


def build(
    folder: Path, classes: int = 2, count: int | None = None, sources: tuple[str, ...] = ("polyp",), **values: Any
) -> LazyMasks:
    train = training(folder.parent / "real", classes, sources)
    return bank.build(bank.Params(folder=folder, **values), train, count, "0")


def put(folder: Path, name: str, *, value: int = 1, size: tuple[int, int] = (SIZE, SIZE), other: int = 0) -> None:
    """A file of height x width pixels: a square of one value on the background, and one pixel of another."""
    pixels = np.zeros(size, np.uint8)
    pixels[2:8, 2:8] = value
    pixels[0, 0] = other
    Image.fromarray(pixels).save(folder / name)


def test_files_come_in_the_order_of_their_names_and_repeat(folder: Path) -> None:
    for name in ("b.png", "a.png", "c.PNG"):
        put(folder, name)
    masks = build(folder, count=4)
    assert [mask.source_id for mask in masks] == ["bank/a", "bank/b", "bank/c", "bank/a"]
    assert [mask.id for mask in masks] == [f"bank_00000000{k}" for k in range(4)]
    assert len(build(folder)) == 3


@pytest.mark.parametrize("value", [1, 128, 255])
def test_binary_masks_are_read_as_training_masks_are(folder: Path, value: int) -> None:
    put(folder, "a.png", value=value, other=100 if value > 1 else 0)
    mask = build(folder)[0]
    assert (set(np.unique(mask.pixels)), mask.pixels.sum()) == ({0, 1}, 36)
    assert mask.transform == {}


def test_label_maps_keep_their_labels_and_palettes_their_indices(folder: Path) -> None:
    put(folder, "a.png", value=2, other=1)
    with Image.open(folder / "a.png") as grey:
        indexed = Image.fromarray(np.asarray(grey), "P")
    indexed.putpalette([9, 9, 9, 200, 0, 0, 0, 0, 200])
    indexed.save(folder / "b.png")
    first, second = build(folder, classes=3)
    assert set(np.unique(first.pixels)) == {0, 1, 2}
    np.testing.assert_array_equal(first.pixels, second.pixels)


def test_one_error_names_every_faulty_file(folder: Path, tmp_path: Path) -> None:
    put(folder, "good.png")
    put(folder, "label.png", value=3)
    put(folder, "size.png", size=(SIZE, 20))
    put(folder, "lossy.jpg", value=255)
    (folder / "broken.png").write_bytes((folder / "good.png").read_bytes()[:40])
    (folder / "text.png").write_text("no picture")
    put(tmp_path, "elsewhere.png")
    (folder / "link.png").symlink_to(tmp_path / "elsewhere.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "dangling.png").symlink_to(folder / "nothing.png")
    (folder / "nested.png").mkdir()
    with pytest.raises(UserError) as fault:
        build(folder, classes=3)
    lines = dict(line.strip().split(": ", 1) for line in str(fault.value).splitlines()[1:])
    assert lines["label.png"].startswith("its mask holds the labels 3; data.num_classes 3 allows 0 to 2")
    assert lines["size.png"].startswith("is 20 x 16 pixels, but data.size is 16; resize it")
    assert lines["lossy.jpg"].startswith("is not a PNG file")
    assert lines["broken.png"].startswith("cannot be decoded")
    assert lines["text.png"].startswith("cannot be decoded (no known image format)")
    assert lines["link.png"].startswith("is a link to a file outside the folder")
    assert (
        lines["loop.png"]
        == lines["dangling.png"]
        == lines["nested.png"]
        == "is not a file, or is a broken link; remove it"
    )
    assert "good.png" not in lines


def test_a_binary_mask_of_unclear_values_is_refused(folder: Path) -> None:
    put(folder, "a.png", value=2)
    with pytest.raises(UserError, match=r"a\.png: its mask holds the values 2; a binary mask holds 0 and 1"):
        build(folder)


def test_a_link_inside_the_folder_and_a_linked_folder_are_fine(folder: Path, tmp_path: Path) -> None:
    put(folder, "a.png")
    (folder / "b.png").symlink_to("a.png")
    (tmp_path / "linked").symlink_to(folder)
    assert len(build(tmp_path / "linked")) == 2


def test_other_files_are_passed_over(folder: Path) -> None:
    put(folder, "a.png")
    (folder / "README.txt").write_text("masks of 2024")
    (folder / ".hidden.png").write_text("no picture")
    assert len(build(folder)) == 1


@pytest.mark.parametrize("content", [None, "README.txt"])
def test_an_empty_folder_is_refused(folder: Path, content: str | None) -> None:
    if content:
        (folder / content).write_text("nothing")
    with pytest.raises(UserError, match=r"bank holds no mask; put PNG files"):
        build(folder)


def test_a_missing_folder_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"mask_params\.folder: .*nowhere is not a folder"):
        build(folder / "nowhere")


def test_a_bank_of_empty_masks_is_refused_and_one_with_some_is_not(folder: Path) -> None:
    put(folder, "a.png", value=0)
    with pytest.raises(UserError, match="every mask is empty"):
        build(folder)
    put(folder, "b.png")
    assert [mask.pixels.any() for mask in build(folder)] == [False, True]


def test_two_types_of_one_name_are_refused(folder: Path) -> None:
    put(folder, "a.png")
    put(folder, "a.PNG")
    if len([*folder.iterdir()]) < 2:
        pytest.skip("this file system does not tell a.png from a.PNG")
    with pytest.raises(UserError, match=r"a\.PNG and a\.png: differ only in file type"):
        build(folder)


def test_resize_takes_the_nearest_pixel_and_tells_the_old_size(folder: Path) -> None:
    put(folder, "a.png", value=2, size=(32, 32))
    mask = build(folder, classes=3, resize=True)[0]
    expected = np.zeros((SIZE, SIZE), np.uint8)
    expected[1:4, 1:4] = 2
    np.testing.assert_array_equal(mask.pixels, expected)
    assert mask.transform == {"method": "bank", "resized_from": [32, 32]}


def test_a_label_that_resizing_would_lose_is_a_fault(folder: Path) -> None:
    pixels = np.zeros((320, 320), np.uint8)
    pixels[:100, :100], pixels[201, 201] = 1, 2
    Image.fromarray(pixels).save(folder / "a.png")
    with pytest.raises(UserError, match=r"a\.png: loses the labels 2 when resized to 16 pixels"):
        build(folder, classes=3, resize=True)


def test_prompts_are_those_of_training_images_or_of_one_source(folder: Path) -> None:
    put(folder, "a.png")
    drawn = {(m.prompt, m.source) for m in build(folder, count=40, sources=("polyp", "nevus"))}
    assert drawn == {("A polyp.", "polyp"), ("A nevus.", "nevus")}
    chosen = build(folder, count=40, sources=("polyp", "nevus"), source="nevus")
    assert {m.prompt for m in chosen} == {"A nevus."}
    with pytest.raises(UserError, match=r"source is 'cyst'; the training images have: nevus, polyp"):
        build(folder, sources=("polyp", "nevus"), source="cyst")


def test_the_digest_follows_names_and_contents(folder: Path) -> None:
    put(folder, "a.png")
    before = build(folder).digest
    assert build(folder).digest == before
    put(folder, "a.png", value=255, other=255)
    changed = build(folder).digest
    (folder / "a.png").rename(folder / "b.png")
    assert len({before, changed, build(folder).digest}) == 3
