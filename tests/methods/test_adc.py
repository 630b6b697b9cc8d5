"""ADC: the fast step against the literal one in float64, its gradient table, identities of its loss, and sizes."""

import copy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn

from pipeline.core.contracts import Sampling
from pipeline.data.sample import DatasetSpec
from pipeline.diffusion.schedule import Schedule
from pipeline.methods.generators import adc
from pipeline.methods.generators._control import control_network
from pipeline.methods.generators._distillation import balance, distillation
from pipeline.networks.stable_diffusion.acceleration import accelerate, trained_networks
from pipeline.networks.stable_diffusion.dense_hint_input import DenseHintInput
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.networks.stable_diffusion.split_unet import UNetDecoder
from pipeline.stages.base import tiny
from pipeline.stages.base.params import Autoencoder, Denoiser
from pipeline.stages.finetune.params import Finetune
from tests.reference import adc_literal
from tests.tiny_base import write_tiny_base

TEXT, SIDE = 16, 8
SHARES = [0.0, 0.02, 0.3, 1.0]  # of the lesion: 0, 1, 19 and 64 cells of 64
PARTS = ("network", "decoder", "teacher_network", "teacher_decoder")


def base_of(prediction: Any) -> StableDiffusion:
    """A base with two levels, factor 2, random weights, float64."""
    torch.manual_seed(0)
    vae = tiny.autoencoder(
        Autoencoder(channels=(16, 16), max_steps=1, batch_size=1, crop=8, learning_rate=1e-3), size=16
    )
    settings = Denoiser(channels=(32, 64), text_width=TEXT, max_steps=1, batch_size=1, learning_rate=1e-3)
    unet = tiny.denoiser(settings, 4, SIDE).double().requires_grad_(False).eval()
    return StableDiffusion(vae, tiny.text_tower(TEXT), tiny.tokenizer(), unet, tiny.scheduler(prediction))


@pytest.fixture
def model() -> StableDiffusion:
    return base_of("epsilon")


@dataclass
class Step:
    """One training step's tensors, in the order of `losses`."""

    latents: Tensor
    noise: Tensor
    t: Tensor
    text: Tensor
    hints: Tensor
    images: Tensor
    masks: Tensor

    @property
    def inputs(self) -> list[Tensor]:
        return [getattr(self, field.name) for field in fields(self)]

    def part(self, samples: slice) -> "Step":
        return Step(*(values[samples] for values in self.inputs))


@pytest.fixture
def step() -> Step:
    torch.manual_seed(1)
    latents, noise = torch.randn(2, 4, 4, SIDE, SIDE, dtype=torch.float64)
    cells = torch.stack([(torch.arange(SIDE**2) < round(share * SIDE**2)).view(SIDE, SIDE) for share in SHARES])
    masks = cells.long().repeat_interleave(2, 1).repeat_interleave(2, 2)
    masks[2] *= 2  # another class
    hints = (masks > 0).double()[:, None].expand(-1, 3, -1, -1).contiguous()
    text = torch.randn(4, 7, TEXT, dtype=torch.float64)
    images = torch.rand(4, 3, 16, 16, dtype=torch.float64)
    return Step(latents, noise, torch.tensor([5, 200, 600, 999]), text, hints, images, masks)


def objective(model: StableDiffusion, randomise: bool = True, **own: Any) -> adc.DistillationObjective:
    params = adc.Params(**own)
    torch.manual_seed(2)
    student, teacher = (control_network(model, params.hint, params.start).double() for _ in range(2))
    built = adc.DistillationObjective(params, model, student, teacher, num_classes=3)
    if randomise:  # zero convolutions would hide everything behind them, equal decoders the teacher's own one
        for weight in (*student.parameters(), *teacher.parameters()):
            if not weight.detach().any():
                nn.init.normal_(weight, std=0.1)
        for weight in built.teacher_decoder.parameters():
            weight.data.mul_(1 + 0.1 * torch.rand_like(weight))
    return built


def losses(fast: adc.DistillationObjective, step: Step) -> dict[str, Tensor]:
    return fast.losses(*step.inputs)


def total(named: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(named.values())).sum()


