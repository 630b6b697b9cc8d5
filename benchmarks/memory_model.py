"""Predicted memory of a training step (finetune/meta_profiler.py) against what the CPU's allocator counts.

Small networks.

python benchmarks/memory_model.py [--json]. Both without weights and gradients: activations and short-lived tensors.
"""

import argparse
import json
import sys
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from pipeline.core import plugins
from pipeline.core.section import parse
from pipeline.data.sample import DatasetSpec
from pipeline.networks.stable_diffusion.latent_batches import LatentBatch
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.stages.base import tiny
from pipeline.stages.finetune.memory import GeneratorProfiler
from pipeline.study import Params

RATES = {"max_steps": 1, "batch_size": 1, "learning_rate": 1e-3}
CASES = (  # channels of the U-Net, pixels, batch, checkpointing, method
    ((64, 128, 192), 64, 4, False, "siamese"),
    ((64, 128, 192), 64, 8, False, "siamese"),
    ((128, 256), 64, 4, False, "siamese"),
    ((64, 128, 192), 64, 4, True, "siamese"),
    ((64, 128, 192), 64, 8, False, "controlnet"),
    ((64, 128, 192), 128, 2, False, "siamese"),
    ((64, 128, 192), 128, 2, True, "siamese"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ratios = []
    for case in CASES:
        params = study(*case)
        profiler = GeneratorProfiler(params, "g")
        predicted, measured = profiler.activations(params.finetune, case[2]), measure(profiler, case[2])
        ratios.append(predicted / measured)
        sys.stdout.write(f"{case}: predicted {predicted / 1e6:.1f} MB, measured {measured / 1e6:.1f} MB\n")
    if arguments.json:
        sys.stdout.write(json.dumps({"lowest": min(ratios), "highest": max(ratios)}) + "\n")


def study(channels: tuple[int, ...], size: int, batch: int, checkpointing: bool, method: str) -> Params:
    """A study of one generator, "g"."""
    base: dict[str, Any] = {"source": "scratch", "autoencoder": {"channels": [16, 16, 32], "crop": 16, **RATES}}
    base["denoiser"] = {"channels": channels, **RATES}
    finetune = {"max_steps": 2, "global_batch": batch, "learning_rate": 1e-3, "gradient_checkpointing": checkpointing}
    values = {"study": "memory", "threads": 1, "data": {"reader": "phantom", "size": size, "prompt": "-"}}
    values |= {"base": base, "finetune": finetune, "generators": {"g": {"method": method, "copies": 1}}}
    values |= {"generate": {"steps": 2, "guidance_scale": 1.0, "batch_size": 2}, "judge": {"segmenter": "unet"}}
    values |= {"training_sets": {"real": {}}, "segmenters": {"unet": {}}}
    values |= {"segment": {"max_steps": 1, "batch_size": 1, "learning_rate": 1e-3, "seeds": [0]}}
    return parse(Params, values)


def measure(profiler: GeneratorProfiler, batch: int) -> int:
    """Largest number of bytes that one real step allocates, once gradients exist."""
    model, shapes = real(profiler), profiler.batch(batch)
    tensors = (torch.zeros(x.shape, dtype=x.dtype) for x in (shapes.moments, shapes.text, shapes.image, shapes.mask))
    filled = LatentBatch(*tensors, shapes.streams)

    def step() -> None:
        torch.stack([loss.float() for loss in model.objective(filled, 1.0).values()]).sum().backward()

    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as told:
        step()
    now = most = 0
    for event in told.profiler.kineto_results.events():  # type: ignore[union-attr]
        now += event.nbytes() if event.name() == "[memory]" else 0
        most = max(most, now)
    return most


def real(profiler: GeneratorProfiler) -> Any:
    """The generator with weights, at the most expensive moment of its training."""
    base, size = profiler.params.base, profiler.params.data.size
    assert base.autoencoder and base.denoiser
    parts: Any = tiny.autoencoder(base.autoencoder, size), tiny.text_tower(base.denoiser.text_width), None
    unet = tiny.denoiser(base.denoiser, base.autoencoder.latent_channels, size // 4)
    model = StableDiffusion(*parts, unet, tiny.scheduler("epsilon"))
    for part in (model.vae, model.text_encoder, model.unet):
        part.requires_grad_(False).eval()
    spec = DatasetSpec(name="memory", size=size)
    generator = plugins.load("generators", profiler.method).build(profiler.worst_case, model, spec)
    generator.prepare(profiler.params.finetune)
    generator.objective.train()
    return generator


if __name__ == "__main__":
    main()
