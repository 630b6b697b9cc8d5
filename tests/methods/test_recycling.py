"""Recycling diffusion: its step and its sampling against literal ones in float64, and what must not depend on what."""

from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.core import plugins, seeding
from pipeline.core.contracts import Batch, Segmenter
from pipeline.core.errors import UserError
from pipeline.data.sample import DatasetSpec
from pipeline.diffusion.noise import image_streams
from pipeline.diffusion.process import Process
from pipeline.methods.segmenters import _recycling, _recycling_params
from pipeline.networks.unets.recycling_unet import RecyclingShape, RecyclingUNet
from tests.reference import recycling_literal

MODES = ["recycle_T", "recycle_next", "vanilla", "selfcond_same", "selfcond_next"]
TINY: dict[str, Any] = {"channels": [4, 8], "blocks": 1, "heads": 2, "dropout": 0.0}
FLAT = DatasetSpec(name="flat", size=8, channels=1, num_classes=3)
SOLID = DatasetSpec(name="solid", size=0, channels=2, num_classes=3, ndim=3, shape=(8, 12, 4), spacing=(1, 1, 2))
WEIGHTS = {"cross_entropy": 0.5, "focal": 2.0, "dice": 1.0, "noise": 0.1}


def build(spec: DatasetSpec = FLAT, method: str = "recycling", **values: object) -> Segmenter:
    seeding.seed_everything("recycling")
    own = plugins.read_params("segmenters", method, TINY | values, "segmenters.it")
    return plugins.load("segmenters", method).build(own, spec)


def batch_of(spec: DatasetSpec, name: str = "one") -> Batch:
    """Two samples of noise; the second shows no class 2."""
    rng = seeding.torch_rng("recycling", name)
    image = torch.rand(2, spec.channels, *spec.spatial, generator=rng)
    mask = torch.randint(0, 3, (2, *spec.spatial), generator=rng)
    mask[1].clamp_(max=1)
    return Batch(image, mask, ("", ""), (f"{name}/0", f"{name}/1"))


def doubled(segmenter: Any) -> Any:
    segmenter.objective.double().eval()
    return segmenter


def draws(batch: Batch, last: int) -> tuple[list[int], Tensor, Tensor, list[bool]]:
    """What the objective draws for a batch of FLAT: timesteps, both noises, who sees a prediction."""
    rngs = [seeding.torch_rng(stream, "noise") for stream in batch.streams]
    t = [int(torch.randint(0, last + 1, (), generator=rng)) for rng in rngs]
    noise, first = (torch.stack([torch.randn(3, 8, 8, generator=rng) for rng in rngs]).double() for _ in range(2))
    return t, noise, first, [bool(torch.rand((), generator=rng) < 0.5) for rng in rngs]


@pytest.mark.parametrize("prediction", ["x0", "eps"])
@pytest.mark.parametrize("mode", MODES)
def test_a_step_is_that_of_the_papers_and_its_first_pass_learns_nothing(mode: str, prediction: str) -> None:
    objective = doubled(build(mode=mode, prediction=prediction, **WEIGHTS)).objective
    batch = batch_of(FLAT, "a" if mode.startswith("selfcond") else "b")
    batch = Batch(batch.image.double(), batch.mask, batch.prompts, batch.streams)
    t, noise, first, kept = draws(batch, 999 if mode in ("recycle_T", "selfcond_next") else 1000)
    network = objective.network.network
    expected, first_pass = recycling_literal.loss(
        network, mode, prediction == "eps", batch.image, batch.mask, 3, t, noise, first, kept, WEIGHTS
    )
    wanted = torch.autograd.grad(expected, list(network.parameters()))
    assert all(weight.grad is None for weight in first_pass.parameters())
    total = torch.stack(list(objective(batch, 0.0).values())).sum()
    assert float(total.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    found = torch.autograd.grad(total, list(network.parameters()))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6 * float(other.abs().max()) + 1e-9)


def test_a_first_pass_without_gradient_leaves_that_of_the_second_in_bf16() -> None:
    """Autocast keeps the shortened weights of the first pass; they must not be the second one's."""
    gradients = []
    for short in (False, True):
        objective = build(cross_entropy=1.0).objective
        with torch.autocast("cpu", torch.bfloat16, enabled=short):
            losses = objective(batch_of(FLAT), 0.0)
        sum(losses.values()).backward()
        gradients.append(torch.cat([weight.grad.flatten() for weight in objective.parameters()]))
    assert float(torch.cosine_similarity(*gradients, dim=0)) > 0.98