@pytest.mark.parametrize(("w_i", "hint"), [(1.0, "dense"), (0.25, "dense"), (1.0, "sparse")])
def test_fast_step_equals_the_literal_one(model: StableDiffusion, step: Step, w_i: float, hint: str) -> None:
    """Losses and the gradients of all four trained parts."""
    fast = objective(model, w_i=w_i, hint=hint)
    student, teacher = copy.deepcopy(model.unet), copy.deepcopy(model.unet)
    for name in ("up_blocks", "conv_norm_out", "conv_out"):
        getattr(teacher, name).load_state_dict(getattr(fast.teacher_decoder, name).state_dict())
    networks = copy.deepcopy(fast.network), copy.deepcopy(fast.teacher_network)
    alphas = fast.schedule.alphas_cumprod.double()
    expected = adc_literal.step((student, networks[0]), (teacher, networks[1]), alphas, *step.inputs, w_i=w_i)
    total(expected).backward()
    found = losses(fast, step)
    total(found).backward()
    for name, loss in expected.items():
        assert found[name].item() == pytest.approx(loss.item(), rel=1e-12), name
    theirs = dict(zip(PARTS, (networks[0], UNetDecoder(student), networks[1], UNetDecoder(teacher)), strict=True))
    largest = max(
        float(w.grad.abs().max()) for part in theirs.values() for w in part.parameters() if w.grad is not None
    )
    compared = 0
    for part, module in theirs.items():
        for weight, other in zip(getattr(fast, part).parameters(), module.parameters(), strict=True):
            assert weight.grad is not None and other.grad is not None
            # 10^4 roundings of 2^-53 of the largest gradient, as in test_siamese
            assert float((weight.grad - other.grad).abs().max()) < 1e-12 * largest, part
            compared += 1
    assert compared > 200
    frozen = ("down_blocks", "mid_block", "conv_in", "time_embedding")
    assert all(weight.grad is None for part in frozen for weight in getattr(model.unet, part).parameters())


def reached(loss: Tensor, fast: adc.DistillationObjective) -> tuple[bool, ...]:
    """Which of the four parts a loss trains."""
    found = []
    for part in PARTS:
        weights = list(getattr(fast, part).parameters())
        gradients = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
        found.append(any(one is not None and bool(one.any()) for one in gradients))
    return tuple(found)


def test_gradient_table(model: StableDiffusion, step: Step) -> None:
    tables = {}
    for detached in (False, True):
        fast = objective(model, detach_mask=detached)
        tables[detached] = {name: reached(loss, fast) for name, loss in losses(fast, step).items()}
    assert tables[False] == {  # the student's ControlNet and decoder, the teacher's
        "mask": (True, True, False, False),
        "mask_image": (True, False, True, True),
        "distillation": (True, True, False, False),
    }
    assert tables[True] == tables[False] | {"mask_image": (False, False, True, True)}


def test_detaching_takes_the_teacher_s_loss_from_the_student(model: StableDiffusion, step: Step) -> None:
    """Nothing else: what is missing is the gradient of that loss along the mask's control."""

    def gradient(fast: adc.DistillationObjective, loss: Tensor) -> Tensor:
        return torch.cat([one.flatten() for one in torch.autograd.grad(loss, list(fast.network.parameters()))])

    whole, detached, alone = (objective(model, detach_mask=way) for way in (False, True, False))
    difference = gradient(whole, total(losses(whole, step))) - gradient(detached, total(losses(detached, step)))
    of_teacher = gradient(alone, losses(alone, step)["mask_image"])
    assert float((difference - of_teacher).abs().max()) < 1e-12 * float(of_teacher.abs().max())


def test_without_the_image_the_teacher_still_trains_the_student(model: StableDiffusion, step: Step) -> None:
    fast = objective(model, w_i=0.0)
    assert reached(losses(fast, step)["mask_image"], fast) == (True, False, False, True)


def test_weights_scale_their_losses(model: StableDiffusion, step: Step) -> None:
    with torch.no_grad():
        plain, scaled = losses(objective(model), step), losses(objective(model, w_t=0.5, w_d=3.0), step)
    ratios = {name: float(scaled[name] / plain[name]) for name in plain}
    assert ratios == pytest.approx({"mask": 1.0, "mask_image": 0.5, "distillation": 3.0}, rel=1e-12)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_first_step_is_the_base_model_twice(prediction: Any, step: Step) -> None:
    model = base_of(prediction)
    schedule = Schedule(model.scheduler.alphas_cumprod, prediction)
    with torch.no_grad():
        found = losses(objective(model, randomise=False), step)
        noisy, target = (make(step.latents, step.noise, step.t) for make in (schedule.q_sample, schedule.target))
        plain = model.unet(noisy, step.t, step.text).sample
    assert float(found["distillation"]) < 1e-24  # the square of rounding
    expected = pytest.approx(((plain - target) ** 2).mean().item(), rel=1e-12)
    assert float(found["mask"]) == expected and float(found["mask_image"]) == expected


def test_equal_shares_of_a_batch_give_its_losses(model: StableDiffusion, step: Step) -> None:
    """So several processes train as one does."""
    fast = objective(model)
    with torch.no_grad():
        whole = losses(fast, step)
        halves = [losses(fast, step.part(samples)) for samples in (slice(0, 2), slice(2, 4))]
    for name, loss in whole.items():
        assert float(loss) == pytest.approx(float(sum(half[name] for half in halves)) / 2, rel=1e-12)


# --- the weights of lesion and background --------------------------------------------------------------------------


