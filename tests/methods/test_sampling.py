"""Samplers: as diffusers' own pipeline, from each image's own noise, with features reused where told, errors told."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionControlNetPipeline
from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from pipeline.core import seeding
from pipeline.core.contracts import Sampling
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data.sample import DatasetSpec
from pipeline.diffusion.schedule import noise_of
from pipeline.methods.conditioning import mask as mask_hint
from pipeline.methods.generators import _sampling, controlnet
from pipeline.methods.generators._control import ControlledDiffusion
from pipeline.networks.stable_diffusion import split_unet
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.stages.generate.params import Generate
from tests.levels import ROUNDING, apart
from tests.tiny_base import write_tiny_base

SAMPLERS = ("ddim", "dpmpp_2m", "unipc")
MASKS = (torch.rand(7, 16, 16, generator=torch.Generator().manual_seed(0)) > 0.5).long()
SECTION: dict[str, Any] = {"steps": 10, "guidance_scale": 1.0, "batch_size": 2}


@pytest.fixture(scope="module", params=["sample", "epsilon", "v_prediction"])
def each_prediction(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ControlledDiffusion:
    return generator_over(write_tiny_base(tmp_path_factory.mktemp("base"), request.param))


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> ControlledDiffusion:
    return generator_over(write_tiny_base(tmp_path_factory.mktemp("base"), "sample"))


@pytest.fixture
def uncached() -> Iterator[None]:
    """No compiled function of one test is seen by another."""
    _sampling._compile.cache_clear()
    yield
    _sampling._compile.cache_clear()


def generator_over(base: Path) -> ControlledDiffusion:
    """An untrained ControlNet whose control is not zero."""
    torch.manual_seed(1)
    built = controlnet.build(controlnet.Params(), StableDiffusion.open(base), DatasetSpec(name="toy", size=16))
    for weight in built.network.parameters():
        if not weight.detach().any():
            torch.nn.init.normal_(weight, std=0.2)
    built.objective.eval()
    return built


def draw(built: ControlledDiffusion, names: range, settings: Sampling) -> Tensor:
    return built.sample(MASKS[names], prompts(names), streams(names), settings)


def streams(names: range) -> list[torch.Generator]:
    return [seeding.torch_rng("sample", name) for name in names]


def prompts(names: range) -> list[str]:
    return [f"polyp {name}" for name in names]


@torch.no_grad()
def literal(built: ControlledDiffusion, names: range, steps: int, scale: float, reused: tuple[int, ...] = ()) -> Tensor:
    """DDIM with guidance, written out for one prompt after the other."""
    unet, scheduler = built.model.unet, built.model.scheduler
    text = torch.cat([built.model.embed([""] * len(names)), built.model.embed(prompts(names))])
    hint = built.network.controlnet_cond_embedding(mask_hint.hint(MASKS[names], 2)).repeat(2, 1, 1, 1)
    latents = noise_of(streams(names), (4, 8, 8))
    scheduler.set_timesteps(steps)
    for step, t in enumerate(scheduler.timesteps.tolist()):
        noisy, times = torch.cat([latents, latents]), torch.full((2 * len(names),), t)
        time = unet.time_embedding(unet.time_proj(times))
        if step not in reused:
            residuals = split_unet.control(built.network, noisy, times, text, hint)
            hidden, skips, _ = split_unet.encode(unet, noisy, times, text)
        without, with_prompt = built.decoder((hidden, skips, time), residuals, text).chunk(2)
        latents = scheduler.step(without + scale * (with_prompt - without), t, latents).prev_sample
    return built.model.images(latents)


@pytest.mark.parametrize("scale", [1.0, 5.0])
@pytest.mark.parametrize(("sampler", "eta"), [*((one, 0.0) for one in SAMPLERS), ("ddim", 0.4), ("ddim", 1.0)])
def test_sampler_draws_what_the_pipeline_of_diffusers_draws(
    sampler: Any, eta: float, scale: float, each_prediction: ControlledDiffusion
) -> None:
    """Random streams give the first noise and, with an eta, the noise of every step, as diffusers draws them."""
    built, names = each_prediction, range(3)
    model = built.model
    scheduler = _sampling.SCHEDULERS[sampler].from_config(model.scheduler.config)
    pipe = StableDiffusionControlNetPipeline(
        model.vae, model.text_encoder, model.tokenizer, model.unet, built.network, scheduler, None, None, None, False
    )
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        prompts(names),
        image=mask_hint.hint(MASKS[names], 2),
        generator=streams(names),
        num_inference_steps=7,
        guidance_scale=scale,
        eta=eta,
        output_type="pt",
    ).images
    ours = draw(built, names, Sampling(7, scale, sampler=sampler, eta=eta))
    assert apart(ours, theirs) < ROUNDING
    assert float(ours.std()) > 0.01


@pytest.mark.parametrize(("sampler", "scale"), [*((one, 1.0) for one in SAMPLERS), ("ddim", 0.5)])
def test_mask_and_image_are_the_two_control_networks_of_diffusers(
    sampler: Any, scale: float, generator: ControlledDiffusion
) -> None:
    """The same network twice, the image's residuals scaled by their weight, and both by the control's scale."""
    model, names = generator.model, range(3)
    images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    scheduler = _sampling.SCHEDULERS[sampler].from_config(model.scheduler.config)
    pipe = StableDiffusionControlNetPipeline(
        *(model.vae, model.text_encoder, model.tokenizer, model.unet),
        *(MultiControlNetModel([generator.network] * 2), scheduler, None, None, None, False),  # pyright: ignore
    )
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        prompts(names),
        image=[mask_hint.hint(MASKS[names], 2), images.float() / 255],
        controlnet_conditioning_scale=[scale, 0.4 * scale],
        latents=noise_of(streams(names), (4, 8, 8)),
        num_inference_steps=5,
        guidance_scale=4.0,
        output_type="pt",
    ).images
    settings = Sampling(5, 4.0, sampler=sampler, image_weight=0.4, control_scale=scale)
    ours = generator.sample(MASKS[names], prompts(names), streams(names), settings, list(images.numpy()))
    assert apart(ours, theirs) < ROUNDING
    assert apart(ours, draw(generator, names, Sampling(5, 4.0, sampler=sampler, control_scale=scale))) > 4 * ROUNDING


def test_a_weaker_control_equals_that_of_the_pipeline_of_diffusers(generator: ControlledDiffusion) -> None:
    model = generator.model
    pipe = StableDiffusionControlNetPipeline(
        model.vae, model.text_encoder, model.tokenizer, model.unet, generator.network, model.scheduler,
        None, None, None, False
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    names = range(2)
    options = {"num_inference_steps": 4, "guidance_scale": 3.0, "controlnet_conditioning_scale": 0.5}
    hints, noise = mask_hint.hint(MASKS[names], 2), noise_of(streams(names), (4, 8, 8))
    theirs = pipe(prompts(names), image=hints, latents=noise, output_type="pt", **options).images
    ours = draw(generator, names, Sampling(4, 3.0, control_scale=0.5))
    assert apart(ours, theirs) < ROUNDING
    assert apart(ours, draw(generator, names, Sampling(4, 3.0))) > 4 * ROUNDING


def test_whoever_watches_sees_every_step_and_changes_nothing(generator: ControlledDiffusion) -> None:
    seen: dict[int, Tensor] = {}
    watched = Sampling(4, 2.0, watch=lambda step, decode: seen.update({step: decode()}))
    images, names = draw(generator, range(2), watched), range(2)
    assert torch.equal(images, draw(generator, names, Sampling(4, 2.0)))
    assert list(seen) == [1, 2, 3, 4]
    assert apart(seen[4], images) < apart(seen[1], images)
    assert all(float(image.min()) >= 0 and float(image.max()) <= 1 for image in seen.values())


def test_samplers_differ_and_come_together_with_more_steps(generator: ControlledDiffusion) -> None:
    def gap(steps: int) -> float:
        ddim, other = (draw(generator, range(2), Sampling(steps, 1.0, sampler=name)) for name in ("ddim", "dpmpp_2m"))
        return float((ddim - other).abs().mean())

    assert 0 < gap(100) < gap(5)


def test_defaults_are_the_literal_loop(generator: ControlledDiffusion) -> None:
    assert apart(draw(generator, range(3), Sampling(6, 3.0)), literal(generator, range(3), 6, 3.0)) < ROUNDING


def test_reused_steps_take_the_features_of_the_step_before(
    generator: ControlledDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = literal(generator, range(2), 6, 3.0, reused=(1, 3, 4))
    seen: list[int] = []
    for name in ("encode", "control"):
        real = getattr(split_unet, name)
        monkeypatch.setattr(split_unet, name, lambda *x, real=real: (seen.append(int(x[2][0])), real(*x))[1])
    images = draw(generator, range(2), Sampling(6, 3.0, reused=(1, 3, 4)))
    assert seen == [831, 831, 499, 499, 1, 1]
    assert apart(images, expected) < ROUNDING
    assert apart(images, draw(generator, range(2), Sampling(6, 3.0))) > 4 * ROUNDING


@pytest.mark.parametrize("reused", [(), (1, 3)])
@pytest.mark.parametrize(("sampler", "eta"), [*((one, 0.0) for one in SAMPLERS), ("ddim", 1.0)])
def test_an_image_does_not_depend_on_its_batch(
    sampler: Any, eta: float, reused: tuple[int, ...], generator: ControlledDiffusion
) -> None:
    settings = Sampling(5, 5.0, sampler=sampler, reused=reused, eta=eta)
    seven = draw(generator, range(7), settings)
    four = torch.cat([draw(generator, range(4), settings), draw(generator, range(4, 7), settings)])
    one = torch.cat([draw(generator, range(name, name + 1), settings) for name in range(7)])
    assert max(apart(seven, four), apart(seven, one)) < ROUNDING
    assert float((seven[0] - seven[1]).abs().max()) > 0.05


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_second_call_knows_nothing_of_the_first(sampler: Any, generator: ControlledDiffusion) -> None:
    settings = Sampling(4, 1.0, sampler=sampler)
    first = draw(generator, range(2), settings)
    draw(generator, range(3), Sampling(3, 2.0, sampler=sampler))
    assert torch.equal(draw(generator, range(2), settings), first)


def test_a_hint_is_computed_once_per_mask(generator: ControlledDiffusion) -> None:
    rows: list[int] = []
    hook = generator.network.controlnet_cond_embedding.register_forward_hook(
        lambda _, inputs, __: rows.append(len(inputs[0]))
    )
    draw(generator, range(3), Sampling(4, 5.0))
    hook.remove()
    assert rows == [3]


def test_a_sampler_keeps_float32_under_autocast(
    generator: ControlledDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    step = _sampling.UniPCMultistepScheduler.step

    def spy(*inputs: Any, **named: Any) -> Any:
        seen.append(torch.is_autocast_enabled("cpu"))
        return step(*inputs, **named)

    monkeypatch.setattr(_sampling.UniPCMultistepScheduler, "step", spy)
    with torch.autocast("cpu", torch.bfloat16):
        images = draw(generator, range(2), Sampling(4, 2.0, precision="bf16", sampler="unipc"))
    assert seen == [False] * 4
    exact = draw(generator, range(2), Sampling(4, 2.0, sampler="unipc"))
    assert 0 < float((images - exact).abs().mean()) < 0.02


@pytest.mark.usefixtures("uncached")
def test_compiled_networks_draw_the_same(generator: ControlledDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced only; the compiler itself takes minutes (below)."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager", fullgraph=True))
    compiled = draw(generator, range(2), Sampling(3, 2.0, compile=True, reused=(1,)))
    assert apart(compiled, draw(generator, range(2), Sampling(3, 2.0, reused=(1,)))) < ROUNDING


@pytest.mark.slow
@pytest.mark.usefixtures("uncached")
def test_the_compiler_keeps_the_images(generator: ControlledDiffusion) -> None:
    compiled, plain = (draw(generator, range(2), Sampling(4, 2.0, compile=way)) for way in (True, False))
    assert apart(compiled, plain) < ROUNDING


@pytest.mark.usefixtures("uncached")
@pytest.mark.parametrize("late", [False, True])
def test_a_compiler_that_does_not_work_is_told(
    late: bool, generator: ControlledDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise TorchDynamoException("\nno C++ compiler\nlong trace") if late else RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", (lambda *_, **__: broken) if late else broken)
    told = r"generate.compile: torch.compile does not work here \(no C\+\+ compiler\); set it to false"
    with pytest.raises(UserError, match=told):
        draw(generator, range(1), Sampling(2, 1.0, compile=True))


@pytest.mark.parametrize(
    ("given", "reused"),
    [((), ()), (2, (1, 3, 5, 7, 9)), (3, (2, 5, 8)), (10, (9,)), ([7, 1, 7], (1, 7)), ([9], (9,))],
)
def test_steps_of_reuse(given: Any, reused: tuple[int, ...]) -> None:
    assert parse(Generate, SECTION | {"reuse_encoder": given}).reused == reused


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sampler": "euler"}, "generate.sampler: Input should be 'ddim', 'dpmpp_2m' or 'unipc', found 'euler'"),
        ({"reuse_encoder": [1, 10]}, r"generate: reuse_encoder \[10\] lies outside the run; its steps are 0 to 9"),
        ({"reuse_encoder": 11}, r"generate: reuse_encoder \[11\] lies outside the run"),
        ({"reuse_encoder": [0, 2]}, "Input should be greater than 0, found 0"),
        ({"reuse_encoder": 1}, "Input should be greater than or equal to 2, found 1"),
        ({"sampler": "unipc", "steps": 201}, "generate: sampler unipc takes at most 200 steps, found 201"),
        ({"eta": 1.1}, "generate.eta: Input should be less than or equal to 1, found 1.1"),
        ({"sampler": "unipc", "eta": 0.5}, "generate: eta 0.5 is an option of the sampler ddim, found unipc"),
        ({"compile": "perhaps"}, "generate.compile: Input should be a valid boolean"),
    ],
)
def test_bad_values_are_told(change: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        parse(Generate, SECTION | change, "generate")


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "unipc"])
def test_the_most_steps_of_a_multistep_sampler_start_in_noise(sampler: Any, generator: ControlledDiffusion) -> None:
    firsts = [
        int(_sampling.scheduler_of(generator.model.scheduler, Sampling(steps, 1.0, sampler=sampler)).timesteps[0])
        for steps in (10, 50, 143, 200)
    ]
    assert firsts == [901, 951, 859, 801]
