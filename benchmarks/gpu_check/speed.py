"""Tasks of the check that measure: memory against its prediction, samples and images per second."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from diffusers import StableDiffusionControlNetPipeline
from torch import Tensor

from benchmarks import gpu_step, material, step_time
from benchmarks.gpu_check.one_process import Numbers
from benchmarks.gpu_check.processes import FailedError, NotApplicableError
from benchmarks.gpu_check.scale import CONFIGS, Scale
from pipeline.core import seeding
from pipeline.core.contracts import Sampling
from pipeline.core.runtime import Runtime
from pipeline.diffusion.schedule import noise_of
from pipeline.methods.conditioning import mask as mask_hint
from pipeline.networks.stable_diffusion.sd15 import PartConfigs
from pipeline.stages.finetune.finetune import recipe
from pipeline.stages.finetune.memory import RESERVE, GeneratorProfiler
from pipeline.study import Params, load_params
from pipeline.training.loop import TrainingRun
from pipeline.training.prefetching import batches_on_device

WITHIN = 0.15  # by which the measured peak of memory may differ from the prediction
AIM = 0.4  # of the device's arithmetic in bf16, with the larger batch


def memory(runtime: Runtime, scale: Scale) -> Numbers:
    """Compare the peak of late steps that augment every sample with its prediction."""
    settings = scale.settings(max_steps=3)
    profiler = GeneratorProfiler(_study(scale), "siamese")
    predicted = profiler.memory(settings)
    assert predicted is not None
    expected = (predicted.total - RESERVE) / 1e9
    run, batches = _prepared(runtime, scale, scale.generator("siamese", settings, runtime.device, t_tau=999), settings)
    for step, batch in batches_on_device(batches, range(settings.max_steps), runtime):
        run.advance(batch, step)
    if runtime.device.type != "cuda":
        raise NotApplicableError("only CUDA counts what is allocated; the steps were made")
    measured = runtime.peak_memory()
    if abs(measured / expected - 1) > WITHIN:
        raise FailedError(f"{measured:.2f} GB measured, {expected:.2f} GB predicted")
    return {"measured_gb": round(measured, 2), "predicted_gb": round(expected, 2)}


def _study(scale: Scale) -> Params:
    """Return a study whose base has the shapes of the check's."""
    if not scale.toy:
        return load_params(CONFIGS / "studies" / "polyps.yaml")
    study = load_params(CONFIGS / "studies" / "smoke.yaml")
    base: Any = study.base
    parts = {
        "autoencoder": base.autoencoder.model_copy(update={"channels": (16, 16)}),
        "denoiser": base.denoiser.model_copy(update={"channels": (32, 32), "text_width": 16}),
    }
    data = study.data.model_copy(update={"size": scale.pixels})
    return study.model_copy(update={"data": data, "base": base.model_copy(update=parts)})


def samples(runtime: Runtime, scale: Scale, batch: int, compiled: bool) -> Numbers:
    """Measure late steps by the real path of batches; uncompiled, also the reference step of as many samples."""
    warm, count = (1, 1) if scale.toy else (5, 20)
    settings = scale.settings(max_steps=warm + count, global_batch=batch, compile=compiled, channels_last=compiled)
    with scale.compilation():
        generator = scale.generator("siamese", settings, runtime.device, k_tau=0.0)
        run, batches = _prepared(runtime, scale, generator, settings)
        for step, part in batches_on_device(batches, range(1, warm + count + 1), runtime):
            if step == warm + 1:
                begin = _now(runtime)
            run.advance(part, step)
        rate = batch * count / (_now(runtime) - begin)
    peak = gpu_step.peak_of(runtime.device)
    numbers = {"samples_per_second": round(rate, 3), "peak_gb": round(runtime.peak_memory(), 2)}
    if peak is not None:
        numbers |= {"mfu": round(rate * gpu_step.operations(material.FULL) / peak, 3), "aim": AIM}
    if compiled:
        return numbers
    del run, batches, generator
    reference = batch / _seconds_of_reference(runtime, scale, batch)
    return numbers | {"reference": round(reference, 3), "ratio": round(rate / reference, 2)}


