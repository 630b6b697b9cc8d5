"""Guidance by an earlier snapshot and in an interval of noise levels, held to samplers that are written out."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.core.contracts import Sampling
from pipeline.diffusion.schedule import noise_of
from pipeline.methods.conditioning import mask as mask_hint
from pipeline.methods.generators._control import ControlledDiffusion
from pipeline.networks.stable_diffusion import split_unet
from tests.levels import ROUNDING, apart
from tests.methods.test_sampling import MASKS, SAMPLERS, draw, generator_over, prompts, streams
from tests.tiny_base import write_tiny_base

NAMES = range(3)
INTERVAL = (0.25, 0.75)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[ControlledDiffusion, ControlledDiffusion]:
    """A generator, and another state of it: its control halved, its decoder moved."""
    base: Path = write_tiny_base(tmp_path_factory.mktemp("base"), "sample")
    strong, weak = generator_over(base), generator_over(base)
    torch.manual_seed(2)
    with torch.no_grad():
        for weight in weak.network.parameters():
            weight *= 0.5
        for weight in weak.decoder.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return strong, weak


def predicted(built: ControlledDiffusion, latents: Tensor, timestep: int, texts: list[str]) -> Tensor:
    """What a generator predicts of latents under one text each, without any sharing of features or batches."""
    unet, times = built.model.unet, torch.full((len(latents),), timestep)
    text, hint = built.model.embed(texts), built.network.controlnet_cond_embedding(mask_hint.hint(MASKS[NAMES], 2))
    residuals = split_unet.control(built.network, latents, times, text, hint)
    return built.decoder(split_unet.encode(unet, latents, times, text), residuals, text)


@torch.no_grad()
def literal(strong: ControlledDiffusion, weak: ControlledDiffusion | None, steps: int, scale: float) -> Tensor:
    """DDIM under guidance between a quarter and three quarters of the noise levels, by `weak` or the empty prompt."""
    scheduler, latents = strong.model.scheduler, noise_of(streams(NAMES), (4, 8, 8))
    scheduler.set_timesteps(steps)
    for timestep in scheduler.timesteps.tolist():
        toward = predicted(strong, latents, timestep, prompts(NAMES))
        if 250 <= timestep <= 750:
            texts = prompts(NAMES) if weak else [""] * len(NAMES)
            away = predicted(weak or strong, latents, timestep, texts)
            toward = away + scale * (toward - away)
        latents = scheduler.step(toward, timestep, latents).prev_sample
    return strong.model.images(latents)


@pytest.mark.parametrize("by_snapshot", [True, False])
def test_guidance_acts_in_its_interval_as_written_out(
    by_snapshot: bool, pair: tuple[ControlledDiffusion, ControlledDiffusion]
) -> None:
    strong, weak = pair[0], pair[1] if by_snapshot else None
    settings = Sampling(8, 3.0, guidance_interval=INTERVAL, weaker=weak)
    images = draw(strong, NAMES, settings)
    assert apart(images, literal(strong, weak, 8, 3.0)) < ROUNDING
    everywhere = draw(strong, NAMES, Sampling(8, 3.0, weaker=weak))
    unguided = draw(strong, NAMES, Sampling(8, 1.0))
    assert min(apart(images, everywhere), apart(images, unguided)) > 4 * ROUNDING


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_generator_that_guides_itself_changes_nothing(
    sampler: Any, pair: tuple[ControlledDiffusion, ControlledDiffusion]
) -> None:
    alone, itself = (draw(pair[0], NAMES, Sampling(5, 4.0 if weak else 1.0, sampler=sampler, weaker=weak))
                     for weak in (None, pair[0]))  # fmt: skip
    assert apart(alone, itself) < ROUNDING


def test_features_are_reused_only_where_the_branches_are_the_same(
    pair: tuple[ControlledDiffusion, ControlledDiffusion],
) -> None:
    """Of ten steps, 3 to 7 lie in the interval; 3 and 8 have other branches than the step before and encode anew."""
    settings = {"guidance_scale": 3.0, "guidance_interval": (0.25, 0.75)}
    timesteps = [901, 801, 701, 601, 501, 401, 301, 201, 101, 1]
    first, last = (next(n for n, t in enumerate(timesteps) if t < bound) for bound in (750, 250))
    plain = draw(pair[0], NAMES, Sampling(10, **settings))
    assert apart(draw(pair[0], NAMES, Sampling(10, reused=(first, last), **settings)), plain) < ROUNDING
    assert apart(draw(pair[0], NAMES, Sampling(10, reused=(first + 1,), **settings)), plain) > 4 * ROUNDING
