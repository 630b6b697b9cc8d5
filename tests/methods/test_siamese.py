"""Siamese-Diffusion: the fast step against the literal one in float64, its gradient table, gates and sizes."""

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor

from pipeline.diffusion.schedule import Schedule
from pipeline.methods.generators import siamese
from pipeline.methods.generators._control import control_network
from pipeline.methods.generators._focused_loss import WeightedError
from pipeline.methods.generators._sampling import MaskImageDenoisingNetworks
from pipeline.networks.stable_diffusion.dense_hint_input import DenseHintInput, PatchMerging
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.networks.stable_diffusion.split_unet import UNetDecoder, encode
from pipeline.stages.base import tiny
from pipeline.stages.base.params import Autoencoder, Denoiser
from tests.reference import siamese_literal

TEXT = 16


@pytest.fixture
def model() -> StableDiffusion:
    """A base with two levels, factor 2, random weights, float64."""
    torch.manual_seed(0)
    vae = tiny.autoencoder(
        Autoencoder(channels=(16, 16), max_steps=1, batch_size=1, crop=8, learning_rate=1e-3), size=16
    )
    settings = Denoiser(channels=(32, 64), text_width=TEXT, max_steps=1, batch_size=1, learning_rate=1e-3)
    unet = tiny.denoiser(settings, 4, 8).double().requires_grad_(False).eval()
    return StableDiffusion(vae, tiny.text_tower(TEXT), tiny.tokenizer(), unet, tiny.scheduler("epsilon"))


@dataclass
class Step:
    """One training step's tensors; t holds the values at and around T_tau."""

    latents: Tensor
    noise: Tensor
    t: Tensor
    text: Tensor
    mask: Tensor
    image: Tensor


@pytest.fixture
def step() -> Step:
    torch.manual_seed(1)
    latents, noise = torch.randn(2, 6, 4, 8, 8, dtype=torch.float64)
    mask = (torch.rand(6, 1, 16, 16) > 0.5).double().expand(-1, 3, -1, -1).contiguous()
    image = torch.rand(6, 3, 16, 16, dtype=torch.float64)
    t = torch.tensor([5, 150, 200, 201, 600, 999])
    return Step(latents, noise, t, torch.randn(6, 7, TEXT, dtype=torch.float64), mask, image)


def objective(model: StableDiffusion, randomise: bool = True, **own: Any) -> siamese.SiameseObjective:
    params = siamese.Params(**own)
    torch.manual_seed(2)
    network = control_network(model, params.hint, params.start).double()
    if randomise:  # zero convolutions would hide everything behind them
        for weight in network.parameters():
            if not weight.detach().any():
                torch.nn.init.normal_(weight, std=0.1)
    return siamese.SiameseObjective(params, model, network, num_classes=2)


def losses(fast: siamese.SiameseObjective, step: Step, progress: float) -> dict[str, Tensor]:
    return fast.losses(step.latents, step.noise, step.t, step.text, torch.cat([step.mask, step.image]), progress)


