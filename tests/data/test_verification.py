"""Facts of the check before scoring: each fault is told with its file, all at once."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.data.verification import verify
from pipeline.study import Params


@pytest.fixture
def synthetic(toy_study: Params) -> ImageSet:
    return ImageSet.open(paths.synthetic("toy", "siamese"))


def file(images: ImageSet, k: int) -> Path:
    return images.folder / images.rows[k]["file_name"]


def test_sets_as_the_stages_write_them_pass(toy_study: Params, synthetic: ImageSet) -> None:
    verify(ImageSet.open(paths.real("toy")))
    verify(synthetic)


def test_every_fault_is_told_with_its_file(synthetic: ImageSet) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    Image.fromarray(pixels).save(file(synthetic, 0))
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(file(synthetic, 1))
    file(synthetic, 2).write_bytes(b"no picture")
    file(synthetic, 3).unlink()
    shutil.copy(synthetic.folder / synthetic.rows[4]["mask"], file(synthetic, 4).with_name("stray_mask.png"))
    with pytest.raises(UserError) as caught:
        verify(synthetic)
    told = str(caught.value)
    names = [file(synthetic, k).name for k in range(4)]
    assert f"{names[0]} has 32 x 16 pixels, but the set has 32 x 32" in told
    assert f"{names[1]} has mode L, expected RGB" in told
    assert f"{names[2]} cannot be opened" in told
    assert f"{names[3]} cannot be opened" in told
    assert "stray_mask.png is not in the manifest" in told


def test_a_synthetic_copy_is_told_and_a_real_one_is_not(synthetic: ImageSet) -> None:
    twice = [{**row, "sha256": "same"} for row in synthetic.rows]
    with pytest.raises(UserError, match=r"is the same file as images/.*\n.*and \d+ more|is the same file as"):
        verify(synthetic.select(twice))
    verify(synthetic.select({**row, "synthetic": False} for row in twice))
