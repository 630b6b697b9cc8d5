"""Min-SNR weights against the paper's formulas."""

import pytest
import torch

from pipeline.diffusion.min_snr import min_snr_weights
from pipeline.diffusion.schedule import Schedule
from tests.reference import sharp_base_literal as literal

ALPHAS = torch.linspace(0.9991, 0.0047, 40, dtype=torch.float64)


@pytest.mark.parametrize("gamma", [1.0, 5.0, 1e9])
@pytest.mark.parametrize("prediction", ["sample", "epsilon", "v_prediction"])
def test_weights_are_those_of_the_paper(prediction: str, gamma: float) -> None:
    timesteps = torch.tensor([39, 0, 7, 7, 20])
    found = min_snr_weights(Schedule(ALPHAS, prediction), timesteps, gamma)
    wanted = [literal.min_snr(float(ALPHAS[t]), gamma, prediction) for t in timesteps]
    assert found.tolist() == pytest.approx(wanted, rel=1e-10, abs=1e-10)


def test_an_error_weighs_the_same_whatever_is_predicted() -> None:
    """The errors of one guess of the clean image, seen as errors of the noise and of the velocity."""
    rng = torch.Generator().manual_seed(0)
    x0, noise, guess = (torch.randn(5, 4, dtype=torch.float64, generator=rng) for _ in range(3))
    t = torch.tensor([0, 5, 12, 30, 39])
    a, s = ALPHAS[t].sqrt()[:, None], (1 - ALPHAS[t]).sqrt()[:, None]
    noise_of_guess = (a * x0 + s * noise - a * guess) / s
    predicted = {"sample": guess, "epsilon": noise_of_guess, "v_prediction": a * noise_of_guess - s * guess}
    losses = []
    for name, value in predicted.items():
        schedule = Schedule(ALPHAS, name)
        errors = (value - schedule.target(x0, noise, t)).square().mean(1)
        losses.append((min_snr_weights(schedule, t, 5.0) * errors).mean())
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-10)
    assert losses[2].item() == pytest.approx(losses[0].item(), rel=1e-10)


def test_products_are_copied_to_each_device_and_precision_once() -> None:
    schedule, meta = Schedule(ALPHAS), torch.device("meta")
    copied = schedule.products(meta, torch.float32)
    assert (copied.device, copied.dtype) == (meta, torch.float32)
    assert schedule.products(meta, torch.float32) is copied
    assert schedule.products(ALPHAS.device, ALPHAS.dtype) is ALPHAS
    assert min_snr_weights(schedule, torch.zeros(2, dtype=torch.long, device=meta), 5.0).device == meta
