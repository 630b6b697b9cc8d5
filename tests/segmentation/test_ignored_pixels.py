"""Ignored pixels: a loss is that of the image without them, and without any nothing changes by a bit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.core.contracts import IGNORED, Batch
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.data.labels import IGNORED_PIXELS
from pipeline.data.loading import Augment, Batches, Pairs, dihedral
from pipeline.data.sample import DatasetSpec
from pipeline.methods.segmenters import (
    _foreground,
    _kept_pixels,
    _pixel_contrast,
    _recycling,
    _recycling_params,
    _structure_objective,
    _supervised,
    sanet,
)
from pipeline.methods.segmenters._random_affine import RandomAffine
from pipeline.segmentation import strong_augmentation
from pipeline.segmentation.build import build_segmenter
from pipeline.segmentation.mean_teacher import MeanTeacher
from pipeline.segmentation.params import Segment, SegmenterEntry
from pipeline.segmentation.train import train_segmenter
from tests.conftest import TOY_STUDY, blobs

CLASSES, KEPT, WIDTH = 3, 20, 32  # columns of the image that keep their labels, and all columns
Objective = Callable[[Batch], dict[str, Tensor]]


class Logits(nn.Module):
    """A network whose logits are its image: what a loss makes of them is then the loss alone."""

    def forward(self, image: Tensor) -> Tensor:
        return image

    preprocess = forward

    def maps(self, image: Tensor) -> tuple[Tensor, ...]:
        return image, 2 * image

    @property
    def network(self) -> nn.Module:
        return self

    def restore_size(self, maps: Tensor, image: Tensor) -> Tensor:
        return maps


def objectives() -> dict[str, Objective]:
    network: Any = Logits()
    plain = _recycling_params.Params(mode="plain", focal=1.0)
    recycling = _recycling.PlainObjective(network, plain)
    modules = {
        "cross-entropy and Dice": _supervised.SupervisedObjective(network),
        "with background": _supervised.SupervisedObjective(network, weight=0.5, first=0),
        "BCE and Dice per image": sanet.BceDiceObjective(network, multi_scale=False),
        "weighted structure": _structure_objective.StructureObjective(network, CLASSES, True, False),
        "structure": _structure_objective.StructureObjective(network, CLASSES, False, False),
        "plain trunk": recycling,
    }
    return {name: lambda batch, one=one: one(batch, 0.0) for name, one in modules.items()}


@pytest.fixture
def batch() -> Batch:
    """Two label maps and logits for them, in float64; the right part of each map is ignored."""
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(2, CLASSES, 24, WIDTH, generator=rng, dtype=torch.float64)
    mask = torch.randint(0, CLASSES, (2, 6, 8), generator=rng).repeat_interleave(4, 1).repeat_interleave(4, 2)
    mask[..., KEPT:] = IGNORED
    return Batch(logits, mask, ("", ""), ("s/0/0", "s/0/1"), ignores=True)


@pytest.fixture
def exact_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets in float64, as the logits are; else the border weights of the structure loss are rounded to float32."""
    in_float32 = _foreground.targets
    monkeypatch.setattr(_foreground, "targets", lambda mask, classes: in_float32(mask, classes).double())


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def cut(batch: Batch) -> Batch:
    """The same without the ignored columns."""
    return replace(batch, image=batch.image[..., :KEPT], mask=batch.mask[..., :KEPT], ignores=False)


@pytest.mark.usefixtures("exact_targets")
@pytest.mark.parametrize("name", objectives())
def test_the_loss_is_that_of_the_image_from_which_ignored_pixels_are_cut(name: str, batch: Batch) -> None:
    loss, whole, part = objectives()[name], batch.image.requires_grad_(), cut(batch)
    found, expected = loss(replace(batch, image=whole)), loss(part)
    assert found.keys() == expected.keys()
    for key in found:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(total(found), whole)
    assert not gradient[..., KEPT:].any()
    assert gradient[..., :KEPT].any()


@pytest.mark.parametrize("name", objectives())
def test_nothing_is_left_to_learn_where_every_pixel_of_a_batch_is_ignored(name: str, batch: Batch) -> None:
    """As a random patch may have it; a training must not end in NaN for that."""
    image = batch.image.requires_grad_()
    losses = objectives()[name](replace(batch, image=image, mask=torch.full_like(batch.mask, IGNORED)))
    (gradient,) = torch.autograd.grad(total(losses), image)
    assert all(loss.isfinite() for loss in losses.values())
    assert not gradient.any()