@pytest.mark.parametrize(
    ("k", "fixed_sizes", "prediction"),
    [
        *((k, False, "epsilon") for k in (0, 100, 180, 299)),
        (299, True, "epsilon"),
        (100, False, "v_prediction"),
        (299, False, "v_prediction"),
    ],
)
def test_fast_step_equals_the_literal_one(
    model: StableDiffusion, step: Step, k: int, fixed_sizes: bool, prediction: Any
) -> None:
    """With fixed sizes, too: two passes of two for three samples, the last filled up."""
    model.scheduler = tiny.scheduler(prediction)
    fast = objective(model)
    fast.fixed_sizes = fixed_sizes
    unet, network = copy.deepcopy(model.unet), copy.deepcopy(fast.network)
    unet.up_blocks.requires_grad_(True), unet.conv_norm_out.requires_grad_(True), unet.conv_out.requires_grad_(True)
    expected = siamese_literal.step(
        unet, network, fast.schedule.alphas_cumprod.double(), step.latents, step.noise, step.t, step.text,
        step.mask, step.image, k, 300, velocity=prediction == "v_prediction",
    )  # fmt: skip
    expected.backward()
    found = sum(losses(fast, step, k / 300).values(), torch.zeros(()))
    found.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    compared = 0
    trained = [weight for part in (unet, network) for weight in part.parameters() if weight.requires_grad]
    largest = max(float(weight.grad.abs().max()) for weight in trained)
    for ours, theirs in ((model.unet, unet), (fast.network, network)):
        for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
            if not a.requires_grad:
                assert b.grad is None, name
                continue
            # 10^4 roundings of 2^-53 of the largest gradient; many are zero but for rounding, by symmetry, where a bias
            # precedes a one-channel group norm
            assert float((a.grad - b.grad).abs().max()) < 1e-12 * largest, name
            compared += 1
    assert compared > 100


@torch.no_grad()
def test_image_diffusion_equals_the_literal_one(model: StableDiffusion, step: Step) -> None:
    """A guided step with both hints in both branches, as `control: mask_image` takes it."""
    fast = objective(model)
    empty = torch.randn(6, 7, TEXT, dtype=torch.float64)
    networks = MaskImageDenoisingNetworks(model.unet, fast.network, UNetDecoder(model.unet), image_weight=0.3)
    embedded = [torch.cat([fast.network.controlnet_cond_embedding(hint)] * 2) for hint in (step.mask, step.image)]
    text = torch.cat([empty, step.text])
    features = networks.encode(torch.cat([step.latents] * 2), torch.cat([step.t] * 2), (text, embedded))
    without, with_prompt = networks.decode(features, text).chunk(2)
    expected = siamese_literal.image_diffusion(
        model.unet, fast.network, step.latents, step.t, empty, step.text, step.mask, step.image, w_i=0.3, scale=9.0
    )
    found = without + 9.0 * (with_prompt - without)
    assert float((found - expected).abs().max()) < 1e-12 * float(expected.abs().max())
    mask_alone = fast.decoder(encode(model.unet, step.latents, step.t, step.text), siamese_literal.residuals(
        fast.network, step.latents, step.t, step.text, step.mask), step.text)  # fmt: skip
    assert float((with_prompt - mask_alone).abs().max()) > 1e-3


def gradient(loss: Tensor, weights: list[Tensor]) -> float:
    found = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    return sum(float(g.abs().sum()) for g in found if g is not None)


def test_gradient_table(model: StableDiffusion, step: Step) -> None:
    fast = objective(model)
    hints = torch.cat([step.mask, step.image]).requires_grad_(True)
    named = fast.losses(step.latents, step.noise, step.t, step.text, hints, 0.6)
    decoder = list(fast.decoder.parameters())
    table = {}
    for name, loss in named.items():
        (by_hint,) = torch.autograd.grad(loss, [hints], retain_graph=True)
        mask, image = by_hint.abs().sum((1, 2, 3)).chunk(2)
        table[name] = (gradient(loss, decoder) > 0, bool(mask.any()), bool(image.any()))
    assert table == {  # decoder, through the mask hint, through the image hint
        "mask": (True, True, False),
        "image": (False, False, True),
        "consistency": (True, True, False),
        "augmented": (True, True, False),
    }


def test_nothing_frozen_gets_a_gradient(model: StableDiffusion, step: Step) -> None:
    fast = objective(model)
    sum(losses(fast, step, 0.6).values(), torch.zeros(())).backward()
    frozen = [*model.unet.down_blocks.parameters(), *model.unet.mid_block.parameters()]
    frozen += [*model.unet.conv_in.parameters(), *model.unet.time_embedding.parameters()]
    assert all(weight.grad is None for weight in frozen)