def _prepared(runtime: Runtime, scale: Scale, generator: Any, settings: Any) -> tuple[TrainingRun, Any]:
    batches = generator.batches(scale.pairs(), settings, "check")
    return TrainingRun(generator.objective, replace(recipe(settings), checkpoint_every=None), runtime, None), batches


def _seconds_of_reference(runtime: Runtime, scale: Scale, batch: int) -> float:
    """Time one step that does what the public code does, in bf16 and without an optimiser, after one to warm up."""
    built = material.build(_size(scale), gpu_step.timesteps(batch), runtime.device)
    step = step_time.public(built, step_time.PHASES["late"])
    times = []
    for _ in range(1 if scale.toy else 4):
        begin = _now(runtime)
        with runtime.autocast("bf16"):
            step()
        times.append(_now(runtime) - begin)
        built.objective.zero_grad(set_to_none=True)
    return min(times)


def _size(scale: Scale) -> material.Size:
    if not scale.toy:
        return material.FULL
    small = material.scaled(32, 64, scale.pixels).configs
    two: dict[str, Any] = {"block_out_channels": (32, 32), "layers_per_block": 1}
    vae = {f"{way}_block_types": small.vae[f"{way}_block_types"][:2] for way in ("down", "up")}
    unet = {
        "down_block_types": small.unet["down_block_types"][-2:],
        "up_block_types": small.unet["up_block_types"][:2],
    }
    configs = {**small.unet, **two, **unet}, {**small.vae, **two, **vae}, {**small.text, "num_hidden_layers": 1}
    return material.Size(PartConfigs(*configs), scale.pixels)


def images(runtime: Runtime, scale: Scale) -> Numbers:
    """Measure our sampler and diffusers' pipeline over the same weights, from the same noise."""
    generator = scale.generator("controlnet", scale.settings(precision="fp32"), runtime.device)
    generator.objective.eval()
    count, steps = scale.batch // 2, 2 if scale.toy else 20
    masks = (torch.rand(count, scale.pixels, scale.pixels, generator=torch.Generator().manual_seed(0)) > 0.5).long()
    prompts = ["A photo of a polyp."] * count
    model, side = generator.model, scale.pixels // generator.model.factor
    parts = (model.vae, model.text_encoder, model.tokenizer, model.unet, generator.network, model.scheduler)
    pipe = StableDiffusionControlNetPipeline(*parts, None, None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)

    def streams() -> list[torch.Generator]:
        return [seeding.torch_rng("check", number) for number in range(count)]

    def ours() -> Tensor:
        return generator.sample(masks, prompts, streams(), Sampling(steps, 9.0, "bf16"))

    def theirs() -> Tensor:
        noise = noise_of(streams(), (4, side, side)).to(runtime.device)
        how = {"num_inference_steps": steps, "guidance_scale": 9.0, "output_type": "pt"}
        return pipe(prompts, image=mask_hint.hint(masks, 2).to(runtime.device), latents=noise, **how).images

    seconds = {}
    for name, draw in (("ours", ours), ("diffusers", theirs)):
        seconds[name] = min(_seconds(runtime, draw) for _ in range(1 if scale.toy else 3))
    rates = {f"{name}_images_per_second": round(count / value, 3) for name, value in seconds.items()}
    return rates | {"ratio": round(seconds["diffusers"] / seconds["ours"], 2), "steps": steps}


def _seconds(runtime: Runtime, draw: Callable[[], Tensor]) -> float:
    begin = _now(runtime)
    with torch.no_grad(), runtime.autocast("bf16"):
        drawn = draw()
    if not bool(drawn.isfinite().all()):
        raise FailedError("images are not finite")
    return _now(runtime) - begin


def _now(runtime: Runtime) -> float:
    if runtime.device.type == "cuda":
        torch.cuda.synchronize(runtime.device)
    return time.perf_counter()
