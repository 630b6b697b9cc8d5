"""Kept segmenters predict on folders of images of any size."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.cli import main as cli
from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.data.sample import DatasetSpec
from pipeline.deploy import prediction
from pipeline.segmentation import saved_model
from tests.conftest import blob


def segmenter(method: str, spec: DatasetSpec) -> Any:
    torch.manual_seed(0)
    own = {"decoder_channels": [8] * 5} if method == "unet" else {}
    params = plugins.read_params("segmenters", method, {"weights": "none"} | own, "segmenters")
    return plugins.load("segmenters", method).build(params, spec)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    spec = DatasetSpec(name="blobs", size=32, num_classes=3)
    saved_model.save_model(segmenter("unet", spec), spec, tmp_path / "kept", {"reader": "phantom"})
    return tmp_path / "kept"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """One image of 45 x 61 pixels and, in a folder, one of 32 x 32."""
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    for name, size in (("wide.jpg", (61, 45)), ("more/Square.PNG", (32, 32))):
        drawn = blob(DatasetSpec(name="blobs", size=32), "test", 0).image
        Image.fromarray(np.moveaxis(np.asarray(drawn), 0, -1)).resize(size).save(folder / name)
    return folder


def test_masks_are_labels_at_the_image_s_own_size(kept: Path, images: Path, tmp_path: Path) -> None:
    assert cli.main(["predict", "--segmenter", str(kept), "--images", str(images), "--to", str(tmp_path / "to")]) == 0
    mask, overlay = (Image.open(tmp_path / "to" / part / "wide.png") for part in ("masks", "overlays"))
    assert (mask.mode, mask.size, overlay.mode, overlay.size) == ("L", (61, 45), "RGB", (61, 45))
    assert set(np.unique(np.asarray(mask))) <= {0, 1, 2}
    square = np.asarray(Image.open(images / "more" / "Square.PNG")).transpose(2, 0, 1).copy()
    trained, *_ = saved_model.load_model(kept)
    expected = trained.predict(torch.from_numpy(square)[None].float() / 255).mean(1)[0].argmax(0)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "to" / "masks" / "more" / "Square.png")), expected.numpy())


def test_overlay_tints_the_mask_and_draws_its_border() -> None:
    labels = np.zeros((7, 7), np.uint8)
    labels[1:6, 1:6] = 1
    picture = prediction.overlay(np.full((3, 7, 7), 100, np.uint8), labels, 2)
    assert picture[0, 0].tolist() == [100, 100, 100]
    assert picture[1, 1].tolist() == [0, 255, 0]
    assert picture[3, 3].tolist() == [65, 154, 65]  # 0.65 x 100, and 0.35 x 255 more of green


@pytest.mark.parametrize("method", ["unet", "unet_plain32"])
def test_a_kept_segmenter_needs_nothing_else(method: str, tmp_path: Path, toy_batch: Any, spec: DatasetSpec) -> None:
    trained = segmenter(method, spec)
    saved_model.save_model(trained, spec, tmp_path / "kept", {})
    opened, there, _ = saved_model.load_model(tmp_path / "kept")
    assert there == spec
    assert torch.equal(opened.predict(toy_batch.image), trained.predict(toy_batch.image))


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(set(plugins.names("segmenters")) - {"unet", "unet_plain32"}))
def test_every_segmenter_can_be_kept(method: str, tmp_path: Path, toy_batch: Any, spec: DatasetSpec) -> None:
    test_a_kept_segmenter_needs_nothing_else(method, tmp_path, toy_batch, spec)


def test_damaged_images_are_named_after_the_others_are_done(kept: Path, images: Path, tmp_path: Path) -> None:
    (images / "broken.png").write_bytes(b"no image")
    with pytest.raises(
        UserError,
        match=r"1 of 3 images could not be read .* the others have one:\n  broken.png: cannot be decoded",
    ):
        prediction.predict_folder(kept, images, tmp_path / "to")
    assert (tmp_path / "to" / "masks" / "wide.png").is_file()


def test_what_is_predicted_is_not_an_image_of_the_next_run(kept: Path, images: Path) -> None:
    assert prediction.predict_folder(kept, images, images / "predicted") == 2
    assert prediction.predict_folder(kept, images, images / "predicted") == 2


def test_faults_of_the_user_are_told_in_a_sentence(
    kept: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, told in (
        ((tmp_path, images), "holds no kept segmenter (kept.json is missing); set segment.keep"),
        ((kept, tmp_path / "nowhere"), "nowhere is not a folder of images"),
        ((kept, kept), "holds no image; the known types are .png"),
    ):
        segmenter_folder, folder = map(str, arguments)
        options = ["--segmenter", segmenter_folder, "--images", folder, "--to", str(tmp_path / "to")]
        assert cli.main(["predict", *options]) == 2
        assert told in capsys.readouterr().err
    Image.new("RGB", (8, 8)).save(images / "wide.bmp")
    with pytest.raises(UserError, match=r"2 images are called .*wide and differ only in their type"):
        prediction.image_files(images, tmp_path / "to")


def test_the_verb_tells_what_was_written(
    kept: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["predict", "--segmenter", str(kept), "--images", str(images), "--to", str(tmp_path / "to")]
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'to'}: masks/ and overlays/ of 2 images\n"
    assert cli.main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"images": 2, "written": (tmp_path / "to").as_posix()}
    (images / "broken.png").write_bytes(b"no image")
    assert cli.main(arguments) == 2
    assert (
        capsys.readouterr().err.splitlines()[-1].startswith("error: 1 of 3 images could not be read and have no mask")
    )
