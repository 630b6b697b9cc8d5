"""Training steps of Stable Diffusion 1.5's size (random weights) on one GPU: samples per second, MFU, peak memory.

384 px, bf16, late phase (a fifth of the timesteps is at most 200), AdamW included; eager and compiled. The settings are
those of configs/presets/; `1x24g` may use 24 GB of the device, and adds up the gradients of micro-batches. Model FLOP
utilisation counts what the method needs at least (2.94 TFLOP per sample), not what checkpointing computes again.
"""

import argparse
import gc
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.material import FULL, Material, Size, build, scaled
from pipeline.core import section
from pipeline.core.recipes import Recipe
from pipeline.networks.stable_diffusion.acceleration import accelerate
from pipeline.stages.finetune.params import Finetune
from pipeline.training import optimizers

PRESETS = Path(__file__).parents[1] / "configs" / "presets"
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "RTX 4090": 165e12, "L40S": 362e12, "L4": 121e12}
PROGRESS = 2 / 3


def main() -> int:
    """All presets and batches; a message and status 2 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--presets", nargs="+", default=["1x24g", "1x80g"])
    parser.add_argument("--batches", nargs="+", type=int, default=[6, 24])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--peak", type=float, help="FLOP/s of the device in bf16 without sparsity, if it is not known")
    parser.add_argument("--compiled", choices=("both", "no", "yes"), default="both")
    parser.add_argument("--trial", action="store_true", help="a tiny model on the CPU: does the script work?")
    arguments = parser.parse_args()
    if not arguments.trial and not torch.cuda.is_available():
        sys.stderr.write("error: no CUDA device here, so nothing was measured; --trial runs a tiny model on the CPU\n")
        return 2
    device = torch.device("cpu" if arguments.trial else "cuda")
    torch._dynamo.config.fail_on_recompile_limit_hit = True  # else the rest of the run would be timed uncompiled
    size = scaled(32, 64, 32) if arguments.trial else FULL
    needed, peak = operations(size), arguments.peak or peak_of(device)
    rows = []
    for preset in arguments.presets:
        confine(preset, device)
        for batch in arguments.batches:
            for compiled in {"both": (False, True), "no": (False,), "yes": (True,)}[arguments.compiled]:
                row = {"preset": preset, "batch": batch, "compiled": compiled}
                row |= measure(size, settings_of(preset, batch, compiled), device, arguments.steps)
                if peak and "samples_per_second" in row:
                    row["mfu"] = round(row["samples_per_second"] * needed / peak, 4)
                sys.stderr.write(json.dumps(row) + "\n")
                rows.append(row)
    if arguments.json:
        name = "cpu" if arguments.trial else torch.cuda.get_device_name()
        sys.stdout.write(
            json.dumps({"device": name, "flop_per_sample": needed, "peak_flops": peak, "rows": rows}) + "\n"
        )
    return 0


def confine(preset: str, device: torch.device) -> None:
    """Leaves of the GPU no more than the preset's device has."""
    if device.type == "cuda":
        allowed = section.read_yaml(PRESETS / f"{preset}.yaml")["memory_gib"] * 2**30
        torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / torch.cuda.mem_get_info(device)[1]))


def settings_of(preset: str, batch: int, compiled: bool) -> Finetune:
    """The preset's section `finetune` over the paper's, with this batch."""
    chosen: dict[str, Any] = dict(section.read_yaml(PRESETS / f"{preset}.yaml")["finetune"])
    chosen["micro_batch"] = min(batch, chosen.get("micro_batch") or batch)
    paper = {"max_steps": 3000, "global_batch": batch, "learning_rate": 1e-5, "precision": "bf16"}
    return Finetune(**{**paper, **chosen, "compile": compiled})


def measure(size: Size, settings: Finetune, device: torch.device, steps: int) -> dict[str, float | str]:
    """Samples per second and peak GB; or why there is no number."""
    _free(device)
    try:
        material, optimizer = prepared(size, settings, device)
        times = [seconds(material, optimizer, settings, device) for _ in range(steps + 3)][3:]
    except torch.cuda.OutOfMemoryError:
        return {"failed": "out of memory"}
    row: dict[str, float | str] = {"samples_per_second": round(settings.global_batch / statistics.median(times), 3)}
    if device.type == "cuda":
        row["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    return row


def prepared(size: Size, settings: Finetune, device: torch.device) -> tuple[Material, torch.optim.Optimizer]:
    """The objective with its switches set, and its optimiser; autoencoder and text tower are gone."""
    material = build(size, timesteps(settings.global_batch), device)
    for part in (material.model.vae, material.model.text_encoder):
        part.to("meta")  # pyright: ignore[reportArgumentType]
    accelerate(material.model.unet, material.objective.network, material.objective, settings)
    weights = [weight for weight in material.objective.parameters() if weight.requires_grad]
    return material, optimizers.build(Recipe(settings.max_steps, settings.learning_rate), weights, device)


def seconds(material: Material, optimizer: torch.optim.Optimizer, settings: Finetune, device: torch.device) -> float:
    """Wall time of one optimiser step over all micro-batches."""
    x = material.batch
    _wait(device)
    begin = time.perf_counter()
    for start in range(0, settings.global_batch, settings.micro_batch or settings.global_batch):
        part = {name: value[start : start + (settings.micro_batch or len(value))] for name, value in x.items()}
        with torch.autocast(device.type, torch.bfloat16):
            hints = torch.cat([part["mask"], part["image"]])
            known = part["latents"], part["noise"], part["t"], part["text"]
            losses = material.objective.losses(*known, hints, PROGRESS)
        share = len(part["t"]) / settings.global_batch
        (sum(losses.values(), torch.zeros((), device=device)) * share).backward()
    optimizer.step()
    optimizer.zero_grad()
    _wait(device)
    return time.perf_counter() - begin


def timesteps(batch: int) -> list[int]:
    """Evenly spread over 0 to 999: a fifth at most 200, in the same order in every run."""
    return [((index * 7 % batch) * 1000 + 500) // batch for index in range(batch)]


def operations(size: Size) -> float:
    """FLOPs per sample of a late step without recomputation, counted on the meta device."""
    material = build(size, [100, 300, 500, 700, 900], torch.device("meta"))
    x = material.batch
    with FlopCounterMode(display=False) as counter:
        hints = torch.cat([x["mask"], x["image"]])
        losses = material.objective.losses(x["latents"], x["noise"], x["t"], x["text"], hints, PROGRESS)
        sum(losses.values(), torch.zeros((), device="meta")).backward()
    return counter.get_total_flops() / len(x["t"])


def peak_of(device: torch.device) -> float | None:
    """FLOP/s of the device in bf16 without sparsity, from its maker's table; None: not known."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.compiler.reset()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    sys.exit(main())
