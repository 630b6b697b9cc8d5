"""Toys shared by tests: a small data set of bright blobs on noise, a batch of it, and a study around it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core import paths, seeding
from pipeline.core.contracts import Batch
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet, Row
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.study import Params
from tests.dealing import (  # noqa: F401  hooks
    pytest_collection_modifyitems,
    pytest_report_header,
    pytest_sessionstart,
    pytest_xdist_auto_num_workers,
    pytest_xdist_make_scheduler,
)

os.environ["HF_HUB_OFFLINE"] = "1"  # no test reaches a model hub; read when huggingface_hub is first imported

REPOSITORY = Path(__file__).parents[1]
TOY_STUDY: dict[str, Any] = {
    "study": "toy",
    "seed": 0,
    "threads": 1,
    "data": {"reader": "phantom", "size": 32, "prompt": "A photo of a blob."},
    "base": {"source": "somewhere"},
    "finetune": {"max_steps": 2, "global_batch": 2, "learning_rate": 1e-3},
    "generate": {"steps": 2, "guidance_scale": 1.0, "batch_size": 2},
    "generators": {"siamese": {"copies": 2}},
    "judge": {"segmenter": "unet"},
    "training_sets": {
        "real": {},
        "real_again": {"seed_offset": 1000},
        "siamese_x1": {"generator": "siamese", "multiplier": 1},
        "siamese_x2": {"generator": "siamese", "multiplier": 2},
    },
    "segmenters": {"unet": {"weights": "none", "decoder_channels": [8, 8, 8, 8, 8]}},
    "segment": {"max_steps": 2, "batch_size": 4, "learning_rate": 1e-3, "seeds": [0, 1]},
}


@pytest.fixture
def spec() -> DatasetSpec:
    return DatasetSpec(name="blobs", size=32)


@pytest.fixture
def toy_batch(spec: DatasetSpec) -> Batch:
    """Four blobs of 32 pixels."""
    drawn = [blob(spec, "train", number) for number in range(4)]
    image = torch.from_numpy(np.stack([sample.image for sample in drawn])).float() / 255
    mask = torch.from_numpy(np.stack([sample.masks[0] for sample in drawn])).long()
    return Batch(image, mask, ("A photo of a blob.",) * 4, tuple(f"toy/{number}" for number in range(4)))


@pytest.fixture
def toy_params() -> Params:
    return parse(Params, TOY_STUDY)


@pytest.fixture
def toy_study(toy_params: Params, spec: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The current folder holds the real set (8 train, 3 val, 4 test) and two synthetic copies of each training mask."""
    monkeypatch.chdir(tmp_path)
    real = ImageSet.create(paths.real("toy"), spec, blobs(spec, {"train": 8, "val": 3, "test": 4}))
    ImageSet.create(paths.synthetic("toy", "siamese"), spec, copies(real, 2))
    return toy_params


def blobs(spec: DatasetSpec, counts: dict[str, int]) -> Iterator[tuple[Sample, Row]]:
    """Samples of each split, with no further columns."""
    for split, count in counts.items():
        yield from ((blob(spec, split, number), {}) for number in range(count))


def blob(spec: DatasetSpec, split: str, number: int) -> Sample:
    """A bright disc per foreground class on dark noise."""
    rng = seeding.numpy_rng("blob", split, number)
    row, column = np.mgrid[: spec.size, : spec.size]
    mask = np.zeros((spec.size, spec.size), np.uint8)
    image = rng.integers(0, 60, (3, spec.size, spec.size)).astype(np.uint8)
    for label in range(1, spec.num_classes):
        centre, radius = rng.uniform(0.3, 0.7, 2) * spec.size, rng.uniform(0.12, 0.25) * spec.size
        mask[(row - centre[0]) ** 2 + (column - centre[1]) ** 2 < radius**2] = label
    image[:, mask > 0] += (160 * mask[mask > 0] // (spec.num_classes - 1)).astype(np.uint8)
    return Sample(f"{split}_{number}", image, mask[None], "A photo of a blob.", split, "blobs")


def copies(real: ImageSet, count: int) -> Iterator[tuple[Sample, Row]]:
    """Stand-ins for synthetic images: the training masks with other noise."""
    for row in real.split("train"):
        mask = real.mask(row)
        for copy in range(count):
            noise = seeding.numpy_rng("copy", row["id"], copy).integers(0, 60, (3, *mask.shape)).astype(np.uint8)
            image = noise + (150 * (mask > 0)).astype(np.uint8)
            sample = Sample(f"{row['id']}_c{copy}", image, mask[None], row["prompt"], "train", row["source"])
            yield sample, {"source_id": row["id"], "copy": copy, "generator": "siamese", "synthetic": True}
