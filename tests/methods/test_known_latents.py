"""Sampling around real pixels: known latents and pixels stay, holes are drawn as ever, a strength skips steps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.core import plugins, seeding
from pipeline.core.contracts import RealImages, Sampling
from pipeline.data.holes import drawn_share, hole_of
from pipeline.data.sample import DatasetSpec
from pipeline.diffusion.schedule import Schedule, noise_of
from pipeline.methods.generators import _sampling
from pipeline.methods.generators._control import ControlledDiffusion
from pipeline.methods.generators._known_latents import KnownLatents, blend, kept_steps, latent_holes
from pipeline.networks.stable_diffusion.model import StableDiffusion
from tests.levels import ROUNDING, apart
from tests.mask_sets import box
from tests.tiny_base import write_tiny_base

SAMPLERS = ("ddim", "dpmpp_2m", "unipc")
METHODS = ("siamese", "adc", "controlnet", "mask_image", "t2i_adapter")
SIZE = 16
LESIONS = np.stack([box(SIZE, slice(4 + n, 8 + n), slice(5, 9)) for n in range(5)]).astype(bool)
IMAGES = seeding.numpy_rng("real images").integers(0, 256, (5, 3, SIZE, SIZE)).astype(np.uint8)


@pytest.fixture(scope="module", params=["sample", "epsilon", "v_prediction"])
def generator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ControlledDiffusion:
    return built("controlnet", write_tiny_base(tmp_path_factory.mktemp("base"), request.param))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("base"), "sample")


def built(method: str, base: Path) -> ControlledDiffusion:
    """An untrained generator whose control is not zero."""
    torch.manual_seed(1)
    module = plugins.load("generators", method)
    generator = module.build(module.Params(), StableDiffusion.open(base), DatasetSpec(name="toy", size=SIZE))
    for weight in generator.network.parameters():
        if not weight.detach().any():
            torch.nn.init.normal_(weight, std=0.2)
    generator.objective.eval()
    return generator


def real(names: range, feather: float = 0.05, strength: float | None = None) -> RealImages:
    """The images with holes around their lesions."""
    holes = np.stack([hole_of(LESIONS[name], 0.1) for name in names])
    shares = np.stack([drawn_share(LESIONS[name], 0.1, feather) for name in names])
    return RealImages(IMAGES[names.start : names.stop], holes, shares, strength)


def everywhere(names: range, opened: bool, strength: float | None = None) -> RealImages:
    holes = np.full((len(names), SIZE, SIZE), opened)
    return RealImages(IMAGES[names.start : names.stop], holes, holes.astype(np.float32), strength)


def draw(generator: ControlledDiffusion, names: range, settings: Sampling, lent: RealImages | None = None) -> Tensor:
    masks = torch.from_numpy(LESIONS[names.start : names.stop]).long()
    rngs = [seeding.torch_rng("sample", name) for name in names]
    return generator.sample(masks, [f"polyp {name}" for name in names], rngs, settings, (), lent)


def bytes_of(images: Tensor) -> np.ndarray:
    return (images * 255).round().clamp(0, 255).byte().numpy()


class Arbitrary(_sampling.DenoisingNetworks):
    """Predicts something unrelated to the latents and records what it is shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, Tensor]] = []

    def encode(self, noisy: Tensor, times: Tensor, conditions: Any) -> Any:
        self.seen.append((int(times[0]), noisy))
        return noisy

    def decode(self, features: Any, text: Tensor) -> Tensor:
        return torch.sin(3 * features) + 0.5


