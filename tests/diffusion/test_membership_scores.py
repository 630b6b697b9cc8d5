"""Membership scores against the literal ones in float64, for every kind of prediction, and of all generators."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.core import plugins
from pipeline.core.contracts import Denoises
from pipeline.data.sample import DatasetSpec
from pipeline.diffusion import membership
from pipeline.diffusion.membership import Denoiser
from pipeline.diffusion.schedule import Schedule
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.stages.base import tiny
from pipeline.stages.base.params import Autoencoder
from pipeline.stages.base.params import Denoiser as BaseDenoiser
from tests.family_bases import NAMES, SIZE, Name, write_family_base
from tests.reference import membership_literal as literal

KINDS = ["epsilon", "v_prediction", "sample"]
SHAPE, IMAGES = (2, 4, 4), 3
ABAR = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
TIMESTEPS = (100, 300)


def network(noisy: Tensor, timestep: int) -> Tensor:
    """Something smooth that depends on the sample, its neighbours and the time."""
    return torch.tanh(noisy + 0.3 * noisy.roll(1, -1)) * (0.5 + timestep / 1000) + 0.1 * noisy.flip(-2) ** 2


def denoiser(kind: str) -> Denoiser:
    clean = torch.randn(IMAGES, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return Denoiser(Schedule(ABAR, kind), clean, network)


def alone(noisy: Tensor, timestep: int) -> Tensor:
    return network(noisy[None], timestep)[0]


def noises(count: int) -> Tensor:
    return torch.randn(count, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_the_literal_ones(kind: str) -> None:
    asked, abar, first = denoiser(kind), ABAR.tolist(), 20 if kind == "sample" else 0
    found = {
        "loss": membership.loss(asked, noises(4), TIMESTEPS),
        "pia": membership.pia(asked, TIMESTEPS),
        "pian": membership.pia(asked, TIMESTEPS, normalised=True),
        "secmi": membership.secmi(asked),
    }
    for k, z0 in enumerate(asked.clean):
        expected = {
            "loss": literal.loss(alone, abar, kind, z0, noises(4), list(TIMESTEPS)),
            "pia": literal.pia(alone, abar, kind, z0, list(TIMESTEPS), first, False),
            "pian": literal.pia(alone, abar, kind, z0, list(TIMESTEPS), first, True),
            "secmi": literal.secmi(alone, abar, kind, z0, first),
        }
        for name, value in expected.items():
            assert found[name][k].item() == pytest.approx(value, rel=1e-9), name


def test_a_perfect_network_has_the_largest_loss_score() -> None:
    """A network that knows one image predicts its noise exactly, and only for that image."""
    known = denoiser("epsilon").clean[:1]

    def memory(noisy: Tensor, timestep: int) -> Tensor:
        return (noisy - ABAR[timestep].sqrt() * known) / (1 - ABAR[timestep]).sqrt()

    scores = membership.loss(Denoiser(Schedule(ABAR), denoiser("epsilon").clean, memory), noises(2), (200,))
    assert scores[0].item() == pytest.approx(0, abs=1e-12)
    assert (scores[1:] < -0.1).all()


def test_timesteps_are_scaled_to_the_schedule() -> None:
    asked: list[int] = []

    def spy(noisy: Tensor, timestep: int) -> Tensor:
        asked.append(timestep)
        return noisy

    short = Denoiser(Schedule(ABAR[:100]), denoiser("epsilon").clean, spy)
    membership.loss(short, noises(1), (100, 300))
    assert asked == [10, 30]
    asked.clear()
    membership.secmi(short)
    assert asked == list(range(11))  # 11 calls


def test_a_model_without_an_autoencoder_has_no_such_score() -> None:
    with pytest.raises(ValueError, match="no autoencoder"):
        membership.autoencoder(denoiser("epsilon"))


# --- the generators --------------------------------------------------------------------------------------------------


def base() -> StableDiffusion:
    """A base of factor 2 with random weights that predicts noise."""
    torch.manual_seed(0)
    vae = tiny.autoencoder(
        Autoencoder(channels=(16, 16), max_steps=1, batch_size=1, crop=8, learning_rate=1e-3), size=16
    )
    settings = BaseDenoiser(channels=(32, 32), text_width=16, max_steps=1, batch_size=1, learning_rate=1e-3)
    unet = tiny.denoiser(settings, 4, 8).requires_grad_(False).eval()
    return StableDiffusion(vae, tiny.text_tower(16), tiny.tokenizer(), unet, tiny.scheduler("epsilon"))


def built(method: str, options: dict[str, Any], over: StableDiffusion | None = None, size: int = 16) -> Any:
    torch.manual_seed(1)
    params = plugins.read_params("generators", method, options, "generators.g")
    spec = DatasetSpec(name="x", size=size)
    over = None if method == "seg_guided" else over or base()
    generator = plugins.load("generators", method).build(params, over, spec)
    for weight in generator.objective.parameters():
        if not weight.any():  # zero convolutions, which hide the hint until they are trained
            torch.nn.init.normal_(weight.data, std=0.1)
    generator.objective.eval()
    return generator


def pairs() -> tuple[Tensor, Tensor, list[str]]:
    rng = torch.Generator().manual_seed(2)
    images = torch.rand(2, 3, 16, 16, generator=rng)
    return images, (images[:, 0] > 0.5).long(), ["A photo of a polyp.", "Another."]


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("controlnet", {"start": 0.1}),
        ("siamese", {"start": 0.1}),
        ("mask_image", {"start": 0.1}),
        ("adc", {"start": 0.1}),
        ("t2i_adapter", {}),
        ("seg_guided", {"channels": [32, 32], "layers": 1, "ablation": 0.0}),
    ],
)
def test_the_loss_is_that_of_the_training(method: str, options: dict[str, Any]) -> None:
    """The score is minus the mean squared error of the branch of the mask, with the image's own mask and prompt."""
    generator = built(method, options)
    assert isinstance(generator, Denoises)
    images, masks, prompts = pairs()
    asked = generator.denoiser(images, masks, prompts)
    noise = torch.randn(asked.clean.shape[1:], generator=torch.Generator().manual_seed(3))
    t = torch.full((2,), 200)
    repeated = noise.expand_as(asked.clean)
    objective = generator.objective
    with torch.no_grad():
        if method == "seg_guided":
            trained = objective.losses(asked.clean, masks, repeated, t, torch.ones(2, 1, dtype=torch.bool))["mask"]
        else:
            trained = own_loss(generator, objective, (asked.clean, repeated, t), (images, masks, prompts))
    assert -membership.loss(asked, noise[None], (200,)).mean().item() == pytest.approx(trained.item(), rel=1e-5)


