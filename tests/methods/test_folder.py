"""Images that another program made: found by the names of masks, checked as a whole, the same as before."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.core import files, paths
from pipeline.core.contracts import ConditioningMask, ImportedImages
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec
from pipeline.methods.generators import folder
from pipeline.stages.finetune.finetune import finetune
from pipeline.stages.finetune.params import rival_generators
from pipeline.stages.generate import generate
from pipeline.stages.mix.mix import mix
from pipeline.stages.records import records
from pipeline.study import Params
from tests.conftest import TOY_STUDY
from tests.tiny_base import write_tiny_base

SPEC = DatasetSpec(name="toy", size=16)


def mask(name: str, source: str = "") -> ConditioningMask:
    return ConditioningMask(name, source or name, {}, np.zeros((16, 16), np.uint8), "", "")


def opened(root: Path, **params: Any) -> folder.Folder:
    return folder.Folder(folder.Params(root=root, **params), SPEC)


def draw(path: Path, level: int, size: int = 16) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size), (level, 0, 0)).save(path)


def level(images: folder.Folder, of: ConditioningMask, copy: int = 0) -> int:
    return int(images.image(of, copy)[0, 0, 0])


def test_names_say_mask_and_copy(tmp_path: Path) -> None:
    for name, value in {"a.png": 1, "b_c0.png": 2, "b_c1.png": 3, "deep/er/c_c0.png": 4, "m7.png": 5}.items():
        draw(tmp_path / name, value)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden").mkdir()
    draw(tmp_path / ".hidden" / "a.png", 9)
    images = opened(tmp_path)
    assert isinstance(images, ImportedImages)
    assert level(images, mask("a")) == 1
    assert [level(images, mask("b"), copy) for copy in (0, 1)] == [2, 3]
    assert level(images, mask("c")) == 4
    assert level(images, mask("bank_000000003", "bank/m7")) == 5  # a bank's file is named, not its number


def test_all_that_is_missing_or_wrong_is_named_before_anything_is_written(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", 1)
    draw(tmp_path / "b.png", 1, size=20)
    (tmp_path / "c.png").write_bytes(b"no picture")
    with pytest.raises(UserError) as caught:
        opened(tmp_path).check([mask(name) for name in "abcd"], 1)
    message = str(caught.value)
    assert "b.png is 20 x 20 pixels, data.size is 16; resize it, or set resize: true" in message
    assert "there is no image called d_c0 or d" in message
    assert len(message.splitlines()) == 4  # the folder, and one line for each of b, c and d
    opened(tmp_path, resize=True).check([mask("a"), mask("b")], 1)
    with pytest.raises(UserError, match=r"there is no image called a_c1$"):
        opened(tmp_path).check([mask("a")], 2)


def test_a_long_list_of_faults_is_cut(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", 1)
    with pytest.raises(UserError, match=r"and 15 more"):
        opened(tmp_path).check([mask(f"m{number}") for number in range(20)], 1)


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        opened(tmp_path / "absent").check([], 1) or opened(tmp_path / "absent").image(mask("a"), 0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no image"):
        opened(tmp_path / "empty").image(mask("a"), 0)
    draw(tmp_path / "twice" / "a.png", 1)
    draw(tmp_path / "twice" / "other" / "a.bmp", 1)
    with pytest.raises(UserError, match="more than one image called 'a'"):
        opened(tmp_path / "twice").image(mask("a"), 0)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "a.png").symlink_to(tmp_path / "twice" / "a.png")
    with pytest.raises(UserError, match="leads out of root"):
        opened(tmp_path / "linked").image(mask("a"), 0)


def test_images_that_changed_after_finetune_are_refused(tmp_path: Path) -> None:
    draw(tmp_path / "images" / "a.png", 1)
    opened(tmp_path / "images").save(tmp_path / "saved")
    opened(tmp_path / "images").load(tmp_path / "saved")
    draw(tmp_path / "images" / "a.png", 2)
    with pytest.raises(UserError, match="have changed; run the stage finetune"):
        opened(tmp_path / "images").load(tmp_path / "saved")


def study(**entry: Any) -> Params:
    values = {"method": "folder", "root": "outside", "copies": 2, "made_by": "a GAN of 2019", **entry}
    sets = {"real": {}, "gan": {"generator": "gan", "multiplier": 2}}
    return parse(Params, {**TOY_STUDY, "generators": {"gan": values}, "training_sets": sets})


@pytest.mark.usefixtures("toy_study")
def test_a_generator_s_own_images_come_back_as_they_were() -> None:
    write_tiny_base(paths.base("toy"), "sample")
    files.write_json(paths.base("toy") / "manifest.json", {"fingerprint": "0", "source": "scratch"})
    shutil.copytree(paths.synthetic("toy", "siamese") / "images", "outside")
    params = study()
    finetune(params, "gan")
    generate.generate(params, "gan")
    before, after = (ImageSet.open(paths.synthetic("toy", name)) for name in ("siamese", "gan"))
    by_id = {row["id"]: row for row in after}
    assert sorted(before.ids) == sorted(by_id)
    for row in before:
        other = by_id[row["id"]]
        assert np.array_equal(before.image(row), after.image(other))
        assert row["mask_sha256"] == other["mask_sha256"]
        assert (other["method"], other["made_by"], other["copy"]) == ("folder", "a GAN of 2019", row["copy"])
        assert "sampler" not in other
    card = (after.folder / "README.md").read_text(encoding="utf-8")
    assert "Another program made the images (a GAN of 2019)" in card
    assert "fine-tuned on" not in card
    assert len(mix(params, "gan")) == 8 + 16


@pytest.mark.usefixtures("toy_study")
def test_other_images_are_taken_anew() -> None:
    write_tiny_base(paths.base("toy"), "sample")
    files.write_json(paths.base("toy") / "manifest.json", {"fingerprint": "0", "source": "scratch"})
    shutil.copytree(paths.synthetic("toy", "siamese") / "images", "outside")
    params, watched = study(), []
    for number in range(2):
        watched.append(dict(records._entry_records(params))["generators/gan"]["files"])
        finetune(params, "gan")
        generate.generate(params, "gan")
        draw(Path("outside") / "train_0_c0.png", 100 + number, size=32)
    made = ImageSet.open(paths.synthetic("toy", "gan"))
    assert made.image(next(row for row in made if row["id"] == "train_0_c0"))[0, 0, 0] == 100
    assert watched[0] != watched[1]


def test_masks_must_be_ones_that_images_can_be_named_after() -> None:
    for wrong in ({"masks": "random", "count": 4}, {"count": 4}):
        with pytest.raises(UserError, match="set masks to real or bank, without count"):
            study(**wrong)
    assert study(masks="bank", mask_params={"folder": "masks"})


def test_images_from_outside_are_no_rival_of_synthesis() -> None:
    values = {
        "gan": {"method": "folder", "root": "x", "copies": 1},
        "copy_paste": {"copies": 1},
        "siamese": {"copies": 1},
    }
    assert rival_generators(
        parse(Params, {**TOY_STUDY, "generators": values, "training_sets": {"real": {}}}).generators
    ) == {"copy_paste"}