@pytest.mark.parametrize("strength", [None, 0.5])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_known_latents_are_the_real_ones_at_every_level_and_in_the_end(
    sampler: Any, strength: float | None, generator: ControlledDiffusion
) -> None:
    """In float64, with one noise per image, as the real latents noised anew for every level."""
    schedule = Schedule(generator.model.scheduler.alphas_cumprod.double(), generator.model.schedule.prediction)
    z0, noise = (noise_of([seeding.torch_rng(name)], (4, 8, 8)).double() for name in ("z0", "noise"))
    holes = latent_holes(torch.from_numpy(LESIONS[:1]), 2)
    known, networks = KnownLatents(z0, holes, schedule, strength), Arbitrary()
    conditions = torch.zeros(1, 1), []
    settings = Sampling(8, 1.0, sampler=sampler)
    latents = _sampling.denoise(
        _sampling.Predictor(networks, conditions), generator.model.scheduler, lambda: noise, settings, known
    )
    outside = ~holes.expand_as(z0)
    assert latents.dtype == torch.float64
    assert float((latents - z0)[outside].abs().max()) <= 1e-12
    assert len(networks.seen) == (8 if strength is None else 4)
    for timestep, noisy in networks.seen:
        expected = schedule.q_sample(z0, noise, torch.tensor([timestep]))
        assert float((noisy - expected)[outside].abs().max()) < 1e-5  # the samplers keep their own levels in float32
    assert float((latents - z0)[~outside].abs().max()) > 0.1


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_a_prediction_of_clean_latents_implies_them(prediction: str) -> None:
    schedule = Schedule(torch.linspace(0.999, 0.005, 1000, dtype=torch.float64), prediction)
    x0, noisy = (noise_of([seeding.torch_rng(name)], (3, 4)).double() for name in "ab")
    for timestep in (0, 500, 999):
        t = torch.tensor([timestep])
        assert float((schedule.predict_x0(schedule.prediction_of(x0, noisy, t), noisy, t) - x0).abs().max()) <= 1e-12


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_hole_as_large_as_the_image_is_ordinary_sampling(sampler: Any, generator: ControlledDiffusion) -> None:
    settings, names = Sampling(5, 2.0, sampler=sampler), range(3)
    assert torch.equal(draw(generator, names, settings, everywhere(names, True)), draw(generator, names, settings))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_without_a_hole_the_real_image_is_left(sampler: Any, generator: ControlledDiffusion) -> None:
    names = range(3)
    images = draw(generator, names, Sampling(3, 2.0, sampler=sampler), everywhere(names, False))
    assert np.array_equal(bytes_of(images), IMAGES[:3])


@pytest.mark.parametrize("strength", [None, 0.4])
@pytest.mark.parametrize("method", METHODS)
def test_pixels_outside_the_hole_are_the_real_bytes(method: str, strength: float | None, base: Path) -> None:
    generator, names = built(method, base), range(3)
    lent = real(names, strength=strength)
    drawn = bytes_of(draw(generator, names, Sampling(5, 2.0), lent))
    outside = np.broadcast_to(~lent.holes[:, None], drawn.shape)
    assert np.array_equal(drawn[outside], IMAGES[:3][outside])
    lesion = np.broadcast_to(LESIONS[:3, None], drawn.shape)
    assert np.mean(drawn[lesion] != IMAGES[:3][lesion]) > 0.5


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_image_does_not_depend_on_its_batch(sampler: Any, generator: ControlledDiffusion) -> None:
    settings = Sampling(4, 3.0, sampler=sampler, reused=(1, 3))
    together = draw(generator, range(5), settings, real(range(5)))
    alone = torch.cat([draw(generator, range(n, n + 1), settings, real(range(n, n + 1))) for n in range(5)])
    assert apart(together, alone) < ROUNDING


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_strength_starts_from_the_noised_image_and_runs_the_last_steps(
    sampler: Any, generator: ControlledDiffusion
) -> None:
    names, settings, networks = range(3), Sampling(10, 1.0, sampler=sampler), Arbitrary()
    known = KnownLatents.of(generator.model, everywhere(names, True, 0.4))
    noise = noise_of([seeding.torch_rng("sample", name) for name in names], (4, 8, 8))
    _sampling.denoise(
        _sampling.Predictor(networks, (torch.zeros(3, 1), [])),
        generator.model.scheduler,
        lambda: noise,
        settings,
        known,
    )
    every = _sampling.scheduler_of(generator.model.scheduler, settings).timesteps.tolist()
    assert [timestep for timestep, _ in networks.seen] == every[6:]
    expected = generator.model.schedule.q_sample(known.latents, noise, torch.full((3,), every[6]))
    assert torch.equal(networks.seen[0][1], expected)


def test_a_strength_takes_the_last_steps() -> None:
    assert [kept_steps(20, strength) for strength in (0.05, 0.35, 0.5, 1.0)] == [1, 7, 10, 20]
    assert kept_steps(50, 0.58) == 29  # 50 * 0.58 is 28.999... in floating point
    assert kept_steps(3, 0.5) == 1


def test_a_hole_in_latents_holds_the_cells_it_touches_and_their_neighbours() -> None:
    pixel = torch.zeros(1, 16, 16, dtype=torch.bool)
    pixel[0, 5, 8] = True
    cells = latent_holes(pixel, 4)[0, 0]
    assert cells.nonzero().tolist() == [[r, c] for r in (0, 1, 2) for c in (1, 2, 3)]


def test_blending_is_the_weighted_mean() -> None:
    lent = everywhere(range(1), True)
    half = replace(lent, shares=np.full((1, SIZE, SIZE), 0.25, np.float32))
    mixed = blend(torch.ones(1, 3, SIZE, SIZE), half)
    assert apart(mixed, 0.25 + 0.75 * torch.from_numpy(IMAGES[:1]).float() / 255) < ROUNDING
