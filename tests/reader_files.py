"""What lies on a reader's disk before a block of the documentation is run, by the word that the block's mark uses."""

import os
import shutil
import sysconfig
import venv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.core import files, paths
from pipeline.core.section import parse
from pipeline.data import phantom
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec
from pipeline.segmentation import saved_model
from pipeline.stages.finetune.fingerprint import fingerprint
from pipeline.study import Params
from pipeline.web.rating import raters
from pipeline.web.rating.study_database import begin_study
from tests import attacked_generators, exported, published_sets
from tests.conftest import TOY_STUDY, blob, blobs, copies
from tests.rated import fresh
from tests.toy_outputs import ABSENT, untrained_segmenter, write_toy_outputs

SPEC = DatasetSpec(name="blobs", size=32)
KEPT = Path("outputs/kvasir_cpu/segmentation/unet/kept/siamese_x1/seed_0")  # as docs/predict.md names it


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """The folder is the current one."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def environment(folder: Path) -> None:
    """`make setup` has run: an environment with the packages of the tests' own, in which the copy is installed."""
    venv.create(folder / ".venv", symlinks=True)
    packages = next((folder / ".venv" / "lib").glob("python*")) / "site-packages"
    (packages / "twinsynth.pth").write_text(f"{folder}\n{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    command = folder / ".venv" / "bin" / "twinsynth"
    command.write_text('#!/bin/sh\nexec python -m pipeline.cli "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    (folder / ".venv" / ".installed").touch()


def toy_sizes(folder: Path) -> None:
    """params.yaml holds the study `smoke`."""
    shutil.copy(folder / "configs" / "studies" / "smoke.yaml", folder / "params.yaml")


def my_data(folder: Path) -> None:
    """24 pictures of different sizes in the layout that docs/your_own_data.md begins with."""
    for number in range(24):
        image, mask = phantom.draw(f"docs/{number}", 96 + number % 3, phantom.Difficulty(0.5, 2), instrument=False)
        for name, pixels in (("images", np.moveaxis(image, 0, -1)), ("masks", 255 * mask)):
            (folder / "data" / "mine" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / "data" / "mine" / name / f"case{number}.png")


def toy_outputs(folder: Path) -> None:
    """The image sets of a finished study `toy`; params.yaml names it."""
    with inside(folder):
        exported.write_study()
    text = (folder / "params.yaml").read_text(encoding="utf-8")
    (folder / "params.yaml").write_text(text.replace("study: demo", "study: toy"), encoding="utf-8")


def toy_generator(folder: Path) -> None:
    """The study `toy` with a base, a generator and a judge; params.yaml is its own."""
    study = parse(Params, TOY_STUDY)
    with inside(folder):
        _write_sets()
        write_toy_outputs(study, SPEC)
        made_by = fingerprint(study, "siamese", ImageSet.open(paths.real("toy")).split("train"))
        about = {"fingerprint": made_by, "method": "siamese"}
        files.write_json(paths.generator("toy", "siamese") / "manifest.json", about)


def attacked_study(folder: Path) -> None:
    """A finished study `toy` whose generators have been attacked; params.yaml is its own."""
    with inside(folder):
        attacked_generators.attacked_study()
        files.write_json(Path("params.yaml"), attacked_generators.STUDY)


def kept_segmenter(folder: Path) -> None:
    """A segmenter that a study has kept, and a folder with two images."""
    (folder / "new_images").mkdir()
    for number, width in enumerate((32, 45)):
        pixels = np.moveaxis(blob(SPEC, "test", number).image, 0, -1)
        Image.fromarray(pixels).resize((width, 32)).save(folder / "new_images" / f"{number}.png")
    saved_model.save_model(untrained_segmenter(SPEC), SPEC, folder / KEPT, {"reader": "phantom"})


def images_to_rate(folder: Path) -> None:
    """The study `toy` with real and synthetic images."""
    with inside(folder):
        _write_sets()
        files.write_json(Path("params.yaml"), TOY_STUDY | ABSENT)


def ratings_sent_back(folder: Path) -> None:
    """Two raters have sent the files that their pages saved."""
    images_to_rate(folder)
    with inside(folder):
        database = begin_study(parse(Params, TOY_STUDY), 4)
        for name in ("Ann", "Ben"):
            with database.writing() as connection:
                rater = raters.find_rater(connection, raters.ensure_rater(connection, name))
                seen = connection.execute("SELECT image FROM tasks WHERE rater = ?", (rater.number,)).fetchall()
            lines = [f"{image},{1 + place % 5},{place % 2},,{fresh()}" for place, (image,) in enumerate(seen)]
            text = "\n".join(["image,quality,real,remark,rating", *lines, ""])
            Path(f"ratings_{name}.csv").write_text(text, encoding="utf-8")


def archives(folder: Path) -> None:
    """Data sets as their providers pack them, with as many pictures as published, each of one colour."""
    published_sets.kvasir(folder, 900, 100)
    published_sets.clinicdb(folder, 612)
    for part, count in (("Training", 2594), ("Validation", 100), ("Test", 1000)):
        kinds = {part: ("_Input", "_GroundTruth")}
        published_sets.isic(folder / "Downloads", "ISIC2018_Task1-2_", kinds, "segmentation", count)


def _write_sets() -> None:
    """The real and the synthetic set of the study `toy`, below the current folder."""
    real = ImageSet.create(paths.real("toy"), SPEC, blobs(SPEC, {"train": 8, "val": 3, "test": 4}))
    ImageSet.create(paths.synthetic("toy", "siamese"), SPEC, copies(real, 2))


NEEDS: Mapping[str, Callable[[Path], None]] = {
    need.__name__: need
    for need in (
        archives,
        attacked_study,
        environment,
        images_to_rate,
        kept_segmenter,
        my_data,
        ratings_sent_back,
        toy_generator,
        toy_outputs,
        toy_sizes,
    )
}
