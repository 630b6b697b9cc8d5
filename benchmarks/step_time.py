"""Time and FLOPs of one Siamese-Diffusion training step: ours against one that does what the public code does.

The FLOPs of a step of ADC, which trains twice as many weights, are counted beside them.

The public one runs autoencoder and text tower in every step, computes activations again, passes the mask through the
ControlNet a second time without gradient, deep-copies U-Net and ControlNet, and augments the whole batch. A fifth of
the timesteps is at most 200; early is k <= N/3, late after it. Neither includes the optimiser. FLOPs are counted on the
meta device, at the size that is timed and at that of Stable Diffusion 1.5 (384 px, per sample).
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.material import CLASSES, FULL, Material, Size, build, scaled
from pipeline.methods.generators import adc
from pipeline.methods.generators._control import control_network
from tests.reference import public_step

MID = scaled(96, 192, 128)
TIMESTEPS = [100, 300, 500, 700, 900]  # a fifth is at most 200
STEPS, PHASES = 300, {"early": 100, "late": 200}
Step = Callable[[], None]


def main() -> None:
    """Times both versions, alternating, and counts their FLOPs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--width", type=int, default=96, help="channels of the timed model; 320 in SD 1.5")
    parser.add_argument("--pixels", type=int, default=128, help="side of the timed model's images")
    parser.add_argument("--cpu-time", action="store_true", help="time of the processor: for a machine with other work")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    size = scaled(arguments.width, 192, arguments.pixels)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    times = measure(build(size, TIMESTEPS, torch.device("cpu")), arguments.repeats, clock)
    mid, full = count(size), count(FULL)
    result = {phase: round(times[phase], 3) for phase in PHASES}
    result |= {f"flop_{phase}": round(mid[phase][1] / mid[phase][0], 3) for phase in PHASES}
    result |= {f"tflop_{phase}": round(full[phase][0] / 1e12, 3) for phase in PHASES}
    result["tflop_adc"] = round(count_adc(FULL) / 1e12, 3)
    for phase in PHASES:
        share = result[phase] / result[f"flop_{phase}"]
        sys.stderr.write(f"{phase}: {share:.0%} of the FLOPs' ratio; SD 1.5, TFLOP per sample: ours")
        sys.stderr.write(f" {full[phase][0] / 1e12:.3f}, public {full[phase][1] / 1e12:.3f}\n")
    sys.stderr.write(f"ADC, SD 1.5, TFLOP per sample: {result['tflop_adc']:.3f}\n")
    if arguments.json:
        sys.stdout.write(json.dumps(result) + "\n")


def measure(material: Material, repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    """Median seconds of the public step divided by those of ours, for each phase, after one step to warm up."""
    ratios = {}
    for phase, k in PHASES.items():
        versions = ours(material, k), public(material, k)
        times = [[seconds(version, material, clock) for version in versions] for _ in range(repeats + 1)][1:]
        fast, slow = (statistics.median(column) for column in zip(*times, strict=True))
        ratios[phase] = slow / fast
        sys.stderr.write(f"{phase}: ours {fast:.3f} s, public {slow:.3f} s, ratio {slow / fast:.2f}\n")
    return ratios


def count(size: Size) -> dict[str, tuple[float, float]]:
    """FLOPs per sample of our step and of the public one, for each phase; no arithmetic is done."""
    material = build(size, TIMESTEPS, torch.device("meta"))
    return {phase: (flops(ours(material, k)), flops(public(material, k))) for phase, k in PHASES.items()}


def count_adc(size: Size) -> float:
    """FLOPs per sample of our step of ADC, without arithmetic."""
    material, params, meta = build(size, TIMESTEPS, torch.device("meta")), adc.Params(), torch.device("meta")
    x = {name: values.to(meta) for name, values in material.batch.items()}
    with meta:
        student, teacher = (control_network(material.model, params.hint, params.start) for _ in range(2))
        objective = adc.DistillationObjective(params, material.model, student, teacher, CLASSES)
    masks = x["mask"][:, 0].long()

    def step() -> None:
        losses = objective.losses(x["latents"], x["noise"], x["t"], x["text"], x["mask"], x["image"], masks)
        sum(losses.values(), torch.zeros((), device=meta)).backward()

    return flops(step)


def flops(step: Step) -> float:
    """FLOPs per sample, two for a multiplication with addition; recomputation counts."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / len(TIMESTEPS)


def ours(material: Material, k: int) -> Step:
    """Our step: losses and gradients, from moments and embeddings that are kept."""
    x, objective = material.batch, material.objective

    def step() -> None:
        _recompute(material, wanted=False)
        hints = torch.cat([x["mask"], x["image"]])
        losses = objective.losses(x["latents"], x["noise"], x["t"], x["text"], hints, k / STEPS)
        sum(losses.values(), torch.zeros((), device=hints.device)).backward()

    return step


def public(material: Material, k: int) -> Step:
    """The public code's step: losses and gradients, from images and prompts."""
    model, x = material.model, material.batch
    alphas = model.scheduler.alphas_cumprod.to(x["noise"].device)
    inputs = x["image"], x["tokens"], x["mask"], x["noise"], x["t"].to(x["noise"].device)

    def step() -> None:
        _recompute(material, wanted=True)
        parts = model.vae, model.text_encoder, model.unet, material.objective.network, alphas
        public_step.step(*parts, *inputs, k, STEPS).backward()

    return step


def seconds(step: Step, material: Material, clock: Callable[[], float]) -> float:
    """Time of one step, with the gradients of the step before already cleared."""
    material.objective.zero_grad(set_to_none=True)
    begin = clock()
    step()
    return clock() - begin


def _recompute(material: Material, wanted: bool) -> None:
    if wanted:
        public_step.switch_recompute_on(material.model.unet, material.objective.network)
    else:
        material.model.unet.disable_gradient_checkpointing()
        material.objective.network.disable_gradient_checkpointing()


if __name__ == "__main__":
    main()
