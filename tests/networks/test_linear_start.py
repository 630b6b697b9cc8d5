"""The linear start: an untrained autoencoder already keeps colours, and is an ordinary AutoencoderKL."""

import pytest
import torch

from pipeline.networks.stable_diffusion.linear_start import COLOURS, Palette, start_linear
from pipeline.stages.base import tiny
from pipeline.stages.base.params import Autoencoder


def plain(channels: tuple[int, ...]) -> torch.nn.Module:
    torch.manual_seed(0)
    settings = Autoencoder(channels=channels, max_steps=1, batch_size=1, crop=8, learning_rate=1e-3)
    return tiny.autoencoder(settings, 32).eval()


def coloured(count: int = 8) -> torch.Tensor:
    """Images [N, 3, 32, 32] in [-1, 1] of flat 8x8 tiles in colours about a reddish mean."""
    rng = torch.Generator().manual_seed(1)
    spread = torch.tensor([0.3, 0.2, 0.1]).view(1, 3, 1, 1)
    tiles = torch.tensor([0.2, -0.1, -0.3]).view(1, 3, 1, 1) + spread * torch.randn(count, 3, 4, 4, generator=rng)
    return torch.nn.functional.interpolate(tiles.clamp(-1, 1), scale_factor=8)


def error(vae: torch.nn.Module, images: torch.Tensor) -> float:
    with torch.no_grad():
        return float((vae.decode(vae.encode(images).latent_dist.mean).sample - images).abs().mean())  # type: ignore[operator]


@pytest.mark.parametrize("channels", [(16, 16), (16, 48, 96), (32, 64)])
def test_flat_colours_survive_without_training(channels: tuple[int, ...]) -> None:
    images, vae = coloured(), plain(channels)
    before = error(vae, images)
    start_linear(vae, Palette.of(images))  # type: ignore[arg-type]
    assert error(vae, images) < 0.06 < 0.2 < before


def test_first_latents_are_uncorrelated_colours_of_unit_variance() -> None:
    images, vae = coloured(64), plain((16, 48))
    start_linear(vae, Palette.of(images))  # type: ignore[arg-type]
    with torch.no_grad():
        latents = vae.encode(images).latent_dist.mean[:, :COLOURS]  # type: ignore[operator]
    covariance = torch.cov(latents.permute(1, 0, 2, 3).flatten(1))
    # the group norm shrinks what is far from the mean a little, so the variance is below one
    assert torch.allclose(covariance.diagonal(), torch.full((COLOURS,), 0.8), atol=0.25)
    assert float((covariance - covariance.diagonal().diag()).abs().max()) < 0.1


def test_posterior_is_narrow_and_every_weight_can_learn() -> None:
    images, vae = coloured(), plain((16, 16))
    start_linear(vae, Palette.of(images))  # type: ignore[arg-type]
    posterior = vae.encode(images).latent_dist  # type: ignore[operator]
    assert float(posterior.std.detach().max()) == pytest.approx(torch.e**-3, rel=1e-4)
    (vae.decode(posterior.mean).sample - images.flip(-1)).pow(2).mean().backward()  # type: ignore[operator]
    dead = [name for name, weight in vae.named_parameters() if weight.grad is None]
    assert dead == []


def test_palette_of_one_colour_is_finite() -> None:
    palette = Palette.of(torch.full((2, 3, 8, 8), 0.25))
    assert torch.isfinite(palette.axes / palette.deviation[:, None]).all()
