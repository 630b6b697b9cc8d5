"""Which masks are never used for generation."""

from pathlib import Path

import numpy as np

from pipeline.data.image_set import ImageSet
from pipeline.data.mask_hashes import held_out_digests, mask_digest
from pipeline.data.sample import DatasetSpec, Sample


def square(side: int) -> np.ndarray:
    mask = np.zeros((8, 8), np.uint8)
    mask[:side, :side] = 1
    return mask


def drawn(folder: Path, masks: list[tuple[str, np.ndarray]]) -> ImageSet:
    image = np.zeros((3, 8, 8), np.uint8)
    samples = [Sample(f"{n}", image, mask[None], "A.", split) for n, (split, mask) in enumerate(masks)]
    return ImageSet.create(folder, DatasetSpec(name="squares", size=8), ((sample, {}) for sample in samples))


def test_masks_of_validation_and_test_are_forbidden(tmp_path: Path) -> None:
    real = drawn(tmp_path, [("train", square(2)), ("val", square(3)), ("test", square(4))])
    assert held_out_digests(real) == {mask_digest(square(3)), mask_digest(square(4))}


def test_a_mask_that_a_training_image_has_too_and_an_empty_one_are_not(tmp_path: Path) -> None:
    real = drawn(tmp_path, [("train", square(2)), ("val", square(2)), ("test", square(0)), ("test", square(1))])
    assert held_out_digests(real) == {mask_digest(square(1))}


def test_a_digest_tells_shapes_apart() -> None:
    assert mask_digest(np.ones((2, 8), np.uint8)) != mask_digest(np.ones((4, 4), np.uint8))
    assert mask_digest(square(3)) == mask_digest(square(3).astype(np.int64))