def test_first_step_is_the_base_model(model: StableDiffusion, step: Step) -> None:
    found = losses(objective(model, randomise=False), step, 0.0)
    assert float(found["consistency"].detach()) < 1e-24  # the square of rounding
    assert float(found["mask"].detach()) == pytest.approx(float(found["image"].detach()), rel=1e-12)
    noisy = Schedule(model.scheduler.alphas_cumprod).q_sample(step.latents, step.noise, step.t)
    plain = model.unet(noisy, step.t, step.text).sample
    assert float(found["mask"].detach()) == pytest.approx(((plain - step.noise) ** 2).mean().item(), rel=1e-12)


def test_started_control_hears_the_hint_in_the_first_step(model: StableDiffusion, step: Step) -> None:
    """From zero the first gradient does not reach the hint's last layer; from small weights it does."""
    reached = {}
    for start in (0.0, 0.02):
        fast = objective(model, randomise=False, start=start)
        losses(fast, step, 0.0)["mask"].backward()
        hint = fast.network.controlnet_cond_embedding.zero.weight.grad
        reached[start] = hint is not None and bool(hint.any())
    assert reached == {0.0: False, 0.02: True}


def test_augmentation_starts_after_a_third_of_training(model: StableDiffusion, step: Step) -> None:
    fast = objective(model)
    assert "augmented" not in losses(fast, step, 100 / 300)
    assert "augmented" in losses(fast, step, 101 / 300)


def test_augmentation_takes_t_up_to_200_and_divides_by_the_full_batch(model: StableDiffusion, step: Step) -> None:
    fast = objective(model)
    with torch.no_grad():
        whole = losses(fast, step, 0.6)["augmented"]
        three = slice(0, 3)  # the three samples with t <= 200
        part = Step(*(getattr(step, f)[three] for f in ("latents", "noise", "t", "text", "mask", "image")))
        alone = losses(fast, part, 0.6)["augmented"]
        late = slice(3, 6)
        none = Step(*(getattr(step, f)[late] for f in ("latents", "noise", "t", "text", "mask", "image")))
        assert float(losses(fast, none, 0.6)["augmented"]) == 0
    assert float(whole) == pytest.approx(float(alone) / 2, rel=1e-9)


def test_augmented_passes_of_compiled_networks_have_one_size(model: StableDiffusion, step: Step) -> None:
    """However many samples are chosen of six; two are expected."""
    fast = objective(model)
    fast.fixed_sizes = True
    sizes: list[int] = []
    fast.decoder.up_blocks[0].register_forward_pre_hook(
        lambda _block, _inputs, named: sizes.append(len(named["hidden_states"])), with_kwargs=True
    )
    with torch.no_grad():
        for chosen in range(7):
            step.t = torch.tensor([5] * chosen + [900] * (6 - chosen))
            losses(fast, step, 0.6)
    assert [size for size in sizes if size != 6] == [2] * (0 + 1 + 1 + 2 + 2 + 3 + 3)


def test_passes_take_as_many_samples_as_are_expected() -> None:
    assert [siamese.pass_size(batch, 200) for batch in (1, 3, 6, 24, 48)] == [1, 1, 2, 5, 10]
    assert (siamese.pass_size(6, 999), siamese.pass_size(6, 0)) == (6, 1)