def test_only_samples_that_are_kept_see_their_first_prediction() -> None:
    objective = build(mode="selfcond_same").objective
    batch, k = batch_of(FLAT), torch.tensor([400, 400])
    noise = torch.zeros(2, 3, 8, 8)
    seen = objective.noisy_inputs(batch, k, (noise, noise), torch.tensor([True, False]))[2]
    torch.testing.assert_close(seen[0].sum(0), torch.ones(8, 8))  # probabilities
    assert not seen[1].any()


@pytest.mark.parametrize("method", ["ddim", "ddpm"])
@pytest.mark.parametrize("prediction", ["x0", "eps"])
def test_sampling_is_that_of_the_papers_at_the_timesteps_they_keep(prediction: str, method: str) -> None:
    segmenter = doubled(build(prediction=prediction, sampler=method))
    image = batch_of(FLAT).image.double()
    steps = segmenter.trajectory(image)
    for b, rng in enumerate(image_streams(image, 0)):
        noise = [torch.randn(3, 8, 8, generator=rng).double() for _ in range(5)]
        network = segmenter.parts[0].network.network
        with torch.no_grad():
            expected = recycling_literal.sampled(
                network, prediction == "eps", method == "ddim", image[b], noise, [0, 250, 500, 750, 1000]
            )
        torch.testing.assert_close(steps[:, b], torch.stack(expected), rtol=1e-5, atol=1e-7)


def test_the_noisy_mask_does_not_depend_on_the_label_where_the_last_level_holds_nothing_of_it() -> None:
    process = Process(torch.tensor([0.9, 0.5, 0.0], dtype=torch.float64), torch.arange(3), 3)
    one, k = batch_of(FLAT), torch.tensor([0, 1])
    other = Batch(one.image, 2 - one.mask, one.prompts, one.streams)
    noises = torch.randn(2, 2, 3, 8, 8, generator=seeding.torch_rng("labels"))
    for mode, same in (("recycle_T", True), ("recycle_next", False), ("vanilla", False)):
        params = _recycling_params.Params(**TINY, mode=mode, train_steps=3, steps=3)
        objective = _recycling.RecyclingObjective(RecyclingUNet(RecyclingShape(2, 4, 3, (4, 8))), process, params)
        objective.eval()
        found = [objective.noisy_inputs(batch, k, (noises[0], noises[1]), k > 0)[0] for batch in (one, other)]
        assert torch.equal(*found) == same


def test_the_noisiest_level_is_recycled_from_itself() -> None:
    objective = build(mode="recycle_next", train_steps=5).objective.eval()
    rngs = [seeding.torch_rng("times", number) for number in range(60)]
    assert set(objective.times.sample(rngs)[0].tolist()) == {0, 1, 2, 3, 4}
    batch, k, noises = batch_of(FLAT), torch.tensor([4, 4]), torch.randn(2, 2, 3, 8, 8)
    true = 2 * torch.nn.functional.one_hot(batch.mask, 3).movedim(-1, 1).float() - 1
    seen = objective.process.q_sample(true, noises[1], k)
    with torch.no_grad():
        x0 = objective.network(batch.image, seen, k, objective.process, None).x0
    found = objective.noisy_inputs(batch, k, (noises[0], noises[1]), k > 0)[0]
    torch.testing.assert_close(found, objective.process.q_sample(x0, noises[0], k))


def test_a_reverse_step_adds_no_noise() -> None:
    objective = build(mode="recycle_next", reverse_step=True).objective.eval()
    batch, k, noises = batch_of(FLAT), torch.tensor([3, 700]), torch.randn(3, 2, 3, 8, 8)
    found = [objective.noisy_inputs(batch, k, (noise, noises[2]), k > 0)[0] for noise in noises[:2]]
    assert torch.equal(*found)


