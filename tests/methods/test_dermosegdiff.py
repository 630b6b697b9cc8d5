"""DermoSegDiff: sizes of the paper, its losses, samplers and ensembles, heatmaps, studies of several kinds."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.core import paths, plugins, seeding
from pipeline.core.contracts import Batch
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Batches, Pairs
from pipeline.data.sample import DatasetSpec
from pipeline.diffusion.boundary_weight import boundary_weight
from pipeline.methods.segmenters import _mask_denoiser, dermosegdiff
from pipeline.methods.segmenters._grad_cam import grad_cam
from pipeline.methods.segmenters.dermosegdiff import DermoSegDiff, DermoSegDiffObjective
from pipeline.networks.unets.concat_unet import ConcatUNet
from pipeline.networks.unets.dual_path_unet import Decoder, DualPathShape, DualPathUNet
from pipeline.stages.mix.mix import mix
from pipeline.study import Params

TINY = {"width_x": 4, "width_g": 4, "mult_x": (1, 2), "mult_g": (1, 2), "stem_stride": 1, "train_steps": 50, "steps": 4}
COUNTS = {"paper": 321_181_377, "ham10000": 157_749_441, "baseline": 166_940_801}


def build(spec: DatasetSpec, **values: Any) -> DermoSegDiff:
    seeding.seed_everything("test")
    own = plugins.read_params("segmenters", "dermosegdiff", TINY | values, "segmenters.dermosegdiff")
    assert isinstance(own, dermosegdiff.Params)
    found = dermosegdiff.build(own, spec)
    assert isinstance(found, DermoSegDiff)
    return found


@pytest.mark.parametrize(
    ("name", "kind", "shape"),
    [
        ("paper", DualPathUNet, DualPathShape()),
        ("ham10000", DualPathUNet, DualPathShape(mult_x=(2, 2, 2, 2, 2, 2))),
        ("baseline", ConcatUNet, DualPathShape()),
    ],
)
def test_at_the_papers_size_there_are_as_many_weights(name: str, kind: type[nn.Module], shape: DualPathShape) -> None:
    with torch.device("meta"):
        assert sum(weight.numel() for weight in kind(shape).parameters()) == COUNTS[name]


def test_widths_and_sizes_of_every_level_at_the_papers_size() -> None:
    """Channels that enter a level (image's and mask's path) and leave it, and pixels per side, of 128."""
    entered, left = [], []
    with torch.device("meta"):
        network = DualPathUNet(DualPathShape())
        for encoder in network.encoders:
            encoder.register_forward_hook(lambda _, given, made: entered.append((given, made)))
        for decoder in network.decoders:
            assert isinstance(decoder, Decoder)
            decoder.attend.register_forward_hook(lambda _, given, made: left.append(tuple(made.shape[1:3])))
        found = network(torch.zeros(2, 1, 128, 128), torch.zeros(2, 3, 128, 128), torch.zeros(2, dtype=torch.long))
    assert found.shape == (2, 1, 128, 128)
    widths = [(given[0].shape[2], given[0].shape[1], given[1].shape[1]) for given, _ in entered]
    assert widths == [(128, 128, 64), (64, 128, 64), (32, 256, 128), (16, 384, 256), (8, 512, 512), (4, 640, 1024)]
    assert [(x.shape[1], g.shape[1]) for _, (x, g, _) in entered] == [
        (128, 64), (256, 128), (384, 256), (512, 512), (640, 1024), (768, 2048)
    ]  # fmt: skip
    skips = [tuple(skip.shape[1] for skip in made[2]) for _, made in entered]
    assert skips == [(192, 192), (192, 192), (384, 384), (640, 640), (1024, 1024), (1664, 1664)]
    assert left == [(768, 4), (640, 8), (512, 16), (384, 32), (256, 64), (128, 128)]


def test_both_losses_worked_out_by_hand(toy_batch: Batch, spec: DatasetSpec) -> None:
    """Times and noise come from each sample's own stream; the boundary loss weighs the same squared error."""
    segmenter = build(spec, boundary=0.3, gamma=0.25)
    losses = segmenter.objective(toy_batch, 0.0)
    squared, weighted = [], []
    for number, stream in enumerate(toy_batch.streams):
        rng = seeding.torch_rng(stream, "noise")
        t = torch.randint(0, 50, (1,), generator=rng)
        x0 = 2.0 * toy_batch.mask[number, None, None] - 1
        noisy = dermosegdiff.build_process(segmenter.params).q_sample(x0, torch.randn(1, 1, 32, 32, generator=rng), t)
        image = _mask_denoiser.min_max_normalize(toy_batch.image[number, None])
        error = (segmenter.network.network(noisy, image, t) - x0).square()[0, 0].detach()
        weight = boundary_weight(toy_batch.mask[number].numpy(), int(t), 50, 0.25)
        squared.append(float(error.mean()))
        weighted.append(0.3 * float((torch.tensor(weight) * error).mean()))
    assert float(losses["mse"].detach()) == pytest.approx(np.mean(squared), rel=1e-4)
    assert float(losses["boundary"].detach()) == pytest.approx(np.mean(weighted), rel=1e-4)