def test_without_ignored_pixels_the_losses_are_those_of_before_to_the_bit(toy_batch: Batch) -> None:
    logits, mask = torch.randn(4, 2, 32, 32, generator=torch.Generator().manual_seed(1)), toy_batch.mask
    network: Any = Logits()
    found = _supervised.SupervisedObjective(network)(replace(toy_batch, image=logits), 0.0)
    true = F.one_hot(mask, 2).movedim(-1, 1)[:, 1:].float()
    probability, dims = logits.softmax(1)[:, 1:], (0, 2, 3)
    dice = (1 - (2 * (probability * true).sum(dims) + 1) / ((probability + true).sum(dims) + 1)).mean()
    assert torch.equal(found["cross_entropy"], F.cross_entropy(logits, mask))
    assert torch.equal(found["dice"], dice)
    bce = sanet.BceDiceObjective(network, multi_scale=False)(replace(toy_batch, image=logits), 0.0)["bce"]
    assert torch.equal(bce, F.binary_cross_entropy_with_logits(_foreground.log_odds(logits), true))


@pytest.mark.parametrize("name", objectives())
def test_a_flag_without_ignored_pixels_changes_no_loss(name: str, batch: Batch) -> None:
    loss, part = objectives()[name], cut(batch)
    for key, value in loss(replace(part, ignores=True)).items():
        torch.testing.assert_close(value, loss(part)[key], rtol=1e-6, atol=0)  # other orders of summation


def test_ignored_pixels_are_not_contrasted(batch: Batch) -> None:
    embedding = F.normalize(torch.randn(2, 8, 24, WIDTH, generator=torch.Generator().manual_seed(2)).double(), dim=1)
    predicted = batch.image.argmax(1)
    whole = _pixel_contrast.pixel_contrast(embedding, batch.mask, predicted, batch.streams, 5)
    left, mask, found = (x[..., :KEPT] for x in (embedding, batch.mask, predicted))
    part = _pixel_contrast.pixel_contrast(left, mask, found, batch.streams, 5)
    torch.testing.assert_close(whole, part, rtol=1e-12, atol=0)


def test_a_resized_pixel_counts_where_it_takes_nothing_from_an_ignored_one() -> None:
    kept = torch.ones(1, 8, 8, dtype=torch.bool)
    kept[..., 4:] = False
    assert torch.equal(_kept_pixels.resized(kept, 8, align_corners=False), kept)
    # Halves of 16 pixels lie at (k + 1/2) / 2 - 1/2: number 6 at 2.75 and 7 at 3.25, which takes a quarter of pixel 4.
    assert _kept_pixels.resized(kept, 16, align_corners=False)[0, 0].tolist() == [True] * 7 + [False] * 9


@pytest.mark.parametrize("name", ["sanet", "polyp_pvt"])
def test_ignored_pixels_stay_out_at_every_size_of_multi_scale_training(name: str, toy_batch: Batch) -> None:
    """Targets hidden below them must not show: whatever the class was, the loss is the same."""
    network: Any = Logits()
    objective: Any = {
        "sanet": sanet.BceDiceObjective(network, multi_scale=True),
        "polyp_pvt": _structure_objective.StructureObjective(network, 2, True, multi_scale=True),
    }[name].train()
    sizes = set()
    for step in range(12):
        streams = tuple(f"s/{step}/{n}" for n in range(4))
        image = toy_batch.image[:, :2].repeat(1, 1, 3, 3)
        mask = toy_batch.mask.repeat(1, 3, 3)
        mask[..., 40:] = IGNORED
        found = objective(Batch(image, mask, ("",) * 4, streams, ignores=True), 0.0)
        dark = image.clone()
        dark[..., 48:] = 0.5  # some pixels away from the border: an image is resized with its surroundings
        other = objective(Batch(dark, mask, ("",) * 4, streams, ignores=True), 0.0)
        assert [value.item() for value in found.values()] == pytest.approx([v.item() for v in other.values()], rel=1e-6)
        sizes.add(round(found[next(iter(found))].item(), 6))
    assert len(sizes) > 1  # several sizes were drawn