def test_weights_of_timesteps_multiply_the_losses_of_their_samples() -> None:
    class Thrice(torch.nn.Module):
        def sample(self, rngs: list[torch.Generator]) -> tuple[Tensor, Tensor]:
            return torch.tensor([5, 5]), torch.tensor([3.0, 3.0])

        def update(self, timesteps: Tensor, losses: Tensor) -> None:
            assert losses.shape == (2,)

    objective = build().objective.eval()
    objective.times = Thrice()
    with torch.no_grad():
        thrice = objective(batch_of(FLAT), 0.0)
    objective.times.sample = lambda rngs: (torch.tensor([5, 5]), torch.ones(2))
    with torch.no_grad():
        once = objective(batch_of(FLAT), 0.0)
    assert {name: float(3 * loss) for name, loss in once.items()} == pytest.approx(
        {name: float(loss) for name, loss in thrice.items()}
    )


def test_importance_learns_what_each_timestep_costs_and_is_kept_with_the_weights() -> None:
    objective = build(times="importance", train_steps=5).objective
    objective(batch_of(FLAT), 0.0)
    state = dict(objective.named_buffers())
    assert int(state["times.counts"].sum()) == 2
    assert len(state["times.counts"]) == 4  # the last level is never drawn
    assert float(state["times.squares"].sum()) > 0


def test_time_is_the_fraction_of_training_at_any_number_of_steps() -> None:
    for tau, expected in (("fraction", [1 / 1001, 251 / 1001, 1.0]), ("index", [0.2, 0.4, 1.0])):
        part = build(tau=tau).parts[0]  # type: ignore[attr-defined]
        assert part.network.fraction(torch.tensor([0, 1, 4]), part.sampler.process).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("mode", [*MODES, "plain"])
def test_volumes_are_learned_and_predicted(mode: str) -> None:
    segmenter: Any = build(SOLID, mode=mode, first_stride=[2, 2, 1], patch=[4, 8, 4], overlap=[2, 4, 0])
    image, mask = segmenter.augment(None)(*pair(SOLID), seeding.numpy_rng("augment"))
    assert image.shape[1:] == mask.shape == (4, 8, 4)
    batch, objective, losses = batch_of(SOLID), segmenter.objective.train(), []
    optimizer = torch.optim.SGD(objective.parameters(), 0.02)
    for _ in range(4):
        loss = torch.stack(list(objective(batch, 0.0).values())).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    chance = segmenter.predict(batch.image, num_samples=2)
    assert chance.shape == (2, 2, 3, 8, 12, 4)
    torch.testing.assert_close(chance.sum(2), torch.ones(2, 2, 8, 12, 4))
    assert torch.equal(chance[:, 0], chance[:, 1]) == (mode == "plain")


def pair(spec: DatasetSpec) -> tuple[Tensor, Tensor]:
    batch = batch_of(spec)
    return batch.image[0], batch.mask[0]


@pytest.mark.parametrize("method", ["recycling", "recycling_ensemble"])
def test_the_last_step_is_the_prediction_and_neither_batch_nor_order_matters(method: str) -> None:
    segmenter: Any = build(method=method, sampler="ddpm")
    image = batch_of(FLAT).image
    chance, steps = segmenter.predict(image), segmenter.trajectory(image)
    assert steps.shape == (5, 2, 3, 8, 8)
    # another batch sums in another order: 1e-5 of rounding in float32; the two images' chances differ by far more
    near = {"atol": 1e-3, "rtol": 0.0}
    torch.testing.assert_close(steps[-1], chance[:, 0], **near)
    torch.testing.assert_close(segmenter.predict(image.flip(0)).flip(0), chance, **near)
    torch.testing.assert_close(segmenter.predict(image[1:]), chance[1:], **near)
    assert float((chance[0] - chance[1]).abs().max()) > 1e-2
    assert torch.equal(segmenter.predict(image), chance)


def test_a_patch_as_large_as_the_image_changes_nothing() -> None:
    image = batch_of(FLAT).image
    torch.testing.assert_close(build(patch=[8, 8]).predict(image), build().predict(image), atol=1e-3, rtol=0)


def test_the_ensemble_is_the_mean_probability_of_its_parts() -> None:
    segmenter: Any = build(method="recycling_ensemble")
    image = batch_of(FLAT).image
    diffusion, plain = segmenter.parts
    with torch.no_grad():
        parts = [diffusion.predict_steps(image, 0)[-1].exp(), plain.predict_steps(image, 0)[-1].exp()]
    torch.testing.assert_close(segmenter.predict(image)[:, 0], (parts[0] + parts[1]) / 2, atol=1e-3, rtol=0)
    assert float((parts[0] - parts[1]).abs().max()) > 1e-2
    assert {name.split("_")[0] for name in segmenter.objective(batch_of(FLAT), 0.0)} == {"diffusion", "plain"}


