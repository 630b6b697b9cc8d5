"""Latent batches: bytes on the host, numbers on the device, and the streams' numbers whoever draws them."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline.core import seeding
from pipeline.networks.stable_diffusion.latent_batches import HostBatch, LatentBatch, LatentBatches, sample_noise
from tests.toy_training import pairs

CPU = torch.device("cpu")
SHAPE = (4, 8, 8)


@pytest.fixture
def batches() -> LatentBatches:
    """Ten pairs of 16 pixels over a base whose moments and embeddings are made up."""
    rng = torch.Generator().manual_seed(0)
    model: Any = SimpleNamespace(keep=None, schedule=range(1000), offload=lambda: None)
    model.moments = lambda image: torch.randn(len(image), 2 * SHAPE[0], *SHAPE[1:], generator=rng)
    model.embed = lambda prompts, size: torch.full((1, 7, 16), float(len(prompts[0])))
    return LatentBatches(model, pairs(16, 10), 4, "s", flip=True, dropout=0.5)


def test_the_host_keeps_pictures_as_bytes(batches: LatentBatches) -> None:
    """A sample of 384 pixels is 0.6 MB to copy; as float32 and int64 it was 2.9 MB, and the host converted it."""
    host = batches.batch(3)
    assert isinstance(host, HostBatch)
    assert (host.image.dtype, host.mask.dtype) == (torch.uint8, torch.uint8)


def test_the_device_has_the_numbers_of_the_literal_conversion(batches: LatentBatches) -> None:
    """Each sample by itself: divided, mirrored where its stream says so, with moments of the same view."""
    flips = []
    for step in range(4):
        batch = batches.batch(step).to(CPU)
        for position, index in enumerate(batches.plan(step)):
            rng = seeding.numpy_rng(f"s/{step}/{position}", "view")
            flips.append(bool(rng.random() < 0.5))
            image, mask = batches.pairs.image[index].float() / 255, batches.pairs.mask[index].long()
            if flips[-1]:
                image, mask = image.flip(-1), mask.flip(-1)
            assert torch.equal(batch.image[position], image) and torch.equal(batch.mask[position], mask)
            assert torch.equal(batch.moments[position], batches.moments[flips[-1]][index])
            assert bool(batch.text[position].any()) is False  # no prompt, and dropped
        assert batch.image.is_contiguous() and batch.mask.dtype == torch.long
    assert 0 < sum(flips) < len(flips)


def test_draws_are_those_of_each_sample_s_stream(batches: LatentBatches) -> None:
    """Posterior, timestep, noise, in this order; also where a batch was made without them."""
    model: Any = SimpleNamespace(schedule=range(1000), latents=lambda moments, noise: noise)
    host = batches.batch(5)
    whole = host.to(CPU)
    later = LatentBatch(whole.moments, whole.text, whole.image, whole.mask, whole.streams)
    for batch in (whole, later, whole.part(0, 4).to(CPU)):
        posterior, noise, t = sample_noise(model, batch)
        for position, stream in enumerate(batch.streams):
            rng = seeding.torch_rng(stream, "noise")
            assert torch.equal(posterior[position], torch.randn(SHAPE, generator=rng))
            assert t[position] == torch.randint(1000, (1,), generator=rng)
            assert torch.equal(noise[position], torch.randn(SHAPE, generator=rng))


def test_parts_and_shares_are_those_of_the_whole(batches: LatentBatches) -> None:
    whole = batches.batch(2)
    share, part = batches.batch(2, rank=1, world=2), whole.to(CPU).part(1, 3)
    assert len(share) == 2 and share.streams == whole.streams[1::2]
    assert torch.equal(share.image, whole.image[1::2]) and torch.equal(share.draws.noise, whole.draws.noise[1::2])
    assert part.draws is not None and torch.equal(part.draws.t, whole.draws.t[1:3])
    assert len(part) == 2 and part.streams == whole.streams[1:3]