@pytest.mark.parametrize("augment", [dihedral, strong_augmentation.strong, RandomAffine(0.3, (3.0, 2.0), 0.2)])
def test_augmentation_moves_ignored_pixels_with_the_others(augment: Augment) -> None:
    image, mask = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.zeros(32, 32).long()
    mask[8:20, 8:16], mask[8:20, 16:24] = 1, IGNORED
    for number in range(20):
        changed = augment(image, mask, np.random.default_rng(number))[1]
        assert set(changed.unique().tolist()) == {0, 1, IGNORED}


def pairs_with(mask: Tensor) -> Pairs:
    images = torch.zeros(len(mask), 3, *mask.shape[1:], dtype=torch.uint8)
    return Pairs(images, mask, ("",) * len(mask), tuple(map(str, range(len(mask)))))


def test_a_batch_tells_whether_it_ignores_anything() -> None:
    mask = torch.zeros(4, 8, 8, dtype=torch.uint8)
    assert Batches(pairs_with(mask), 4, "s").batch(0).kept is None
    mask[2, 0, 0] = IGNORED
    batch = Batches(pairs_with(mask), 4, "s").batch(0)
    assert batch.kept is not None and int((~batch.kept).sum()) == 1
    assert batch.labels.max() == 0
    assert batch.to(torch.device("cpu")).ignores and batch.part(0, 2).ignores


def test_a_mean_teacher_leaves_them_out_too(spec: DatasetSpec, toy_batch: Batch) -> None:
    torch.manual_seed(0)
    segmenter: Any = build_segmenter("unet", SegmenterEntry.model_validate(TOY_STUDY["segmenters"]["unet"]), spec)
    segmenter.objective.eval()
    mask = toy_batch.mask.clone()
    mask[..., 16:] = IGNORED
    ignoring = replace(toy_batch, mask=mask, ignores=True)
    objective = MeanTeacher(segmenter, pairs_with(torch.zeros(3, 32, 32, dtype=torch.uint8)), None, 60).eval()
    found, alone = objective(ignoring, 0.5), segmenter.objective(ignoring, 0.5)
    assert {"cross_entropy", "dice", "consistency"} == found.keys()
    assert torch.equal(found["cross_entropy"], alone["cross_entropy"])
    assert all(loss.isfinite() for loss in found.values())


def ignoring_set(folder: Path, spec: DatasetSpec, pixels: slice) -> ImageSet:
    """Four blobs; of the third one's mask these columns are ignored."""
    samples = [sample for sample, _ in blobs(spec, {"train": 4})]
    samples[2].masks[..., pixels] = IGNORED
    return ImageSet.create(folder, spec, [(s, {IGNORED_PIXELS: int((s.masks == IGNORED).sum())}) for s in samples])


def trained(images: ImageSet, name: str = "unet_plain32", **options: Any) -> list[dict[str, float]]:
    segment = Segment(max_steps=2, batch_size=4, learning_rate=1e-3, seeds=(0,))
    entry = SegmenterEntry.model_validate(options)
    return train_segmenter(name, entry, segment, images, "s", Runtime.alone(1))[1]


def test_a_training_goes_through_and_pixels_that_are_ignored_leave_no_trace(spec: DatasetSpec, tmp_path: Path) -> None:
    losses = trained(ignoring_set(tmp_path / "some", spec, slice(0, 16)), width=8)
    assert len(losses) == 2 and all(np.isfinite(value) for row in losses for value in row.values())
    assert losses != trained(ignoring_set(tmp_path / "none", spec, slice(0, 0)), width=8)


def test_a_mask_without_any_pixel_left_is_named(spec: DatasetSpec, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"masks/train_2\.png: all pixels are ignored \(255\).*leave the image out"):
        trained(ignoring_set(tmp_path / "all", spec, slice(None)), width=8)


@pytest.mark.parametrize("name", ["recycling", "recycling_ensemble", "cimd", "dermosegdiff", "probabilistic_unet"])
def test_diffusion_segmenters_refuse_in_one_line(name: str, spec: DatasetSpec, tmp_path: Path) -> None:
    images = ignoring_set(tmp_path / "some", spec, slice(0, 16))
    with pytest.raises(UserError, match=rf"train_2\.png has ignored pixels \(255\); {name} needs the label of every"):
        trained(images, name)


def test_the_plain_trunk_of_recycling_takes_them(spec: DatasetSpec, tmp_path: Path) -> None:
    own = {"mode": "plain", "channels": [8, 16, 32, 64], "blocks": 1}
    losses = trained(ignoring_set(tmp_path / "some", spec, slice(0, 16)), "recycling", **own)
    assert all(np.isfinite(value) for row in losses for value in row.values())
