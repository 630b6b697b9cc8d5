"""Strong augmentation: one change of shape for image and mask, colours of the image alone, seeded by the sample."""

import math

import numpy as np
import pytest
import torch

from pipeline.core import seeding
from pipeline.core.errors import UserError
from pipeline.data.loading import Batches, Pairs
from pipeline.data.sample import DatasetSpec
from pipeline.segmentation import strong_augmentation as strong

SIDE = 48


def disc() -> tuple[torch.Tensor, torch.Tensor]:
    """A bright disc off the centre on a dark ground, and its mask."""
    down, right = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    mask = ((down - 18) ** 2 + (right - 27) ** 2 < 64).long()
    return (0.2 + 0.6 * mask.float()).expand(3, SIDE, SIDE).clone(), mask


def drawn(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [strong.strong(*disc(), seeding.numpy_rng("sample", n)) for n in range(count)]


def test_images_stay_images_and_masks_stay_labels() -> None:
    for image, mask in drawn(60):
        assert image.shape == (3, SIDE, SIDE) and mask.shape == (SIDE, SIDE) and mask.dtype == torch.long
        assert float(image.min()) >= 0 and float(image.max()) <= 1
        assert set(mask.unique().tolist()) <= {0, 1}


def test_the_lesion_stays_below_its_mask() -> None:
    """Where shapes change, image and mask are resampled alike: all but the rim of the mask is bright."""
    changed = 0
    for n in range(60):
        image, mask = strong.deform(*disc(), seeding.numpy_rng("shape", n))
        changed += not torch.equal(image, disc()[0])
        assert float(image[0][mask == 1].mean()) > 0.7
        outside = image[0][mask == 0]
        assert float((outside > 0.5).float().mean()) < 0.02
    assert 18 <= changed <= 41  # one of three changes of probability 0.2 each happens to 0.49 of the pairs


def test_half_of_the_samples_keep_their_shape() -> None:
    kept = sum(torch.equal(mask, disc()[1]) for _, mask in drawn(200))
    assert abs(kept / 200 - 0.8**3) < 4 * math.sqrt(0.25 / 200)


def test_a_scale_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strong, "ROTATION", 0.0)
    monkeypatch.setattr(strong, "SCALE", 1.0)
    monkeypatch.setattr(strong, "ELASTIC", 0.0)
    monkeypatch.setattr(strong, "SCALES", (1.4, 1.4))
    monkeypatch.setattr(strong, "_factor", lambda rng, low, high: 1.4)
    _, mask = strong.deform(*disc(), np.random.default_rng(0))
    assert int(mask.sum()) == pytest.approx(1.4**2 * int(disc()[1].sum()), rel=0.05)


def test_the_same_stream_gives_the_same_bytes_whoever_draws_it() -> None:
    image, mask = disc()
    pairs = Pairs((image * 255).byte().repeat(4, 1, 1, 1), mask.byte().repeat(4, 1, 1), ("",) * 4, tuple("abcd"))
    batches = Batches(pairs, 4, "seed", strong.after(None))
    whole, second = batches.batch(3), batches.batch(3, rank=1, world=2)
    assert torch.equal(whole.image[1::2], second.image) and torch.equal(whole.mask[1::2], second.mask)
    assert not torch.equal(whole.image[0], whole.image[1])


def test_volumes_are_refused(spec: DatasetSpec) -> None:
    strong.check(spec)
    with pytest.raises(
        UserError, match="augment: strong works on images of two dimensions, and toy has 3; use augment: own"
    ):
        strong.check(spec.model_copy(update={"ndim": 3, "name": "toy"}))