def test_loss_a_is_the_first_part_alone(toy_batch: Batch, spec: DatasetSpec) -> None:
    both, first = (build(spec, loss=loss).objective(toy_batch, 0.0) for loss in ("B", "A"))
    assert first.keys() == {"mse"}
    assert torch.equal(first["mse"], both["mse"])


def test_synthetic_images_can_do_without_the_boundary_loss(toy_batch: Batch, spec: DatasetSpec) -> None:
    mixed = replace(toy_batch, synthetic=(True, False, True, False))
    everywhere, real = (build(spec, boundary_on=on).objective for on in ("all", "real"))
    assert torch.equal(everywhere(mixed, 0.0)["boundary"], everywhere(toy_batch, 0.0)["boundary"])
    assert torch.equal(real(toy_batch, 0.0)["boundary"], everywhere(toy_batch, 0.0)["boundary"])
    shares = [float(real(toy_batch.part(n, n + 1), 0.0)["boundary"].detach()) for n in range(4)]
    assert float(real(mixed, 0.0)["boundary"].detach()) == pytest.approx((shares[1] + shares[3]) / 4, rel=1e-4)
    assert mixed.part(1, 3).synthetic == (False, True)


@pytest.mark.parametrize("prediction", ["x0", "eps", "v"])
@pytest.mark.parametrize("network", ["dual_path", "concat"])
def test_a_few_steps_lower_the_loss(network: str, prediction: str, toy_batch: Batch, spec: DatasetSpec) -> None:
    objective = build(spec, network=network, prediction=prediction).objective.train()
    optimizer = torch.optim.Adam(objective.parameters(), 3e-3)
    found = []
    for _ in range(6):
        loss: Tensor = sum(objective(toy_batch, 0.0).values(), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.9 * found[0]


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_prediction_belongs_to_the_image_alone(sampler: str, toy_batch: Batch, spec: DatasetSpec) -> None:
    """Not to the other images of its batch, nor to torch's global stream; another sample differs."""
    segmenter = build(spec, sampler=sampler)
    whole = segmenter.predict(toy_batch.image, num_samples=2)
    torch.manual_seed(99)
    alone = segmenter.predict(toy_batch.image[2:3])
    torch.testing.assert_close(whole[2:3, :1], alone, atol=1e-4, rtol=1e-3)
    assert not torch.allclose(whole[:, 0], whole[:, 1], atol=1e-3)
    assert segmenter.about["stochastic"]


def test_an_ensemble_is_the_mean_of_its_draws(toy_batch: Batch, spec: DatasetSpec) -> None:
    """The second prediction of two draws each is the mean of the draws 2 and 3 of one draw each."""
    single, double = build(spec), build(spec, samples=2)
    draws = single.predict(toy_batch.image, num_samples=4)
    found = double.predict(toy_batch.image, num_samples=2)
    torch.testing.assert_close(found[:, 1], draws[:, 2:].mean(1), atol=1e-5, rtol=1e-4)


def test_the_trajectory_ends_in_the_prediction(toy_batch: Batch, spec: DatasetSpec) -> None:
    segmenter = build(spec, samples=2, sampler="ddpm")
    path = segmenter.trajectory(toy_batch.image)
    assert path.shape == (4, 4, 2, 32, 32)
    assert torch.equal(path[-1], segmenter.predict(toy_batch.image)[:, 0])


@pytest.mark.parametrize(("sampler", "clip"), [("ddim", True), ("ddpm", False)])
def test_a_denoiser_that_knows_the_mask_is_followed(
    sampler: str, clip: bool, toy_batch: Batch, spec: DatasetSpec
) -> None:
    segmenter = build(spec, sampler=sampler, clip=clip, steps=50)
    truth = 2.0 * toy_batch.mask[:, None] - 1

    class Knowing(nn.Module):
        def forward(self, noisy: Tensor, prepared: Tensor, timesteps: Tensor) -> Tensor:
            return truth

    segmenter.denoiser.forward = Knowing().forward  # type: ignore[method-assign]
    assert torch.equal(segmenter.predict(toy_batch.image)[:, 0].argmax(1), toy_batch.mask)


def test_ddpm_without_clipping_is_the_published_step(spec: DatasetSpec) -> None:
    """mu = (x - beta eps / sqrt(1 - abar)) / sqrt(alpha), noise of the posterior's variance."""
    process = dermosegdiff.build_process(dermosegdiff.Params(prediction="eps"))
    beta = torch.linspace(0.0004, 0.08, 250, dtype=torch.float64)
    torch.testing.assert_close(process.betas, beta)
    x, eps, z = torch.randn(3, 2, 1, 4, 4, dtype=torch.float64)
    k = torch.tensor([17, 249])
    b, abar = (values[k].view(2, 1, 1, 1) for values in (beta, torch.cumprod(1 - beta, 0)))
    before = torch.cumprod(1 - beta, 0)[k - 1].view(2, 1, 1, 1)
    mu = (x - b * eps / (1 - abar).sqrt()) / (1 - b).sqrt()
    expected = mu + (b * (1 - before) / (1 - abar)).sqrt() * z
    torch.testing.assert_close(process.ddpm_step(process.predict_x0(eps, x, k), x, k, z), expected)


def test_probabilities_are_a_half_at_the_threshold() -> None:
    x = torch.tensor([-1.0, -0.2, 0.0, 0.3, 1.0]).view(1, 1, 1, 5)
    plain, raised = _mask_denoiser.map_probabilities(x)[0, 1, 0], _mask_denoiser.map_probabilities(x, 0.3)[0, 1, 0]
    assert plain.tolist() == pytest.approx([0, 0.4, 0.5, 0.65, 1])
    assert raised.tolist() == pytest.approx([0, 0.25, 0.35, 0.5, 0.85])


def test_the_cleanest_level_can_be_left_untrained(spec: DatasetSpec) -> None:
    objective = build(spec, train_first=False).objective
    assert isinstance(objective, DermoSegDiffObjective)
    drawn, _ = objective.times.sample([seeding.torch_rng("t", number) for number in range(500)])
    assert (int(drawn.min()), int(drawn.max())) == (1, 49)


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_any_number_of_channels(channels: int, toy_batch: Batch, spec: DatasetSpec) -> None:
    segmenter = build(spec.model_copy(update={"channels": channels}))
    image = toy_batch.image.repeat(1, 2, 1, 1)[:, :channels]
    assert segmenter.predict(image).shape == (4, 1, 2, 32, 32)


def test_a_heatmap_weighs_channels_by_their_mean_slope() -> None:
    """Score 3 a - b of the channels a and b, so the weights are 3 and -1: heat = relu(3 a - b), by its maximum."""
    block, given = nn.Identity(), torch.tensor([[[[1.0, 2.0], [0.0, 1.0]], [[0.0, 3.0], [4.0, 3.0]]]])
    given.requires_grad_()
    heat = grad_cam(block, lambda: (torch.tensor([3.0, -1.0]).view(1, 2, 1, 1) * block(given)).sum(), (2, 2))
    torch.testing.assert_close(heat, torch.tensor([[[1.0, 1.0], [0.0, 0.0]]]))


@pytest.mark.parametrize("kind", [DualPathUNet, ConcatUNet])
def test_heatmaps_look_at_the_third_level_of_the_encoder(kind: Any) -> None:
    """EM_3 of the paper's Fig. 4: 32 x 32 maps of the mask's path at 128 pixels; the last level of a shallower one."""
    for mults, expected in (((1, 2, 3, 4, 5, 6), (1, 256, 32, 32)), ((1, 2), (1, 128, 64, 64))):
        with torch.device("meta"):
            network = kind(DualPathShape(mult_x=mults, mult_g=mults))
            seen: list[Tensor] = []
            network.heatmap_block.register_forward_hook(lambda _, given, made, seen=seen: seen.append(made))
            network(torch.zeros(1, 1, 128, 128), torch.zeros(1, 3, 128, 128), torch.zeros(1, dtype=torch.long))
        assert [maps.shape for maps in seen] == [expected]


@pytest.mark.parametrize("network", ["dual_path", "concat"])
def test_heatmaps_lie_in_the_unit_interval_and_depend_on_the_image(
    network: str, toy_batch: Batch, spec: DatasetSpec
) -> None:
    segmenter = build(spec, network=network)
    heat = segmenter.heatmaps(toy_batch.image)
    assert heat.shape == (4, 32, 32)
    assert (heat >= 0).all()
    assert (heat.amax((1, 2)) <= 1).all()
    assert not torch.equal(heat[0], heat[1])
    assert all(weight.grad is None for weight in segmenter.objective.parameters())


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"mult_g": (1, 2, 4)}, "mult_x has 2 levels, mult_g has 3"),
        ({"steps": 51}, "steps is 51, but may be at most train_steps, 50"),
        ({"train_steps": 20, "steps": 2}, "train_steps"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(values: dict[str, Any], reason: str, spec: DatasetSpec) -> None:
    with pytest.raises(UserError, match=reason):
        build(spec, **values)


def test_volumes_and_a_threshold_of_several_classes_are_refused(spec: DatasetSpec) -> None:
    volumes = {"ndim": 3, "shape": (8, 8, 8), "spacing": (1.0, 1.0, 1.0)}
    with pytest.raises(UserError, match="3 dimensions"):
        build(spec.model_copy(update=volumes))
    with pytest.raises(UserError, match="threshold needs two classes"):
        build(spec.model_copy(update={"num_classes": 3}), threshold=0.1)


def test_batches_tell_which_images_are_synthetic_and_such_sets_train(toy_study: Params) -> None:
    mix(toy_study, "siamese_x1")
    train = ImageSet.open(paths.training_set("toy", "siamese_x1"))
    batches = Batches(Pairs.read(train), 8, "s")
    expected = tuple(bool(train.rows[place]["synthetic"]) for place in batches.plan(0))
    batch = batches.batch(0)
    assert batch.synthetic == expected
    assert batches.batch(0, rank=1, world=2).synthetic == expected[1::2]
    assert {True, False} == set(expected)
    everywhere, only = (build(train.spec, boundary_on=on).objective(batch, 0.0)["boundary"] for on in ("all", "real"))
    assert 0 < float(only.detach()) < float(everywhere.detach())
