"""The Probabilistic U-Net: its sizes, its loss against a slow one, what it learns from, and what its samples are."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent

from pipeline.core import seeding
from pipeline.core.contracts import Batch
from pipeline.core.errors import UserError
from pipeline.data.sample import DatasetSpec
from pipeline.diffusion.schedule import noise_of
from pipeline.methods.segmenters import probabilistic_unet
from pipeline.methods.segmenters._probabilistic_unet_params import Params
from pipeline.networks.unets.gaussian_encoder import GaussianEncoder
from pipeline.networks.unets.probabilistic_unet import ProbabilisticShape, ProbabilisticUNet
from tests.bright_masks import with_bright_masks
from tests.reference import probabilistic_unet_literal as literal

SIZE = 8
SPEC = DatasetSpec(name="rated", size=SIZE, channels=1, raters=2)
TINY = {"filters": (4, 8), "convolutions": 1, "latent": 3}


def build(spec: DatasetSpec = SPEC, **values: object) -> probabilistic_unet.ProbabilisticSegmenter:
    seeding.seed_everything("probabilistic_unet")
    found = probabilistic_unet.build(Params(**(TINY | values)), spec)  # type: ignore[arg-type]
    assert isinstance(found, probabilistic_unet.ProbabilisticSegmenter)
    return found


def images(count: int = 2, size: int = SIZE) -> Tensor:
    return torch.rand(count, 1, size, size, generator=seeding.torch_rng("images"))


def batch(count: int = 2) -> Batch:
    return with_bright_masks(images(count))


def weights(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def test_the_networks_for_lidc_have_as_many_weights_as_a_public_one():
    """Those of stefanknegt/Probabilistic-Unet-Pytorch with two classes: 4,999,482, of which 1,368,108 only train."""
    with torch.device("meta"):
        shape = ProbabilisticShape()
        assert weights(ProbabilisticUNet(shape)) == 3_631_374
        assert weights(GaussianEncoder(shape.gaussian(1))) == 1_368_108


def pairs(gaussian: Independent) -> list[list[tuple[float, float]]]:
    means, sigmas = gaussian.base_dist.loc.tolist(), gaussian.base_dist.scale.tolist()
    return [list(zip(mean, sigma, strict=True)) for mean, sigma in zip(means, sigmas, strict=True)]


def pixels(maps: Tensor) -> list[list[list[float]]]:
    return maps.flatten(2).movedim(1, 2).tolist()


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("beta", [0.0, 10.0])
def test_the_loss_is_that_of_every_pixel_and_dimension(classes: int, beta: float):
    objective = build(SPEC.model_copy(update={"num_classes": classes}), beta=beta).objective.double()
    given = batch()
    mask = (given.image[:, 0] * classes).long().clamp(max=classes - 1)
    given = replace(given, image=given.image.double(), mask=mask)
    found = objective(given, 0.0)

    unet, image = objective.network.network, given.image
    seen = 2 * torch.nn.functional.one_hot(mask, classes).movedim(-1, 1).double() - 1
    posteriors = pairs(objective.posterior(image, seen[:, 1:] if classes == 2 else seen))
    priors = pairs(unet.prior(image))
    rngs = [seeding.torch_rng(stream, "noise") for stream in given.streams]
    noise = noise_of(rngs, (3,)).tolist()
    layers = [layer for layer in (*unet.joining, unet.head) if not isinstance(layer, torch.nn.ReLU)]
    convolutions = [(layer.weight[..., 0, 0].tolist(), layer.bias.tolist()) for layer in layers]
    logits = [
        [literal.joined(features, literal.point(posterior, own), convolutions) for features in maps]
        for maps, posterior, own in zip(pixels(unet.features(image)), posteriors, noise, strict=True)
    ]
    expected = literal.loss(logits, mask.flatten(1).tolist(), posteriors, priors, beta)
    assert float(sum(found.values()).detach()) == pytest.approx(expected, rel=1e-10)
    alone = literal.loss(logits, mask.flatten(1).tolist(), posteriors, priors, 0.0)
    assert float(found["cross_entropy"].detach()) == pytest.approx(alone, rel=1e-10)


def test_the_posterior_and_the_prior_learn_from_the_divergence():
    segmenter = build()
    segmenter.objective(batch(), 0.0)["divergence"].backward()
    for network in (segmenter.objective.posterior, segmenter.network.network.prior):
        assert all(weight.grad is not None and weight.grad.any() for weight in network.head.parameters())
    assert all(weight.grad is None for weight in segmenter.network.network.down.parameters())


def test_the_cross_entropy_reaches_the_posterior_but_not_the_prior():
    segmenter = build()
    segmenter.objective(batch(), 0.0)["cross_entropy"].backward()
    assert segmenter.objective.posterior.head.weight.grad.any()
    assert all(weight.grad is None for weight in segmenter.network.network.prior.parameters())


def test_predictions_do_not_use_the_posterior():
    segmenter = build()
    before = segmenter.predict(images(), 2)
    with torch.no_grad():
        for weight in segmenter.objective.posterior.parameters():
            weight.zero_()
    assert torch.equal(segmenter.predict(images(), 2), before)


def test_samples_differ_and_belong_to_their_image():
    segmenter = build()
    several = segmenter.predict(images(3), num_samples=3)
    assert several.shape == (3, 3, 2, SIZE, SIZE)
    # a batch of one sums in another order
    torch.testing.assert_close(segmenter.predict(images(3)[2:], num_samples=2), several[2:, :2], atol=1e-5, rtol=0)
    gaps = [float((several[:, one] - several[:, two]).abs().max()) for one, two in ((0, 1), (0, 2), (1, 2))]
    assert min(gaps) > 1e-3


def test_volumes_are_refused():
    volumes = {"ndim": 3, "shape": (8, 8, 8), "spacing": (1.0, 1.0, 1.0)}
    with pytest.raises(UserError, match="probabilistic_unet segments images; rated has 3 dimensions"):
        build(SPEC.model_copy(update=volumes))


def two_raters(step: int) -> Batch:
    """Bright squares that one rater outlines and the other never marks."""
    image = torch.zeros(16, 1, 8, 8)
    image[:, :, 2:6, 2:6] = 1
    rng = seeding.torch_rng("two", step)
    image = (image + 0.1 * torch.randn(16, 1, 8, 8, generator=rng)).clamp(0, 1)
    outlined = torch.rand(16, 1, 1, generator=rng) < 0.5
    mask = (image[:, 0].round() * outlined).long()
    return Batch(image, mask, ("",) * 16, tuple(f"train/{step}/{place}" for place in range(16)))


def test_samples_are_those_of_both_raters():
    segmenter = build(filters=(8, 16), beta=1.0)
    optimizer = torch.optim.AdamW(segmenter.objective.parameters())
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 300)
        optimizer.zero_grad()
        sum(segmenter.objective(two_raters(step), 0.0).values()).backward()
        optimizer.step()
    found = segmenter.predict(two_raters(1000).image, num_samples=4)[:, :, 1] > 0.5
    shares = found[..., 2:6, 2:6].float().mean((2, 3)).flatten()
    assert ((shares < 0.1) | (shares > 0.9)).float().mean() > 0.8
    assert 0.2 < (shares > 0.9).float().mean() < 0.8
