"""One real training step of Stable Diffusion 1.5's size (random weights) on a CPU: 384 px, batch 1, checkpointing.

Autoencoder and text tower run once and leave the memory before the step, as in training. The step is a late one with a
timestep below T_tau, so that every pass runs; forward, backward and AdamW. Prints seconds and the peak of memory.
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.material import FULL, Material, build, scaled
from pipeline.core.recipes import Recipe
from pipeline.networks.stable_diffusion.acceleration import accelerate
from pipeline.stages.finetune.params import Finetune
from pipeline.training import optimizers

CPU = torch.device("cpu")
KIB_PER_GIB = 2**20  # Linux counts the peak in KiB


def main() -> None:
    """One step and its account."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--width", type=int, help="a smaller model, for a trial; SD 1.5 has 320")
    parser.add_argument("--pixels", type=int, default=384)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    size = FULL if arguments.width is None else scaled(arguments.width, 192, arguments.pixels)
    material = build(size, [100], CPU)
    rates = {"max_steps": 3, "global_batch": 1, "learning_rate": 1e-5}
    settings = Finetune(gradient_checkpointing=True, precision=arguments.precision, **rates)
    accelerate(material.model.unet, material.objective.network, material.objective, settings)
    before = sum(
        weight.detach().sum().item() for weight in material.objective.network.controlnet_mid_block.parameters()
    )
    spent = step(material, settings)
    after = sum(weight.detach().sum().item() for weight in material.objective.network.controlnet_mid_block.parameters())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_PER_GIB
    trained = sum(weight.numel() for weight in material.objective.parameters() if weight.requires_grad)
    sys.stderr.write(
        f"{trained:,} trained weights, one step {spent:.1f} s, peak {peak:.2f} GiB, moved {after != before}\n"
    )
    if arguments.json:
        result = {"trained": trained, "seconds": round(spent, 1), "peak_gib": round(peak, 2), "moved": after != before}
        sys.stdout.write(json.dumps(result) + "\n")


def step(material: Material, settings: Finetune) -> float:
    """Seconds of one optimiser step, after autoencoder and text tower have gone."""
    model, objective, x = material.model, material.objective, material.batch
    moments, text = model.moments(x["image"]), model.text_tower(x["tokens"])[0].detach()
    latents = model.latents(moments, x["latents"])
    for part in (model.vae, model.text_encoder):
        part.to("meta")  # pyright: ignore[reportArgumentType]
    weights = [weight for weight in objective.parameters() if weight.requires_grad]
    optimizer = optimizers.build(Recipe(settings.max_steps, settings.learning_rate), weights, CPU)
    begin = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
        hints = torch.cat([x["mask"], x["image"]])
        losses = objective.losses(latents, x["noise"], x["t"], text, hints, 2 / 3)
    sum(losses.values(), torch.zeros(())).backward()
    optimizer.step()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
