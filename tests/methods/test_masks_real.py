"""The training masks as they are, and how their repetitions are called."""

from pathlib import Path

import numpy as np

from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.methods.masks import real


def named(folder: Path, *names: str) -> ImageSet:
    image, mask = np.zeros((3, 8, 8), np.uint8), np.ones((1, 8, 8), np.uint8)
    samples = [(Sample(name, image, (k + 1) * mask, "A.", "train"), {}) for k, name in enumerate(names)]
    return ImageSet.create(folder, DatasetSpec(name="toy", size=8, num_classes=4), samples)


def test_masks_keep_the_ids_and_repetitions_are_numbered(tmp_path: Path) -> None:
    masks = [*real.build(real.Params(), named(tmp_path, "a", "b"), 5, "0")]
    assert [mask.id for mask in masks] == ["a", "b", "a_r000001", "b_r000001", "a_r000002"]
    assert [mask.source_id for mask in masks] == ["a", "b", "a", "b", "a"]
    assert [int(mask.pixels.max()) for mask in masks] == [1, 2, 1, 2, 1]
    assert all(mask.transform == {} for mask in masks)


def test_an_id_that_looks_like_a_repetition_is_not_taken_for_one(tmp_path: Path) -> None:
    masks = real.build(real.Params(), named(tmp_path, "a", "a_r000001", "b_rr1"), 6, "0")
    assert [mask.id for mask in masks][3:] == ["a_rrr000001", "a_r000001_rrr000001", "b_rr1_rrr000001"]
    assert len({mask.id for mask in masks}) == 6
