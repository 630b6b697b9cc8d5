"""DP-SGD: clipping per sample over all weights, noise of the right size, batches by chance, the budget."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.core.errors import UserError
from pipeline.core.recipes import PrivacyRecipe, Recipe
from pipeline.core.runtime import Runtime
from pipeline.data.sample import DatasetSpec
from pipeline.methods.generators import controlnet
from pipeline.methods.generators._control import ControlledDiffusion
from pipeline.networks.stable_diffusion import acceleration, lora
from pipeline.networks.stable_diffusion.latent_batches import LatentBatch
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.networks.stable_diffusion.poisson_batches import PoissonBatches
from pipeline.stages.finetune.params import Finetune
from pipeline.training import privacy
from pipeline.training.loop import fit, trained_state
from tests.reference.dp_sgd_literal import literal_sum
from tests.tiny_base import write_tiny_base
from tests.toy_training import pairs

CPU = torch.device("cpu")
SPEC = DatasetSpec(name="toy", size=16, num_classes=2)
SETTINGS = Finetune.model_validate(
    {
        "max_steps": 2,
        "global_batch": 4,
        "learning_rate": 1e-2,
        "lora_rank": 2,
        "privacy": {"epsilon": 8, "delta": 0.01, "max_grad_norm": 0.1},
    }
)
SPEC_TABLE = [(100, 32, 1, 16.2), (800, 64, 1, 4.92), (800, 64, 3, 2.02), (800, 64, 8, 1.08), (800, 64, 10, 0.96),
              (1450, 256, 1, 11.1), (1450, 256, 8, 1.99)]  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("base"), "sample")


def built(base: Path, hint: str = "sparse", **settings: Any) -> ControlledDiffusion:
    torch.manual_seed(1)
    params = controlnet.Params.model_validate({"start": 0.05, "hint": hint, "lesion_weight": 0.3, "min_snr": 5.0})
    generator = controlnet.build(params, StableDiffusion.open(base), SPEC)
    generator.prepare(SETTINGS.model_copy(update=settings))
    for module in generator.objective.modules():
        if isinstance(module, lora.LoRALinear):
            nn.init.normal_(module.up.weight, std=0.1)  # else the gradient of `down` is zero
    for layer in generator.network.controlnet_cond_embedding.modules():
        if isinstance(layer, nn.Conv2d) and not layer.weight.any():
            nn.init.normal_(layer.weight, std=0.1)
    return generator


def as_double(generator: ControlledDiffusion) -> ControlledDiffusion:
    generator.objective.double()
    generator.model.unet.double()
    hint = generator.objective.hint
    generator.objective.hint = lambda mask, image: hint(mask, image).double()
    return generator


def doubled(batch: LatentBatch) -> LatentBatch:
    assert batch.draws is not None
    draws = replace(batch.draws, posterior=batch.draws.posterior.double(), noise=batch.draws.noise.double())
    parts = {name: getattr(batch, name).double() for name in ("moments", "text", "image")}
    return replace(batch, draws=draws, **parts)


@pytest.mark.parametrize("hint", ["sparse", "dense"])
@pytest.mark.parametrize("micro_batch", [None, 1, 3])
def test_gradients_are_clipped_per_sample_as_the_literal_ones(base: Path, hint: str, micro_batch: int | None) -> None:
    """In float64, over all trained weights of a ControlNet: attention, hint and zero convolutions."""
    pytest.importorskip("opacus", reason="opacus (extra `privacy`) is not installed")
    generator = as_double(built(base, hint))
    plain = SETTINGS.model_copy(update={"privacy": None})
    whole = doubled(generator.batches(pairs(16, 7), plain, "s").batch(0).to(CPU))
    norms, wanted = literal_sum(generator.objective, whole, 0.0, limit=0.0)
    limit = float(np.median(norms))
    norms, wanted = literal_sum(generator.objective, whole, 0.0, limit)
    assert 0 < sum(norm > limit for norm in norms) < len(norms)  # some are clipped
    recipe = Recipe(1, 1e-3, privacy=PrivacyRecipe(0.0, limit, 4))
    strategy = privacy.PrivateStrategy(generator.objective, recipe, Runtime.alone(1))
    for start in range(0, len(whole), micro_batch or len(whole)):
        part = whole.part(start, start + (micro_batch or len(whole)))
        losses = strategy.wrapped(part, 0.0)
        strategy.backward(sum(losses.values(), torch.zeros(())) * strategy.share(len(part), len(whole)))
    names = [name for name, weight in generator.objective.named_parameters() if weight.requires_grad]
    assert len(names) == len(strategy.sums) and any(".down." in name for name in names)
    for name, total in zip(names, strategy.sums, strict=True):
        assert torch.allclose(total, wanted[name], rtol=1e-9, atol=1e-12 * limit), name
    assert all(bool(total.any()) for total in strategy.sums)


def test_clipping_limits_the_norm_over_all_weights() -> None:
    rng = torch.Generator().manual_seed(0)
    per_sample = [torch.randn(5, *shape, generator=rng, dtype=torch.float64) for shape in ((3, 2), (4,))]
    per_sample[0][1] *= 0.01
    per_sample[1][1] *= 0.01
    per_sample[0][2] = per_sample[1][2] = 0
    sums = [torch.zeros(3, 2).double(), torch.zeros(4).double()]
    privacy.add_clipped(sums, per_sample, 0.5)
    wanted = [torch.zeros(3, 2).double(), torch.zeros(4).double()]
    for number in range(5):
        norm = float(sum(float((gradients[number] ** 2).sum()) for gradients in per_sample)) ** 0.5
        for total, gradients in zip(wanted, per_sample, strict=True):
            total += gradients[number] * (min(1.0, 0.5 / norm) if norm else 1.0)
    assert all(torch.allclose(ours, theirs, rtol=1e-12) for ours, theirs in zip(sums, wanted, strict=True))


def test_noise_has_the_size_of_the_recipe_and_never_repeats() -> None:
    recipe = PrivacyRecipe(1.5, 0.2, 8)
    torch.manual_seed(0)
    first = [torch.ones(200, 100), torch.zeros(20000)]
    privacy.add_noise(first, recipe)
    torch.manual_seed(0)
    second = [torch.zeros(20000)]
    privacy.add_noise(second, recipe)
    for noise in (first[0].flatten() - 1, first[1], second[0]):
        assert float(noise.std()) == pytest.approx(0.3, rel=0.03)
        assert abs(float(noise.mean())) < 4 * 0.3 / 20000**0.5
    for one, other in ((first[0].flatten() - 1, first[1]), (first[1], second[0])):
        assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 0.04


def poisson(size: int, count: int, batch: int, flip: bool = False) -> PoissonBatches:
    model: Any = SimpleNamespace(keep=None, schedule=range(1000), offload=lambda: None)
    model.moments = lambda image: image.float().mean((1, 2, 3)).view(-1, 1, 1, 1).expand(-1, 8, 4, 4)
    model.embed = lambda prompts, size: torch.zeros(1, 7, 16)
    return PoissonBatches(model, pairs(size, count), batch, "s", flip, 0.5)


def test_every_pair_is_drawn_at_the_same_rate_independently_of_others() -> None:
    batches, steps = poisson(8, 20, 5), 4000
    chosen = np.zeros((steps, 20))
    for step in range(steps):
        chosen[step, [index for index, _ in batches.samples(step)]] = 1
    error = (0.25 * 0.75 / steps) ** 0.5
    assert np.abs(chosen.mean(0) - 0.25).max() < 4.5 * error
    assert chosen.sum(1).var() == pytest.approx(20 * 0.25 * 0.75, rel=0.12)  # binomial; fixed sizes would have 0
    correlations = np.corrcoef(chosen.T)[~np.eye(20, dtype=bool)]
    assert np.abs(correlations).max() < 5 / steps**0.5


def test_a_sample_draws_the_same_noise_whoever_else_takes_part() -> None:
    batches = poisson(8, 10, 5, flip=True)
    alone = batches.gather([(3, "s/0/i3")]).to(CPU)
    found = [batches.samples(0) for _ in range(50)]
    assert {stream for samples in found for index, stream in samples if index == 3} == {"s/0/i3"}
    among = batches.gather([(1, "s/0/i1"), (3, "s/0/i3")]).to(CPU)
    assert torch.equal(alone.draws.noise[0], among.draws.noise[1]) and torch.equal(alone.image[0], among.image[1])
    assert len({tuple(samples) for samples in found}) > 10  # the choice follows from no seed


@pytest.mark.parametrize("flip", [False, True])
def test_a_batch_may_be_empty(flip: bool) -> None:
    batches = poisson(8, 3, 1, flip)
    sizes = {len(batches.batch(step).to(CPU).image) for step in range(60)}
    assert 0 in sizes and len(sizes) > 1


def test_layers_of_low_rank_compute_what_the_parametrisation_does(base: Path, tmp_path: Path) -> None:
    layered = built(base)
    for name, module in layered.decoder.named_modules():
        if isinstance(module, lora.LoRALinear):
            x = torch.randn(2, 5, module.weight.shape[1])
            attention = torch.nn.functional.linear(x, module.merged(), module.bias)
            assert torch.allclose(module(x), attention, atol=1e-5), name
    names = [name for name, weight in layered.objective.named_parameters() if weight.requires_grad]
    assert all(".down." in name or ".up." in name or any(part in name for part in acceleration.FRESH) for name in names)
    layered.save(tmp_path)
    plain = controlnet.build(controlnet.Params(), StableDiffusion.open(base), SPEC)
    plain.load(tmp_path)
    batch = layered.batches(pairs(16, 4), SETTINGS.model_copy(update={"privacy": None}), "s").batch(0)
    plain.objective.error = layered.objective.error
    losses = [one.objective(batch.to(CPU), 0.0)["mask"] for one in (layered, plain)]
    assert torch.allclose(*losses, rtol=1e-5)


def test_a_run_without_noise_or_clipping_makes_the_ordinary_step(base: Path) -> None:
    """One step of SGD on the whole set: the sum of the gradients over the expected size is the mean's."""
    pytest.importorskip("opacus", reason="opacus (extra `privacy`) is not installed")
    weights = []
    for recipe in (None, PrivacyRecipe(0.0, 1e9, 4)):
        generator = built(base)
        settings = SETTINGS.model_copy(update={"privacy": None})
        batches = generator.batches(pairs(16, 4), settings, "s")
        fit(generator.objective, batches, Recipe(1, 0.1, optimizer="sgd", privacy=recipe), Runtime.alone(1))
        weights.append(trained_state(generator.objective))
        assert not any(module._forward_hooks for module in generator.objective.modules())
    assert all(torch.allclose(value, weights[1][name], atol=1e-6) for name, value in weights[0].items())


