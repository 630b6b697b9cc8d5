"""CIMD: sizes of its networks, its three losses against slow ones, what it learns from, and what its samples are."""

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from pipeline.core import seeding
from pipeline.core.contracts import Batch
from pipeline.core.errors import UserError
from pipeline.data.sample import DatasetSpec
from pipeline.diffusion import betas
from pipeline.diffusion.process import Process
from pipeline.diffusion.variance import learned_log_variance
from pipeline.methods.segmenters import _mask_denoiser, cimd
from pipeline.networks.unets import gaussian_encoder, guided_unet
from pipeline.networks.unets.gaussian_encoder import GaussianEncoder
from pipeline.networks.unets.guided_unet import GuidedUNet
from tests.bright_masks import with_bright_masks
from tests.reference import cimd_literal

SIZE, STEPS = 16, 40
SPEC = DatasetSpec(name="rated", size=SIZE, channels=1, raters=2)
SCHEDULE = betas.linear(STEPS, 0.0025, 0.5)  # 1e-4 and 0.02 times 1000 / 40
TINY = {"base": 8, "fold": 1, "multipliers": (1, 2), "train_steps": STEPS, "steps": 5, "gaussian_filters": (4, 8)}


def build(spec: DatasetSpec = SPEC, **values: object) -> cimd.CIMD:
    """A tiny CIMD whose last layers are not zero, so that everything depends on everything."""
    seeding.seed_everything("cimd")
    segmenter = cimd.build(cimd.Params(**(TINY | values)), spec)  # type: ignore[arg-type]
    with torch.no_grad():
        for weight in segmenter.network.parameters():
            if not weight.any():
                weight.normal_(std=0.1)
    return segmenter


def draw(name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=seeding.torch_rng(name), dtype=dtype)


def images(count: int = 2, size: int = SIZE, channels: int = 1) -> Tensor:
    return torch.rand(count, channels, size, size, generator=seeding.torch_rng("images"))


def batch(count: int = 2) -> Batch:
    return with_bright_masks(images(count))


