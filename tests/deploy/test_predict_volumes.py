"""Kept segmenters of volumes predict on NIfTI files of any orientation, spacing and extent."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data import nifti
from pipeline.data.sample import DatasetSpec
from pipeline.deploy import prediction
from pipeline.segmentation import saved_model
from pipeline.stages.prepare.params import Data

SPEC = DatasetSpec(name="v", size=0, channels=1, ndim=3, shape=(24, 20, 16), spacing=(1.0, 1.0, 1.0))
READING = {"reader": "volumes", "window": [0.0, 1.0]}


class Bright:
    """Foreground is what is brighter than one half."""

    objective = torch.nn.Identity()

    def predict(self, image: torch.Tensor, num_samples: int = 1) -> torch.Tensor:
        found = image.mean(1, keepdim=True)
        return torch.cat([1 - found, found], 1)[:, None]


def opened(monkeypatch: pytest.MonkeyPatch, spec: DatasetSpec = SPEC, reading: Any = READING) -> None:
    monkeypatch.setattr(prediction, "load_model", lambda _: (Bright(), spec, reading))


def ball(shape: tuple[int, ...], affine: NDArray[np.float64], centre: tuple[float, ...], radius: float) -> NDArray[Any]:
    """Voxels [I, J, K] float32: 1 within `radius` mm of `centre` in mm."""
    places = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1) @ affine[:3, :3].T + affine[:3, 3]
    return (np.linalg.norm(places - np.array(centre), axis=-1) <= radius).astype(np.float32)


def write(path: Path, voxels: NDArray[Any], affine: NDArray[np.float64]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(nifti.encode(voxels, affine))
    return path


def dice(one: NDArray[Any], other: NDArray[Any]) -> float:
    return 2 * float(((one > 0) & (other > 0)).sum()) / float((one > 0).sum() + (other > 0).sum())


TURNED = np.array([[0, 0, -1.0, 12], [-1.0, 0, 0, 5], [0, 1.0, 0, -9], [0, 0, 0, 1]])  # stored: back, top, left
COARSE = np.array([[-2.0, 0, 0, 14], [0, 0.7, 0, -6], [0, 0, 1.5, 3], [0, 0, 0, 1]])


def test_the_grid_s_own_voxels_come_back_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(monkeypatch)
    rng = np.random.default_rng(0)
    voxels = rng.integers(0, 2, (20, 16, 24)).astype(np.float32)  # axes turn to 24 x 20 x 16
    write(tmp_path / "in/a.nii.gz", voxels, TURNED)
    assert prediction.predict_folder(tmp_path, tmp_path / "in", tmp_path / "to") == 1
    mask = tmp_path / "to/masks/a.nii.gz"
    assert np.array_equal(nifti.read(mask), voxels.astype(np.uint8)) and nifti.read(mask).dtype == np.uint8
    assert np.array_equal(nifti.read_affine(mask), TURNED)


@pytest.mark.parametrize("affine", [TURNED, COARSE])
def test_masks_lie_where_the_object_lies(
    affine: NDArray[np.float64], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(monkeypatch)
    shape = (22, 25, 19)
    middle = tuple((affine @ [*((np.array(shape) - 1) / 2), 1])[:3])
    voxels = ball(shape, affine, middle, 6.0)
    write(tmp_path / "in/b.nii.gz", voxels, affine)
    prediction.predict_folder(tmp_path, tmp_path / "in", tmp_path / "to")
    found = nifti.read(tmp_path / "to/masks/b.nii.gz")
    assert found.shape == shape and dice(found, voxels) > 0.9


def test_outside_the_grid_is_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(monkeypatch)
    plain = gzip.decompress(nifti.encode(np.ones((30, 20, 10), np.float32), np.eye(4)))
    (tmp_path / "in").mkdir()
    (tmp_path / "in/c.nii").write_bytes(plain)  # the grid cuts 24 of 30, pads 10 to 16
    prediction.predict_folder(tmp_path, tmp_path / "in", tmp_path / "to")
    found = nifti.read(tmp_path / "to/masks/c.nii.gz")
    assert found.sum((1, 2)).tolist() == [0] * 3 + [200] * 24 + [0] * 3
    with Image.open(tmp_path / "to/overlays/c.png") as overlay:
        assert overlay.size == (24 + 24 + 20 + 6, 20)  # across top, front and right, two pixels after each


def test_channels_of_nnunet_are_one_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(monkeypatch, SPEC.model_copy(update={"channels": 2}))
    for name, value in (("d_0000", 0.1), ("d_0001", 0.8)):
        write(tmp_path / f"in/more/{name}.nii.gz", np.full((24, 20, 16), value, np.float32), np.eye(4))
    write(tmp_path / "in/one.nii.gz", np.zeros((24, 20, 16), np.float32), np.eye(4))
    with pytest.raises(UserError, match=r"1 of 2 images .*\n  one\.nii\.gz: has 1 channels, .* trained on 2"):
        prediction.predict_folder(tmp_path, tmp_path / "in", tmp_path / "to")
    assert sorted(p.relative_to(tmp_path / "to").as_posix() for p in (tmp_path / "to").rglob("*.*")) == [
        "masks/more/d.nii.gz",
        "overlays/more/d.png",
    ]
    write(tmp_path / "in/more/d.nii.gz", np.zeros((4, 4, 4), np.float32), np.eye(4))
    with pytest.raises(UserError, match=r"mask more/d\.nii\.gz would be that of several volumes \(d\.nii\.gz, d_0000"):
        prediction.predict_folder(tmp_path, tmp_path / "in", tmp_path / "to")


def test_faults_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(monkeypatch)
    for folder, told in (
        (tmp_path / "no", "is not a folder of volumes"),
        (tmp_path, "holds no volume; the known types are .nii"),
    ):
        with pytest.raises(UserError, match=told):
            prediction.predict_folder(tmp_path, folder, tmp_path / "to")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/e.nii.gz").write_bytes(b"no volume")
    with pytest.raises(UserError, match=r"e\.nii\.gz: cannot be read"):
        prediction.predict_folder(tmp_path, tmp_path / "in", tmp_path / "to")
    for reading, told in (({}, "an older version"), ({"reader": "mine"}, "of the reader mine; predict supports only")):
        opened(monkeypatch, reading=reading)
        with pytest.raises(UserError, match=told):
            prediction.predict_folder(tmp_path, tmp_path / "in", tmp_path / "to")


def test_a_kept_segmenter_of_volumes_knows_how_to_read_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    own = {"channels": [4, 8], "blocks": 1, "heads": 1, "mode": "plain"}
    built = plugins.load("segmenters", "recycling").build(
        plugins.read_params("segmenters", "recycling", own, "segmenters"), SPEC
    )
    data = {"reader": "volumes", "root": "data/patients", "shape": list(SPEC.shape or ()), "window": [-100, 300]}
    reading = saved_model.reader_settings(parse(Data, data))
    assert reading == {"reader": "volumes", "window": [-100, 300]}  # no path
    saved_model.save_model(built, SPEC, tmp_path / "kept", reading)
    voxels = np.random.default_rng(0).uniform(-200, 400, (24, 20, 16)).astype(np.float32)
    write(tmp_path / "in/f.nii.gz", voxels, np.eye(4))
    assert prediction.predict_folder(tmp_path / "kept", tmp_path / "in", tmp_path / "to") == 1
    seen = torch.from_numpy(np.clip((voxels + 100) / 400, 0, 1))[None, None]
    expected = built.predict(seen).mean(1)[0].argmax(0).numpy()
    assert np.array_equal(nifti.read(tmp_path / "to/masks/f.nii.gz"), expected)
