"""Image sets as files and in tar shards: the same answers, and damage that is told in one message."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data import shards
from pipeline.data.image_files import fast_png, png
from pipeline.data.image_set import MANIFEST, ImageSet, files_of
from pipeline.data.loading import Batches, Pairs
from pipeline.data.verification import verify
from pipeline.stages.mix.mix import mix
from pipeline.study import Params
from tests.conftest import TOY_STUDY
from tests.sharded import packed
from tests.stages.mix.judged import agreeing, write_maps


def as_files(images: ImageSet) -> ImageSet:
    return images


def in_shards(images: ImageSet) -> ImageSet:
    return packed(images, Path("packed"))


@pytest.fixture
def loose(toy_study: Params) -> ImageSet:
    """Sixteen synthetic images in files of their own."""
    return ImageSet.open(paths.synthetic("toy", "siamese"))


@pytest.fixture(params=[as_files, in_shards], ids=["files", "shards"])
def images(loose: ImageSet, request: pytest.FixtureRequest) -> ImageSet:
    return request.param(loose)


@pytest.fixture
def stored(loose: ImageSet) -> ImageSet:
    """The set in four shards."""
    return in_shards(loose)


def test_a_set_gives_the_same_pairs_however_it_lies(loose: ImageSet, images: ImageSet) -> None:
    assert images.ids == loose.ids and images.spec == loose.spec and len(images) == 16
    for row, other in zip(images, loose, strict=True):
        assert shards.described(row) == shards.described(other)
        assert images.content(row, "file_name") == loose.content(other, "file_name")
        for read in (ImageSet.image, ImageSet.picture, ImageSet.mask, ImageSet.masks):
            assert np.array_equal(read(images, row), read(loose, other))
    first, same = images.sample(images.rows[3]), loose.sample(loose.rows[3])
    assert (first.id, first.prompt, first.split) == (same.id, same.prompt, same.split)


def test_selections_and_reopened_sets_are_alike(loose: ImageSet, images: ImageSet) -> None:
    again = ImageSet.open(images.folder)
    assert again.digest == images.digest and again.rows == images.rows
    assert images.take(1).ids == loose.take(1).ids and images.split("train").ids == loose.ids
    assert [sample.id for sample in images.select(images.rows[5:7]).samples()] == images.ids[5:7]


def test_batches_are_alike(loose: ImageSet, images: ImageSet) -> None:
    one, other = (Batches(Pairs.read(each), 4, "seed").batch(2) for each in (images, loose))
    assert one.image.equal(other.image) and one.mask.equal(other.mask) and one.prompts == other.prompts


def test_checks_before_scoring_pass(images: ImageSet) -> None:
    verify(images)


def test_a_published_set_opens(images: ImageSet, tmp_path: Path) -> None:
    target = tmp_path / "outputs" / "somewhere" / "set"
    files.publish(images.folder, target)
    assert ImageSet.open(target).digest == images.digest
    sums = files.read_json(target / files.SEAL)
    assert not [name for name in sums if name.endswith((".png", ".tar"))]  # the manifest has the hashes of pictures


def test_a_training_set_holds_the_same_pairs(toy_study: Params, loose: ImageSet) -> None:
    whole = mix(toy_study, "siamese_x1")
    expected = [(row["id"], whole.image(row), whole.mask(row)) for row in whole]
    place = paths.synthetic("toy", "siamese")
    stored = packed(loose, Path("packed"))
    place.rename("files")
    stored.folder.rename(place)
    made = mix(toy_study, "siamese_x1")
    assert len(list(made.folder.rglob("*.tar"))) == 3  # the last one holds no first copy
    assert len(list((made.folder / "images").iterdir())) == 8
    for row, (name, image, mask) in zip(made, expected, strict=True):
        assert row["id"] == name
        assert np.array_equal(made.image(row), image)
        assert np.array_equal(made.mask(row), mask)


def test_corrected_masks_of_a_set_in_shards_are_those_of_its_files(toy_study: Params, loose: ImageSet) -> None:
    sets = {"real": {}, "arm": {"generator": "siamese", "multiplier": 1, "labels": "corrected"}}
    study = parse(Params, {**TOY_STUDY, "score": {"judge_maps": True}, "training_sets": sets})
    write_maps({row["id"]: agreeing(np.roll(loose.mask(row), 1, axis=0)) for row in loose})
    corrected = {row["id"]: whole.mask(row) for whole in [mix(study, "arm")] for row in whole}
    assert any(not np.array_equal(loose.mask(row), corrected.get(row["id"], loose.mask(row))) for row in loose)
    place, stored = paths.synthetic("toy", "siamese"), packed(loose, Path("packed"))
    place.rename("files")
    stored.folder.rename(place)
    made = mix(study, "arm")
    assert made.ids == [*corrected]
    assert all(np.array_equal(made.mask(row), corrected[row["id"]]) for row in made)
    assert [shards.is_in_shard(row, "mask") for row in made if row["synthetic"]] == [False] * 8


def test_a_mask_can_leave_its_shard(stored: ImageSet) -> None:
    row = stored.rows[0]
    assert files_of(row) == ("shards/000000.tar",)
    moved = shards.outside(row, "mask")
    assert files_of(moved) == ("shards/000000.tar", row["mask"])
    assert set(row) - set(moved) == {"mask_offset", "mask_size"}
    assert set(row) - set(shards.outside(moved, "file_name")) == set(shards.COLUMNS)


def test_equal_pairs_give_equal_shards_without_traces_of_the_machine(loose: ImageSet) -> None:
    one, other = packed(loose, Path("a")), packed(loose, Path("b"))
    assert files.tree_sha256(one.folder) == files.tree_sha256(other.folder)
    with tarfile.open(one.folder / "shards" / "000001.tar") as tar:
        members = tar.getmembers()
        told = json.loads(tar.extractfile("000000005.json").read())  # type: ignore[union-attr]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
    assert [m.name for m in members[:3]] == ["000000005.image.png", "000000005.json", "000000005.mask.png"]
    assert told == shards.described(loose.rows[5])
    spans = [(one.rows[5]["image_offset"], one.rows[5]["image_size"])]
    assert spans == [(members[0].offset_data, members[0].size)]


def test_many_shards_lie_in_folders() -> None:
    assert shards.name_of(999, 1000) == "shards/000999.tar"
    assert shards.name_of(999, 1001) == "shards/000000/000999.tar"
    assert shards.name_of(12345, 20000) == "shards/000012/012345.tar"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:600])


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[700:710] = b"0123456789"
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (Path.unlink, r"000000\.tar cannot be read \(No such file or directory\)"),
        (cut, r"000000\.tar ends before images/train_0_c0\.png, which the manifest places in it"),
        (spoil, r"000000\.tar/train_0_c0\.png is damaged and differs from what was written"),
    ],
)
def test_a_damaged_shard_is_told(stored: ImageSet, damage: Callable[[Path], None], told: str) -> None:
    damage(stored.folder / "shards" / "000000.tar")
    with pytest.raises(UserError, match=rf"{told}.*; remove packed and run the stage that makes it"):
        stored.image(stored.rows[0])
    assert stored.image(stored.rows[15]).shape == (3, 32, 32)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"image_offset": 4096}, "is damaged and differs from what was written"),
        ({"image_size": 10**15}, "ends before images/train_0_c0.png"),
        ({"image_offset": -1}, "metadata.jsonl, line 1 has -1 as image_offset"),
        ({"image_offset": "512"}, "metadata.jsonl, line 1 has '512' as image_offset"),
        ({"image_size": None}, "metadata.jsonl, line 1 has None as image_size"),
        ({"shard": "../other.tar"}, "names the file '../other.tar', which is not below the set's folder"),
        ({"shard": "shards/000009.tar"}, "000009.tar cannot be read"),
    ],
)
def test_a_damaged_index_is_told(stored: ImageSet, columns: dict[str, object], told: str) -> None:
    lines = [json.loads(line) for line in (stored.folder / MANIFEST).read_text().splitlines()]
    lines[0] |= columns
    (stored.folder / MANIFEST).write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError) as caught:
        opened = ImageSet.open(stored.folder)
        opened.image(opened.rows[0])
    assert told in str(caught.value)


def test_a_missing_column_of_the_index_is_told(stored: ImageSet) -> None:
    lines = [json.loads(line) for line in (stored.folder / MANIFEST).read_text().splitlines()]
    del lines[0]["image_size"]
    (stored.folder / MANIFEST).write_text("".join(json.dumps(line) + "\n" for line in lines))
    opened = ImageSet.open(stored.folder)
    with pytest.raises(UserError, match="the row train_0_c0 has no image_size; run the stage"):
        opened.image(opened.rows[0])


def test_every_fault_of_shards_is_told_before_scoring(stored: ImageSet) -> None:
    (stored.folder / "shards" / "000000.tar").unlink()
    (stored.folder / "shards" / "000009.tar").write_bytes(b"stray")
    with pytest.raises(UserError) as caught:
        verify(stored)
    assert "000009.tar is not in the manifest" in str(caught.value)
    assert str(caught.value).count("000000.tar cannot be read") == 5


@pytest.mark.parametrize("shape", [(32, 32, 3), (33, 17, 3), (40, 32), (1, 1)])
def test_the_faster_encoding_keeps_pixels_and_text(shape: tuple[int, ...], tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    text = {"Description": "Synthetic.", "twinsynth": "é" * 1000}
    for name, content in (("fast", fast_png(pixels, text)), ("plain", png(pixels, text))):
        (tmp_path / name).write_bytes(content)
        with Image.open(tmp_path / name, formats=["PNG"]) as picture:
            picture.load()
            assert picture.mode == ("RGB" if len(shape) == 3 else "L")
            assert np.array_equal(np.asarray(picture), pixels)
            assert picture.text == text  # type: ignore[attr-defined]
    assert fast_png(pixels) == fast_png(pixels)