def count(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def test_networks_of_the_paper_have_as_many_weights_as_its_code():
    with torch.device("meta"):
        assert count(GuidedUNet(guided_unet.GuidedShape())) == 85_603_842
        assert count(GaussianEncoder(gaussian_encoder.GaussianEncoderShape())) == 1_368_108


@pytest.mark.parametrize(
    ("shape", "weights"),
    [
        ({"base": 32, "multipliers": (1, 2), "attention": ()}, 652_482),
        ({"base": 32, "multipliers": (1, 1, 2), "attention": (4,)}, 812_258),
        ({"base": 16, "multipliers": (1, 2, 2), "attention": (), "groups": 8}, 268_034),
    ],
)
def test_small_networks_have_fewer(shape: dict, weights: int):
    with torch.device("meta"):
        assert count(GuidedUNet(guided_unet.GuidedShape(blocks=1, **shape))) == weights


def test_the_study_of_the_paper_builds_the_networks_of_the_paper():
    paper = {"base": 128, "multipliers": (1, 1, 2, 3, 4), "blocks": 2, "attention": (8,), "groups": 32}
    paper |= {"fold": 1, "image_copies": 4, "gaussian_filters": (32, 64, 128, 192), "gaussian_convolutions": 3}
    spec = DatasetSpec(name="lidc", size=128, channels=1, raters=4)
    with torch.device("meta"):
        segmenter = cimd.build(cimd.Params(**paper, gaussian_latent=6), spec)  # type: ignore[arg-type]
        assert count(segmenter.network) == 85_603_842
        assert count(segmenter.objective.modelling) == count(segmenter.objective.controlling) == 1_368_108


def test_normalisation_has_as_many_groups_as_divide_the_channels():
    groups = [guided_unet._norm(width, 32).num_groups for width in (128, 48, 24, 16, 7)]
    assert groups == [32, 16, 24, 16, 7]


def test_the_first_network_predicts_nothing():
    network = GuidedUNet(guided_unet.GuidedShape(2, base=8, multipliers=(1, 2), blocks=1, attention=(2,)))
    assert not network(draw("x", 1, 2, 8, 8), torch.tensor([3])).any()


def test_attention_of_several_heads_is_each_heads_own():
    """Two heads of 4 channels: zeroing the second head's value leaves the first half of what is attended to."""
    attention = guided_unet.Attention(8, heads=2, groups=4)
    torch.nn.init.eye_(attention.out.weight[..., 0])
    x = draw("x", 1, 8, 3, 3)
    q, k, v = attention.query_key_value(attention.norm(x.flatten(2))).view(2, 3, 4, 9).unbind(1)
    expected = torch.stack([v[h] @ (k[h].T @ q[h] / 2).softmax(0) for h in range(2)]).reshape(1, 8, 3, 3)
    torch.testing.assert_close(attention(x) - x, expected)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_the_bound_is_that_of_every_pixel(prediction: str):
    objective, schedule = build(prediction=prediction).objective, SCHEDULE.tolist()
    x0 = draw("x0", STEPS, 1, 2, 2, dtype=torch.float64).sign()
    noise, predicted, v = (draw(name, STEPS, 1, 2, 2, dtype=torch.float64) for name in ("noise", "predicted", "v"))
    k, process = torch.arange(STEPS), objective.denoiser.process
    noisy = process.q_sample(x0, noise, k)
    found = objective.bound(x0, noisy, process.predict_x0(predicted, noisy, k), v.tanh(), k)
    for t in range(STEPS):
        bits = []
        for x, y, p, w in zip(*(each[t].flatten().tolist() for each in (x0, noisy, predicted, v.tanh())), strict=True):
            clean = cimd_literal.implied_x0(schedule, t, prediction, p, y)
            bits.append(cimd_literal.bits(schedule, t, x, y, clean, w))
        assert found[t].item() == pytest.approx(sum(bits) / 4, rel=1e-9)


def test_the_bounds_gradient_reaches_the_variance_alone():
    objective = build().objective
    x0, noisy = draw("x0", 3, 1, 4, 4).sign(), draw("noisy", 3, 1, 4, 4)
    clean, v = (0.98 * x0).requires_grad_(), draw("v", 3, 1, 4, 4).requires_grad_()
    objective.bound(x0, noisy, clean, v, torch.tensor([0, 1, STEPS - 1])).sum().backward()
    assert clean.grad is None
    assert (v.grad.flatten(1).abs().sum(1) > 0).all()


def test_a_learned_variance_step_is_that_of_diffusers():
    scheduler = DDPMScheduler(STEPS, 0.0025, 0.5, "linear", variance_type="learned_range", prediction_type="sample")
    process, noisy, clean, v = Process.of(SCHEDULE), *(draw(name, 1, 1, 4, 4) for name in ("x", "c", "v"))
    clean = clean.clamp(-1, 1)
    for t in (STEPS - 1, 7, 1):
        k = torch.tensor([t])
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        ours = process.ddpm_step(clean, noisy, k, noise, learned_log_variance(process, v, k))
        rng = torch.Generator().manual_seed(0)
        theirs = scheduler.step(torch.cat([clean, v], 1), t, noisy, generator=rng).prev_sample
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_divergence_of_the_two_gaussians():
    first, second = [(0.5, -0.3), (1.0, 0.2)], [(0.1, 0.4), (-1.0, 0.0)]
    pair = [_gaussian(values) for values in (first, second)]
    expected = cimd_literal.gaussian_divergence(first, second)
    assert gaussian_encoder.divergence(*pair).item() == pytest.approx(expected, rel=1e-6)
    unit, moved = [(0.0, 0.0)] * 6, [(1.0, 0.0)] * 6
    assert gaussian_encoder.divergence(_gaussian(unit), _gaussian(moved)).item() == pytest.approx(6 / 2)


def _gaussian(values: list[tuple[float, float]]):
    mean, log = torch.tensor(values, dtype=torch.float64).T
    return torch.distributions.Independent(torch.distributions.Normal(mean, log.exp()), 1)


def test_the_losses_are_weighted():
    plain = build(lambda_vlb=1.0, beta_ambiguity=1.0).objective(batch(), 0.0)
    weighed = build(lambda_vlb=0.25, beta_ambiguity=1e-3).objective(batch(), 0.0)
    ratios = [float((weighed[name] / plain[name]).detach()) for name in ("simple", "variational", "ambiguity")]
    assert ratios == pytest.approx([1, 0.25, 1e-3])


@pytest.mark.parametrize("trained", [True, False])
def test_the_gaussians_learn_unless_they_shall_not(trained: bool):
    objective = build(train_gaussians=trained, beta_ambiguity=1.0).objective
    pair = [*objective.modelling.parameters(), *objective.controlling.parameters()]
    before = [weight.clone() for weight in pair]
    optimizer = torch.optim.SGD([weight for weight in objective.parameters() if weight.requires_grad], 1e-3)
    sum(objective(batch(), 0.0).values()).backward()
    optimizer.step()
    moved = [not torch.equal(weight, old) for weight, old in zip(pair, before, strict=True)]
    assert all(moved) if trained else not any(moved)


@pytest.mark.parametrize("trained", [True, False])
def test_the_divergence_teaches_the_unet_its_clean_mask(trained: bool):
    """The controlling network sees the predicted clean mask, also where the network predicts noise."""
    objective, seen = build(prediction="eps", train_gaussians=trained).objective, []
    objective.controlling.register_forward_hook(lambda _, given, __: seen.append(given[1]))
    objective(batch(), 0.0)["ambiguity"].backward()
    assert seen[0].abs().max() <= 1
    assert any(weight.grad is not None and weight.grad.any() for weight in objective.denoiser.parameters())


def test_predictions_use_the_unet_alone():
    segmenter = build()
    before = segmenter.predict(images())
    with torch.no_grad():
        for weight in [*segmenter.objective.modelling.parameters(), *segmenter.objective.controlling.parameters()]:
            weight.zero_()
    assert torch.equal(segmenter.predict(images()), before)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_samples_differ_and_belong_to_their_image(sampler: str):
    segmenter = build(sampler=sampler)
    several = segmenter.predict(images(3), num_samples=3)
    assert several.shape == (3, 3, 2, SIZE, SIZE)
    alone = segmenter.predict(images(3)[2:], num_samples=2)
    # a batch of one sums in another order: 1e-5 of rounding in float32; samples of other noise differ by far more
    torch.testing.assert_close(alone, several[2:, :2], atol=1e-3, rtol=0)
    gaps = [float((several[:, one] - several[:, two]).abs().max()) for one, two in ((0, 1), (0, 2), (1, 2))]
    assert min(gaps) > 1e-2


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_a_network_that_knows_the_mask_gives_it(prediction: str, sampler: str, monkeypatch: pytest.MonkeyPatch):
    segmenter, true = build(prediction=prediction, sampler=sampler), (images()[:, :1] > 0.5).float()
    process = segmenter.denoiser.process

    def knowing(noisy: Tensor, image: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        x0 = 2 * true - 1
        return process.target(x0, process.noise_of_x0(x0, noisy, timesteps), timesteps), torch.zeros_like(noisy)

    monkeypatch.setattr(segmenter.denoiser, "forward", knowing)
    torch.testing.assert_close(segmenter.predict(images())[:, 0, 1:], true, atol=1e-4, rtol=0)


def test_a_trajectory_ends_in_the_first_sample():
    segmenter = build()
    steps = segmenter.trajectory(images())
    assert steps.shape == (5, 2, 2, SIZE, SIZE)
    assert torch.equal(steps[-1], segmenter.predict(images())[:, 0])


def test_the_network_is_told_timesteps_of_training():
    """Five steps of forty: 0, 9.75, 19.5, 29.25 and 39, rounded (to even), from the last."""
    segmenter, told = build(), []
    segmenter.denoiser.register_forward_pre_hook(lambda _, given: told.append(int(given[2][0])))
    segmenter.predict(images(1))
    assert told == [39, 29, 20, 10, 0]


def test_masks_are_coded_as_signs_and_continued_at_the_border():
    mask = torch.tensor([[[0, 1, 1], [0, 0, 1], [1, 0, 0]]])
    expected = [[-1, 1, 1, 1], [-1, -1, 1, 1], [1, -1, -1, -1], [1, -1, -1, -1]]
    maps = _mask_denoiser.one_hot_maps(mask, 2)
    assert _mask_denoiser.encode_maps(maps, (4, 4))[0, 0].tolist() == expected


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_of_any_number_of_channels_and_one_rater(channels: int):
    spec = SPEC.model_copy(update={"channels": channels, "raters": 1})
    assert build(spec, image_copies=2).predict(images(1, 13, channels)).shape == (1, 1, 2, 13, 13)


def test_folded_pixels_are_the_networks_channels(monkeypatch: pytest.MonkeyPatch):
    """A network that gives back what it sees gives back the image and the mask."""
    segmenter, noisy = build(fold=2), draw("x", 2, 1, SIZE, SIZE)
    assert segmenter.network.network.shape.in_channels == segmenter.network.network.shape.out_channels == 2 * 4
    monkeypatch.setattr(segmenter.network.network, "forward", lambda given, time: given)
    first, second = segmenter.denoiser(noisy, images(), torch.tensor([0, 0]))
    assert torch.equal(first, images())
    assert torch.equal(second, noisy)


def test_input_scaling_divides_the_signal_to_noise_ratio():
    plain, scaled = (torch.cumprod(1 - each, 0) for each in (SCHEDULE, betas.input_scaled(SCHEDULE, 0.5)))
    torch.testing.assert_close(scaled / (1 - scaled), 0.25 * plain / (1 - plain))
    torch.testing.assert_close(betas.input_scaled(SCHEDULE, 1.0), SCHEDULE)


@pytest.mark.parametrize("schedule", ["linear", "quadratic", "cosine"])
def test_fewer_steps_end_in_as_much_noise(schedule: str):
    few, many = (
        Process.of(cimd.noise_schedule(cimd.Params(schedule=schedule, train_steps=steps))) for steps in (100, 1000)
    )
    assert few.alphas_cumprod[-1] < 1e-3
    torch.testing.assert_close(few.alphas_cumprod[49].log(), many.alphas_cumprod[499].log(), rtol=0.05, atol=0)


@pytest.mark.parametrize(
    ("spec", "values", "reason"),
    [
        ({"num_classes": 3}, {}, "one structure and the background, but rated has 3 classes"),
        ({"ndim": 3, "shape": (8, 8, 8), "spacing": (1.0, 1.0, 1.0)}, {}, "rated has 3 dimensions"),
        ({}, {"steps": 41}, "steps is 41, but may be at most train_steps, 40"),
        ({}, {"heads": 3}, r"\[8, 16\] channels cannot be divided into 3 heads"),
    ],
)
def test_what_cannot_work_is_refused(spec: dict, values: dict, reason: str):
    with pytest.raises(UserError, match=reason):
        build(SPEC.model_copy(update=spec), **values)


def two_raters(step: int) -> Batch:
    """Bright squares that one rater outlines and the other never marks."""
    image = torch.zeros(16, 1, 8, 8)
    image[:, :, 2:6, 2:6] = 1
    image = (image + 0.1 * draw(f"noise/{step}", 16, 1, 8, 8)).clamp(0, 1)
    outlined = torch.rand(16, 1, 1, generator=seeding.torch_rng("rater", step)) < 0.5
    mask = (image[:, 0].round() * outlined).long()
    return Batch(image, mask, ("",) * 16, tuple(f"train/{step}/{place}" for place in range(16)))


def test_samples_are_those_of_both_raters():
    segmenter = build(SPEC.model_copy(update={"size": 8}), train_steps=100, lambda_vlb=1e-3)
    optimizer = torch.optim.AdamW(segmenter.objective.parameters())
    for step in range(150):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / 150)
        optimizer.zero_grad()
        sum(segmenter.objective(two_raters(step), 0.0).values()).backward()
        optimizer.step()
    found = segmenter.predict(two_raters(1000).image, num_samples=4)[:, :, 1] > 0.5
    shares = found[..., 2:6, 2:6].float().mean((2, 3)).flatten()
    assert ((shares < 0.1) | (shares > 0.9)).float().mean() > 0.8
    assert 0.2 < (shares > 0.9).float().mean() < 0.8
