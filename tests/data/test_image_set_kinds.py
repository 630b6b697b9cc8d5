"""Image sets of several raters, of grey pictures and contrasts, and of volumes; their batches."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.data import image_files, nifti
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Batches, Pairs
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.stages.prepare.params import Data

AFFINE = np.array([[0.5, 0, 0, 10], [0, 0.5, 0, -20], [0, 0, 2, 30], [0, 0, 0, 1]], float)
VOLUMES = DatasetSpec(name="v", size=0, channels=1, num_classes=3, ndim=3, shape=(6, 5, 4), spacing=(0.5, 0.5, 2.0))


def test_the_mask_of_several_raters_is_the_label_of_most_and_a_structure_where_it_ties() -> None:
    votes = np.array([[1, 1, 0, 2, 1], [1, 0, 0, 2, 2], [1, 1, 0, 1, 0], [0, 0, 1, 2, 2]], np.uint8)
    assert image_files.majority_vote(votes[:, None])[0].tolist() == [1, 1, 0, 2, 2]  # 3:1, 2:2, 3:1, 3:1, 2 of class 2
    assert image_files.majority_vote(np.array([[[1, 2]], [[2, 2]], [[0, 1]]], np.uint8))[0].tolist() == [
        1,
        2,
    ]  # 1:1:1, 2:1
    assert image_files.majority_vote(np.array([[[2]], [[2]], [[1]], [[1]]], np.uint8)).tolist() == [[1]]


def rated(folder: Path, count: int = 3) -> ImageSet:
    """Grey pictures [1, 4, 4] with the masks of three raters: 1 in the first row, in two rows, nowhere."""
    masks = np.zeros((3, 4, 4), np.uint8)
    masks[0, :1], masks[1, :2] = 1, 1
    spec = DatasetSpec(name="rated", size=4, channels=1, raters=3)
    grey = [np.full((1, 4, 4), 10 * n + 5, np.uint8) for n in range(count)]
    return ImageSet.create(folder, spec, ((Sample(f"c{n}", g, masks, "", "train"), {}) for n, g in enumerate(grey)))


def test_all_raters_are_kept_in_folders_of_their_own(tmp_path: Path) -> None:
    images = rated(tmp_path)
    row = images.rows[1]
    assert row["raters"] == ["masks/r0/c1.png", "masks/r1/c1.png", "masks/r2/c1.png"]
    assert row["raters_sha256"] == [files.sha256(tmp_path / name) for name in row["raters"]]
    assert images.image(row).shape == (1, 4, 4) and (images.image(row) == 15).all()
    assert images.masks(row).sum((1, 2)).tolist() == [4, 8, 0]
    assert images.mask(row).sum(1).tolist() == [4, 0, 0, 0]  # where two of three say so
    assert images.sample(row).masks.shape == (3, 4, 4)


def test_a_row_with_one_mask_in_a_set_of_several_raters_gives_it_for_each(tmp_path: Path) -> None:
    images = rated(tmp_path)
    row = {key: value for key, value in images.rows[0].items() if not key.startswith("raters")}
    assert images.masks(row).sum((1, 2)).tolist() == [4, 4, 4]


def test_a_batch_holds_the_mask_of_one_rater_drawn_by_the_samples_own_stream(tmp_path: Path) -> None:
    pairs = Pairs.read(rated(tmp_path))
    batches = Batches(pairs, 3, "seed")
    found = [batches.batch(step).mask.flatten(1).sum(1).tolist() for step in range(40)]
    times = [sum(areas.count(area) for areas in found) for area in (4, 8, 0)]
    assert sum(times) == 120 and all(25 <= time <= 55 for time in times)  # 40 expected of each rater
    dealt = batches.batch(7, rank=1, world=2)
    assert torch.equal(dealt.mask[0], batches.batch(7).mask[1])  # whichever process draws it
    assert pairs.mask.sum((1, 2)).tolist() == [4, 4, 4]


def test_contrasts_lie_below_each_other_in_one_picture(tmp_path: Path) -> None:
    pixels = np.arange(4 * 3 * 3, dtype=np.uint8).reshape(4, 3, 3)
    spec = DatasetSpec(name="contrasts", size=3, channels=4)
    images = ImageSet.create(tmp_path, spec, [(Sample("c", pixels, np.ones((1, 3, 3), np.uint8)), {})])
    assert (images.image(images.rows[0]) == pixels).all()
    assert Pairs.read(images).image.shape == (1, 4, 3, 3)


def volumes(folder: Path, channels: int = 1) -> ImageSet:
    rng = np.random.default_rng(0)
    spec = VOLUMES.model_copy(update={"channels": channels})
    voxels = rng.random((2, channels, 6, 5, 4), np.float32)
    masks = rng.integers(0, 3, (2, 1, 6, 5, 4)).astype(np.uint8)
    samples = (Sample(f"v{n}", voxels[n], masks[n], "", "train", affine=AFFINE) for n in range(2))
    return ImageSet.create(folder, spec, ((sample, {}) for sample in samples))


@pytest.mark.parametrize("channels", [1, 4])
def test_volumes_are_nifti_files_with_their_place_in_the_body(tmp_path: Path, channels: int) -> None:
    images = volumes(tmp_path, channels)
    row, again = images.rows[1], ImageSet.open(tmp_path)
    voxels = np.random.default_rng(0).random((2, channels, 6, 5, 4), np.float32)[1]
    assert row["file_name"] == "images/v1.nii.gz" and row["mask"] == "masks/v1.nii.gz" and "raters" not in row
    assert (images.image(row) == voxels).all() and images.image(row).dtype == np.float32
    assert images.mask(row).shape == (6, 5, 4) and images.mask(row).dtype == np.uint8
    assert (nifti.read_affine(tmp_path / row["mask"]) == AFFINE).all()
    assert again.spec == images.spec and again.digest == images.digest and again.spec.spatial == (6, 5, 4)


def test_equal_volumes_give_equal_bytes(tmp_path: Path) -> None:
    volumes(tmp_path / "a"), volumes(tmp_path / "b")
    assert files.tree_sha256(tmp_path / "a") == files.tree_sha256(tmp_path / "b")


def test_volumes_go_into_batches_as_they_are(tmp_path: Path) -> None:
    images = volumes(tmp_path, 2)
    batch = Batches(Pairs.read(images), 2, 0).batch(0)
    assert batch.image.shape == (2, 2, 6, 5, 4) and batch.mask.shape == (2, 6, 5, 4) and batch.mask.dtype == torch.long
    assert 0.9 < batch.image.max() <= 1  # not divided by 255


def test_a_volume_of_another_shape_is_told_by_its_file(tmp_path: Path) -> None:
    images = volumes(tmp_path)
    other = ImageSet(images.folder, images.spec.model_copy(update={"shape": (6, 5, 3)}), images.rows)
    with pytest.raises(
        UserError, match=r"v0.nii.gz holds channels and voxels \[1, 6, 5, 4\], but the set has \[1, 6, 5, 3\]"
    ):
        other.image(images.rows[0])


def test_a_spec_of_pictures_tells_nothing_of_grids() -> None:
    assert DatasetSpec(name="x", size=8).model_dump() == {
        "name": "x", "size": 8, "channels": 3, "num_classes": 2, "ndim": 2, "raters": 1}  # fmt: skip
    assert VOLUMES.model_dump()["shape"] == [6, 5, 4]  # as JSON gives it back
    with pytest.raises(ValueError, match="have ndim 3, shape and spacing"):
        DatasetSpec(name="x", size=0, ndim=3, shape=(4, 4, 4))


def test_a_study_of_pictures_and_one_rater_keeps_the_bytes_it_had_before_there_were_others(tmp_path: Path) -> None:
    """Digests are those of the code before volumes, several raters and channels were known."""
    spec = DatasetSpec(name="demo", size=8)
    pixels, mask = np.arange(192, dtype=np.uint8).reshape(3, 8, 8), np.eye(8, dtype=np.uint8)
    images = ImageSet.create(tmp_path, spec, [(Sample("a", pixels, mask[None], "A dot.", "train", "dots"), {})])
    row = {key: value for key, value in images.rows[0].items() if "sha256" not in key}
    assert row == {
        "id": "a", "prompt": "A dot.", "split": "train", "source": "dots", "file_name": "images/a.png",
        "mask": "masks/a.png", "source_id": "a", "copy": 0, "generator": None, "synthetic": False}  # fmt: skip
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "a.png", "a.png", "metadata.jsonl", "spec.json"]  # fmt: skip
    for name, content in (("images", np.moveaxis(pixels, 0, -1)), ("masks", mask)):
        Image.fromarray(np.ascontiguousarray(content)).save(tmp_path / "plain.png")
        assert (tmp_path / name / "a.png").read_bytes() == (tmp_path / "plain.png").read_bytes()
    assert files.fingerprint(spec) == "84eef5e08cd90c79"
    data = Data(reader="phantom", size=64, prompt="A photo.", train=6)  # type: ignore[call-arg]
    assert files.fingerprint(data) == "cffba056d3f9c372"
    batch = Batches(Pairs.read(images), 1, "seed").batch(0)
    assert torch.equal(batch.image[0], torch.from_numpy(pixels).float() / 255)
    assert torch.equal(batch.mask[0], torch.from_numpy(mask).long())
