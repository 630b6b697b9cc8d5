"""A toy study on disk for the tests of exports: real images, two synthetic copies of each training mask, their mix."""

import shutil
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.cli.main import main
from pipeline.core import paths
from pipeline.core.contracts import IGNORED
from pipeline.data.image_set import ImageSet
from pipeline.data.labels import IGNORED_PIXELS
from pipeline.data.sample import DatasetSpec
from tests.conftest import blobs, copies

COUNTS = {"train": 24, "val": 3, "test": 4}  # of the training set: 8 real and 16 synthetic images


def write_study(num_classes: int = 2, held_out: int = 7) -> ImageSet:
    """Makes the study `toy` below the current folder and returns its training set `siamese_x2`."""
    spec = DatasetSpec(name="blobs", size=32, num_classes=num_classes)
    counts = {"train": 8, "val": min(held_out, 3), "test": max(held_out - 3, 0)}
    real = ImageSet.create(paths.real("toy"), spec, blobs(spec, counts))
    ImageSet.create(paths.synthetic("toy", "siamese"), spec, copies(real, 2))
    mixed = chain(blobs(spec, {"train": 8}), copies(real, 2))
    return ImageSet.create(paths.training_set("toy", "siamese_x2"), spec, mixed)


def ignore_pixels() -> None:
    """Make the training set again, with three ignored rows in the mask of train_0_c0."""
    images, samples = splits()["train"], []
    for row in images:
        sample, mask = images.sample(row), images.mask(row).copy()
        mask[: 3 * (row["id"] == "train_0_c0")] = IGNORED
        shared = {key: row[key] for key in ("source_id", "copy", "generator", "synthetic")}
        samples.append((replace(sample, masks=mask[None]), {**shared, IGNORED_PIXELS: int((mask == IGNORED).sum())}))
    shutil.rmtree(images.folder)
    ImageSet.create(images.folder, images.spec, samples)


def splits() -> dict[str, ImageSet]:
    """What an export of the training set holds."""
    real = ImageSet.open(paths.real("toy"))
    mixed = ImageSet.open(paths.training_set("toy", "siamese_x2"))
    return {"train": mixed, "val": real.split("val"), "test": real.split("test")}


def run(format_name: str, *arguments: str, out: str = "out", status: int = 0) -> Path:
    """Export the training set, or what the arguments say, by the command, which ends with this status."""
    chosen = arguments if {"--real", "--generator"} & set(arguments) else ("--training-set", "siamese_x2", *arguments)
    assert main(["export", "set", format_name, "--study", "toy", *chosen, "--out", out]) == status
    return Path(out)


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture)
