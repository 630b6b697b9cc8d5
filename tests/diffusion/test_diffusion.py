"""Schedules, steps, times, embeddings and variances of diffusion, against closed forms and diffusers' schedulers."""

import math

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from pipeline.core.seeding import torch_rng
from pipeline.diffusion import betas
from pipeline.diffusion.embedding import fraction_embedding, index_embedding
from pipeline.diffusion.noise import image_streams
from pipeline.diffusion.process import Process
from pipeline.diffusion.timestep_samplers import WARM_UP, ImportanceTimestepSampler, UniformTimestepSampler
from pipeline.diffusion.variance import binned_log_likelihood, bound_bits, learned_log_variance, normal_divergence

STEPS = 1000


def draw(*names: object, shape: tuple[int, ...] = (3, 2, 4, 4)) -> torch.Tensor:
    return torch.randn(shape, generator=torch_rng("diffusion", *names), dtype=torch.float64)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(betas.linear, "linear"), (betas.quadratic, "scaled_linear"), (betas.cosine, "squaredcos_cap_v2")],
)
def test_betas_are_those_of_diffusers(ours, theirs):
    scheduler = DDPMScheduler(STEPS, beta_start=1e-4, beta_end=0.02, beta_schedule=theirs)
    assert torch.allclose(ours(STEPS), scheduler.betas.double(), rtol=1e-5, atol=1e-7)


def test_first_and_last_levels_by_hand():
    process = Process.of(betas.linear(4, 0.1, 0.4))
    assert process.alphas_cumprod.tolist() == pytest.approx([0.9, 0.72, 0.504, 0.3024])
    assert process.posterior_variance.tolist() == pytest.approx(
        [0, 0.2 * 0.1 / 0.28, 0.3 * 0.28 / 0.496, 0.4 * 0.496 / 0.6976]
    )
    assert process.log_small[0] == process.log_small[1]
    assert process.log_large[1:].exp().tolist() == pytest.approx([0.2, 0.3, 0.4])


def test_kept_levels_keep_their_noise():
    whole = Process.of(betas.linear(1001))
    few = whole.respaced(5)
    assert few.indices.tolist() == [0, 250, 500, 750, 1000]
    assert torch.equal(few.alphas_cumprod, whole.alphas_cumprod[few.indices])
    assert torch.allclose(torch.cumprod(1 - few.betas, 0), few.alphas_cumprod, rtol=1e-12)
    assert few.respaced(torch.tensor([1, 4])).indices.tolist() == [250, 1000]


def test_all_levels_kept_change_nothing():
    whole = Process.of(betas.linear(50))
    same = whole.respaced(50)
    assert torch.equal(same.betas, whole.betas) and torch.equal(same.indices, whole.indices)


def test_one_level_is_the_last_and_more_than_all_are_refused():
    assert Process.of(betas.linear(50)).respaced(1).indices.tolist() == [49]
    with pytest.raises(ValueError, match="50 steps cannot be sampled in 51"):
        Process.of(betas.linear(50)).respaced(51)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_a_true_prediction_gives_the_truth(prediction):
    process, k = Process.of(betas.linear(STEPS), prediction), torch.tensor([0, 400, 999])
    x0, noise = draw("x0"), draw("noise")
    noisy = process.q_sample(x0, noise, k)
    assert torch.allclose(process.predict_x0(process.target(x0, noise, k), noisy, k), x0, atol=1e-9)
    assert torch.allclose(process.noise_of_x0(x0, noisy, k), noise, atol=1e-9)


def test_ddim_from_the_true_sample_ends_there():
    process = Process.of(betas.linear(STEPS)).respaced(7)
    x0, x = draw("x0"), None
    for k in reversed(range(7)):
        at = torch.full((3,), k)
        x = process.q_sample(x0, draw("noise"), at) if x is None else x
        assert torch.allclose(x, process.q_sample(x0, draw("noise"), at), atol=1e-9)  # on the straight way
        x = process.ddim_step(x0, x, at)
    assert x is not None and torch.allclose(x, x0, atol=1e-12)


def test_ddpm_mean_and_ddim_steps_are_those_of_diffusers():
    process = Process.of(betas.linear(STEPS), "x0")
    arguments = {"beta_start": 1e-4, "beta_end": 0.02, "prediction_type": "sample", "clip_sample": False}
    ddpm, ddim = DDPMScheduler(STEPS, **arguments), DDIMScheduler(STEPS, **arguments, set_alpha_to_one=True)
    ddpm.set_timesteps(STEPS)
    ddim.set_timesteps(STEPS)
    # theirs is in float32 throughout: 1 - abar loses four digits at the clean end
    x0, noisy, noise = draw("x0").float(), draw("x").float(), torch.zeros(3, 2, 4, 4)
    for t in (0, 1, 500, 999):
        k = torch.full((3,), t)
        mean = ddpm.step(x0, t, noisy, generator=torch_rng("a")).prev_sample
        fresh = torch.randn(x0.shape, generator=torch_rng("a"))
        ours = process.ddpm_step(x0, noisy, k, fresh if t else noise)
        assert torch.allclose(ours, mean, atol=3e-4)
        assert torch.allclose(process.ddim_step(x0, noisy, k), ddim.step(x0, t, noisy).prev_sample, atol=3e-4)


