"""The perceptual distance against its literal form, and what its gradient reaches."""

import torch

from pipeline.networks.perceptual import PerceptualDistance
from tests.reference import sharp_base_literal as literal


def images(count: int = 2, side: int = 24) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(count), dtype=torch.float64) * 2 - 1


def test_the_distance_is_that_of_its_definition() -> None:
    made, image = images(2), images(3)[:2]
    found = float(PerceptualDistance().double()(made, image))
    assert abs(found - literal.perceptual(made, image)) <= 1e-10
    assert found > 0.1


def test_equal_images_have_no_distance_and_a_uniform_one_has_a_finite_gradient() -> None:
    distance, flat = PerceptualDistance().double(), torch.zeros(1, 3, 24, 24, dtype=torch.float64, requires_grad=True)
    assert float(distance(images(), images())) == 0
    distance(flat, images(1)).backward()
    assert flat.grad is not None and flat.grad.isfinite().all() and flat.grad.abs().max() > 0


def test_the_gradient_reaches_what_was_made_alone_and_the_network_never_trains() -> None:
    distance = PerceptualDistance().train()
    made, image = (images(2).float().requires_grad_() for _ in range(2))
    before = {name: value.clone() for name, value in distance.state_dict().items()}
    distance(made * 0.5, image).backward()
    assert made.grad is not None and image.grad is None
    assert not any(module.training for module in distance.modules())
    assert all(torch.equal(value, before[name]) for name, value in distance.state_dict().items())
    assert not any(weight.requires_grad for weight in distance.parameters())
