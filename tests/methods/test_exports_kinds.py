"""Exports of volumes, of contrasts, of grey pictures and of several raters' images: written, or refused."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.data import nifti, verification
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec, Sample
from tests.exported import run

PLACE = np.diag([0.5, 0.5, 2.0, 1.0])
SPLITS = ("train", "train", "val", "test")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def volumes(channels: int) -> ImageSet:
    grid = {"ndim": 3, "shape": (4, 6, 5), "spacing": (0.5, 0.5, 2.0)}
    spec = DatasetSpec(name="toy", size=0, channels=channels, **grid)
    rng = np.random.default_rng(0)
    voxels, masks = rng.random((4, channels, 4, 6, 5), np.float32), rng.integers(0, 2, (4, 1, 4, 6, 5), np.uint8)
    samples = (Sample(f"v{n}", voxels[n], masks[n], "", SPLITS[n], "toy", affine=PLACE) for n in range(4))
    return ImageSet.create(paths.real("toy"), spec, ((sample, {}) for sample in samples))


def pictures(channels: int, raters: int = 1) -> ImageSet:
    spec = DatasetSpec(name="toy", size=8, channels=channels, raters=raters)
    rng = np.random.default_rng(0)
    pixels, masks = rng.integers(0, 256, (4, channels, 8, 8), np.uint8), rng.integers(0, 2, (4, raters, 8, 8), np.uint8)
    samples = (Sample(f"p{n}", pixels[n], masks[n], "", SPLITS[n], "toy") for n in range(4))
    return ImageSet.create(paths.real("toy"), spec, ((sample, {}) for sample in samples))


def exported(form: str, *more: str) -> Path:
    return run(form, "--real", *more)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_nnunet_holds_volumes_with_a_file_per_channel(channels: int) -> None:
    images = volumes(channels)
    (folder,) = exported("nnunet", "--folds", "2").iterdir()
    about = json.loads((folder / "dataset.json").read_text())
    assert about["file_ending"] == ".nii.gz" and "overwrite_image_reader_writer" not in about
    assert about["channel_names"] == {str(c): f"channel_{c}" for c in range(channels)}
    found = sorted(path.name for path in (folder / "imagesTs").iterdir())
    assert found == [f"v3_{channel:04d}.nii.gz" for channel in range(channels)]
    for channel, name in enumerate(found):
        path = folder / "imagesTs" / name
        assert np.array_equal(nifti.read(path), images.image(images.rows[3])[channel])
        assert np.array_equal(nifti.read_affine(path), PLACE)
    assert np.array_equal(nifti.read(folder / "labelsTs" / "v3.nii.gz"), images.mask(images.rows[3]))


def test_nnunet_holds_contrasts_and_grey_pictures() -> None:
    images = pictures(2)
    (folder,) = exported("nnunet", "--folds", "2").iterdir()
    planes = [np.asarray(Image.open(folder / "imagesTs" / f"p3_000{channel}.png")) for channel in range(2)]
    assert np.array_equal(np.stack(planes), images.image(images.rows[3]))


@pytest.mark.parametrize("form", ["coco", "imagefolder", "webdataset", "parquet"])
def test_formats_of_pictures_refuse_volumes_and_contrasts(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    for make, channels, what in ((volumes, 1, "volumes"), (pictures, 4, "images of 4 channels")):
        make(channels)
        run(form, "--real", status=2)
        told = capsys.readouterr().err
        assert f"the format {form} holds pictures, but these are {what}; export them as nnunet" in told
    assert not Path("out").exists()


def test_of_several_raters_the_majority_is_exported_and_said_so(caplog: pytest.LogCaptureFixture) -> None:
    images = pictures(1, raters=3)
    with caplog.at_level(logging.WARNING):
        folder = exported("imagefolder")
    assert "the masks of 3 raters; the export holds what most of them say" in caplog.text
    lines = [json.loads(line) for line in (folder / "test" / "metadata.jsonl").read_text().splitlines()]
    assert "raters" not in json.dumps(lines)
    mask = np.asarray(Image.open(folder / "test" / lines[0]["mask_file_name"]))
    assert np.array_equal(mask, (images.masks(images.rows[3]).sum(0) >= 2).astype(np.uint8))


def test_sets_of_every_kind_are_verified_by_their_headers() -> None:
    for channels in (1, 2):
        images = volumes(channels)
        verification.verify(images)
        other = ImageSet(images.folder, images.spec.model_copy(update={"shape": (4, 6, 6)}), images.rows)
        with pytest.raises(UserError, match=r"v0.nii.gz has \[4, 6, 5.*\] voxels, but the set has \[4, 6, 6"):
            verification.verify(other)
        for path in images.folder.glob("*/*"):
            path.unlink()
    for channels in (1, 2):
        verification.verify(pictures(channels))
    coloured = ImageSet(paths.real("toy"), DatasetSpec(name="toy", size=8), pictures(1).rows)
    with pytest.raises(UserError, match=r"p0\.png has mode L, expected RGB"):
        verification.verify(coloured)


def test_a_rows_files_are_intact_with_every_raters_mask() -> None:
    images = pictures(1, raters=2)
    assert verification.is_intact(images.folder, images.rows[0])
    (images.folder / "masks/r1/p0.png").write_bytes(b"")
    assert not verification.is_intact(images.folder, images.rows[0])
