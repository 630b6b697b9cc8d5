"""Tasks of the check that several processes run together, one on each device."""

import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_check.processes import FailedError
from benchmarks.gpu_check.scale import Scale, train
from pipeline.core.recipes import Recipe
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.networks.stable_diffusion import moments
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.stages.finetune import previews
from pipeline.training.callbacks import Callback, LossRow
from pipeline.training.sharding import build_strategy


def go_on(runtime: Runtime, scale: Scale, folder: Path | None, until: int, total: int) -> list[LossRow]:
    """Train until a step of so many, from the checkpoint in a folder; return the losses of all steps so far."""
    steps = {"max_steps": until, "schedule_steps": total}
    return train(scale, runtime, scale.settings(), folder, checkpoint_every=1 if folder else None, **steps)


def encode(runtime: Runtime, scale: Scale, folder: Path) -> tuple[int, float]:
    """Read the latents of a set whose cache is empty; return how many images this process encoded, and their sum."""
    os.chdir(folder)  # where the locks are
    moments.PART, seen, plain = scale.batch // 2, [], StableDiffusion.moments

    def counted(self: StableDiffusion, image: Tensor) -> Tensor:
        seen.append(len(image))
        return plain(self, image)

    StableDiffusion.moments = counted  # type: ignore[method-assign]
    base, pairs = scale.base(runtime.device, keep=folder / "moments"), scale.pairs()
    runtime.barrier()
    found = moments.moments_of(base, pairs.image, flipped=False, group=moments.PART)
    return sum(seen), float(found.double().sum())


def wait_for_main(runtime: Runtime, seconds: float) -> float:
    """Wait for the main process, which works alone for some seconds; return the mean rank."""
    if runtime.is_main:
        time.sleep(seconds)
    runtime.barrier()
    runtime.broadcast("done")
    return float(runtime.mean(torch.tensor(float(runtime.rank), device=runtime.device)))


def all_at_once(runtime: Runtime, scale: Scale, folder: Path) -> dict[str, Any]:
    """Train with an average of the weights, a snapshot, a picture and a validation."""
    settings = scale.settings(ema_decay=0.9, snapshots=(1,), validate_every=1, sample_every=1)
    if scale.toy:
        previews.STEPS = 2
    val = ImageSet.open(folder / "val")

    def callbacks(generator: Any) -> tuple[Callback, ...]:
        return previews.callbacks(settings, 0, generator, val, runtime, folder / "work", None)

    train(scale, runtime, settings, folder / "work", callbacks, checkpoint_every=1)
    wanted = ["samples/000002.png", "snapshots/000001.pt", "validation/000002.json", "checkpoints/00000002.pt"]
    missing = [name for name in wanted if not (folder / "work" / name).is_file()]
    if runtime.is_main and missing:
        raise FailedError(f"{', '.join(missing)} was not written")
    return {"peak_gb": round(runtime.peak_memory(), 2)}


def write_val(scale: Scale, folder: Path) -> None:
    """Write as many pairs as a batch has as the split val."""
    pairs, spec = scale.pairs(), DatasetSpec(name="check", size=scale.pixels)
    numbers = range(scale.batch)
    pictures = [(pairs.image[number].numpy(), pairs.mask[number : number + 1].numpy()) for number in numbers]
    samples = [Sample(f"v{number}", *pictures[number], prompt="A photo.", split="val") for number in numbers]
    ImageSet.create(folder / "val", spec, [(sample, {}) for sample in samples])


def gradients(runtime: Runtime, scale: Scale) -> dict[str, tuple[float, float]]:
    """Return two numbers of each weight's averaged gradient: its norm, and its product with fixed random signs."""
    settings = scale.settings(precision="fp32", tf32=False, gradient_checkpointing=True)
    generator = scale.generator("siamese", settings, runtime.device, start=0.02)
    strategy = build_strategy(generator.objective, Recipe(1, 1e-5), runtime)
    batch = generator.batches(scale.pairs(), settings, "check").batch(0, runtime.rank, runtime.world)
    losses = strategy.wrapped(batch.to(runtime.device), 0.9)
    strategy.backward(torch.stack(list(losses.values())).sum())
    return {
        name: _signature(weight.grad)
        for name, weight in generator.objective.named_parameters()
        if weight.grad is not None
    }


def _signature(gradient: Tensor) -> tuple[float, float]:
    values = gradient.double().flatten()
    signs = torch.randint(0, 2, values.shape, generator=torch.Generator().manual_seed(0)).to(values) * 2 - 1
    return float(values.norm()), float((values * signs).sum())


def largest_difference(one: dict[str, tuple[float, float]], several: dict[str, tuple[float, float]]) -> float:
    """Return the largest difference of two sets of gradients' numbers, as a share of all gradients' common norm."""
    if one.keys() != several.keys():
        raise FailedError("other weights have gradients")
    norm = sum(own**2 for own, _ in one.values()) ** 0.5
    return max(abs(a - b) for name in one for a, b in zip(one[name], several[name], strict=True)) / norm