def own_loss(generator: Any, objective: Any, drawn: tuple[Tensor, ...], pair: tuple[Tensor, Tensor, list[str]]) -> Any:
    """The loss of the mask that the objective computes from given latents, noise and timesteps."""
    images, masks, prompts = pair
    text, hint = generator.model.embed(prompts), objective.hint(masks, images)
    if hasattr(objective, "params") and hasattr(objective.params, "w_d"):
        return objective.losses(*drawn, text, hint, images, masks)["mask"]
    if hasattr(objective, "losses"):
        return objective.losses(*drawn, text, torch.cat([hint, images]), 1.0, masks)["mask"]
    return objective(batch_of(generator, drawn, text, images, masks), 1.0)["mask"]


def batch_of(generator: Any, drawn: tuple[Tensor, ...], text: Tensor, images: Tensor, masks: Tensor) -> Any:
    """A batch whose latents are the means of the posterior."""
    from pipeline.networks.stable_diffusion.latent_batches import Draws, LatentBatch

    _, noise, t = drawn
    moments = generator.model.moments(images)
    return LatentBatch(moments, text, images, masks, ("a", "b"), Draws(torch.zeros_like(noise), noise, t))


@pytest.mark.parametrize("family", NAMES)
def test_bases_of_other_families_are_attacked_too(family: Name, tmp_path: Path) -> None:
    """Stable Diffusion XL is conditioned on the size of the images."""
    generator = built("controlnet", {"start": 0.1}, StableDiffusion.open(write_family_base(tmp_path, family)), SIZE)
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    asked = generator.denoiser(images, (images[:, 0] > 0.5).long(), ["A photo of a polyp.", ""])
    noise = torch.randn(1, *asked.clean.shape[1:], generator=torch.Generator().manual_seed(3))
    for scores in (membership.loss(asked, noise, (200,)), membership.pia(asked, (200,)), membership.secmi(asked)):
        assert scores.shape == (2,) and scores.isfinite().all()


def test_the_mask_and_the_prompt_matter_and_nothing_is_trained() -> None:
    generator = built("controlnet", {"start": 0.1})
    before = copy.deepcopy(generator.objective.state_dict())
    images, masks, prompts = pairs()
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    scores = [
        membership.loss(generator.denoiser(images, some, said), noise, (200,))
        for some, said in ((masks, prompts), (masks.flip(0), prompts), (masks, prompts[::-1]))
    ]
    assert not torch.equal(scores[0], scores[1]) and not torch.equal(scores[0], scores[2])
    assert all(torch.equal(value, before[key]) for key, value in generator.objective.state_dict().items())


def test_the_autoencoder_score_is_its_squared_error() -> None:
    generator = built("controlnet", {})
    images, masks, prompts = pairs()
    asked = generator.denoiser(images, masks, prompts)
    error = ((generator.model.images(asked.clean) - images).double() ** 2).flatten(1).mean(1)
    torch.testing.assert_close(membership.autoencoder(asked), -error)
    assert error.min() > 0