def test_noised_again_latents_have_the_closed_form() -> None:
    schedule = Schedule(tiny.scheduler("epsilon").alphas_cumprod.double())
    x0, noise, predicted = torch.randn(3, 2, 4, 4, 4, dtype=torch.float64)
    t = torch.tensor([200, 7])
    noisy = schedule.q_sample(x0, noise, t)
    again = schedule.q_sample(schedule.predict_x0(predicted, noisy, t), noise, t)
    sigma = (1 - schedule.alphas_cumprod[t]).sqrt().view(-1, 1, 1, 1)
    assert torch.allclose(again, noisy + sigma * (noise - predicted), atol=1e-12)
    assert float(schedule.alphas_cumprod[200]) == pytest.approx(0.75369, abs=1e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_prediction_types_agree_with_each_other(prediction: str) -> None:
    schedule = Schedule(tiny.scheduler(prediction).alphas_cumprod.double(), prediction)
    x0, noise = torch.randn(2, 3, 4, 2, 2, dtype=torch.float64)
    t = torch.tensor([0, 500, 999])
    noisy = schedule.q_sample(x0, noise, t)
    assert torch.allclose(schedule.predict_x0(schedule.target(x0, noise, t), noisy, t), x0, atol=1e-9)


def test_losses_of_velocities_keep_their_proportions() -> None:
    """At every timestep a squared distance of velocities is that of noises over abar: of L_m, L_i and L_c alike.

    With min-SNR weights the losses are equal, whatever is predicted.
    """
    alphas = tiny.scheduler("epsilon").alphas_cumprod.double()
    noises, velocities = Schedule(alphas, "epsilon"), Schedule(alphas, "v_prediction")
    x0, noise, of_mask, of_mix = torch.randn(4, 4, 4, 2, 2, dtype=torch.float64)
    t = torch.tensor([3, 200, 700, 999])
    noisy, abar = noises.q_sample(x0, noise, t), alphas[t]
    found: list[list[Tensor]] = []
    for schedule in (noises, velocities):
        mask, mix = (schedule.prediction_of(guess, noisy, t) for guess in (of_mask, of_mix))
        pairs = [(mask, schedule.target(x0, noise, t)), (mask, mix)]
        weighted = WeightedError(schedule, lesion_weight=0.0, min_snr=5.0)
        plain = [((a - b) ** 2).flatten(1).mean(1) for a, b in pairs]
        found.append([*plain, *(weighted(a, b, t) for a, b in pairs)])
    for of_noise, of_velocity in zip(found[0][:2], found[1][:2], strict=True):
        assert torch.allclose(of_velocity, of_noise / abar, rtol=1e-9)
    for of_noise, of_velocity in zip(found[0][2:], found[1][2:], strict=True):
        assert float(of_velocity) == pytest.approx(float(of_noise), rel=1e-9)


def test_image_weight_grows_with_progress_or_is_constant(model: StableDiffusion, step: Step) -> None:
    with torch.no_grad():
        grown, constant = losses(objective(model), step, 0.25), losses(objective(model, w_i=0.25), step, 0.9)
        assert float(grown["image"]) == pytest.approx(float(constant["image"]), rel=1e-12)
        silent = losses(objective(model), step, 0.0)
        assert float(silent["image"]) == pytest.approx(float(silent["mask"]), rel=1e-12)  # no image control at all
        assert float(grown["image"]) != pytest.approx(float(silent["image"]), rel=1e-6)


def test_patch_merging_gathers_columns_first() -> None:
    merge = PatchMerging(2).double()
    x = torch.randn(1, 2, 4, 6, dtype=torch.float64).permute(0, 2, 3, 1)
    corners = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
    expected = merge.reduction(merge.norm(torch.cat(corners, -1))).permute(0, 3, 1, 2)
    assert torch.allclose(merge(x.permute(0, 3, 1, 2)), expected)


def test_sizes_at_stable_diffusion_1_5() -> None:
    """Counts of the paper's parts, on the meta device."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768, sample_size=64, attention_head_dim=8)
        network = ControlNetModel(cross_attention_dim=768, attention_head_dim=8)
        network.controlnet_cond_embedding = DenseHintInput(320, 8)
    hint = sum(p.numel() for p in network.controlnet_cond_embedding.parameters())
    control = sum(p.numel() for p in network.parameters())
    decoder = sum(p.numel() for part in (unet.up_blocks, unet.conv_norm_out, unet.conv_out) for p in part.parameters())
    assert (hint, control, control + decoder) == (3_263_872, 363_456_512, 874_264_516)