def test_the_plain_trunk_is_the_network_with_time_less_its_maps_of_time() -> None:
    """And the channels of the noisy mask at its stem."""
    part, plain = build().objective, build(mode="plain").objective
    names = {name for name, _ in part.network.network.named_parameters()}
    assert names - {name for name, _ in plain.network.named_parameters()} == {n for n in names if ".time." in n}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"steps": 6, "train_steps": 5}, r"steps \(6\) may be at most train_steps \(5\)"),
        ({"reverse_step": True}, "reverse_step is for the modes recycle_next and selfcond_next, not recycle_T"),
        ({"cross_entropy": 0, "dice": 0}, "nothing would be learned"),
        ({"channels": [4, 7]}, "the last of channels is 7; the embedding of time needs an even number"),
        ({"patch": [8, 8, 8]}, "patch has 3 numbers; images of flat have 2 axes"),
        ({"patch": [4, 4], "overlap": [4, 0]}, r"overlap is \[4, 0\] and patch is \(4, 4\); .* below patch"),
        ({"patch": [1, 8]}, "1 pixels .* stride of 2"),
        ({"version": "0.1.0", "blocks": 1}, "version 0.1.0 has one block a level, .* leave blocks and heads out"),
        ({"version": "0.1.0", "blocks": 2, "heads": 8, "tau": "index"}, "leave tau out"),
        ({"version": "0.2.0"}, "version: Input should be '0.3.2', '0.3.1' or '0.1.0'"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        build(**values)


def test_flips_are_for_squares() -> None:
    with pytest.raises(UserError, match=r"flips need square images; those of solid have \[8, 12, 4\] cells"):
        build(SOLID, flips=True)


@pytest.mark.parametrize("mode", ["recycle_T", "plain"])
@pytest.mark.parametrize("version", ["0.3.1", "0.1.0"])
def test_other_releases_are_learned_and_predicted_patch_by_patch(version: str, mode: str) -> None:
    own: dict[str, Any] = {} if version == "0.3.1" else {"blocks": 2, "heads": 8}
    segmenter: Any = build(SOLID, mode=mode, version=version, patch=[4, 16, 4], overlap=[2, 4, 0], **own)
    batch, objective = batch_of(SOLID), segmenter.objective.train()
    window = Batch(batch.image[:, :, :4], batch.mask[:, :4], batch.prompts, batch.streams)
    torch.stack(list(objective(window, 0.0).values())).sum().backward()
    unused = [name for name, weight in objective.named_parameters() if weight.grad is None]
    assert not unused
    chance = segmenter.predict(batch.image)
    torch.testing.assert_close(chance.sum(2), torch.ones(2, 1, 8, 12, 4))
    assert not [layer for layer in objective.modules() if isinstance(layer, torch.nn.Dropout) and layer.p]


def test_dropout_is_that_of_the_version_unless_it_is_given() -> None:
    shares = {"0.3.2": 0.1, "0.3.1": 0.0, "0.1.0": 0.0}
    assert {one: _recycling_params.Params.model_validate({"version": one}).dropout_share for one in shares} == shares
    assert _recycling_params.Params(version="0.3.1", dropout=0.2).dropout_share == 0.2


@pytest.mark.parametrize(("train_steps", "numbers"), [(5, [0, 2, 4]), (1001, [0, 500, 1000])])
def test_time_of_the_first_release_is_the_number_of_the_level_in_training(train_steps: int, numbers: list[int]) -> None:
    part: Any = build(version="0.1.0", blocks=2, heads=8, train_steps=train_steps).parts[0]  # type: ignore[attr-defined]
    found = part.network.fraction(torch.tensor([0, 2, 4]), part.sampler.process) * 10_000
    assert found.tolist() == pytest.approx(numbers)


@pytest.mark.parametrize("method", ["recycling", "recycling_ensemble"])
def test_only_postprocessed_masks_have_a_version_of_the_postprocessing(method: str) -> None:
    """Which belongs to a cell's fingerprint, so that scores of an older version are not used again."""
    spec = DatasetSpec(name="muscle", size=8, channels=1, num_classes=2)
    assert "postprocess_version" not in build(spec, method).about
    assert build(spec, method, postprocess="muscle_us").about["postprocess_version"] == 2