@pytest.mark.parametrize("weighting", ["ratio", "normalised", "none"])
def test_lesion_and_background_count_alike(step: Step, weighting: Any) -> None:
    """r (1 - r) times the sum of both regions' means; normalised half of the sum; an image of one region as stated."""
    student, teacher = torch.randn(2, 4, 4, SIDE, SIDE, dtype=torch.float64)
    expected = []
    for number, errors in enumerate(((student - teacher) ** 2).mean(1)):
        lesion = step.masks[number, ::2, ::2] > 0
        r, plain = float(lesion.double().mean()), float(errors.mean())
        both = float(errors[lesion].mean() + errors[~lesion].mean()) if 0 < r < 1 else 0.0
        of_normalised = both / 2 if 0 < r < 1 else plain
        expected.append({"ratio": r * (1 - r) * both, "normalised": of_normalised, "none": plain}[weighting])
    found = [distillation(*(x[k : k + 1] for x in (student, teacher, step.masks)), weighting) for k in range(4)]
    assert [float(one) for one in found] == pytest.approx(expected, rel=1e-12)
    assert float(distillation(student, teacher, step.masks, weighting)) == pytest.approx(sum(expected) / 4, rel=1e-12)


def test_cells_take_the_nearest_pixel_or_their_share() -> None:
    """A small lesion may fall between the pixels that the paper's mask of the cells takes."""
    masks = torch.zeros(2, 16, 16, dtype=torch.long)
    masks[0, 1, 1], masks[1, 8, 8] = 1, 3
    errors = torch.zeros(2, 2, 2, dtype=torch.float64)
    ratio, normalised = (balance(masks, errors, kind) for kind in ("ratio", "normalised"))
    assert torch.equal(ratio[0], torch.zeros(2, 2, dtype=torch.float64))
    assert torch.equal(ratio[1], torch.tensor([[0.25, 0.25], [0.25, 0.75]], dtype=torch.float64))
    assert float((normalised.mean((1, 2)) - 1).abs().max()) < 1e-12
    assert float(normalised[0, 0, 0]) > float(normalised[0, 1, 1]) > 0


# --- the generator ---------------------------------------------------------------------------------------------------

SPEC = DatasetSpec(name="toy", size=16)
MASKS = torch.zeros(2, 16, 16, dtype=torch.long)
MASKS[:, 4:9, 3:12] = 1


def stirred(base: Path) -> adc.DistilledDiffusion:
    """With control that is not zero any more."""
    torch.manual_seed(1)
    generator = adc.build(adc.Params(), StableDiffusion.open(base), SPEC)
    for network in trained_networks(generator.network, generator.objective)[0]:
        for weight in network.parameters():
            if not weight.detach().any():
                nn.init.normal_(weight, std=0.2)
    return generator


def draw(generator: adc.DistilledDiffusion) -> Tensor:
    rngs = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    return generator.sample(MASKS, ["a polyp"] * 2, rngs, Sampling(3, 4.0))


def test_the_student_is_published_and_draws_without_its_teacher(tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "base", "sample")
    generator = stirred(base)
    images = draw(generator)
    generator.save(tmp_path / "generator")
    names = {path.name for path in (tmp_path / "generator").iterdir()}
    assert names == {"controlnet", "controlnet.safetensors", "decoder.safetensors"}
    generator.objective.drop_teacher()
    assert torch.equal(draw(generator), images)
    again = adc.build(adc.Params(), StableDiffusion.open(base), SPEC)
    again.load(tmp_path / "generator")
    again.load(tmp_path / "generator")
    assert torch.equal(draw(again), images)
    count = sum(weight.numel() for part in (again.network, again.decoder) for weight in part.parameters())
    assert sum(weight.numel() for weight in again.objective.parameters()) == count


def test_switches_of_training_reach_the_teacher(tmp_path: Path) -> None:
    settings = Finetune(max_steps=1, global_batch=2, learning_rate=1e-3, lora_rank=2, gradient_checkpointing=True)
    generator = stirred(write_tiny_base(tmp_path, "sample"))
    accelerate(generator.model.unet, generator.network, generator.objective, settings)
    networks, decoders = trained_networks(generator.network, generator.objective)
    assert len(networks) == len(decoders) == 2 and all(isinstance(one, ControlNetModel) for one in networks)
    assert all(decoder.recompute for decoder in decoders) and all(one.is_gradient_checkpointing for one in networks)
    low_rank = {
        part: sum(".parametrizations." in name for name, _ in getattr(generator.objective, part).named_parameters())
        for part in PARTS
    }
    assert low_rank["network"] == low_rank["teacher_network"] > 0
    assert low_rank["decoder"] == low_rank["teacher_decoder"] > 0


def test_sizes_at_stable_diffusion_1_5() -> None:
    """On the meta device: twice the trained weights of Siamese-Diffusion."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768, sample_size=64, attention_head_dim=8)
        network = ControlNetModel(cross_attention_dim=768, attention_head_dim=8)
        network.controlnet_cond_embedding = DenseHintInput(320, 8)
    count = sum(weight.numel() for part in (network, UNetDecoder(unet)) for weight in part.parameters())
    assert 2 * count == 1_748_529_032