def test_several_processes_are_refused(base: Path) -> None:
    runtime: Any = SimpleNamespace(world=2)
    with pytest.raises(UserError, match="privacy trains in one process, found 2; launch with cpu or gpu1"):
        privacy.PrivateStrategy(nn.Linear(1, 1), Recipe(1, 1.0, privacy=PrivacyRecipe(1.0, 1.0, 1)), runtime)


@pytest.mark.parametrize(("count", "batch", "epsilon", "noise"), SPEC_TABLE)
def test_noise_of_the_accountant_is_that_of_published_tables(
    count: int, batch: int, epsilon: float, noise: float
) -> None:
    """300 steps at delta 1 / (10 n), computed before by another implementation of the same bound."""
    pytest.importorskip("opacus", reason="opacus (extra `privacy`) is not installed")
    found = privacy.noise_multiplier(epsilon, 0.1 / count, batch / count, 300)
    assert found == pytest.approx(noise, rel=0.01)
    spent = privacy.epsilon_spent(found, 0.1 / count, batch / count, 300)
    assert 0.98 * epsilon < spent <= epsilon
    from opacus.accountants import RDPAccountant  # pyright: ignore[reportMissingImports]

    accountant: Any = RDPAccountant()
    for _ in range(300):
        accountant.step(noise_multiplier=found, sample_rate=batch / count)
    assert accountant.get_epsilon(0.1 / count) == pytest.approx(spent, rel=1e-9)


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opacus", None)
    with pytest.raises(UserError, match=r"privacy needs the package opacus .*; pip install 'twinsynth\[privacy\]'"):
        privacy.noise_multiplier(8, 1e-3, 0.1, 10)
