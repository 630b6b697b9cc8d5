"""Tasks of the check that one process runs on one device; each returns its numbers or raises what is wrong."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_check.processes import FailedError, NotApplicableError
from benchmarks.gpu_check.scale import CONFIGS, Scale, train
from pipeline.core.runtime import Runtime
from pipeline.networks.stable_diffusion.latent_batches import LatentBatch
from pipeline.stages.finetune import presets
from pipeline.stages.finetune.finetune import recipe
from pipeline.training.loop import TrainingRun
from pipeline.training.prefetching import batches_on_device

Numbers = dict[str, Any]
EARLY, LATE = 0.1, 0.9  # progress before and after the start of online augmentation


def steps(runtime: Runtime, scale: Scale, compiled: bool) -> Numbers:
    """Make an early step and late ones with every number of augmented samples; check gradients and recompilation."""
    settings = scale.settings(compile=compiled)
    counts = [(EARLY, 0), (LATE, 1), *((LATE, count) for count in range(scale.batch + 1))]
    before, graphs = _graphs(), []
    with scale.compilation():
        generator = scale.generator("siamese", settings, runtime.device)
        batch = generator.batches(scale.pairs(), settings, "check").batch(0).to(runtime.device)
        for progress, augmented in counts:
            _step(runtime, generator.objective, _with_augmented(batch, augmented), progress)
            graphs.append(_graphs() - before)
    if compiled and (not graphs[1] or graphs[-1] != graphs[1]):
        raise FailedError(f"{graphs[1]} graphs after the first late step, {graphs[-1]} after the last")
    return {"steps": len(counts), "graphs": graphs[-1]}


def _graphs() -> int:
    """Return how many graphs torch has compiled in this process."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def _with_augmented(batch: LatentBatch, count: int) -> LatentBatch:
    """Return a batch of which so many samples are augmented in a late step."""
    assert batch.draws is not None
    t = torch.tensor([100] * count + [900] * (len(batch) - count))
    return replace(batch, draws=replace(batch.draws, t=t))


def _step(runtime: Runtime, objective: torch.nn.Module, batch: LatentBatch, progress: float) -> None:
    with runtime.autocast("bf16"):
        losses: dict[str, Tensor] = objective(batch, progress)
    torch.stack([loss.float() for loss in losses.values()]).sum().backward()
    gradients = [weight.grad for weight in objective.parameters() if weight.grad is not None]
    if not bool(torch.stack([gradient.isfinite().all() for gradient in gradients]).all()):
        raise FailedError(f"gradients are not finite at progress {progress}")
    objective.zero_grad(set_to_none=True)


def preset(runtime: Runtime, scale: Scale, name: str) -> Numbers:
    """Make two steps by the real loop with a preset's switches, within the memory that its device has."""
    chosen = presets.load(name, CONFIGS / "presets")
    if runtime.device.type == "cuda":
        share = chosen.memory_gib * 2**30 / torch.cuda.mem_get_info(runtime.device)[1]
        torch.cuda.set_per_process_memory_fraction(min(1.0, share))
    settings = presets.under(scale.settings(global_batch=scale.batch // chosen.devices or 1), chosen)
    with scale.compilation():
        train(scale, runtime, settings)
    return {"peak_gb": round(runtime.peak_memory(), 2)}


def formats(runtime: Runtime, scale: Scale, folder: Path) -> Numbers:
    """Make three steps, each in another memory format than the one before and from its checkpoint."""
    for step, channels_last in ((1, False), (2, True), (3, False)):
        settings = scale.settings(channels_last=channels_last)
        train(scale, runtime, settings, folder, max_steps=step, schedule_steps=3, checkpoint_every=1)
    return {}


def unsynchronised(runtime: Runtime, scale: Scale, method: str) -> Numbers:
    """Make steps during which the host may not wait for the device, after two to warm up."""
    settings = scale.settings(max_steps=4)  # the last two late
    generator = scale.generator(method, settings, runtime.device)
    batches = generator.batches(scale.pairs(), settings, "check")
    run = TrainingRun(generator.objective, replace(recipe(settings), checkpoint_every=None), runtime, None)
    cuda = runtime.device.type == "cuda"
    for step, batch in batches_on_device(batches, range(settings.max_steps), runtime):
        if cuda and step == 2:
            torch.cuda.set_sync_debug_mode("error")
        run.advance(batch, step)
    if not cuda:
        raise NotApplicableError("a CPU has nothing to wait for; the steps were made")
    torch.cuda.set_sync_debug_mode("default")
    run.losses.fetch()
    return {}


def tf32(runtime: Runtime, scale: Scale) -> Numbers:
    """Compare a float32 product with float64, with and without TF32."""
    errors = {}
    for wanted in (True, False):
        scale.generator("siamese", scale.settings(tf32=wanted), runtime.device)
        a, b = (torch.randn(512, 512, device=runtime.device) for _ in range(2))
        errors[wanted] = float(((a @ b).double() - a.double() @ b.double()).abs().max())
    if runtime.device.type != "cuda":
        raise NotApplicableError("TF32 is of CUDA; the switch was set")
    if errors[True] < 4 * errors[False]:
        raise FailedError(f"errors of a product are {errors[True]:.2g} with TF32 and {errors[False]:.2g} without")
    return {"error_tf32": errors[True], "error_fp32": errors[False]}


def optional(runtime: Runtime, scale: Scale, package: str, switch: str, value: str) -> Numbers:
    """Make two steps with a switch that needs CUDA and a package that is not among the dependencies."""
    if runtime.device.type != "cuda":
        raise NotApplicableError(f"{switch}: {value} needs CUDA")
    if importlib.util.find_spec(package) is None:
        raise NotApplicableError(f"{package} is not installed")
    train(scale, runtime, scale.settings(**{switch: value}))
    return {"peak_gb": round(runtime.peak_memory(), 2)}