def test_ddim_with_eta_one_has_the_mean_and_spread_of_ddpm():
    process, k = Process.of(betas.linear(STEPS)).respaced(10), torch.tensor([1, 5, 9])
    x0, noisy, noise = draw("x0"), draw("x"), draw("noise")
    ours = process.ddim_step(x0, noisy, k, 1.0, noise)
    with pytest.raises(ValueError, match=r"eta 1\.0 adds fresh noise"):
        process.ddim_step(x0, noisy, k, 1.0)
    assert torch.allclose(ours, process.ddpm_step(x0, noisy, k, noise), atol=1e-9)


def test_uniform_times_reach_both_ends_and_no_further():
    times = UniformTimestepSampler(2, 5)
    drawn, weights = times.sample([torch_rng(n) for n in range(400)])
    assert sorted(set(drawn.tolist())) == [2, 3, 4, 5] and weights.tolist() == [1.0] * 400


def test_importance_times_see_all_first_then_follow_losses_without_bias():
    times = ImportanceTimestepSampler(1, 4)
    losses = torch.tensor([1.0, 2.0, 3.0, 10.0])
    for place in range(4):
        for _ in range(WARM_UP):
            times.update(torch.tensor([place + 1]), losses[place : place + 1])
    expected = 0.99 * losses.numpy() / 16 + 0.01 / 4
    assert times.probabilities.numpy() == pytest.approx(expected)
    drawn, weights = times.sample([torch_rng("importance", n) for n in range(4000)])
    assert np.bincount(drawn.numpy(), minlength=5)[1:] / 4000 == pytest.approx(expected, abs=0.03)
    assert (weights * losses[drawn - 1]).mean().item() == pytest.approx(losses.mean().item(), rel=0.02)


def test_a_timestep_that_is_missing_is_drawn_until_it_was_seen_often_enough():
    times = ImportanceTimestepSampler(0, 1)
    times.update(torch.zeros(WARM_UP, dtype=torch.long), torch.ones(WARM_UP))
    assert times.probabilities.tolist() == [0, 1]


def test_embeddings_by_hand():
    assert index_embedding(torch.tensor([3]), 4)[0].tolist() == pytest.approx(
        [math.sin(3), math.sin(3e-4), math.cos(3), math.cos(3e-4)]
    )
    assert fraction_embedding(torch.tensor([3e-4]), 4)[0].tolist() == pytest.approx(
        [math.cos(3), math.cos(0.03), math.sin(3), math.sin(0.03)], abs=1e-5
    )


def test_learned_variance_spans_small_to_large():
    process, k = Process.of(betas.linear(STEPS)), torch.tensor([1, 500, 999])
    one = torch.ones(3, 1, 2, 2, dtype=torch.float64)
    assert torch.allclose(learned_log_variance(process, -one, k), process.log_variance_small(k, one))
    assert torch.allclose(learned_log_variance(process, one, k), process.log_variance_large(k, one))


def test_the_bound_vanishes_for_the_true_reverse_step():
    process, k = Process.of(betas.linear(STEPS)), torch.tensor([1, 500, 999])
    x0 = draw("x0")
    noisy = process.q_sample(x0, draw("noise"), k)
    small = process.log_variance_small(k, x0).expand_as(x0)
    bits = bound_bits(process, x0, noisy, process.posterior_mean(x0, noisy, k), small, k)
    assert bits.tolist() == pytest.approx([0, 0, 0], abs=1e-12)


def test_divergence_of_two_normals_by_hand_and_by_torch():
    means, logs = (draw("m1"), draw("m2")), (draw("l1"), draw("l2"))
    ours = normal_divergence(means[0], logs[0], means[1], logs[1])
    normals = [torch.distributions.Normal(m, (log / 2).exp()) for m, log in zip(means, logs, strict=True)]
    assert torch.allclose(ours, torch.distributions.kl_divergence(*normals))


def test_bins_of_grey_levels_share_all_probability():
    levels = torch.arange(256, dtype=torch.float64) * 2 / 255 - 1
    mass = binned_log_likelihood(levels, torch.full_like(levels, 0.1), torch.full_like(levels, -4.0)).exp()
    assert mass.sum().item() == pytest.approx(1, abs=1e-6)


def test_an_images_noise_depends_on_its_values_and_the_sample_alone():
    images = draw("images")
    alone, among = image_streams(images[1:2], 0), image_streams(images, 0)
    first = torch.randn(3, generator=among[0])
    assert torch.equal(torch.randn(3, generator=alone[0]), torch.randn(3, generator=among[1]))
    assert not torch.equal(first, torch.randn(3, generator=image_streams(images, 1)[0]))
