"""Training of a segmenter on a CPU: a step and a whole cell, against a plain loop and against the path before.

Plain: the same U-Net of segmentation-models-pytorch with a DataLoader of one process, the same flips and quarter turns,
loss and AdamW, as a tutorial would write it. Before: this package without pipeline/networks/small_grids.py, with the
unfused optimiser, and with an allocator that returns freed memory to the system. The images are noise.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).parents[1]))
from pipeline.core import seeding
from pipeline.core.allocator import keep_freed_memory
from pipeline.core.contracts import Batch
from pipeline.core.recipes import Recipe
from pipeline.core.runtime import Runtime
from pipeline.data.loading import Batches, Pairs, dihedral
from pipeline.data.sample import DatasetSpec
from pipeline.methods.segmenters import unet
from pipeline.methods.segmenters._smp import normalisation
from pipeline.methods.segmenters._supervised import Supervised, soft_dice_loss
from pipeline.networks import packaged_efficientnet, small_grids
from pipeline.training.loop import fit

ENCODER = "tu-tf_efficientnet_lite0"
RATE = 1e-3
PATHS = ("ours", "plain", "before")
WHAT = ("step", "cell")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--steps", type=int, default=20, help="of a cell")
    parser.add_argument("--repeats", type=int, default=5, help="processes of each path")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpu-time", action="store_true", help="time of the processor: for a machine with other work")
    parser.add_argument("--path", choices=PATHS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.path:
        sys.stdout.write(json.dumps(seconds(arguments)))
        return
    result = measure(arguments)
    sys.stderr.write(
        f"{result['ms_per_step']} ms per step, {result['vs_before_step']} times as fast as before,"
        f" {result['vs_plain_step']} times as fast as a plain loop; a cell of {arguments.steps} steps"
        f" {result['vs_before_cell']} and {result['vs_plain_cell']} times\n"
    )
    if arguments.json:
        sys.stdout.write(json.dumps(result) + "\n")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the milliseconds of a step, and the ratios of medians over the processes of each path, which take turns.

    Each path has processes of its own, because the settings of the allocator hold for a whole process.
    """
    settings = [f"--{name}={getattr(arguments, name)}" for name in ("pixels", "batch", "images", "steps", "threads")]
    command = [sys.executable, __file__, *settings, *(["--cpu-time"] if arguments.cpu_time else [])]
    found: dict[str, list[dict[str, float]]] = {path: [] for path in PATHS}
    for _ in range(arguments.repeats):
        for path in PATHS:
            printed = subprocess.run([*command, f"--path={path}"], check=True, stdout=subprocess.PIPE).stdout
            found[path].append(json.loads(printed))
    step, cell = ({path: median(run[what] for run in runs) for path, runs in found.items()} for what in WHAT)
    return {
        "ms_per_step": round(step["ours"] * 1000, 1),
        **{f"vs_{path}_step": round(step[path] / step["ours"], 2) for path in ("plain", "before")},
        **{f"vs_{path}_cell": round(cell[path] / cell["ours"], 2) for path in ("plain", "before")},
        **{name: getattr(arguments, name) for name in ("pixels", "batch", "threads")},
    }


def seconds(arguments: argparse.Namespace) -> dict[str, float]:
    """Return the seconds of a step (the median of 40, after 10 to warm up) and of a cell on one path."""
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    pairs, batch = noise(arguments.images, arguments.pixels), arguments.batch
    if arguments.path == "ours":
        keep_freed_memory()
    with before() if arguments.path == "before" else nullcontext():
        step = plain_step(pairs, batch) if arguments.path == "plain" else our_step(pairs, batch)
        times = [timed(step, clock) for _ in range(50)]
        cell = plain_cell if arguments.path == "plain" else our_cell
        return {"step": median(times[10:]), "cell": timed(lambda: cell(pairs, batch, arguments.steps), clock)}


def timed(run: Callable[[], Any], clock: Callable[[], float]) -> float:
    """Return the seconds of one call."""
    start = clock()
    run()
    return clock() - start


@contextmanager
def before() -> Iterator[None]:
    """Within, convolutions of small maps and optimisers are those of the path before."""
    plain = torch.optim.AdamW

    def unfused(*arguments: Any, fused: bool = False, **settings: Any) -> torch.optim.Optimizer:
        return plain(*arguments, **settings)

    keep = mock.patch("pipeline.core.runtime.keep_freed_memory")
    with keep, mock.patch.object(small_grids, "POSITIONS", 0), mock.patch.object(torch.optim, "AdamW", unfused):
        yield


def noise(count: int, pixels: int) -> Pairs:
    """Images of noise, with a fifth of the pixels as foreground."""
    rng = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (count, 3, pixels, pixels), dtype=torch.uint8, generator=rng)
    mask = (image[:, 0] > 204).to(torch.uint8)
    return Pairs(image, mask, ("",) * count, tuple(map(str, range(count))), synthetic=(False,) * count)


def our_segmenter(pairs: Pairs) -> Supervised:
    """Build the U-Net with packaged weights."""
    seeding.seed_everything(0, "weights")
    built = unet.build(unet.Params(), DatasetSpec(name="noise", size=pairs.image.shape[-1]))
    assert isinstance(built, Supervised)
    return built


def our_step(pairs: Pairs, batch: int) -> Callable[[], None]:
    """Return one optimiser step of this package on one batch."""
    objective = our_segmenter(pairs).objective.train()
    optimizer = torch.optim.AdamW(objective.parameters(), RATE, fused=True)
    part = Batch(pairs.image[:batch].float() / 255, pairs.mask[:batch].long(), ("",) * batch, ("",) * batch)

    def step() -> None:
        optimizer.zero_grad()
        sum(objective(part, 0.0).values()).backward()
        optimizer.step()

    return step


def our_cell(pairs: Pairs, batch: int, steps: int) -> None:
    """Build and train as stage segment does."""
    segmenter = our_segmenter(pairs)
    fit(
        segmenter.objective,
        Batches(pairs, batch, "cell", dihedral),
        Recipe(steps, RATE),
        Runtime.alone(torch.get_num_threads()),
    )


class PlainPairs(Dataset[tuple[Tensor, Tensor]]):
    """Pairs in memory, flipped and turned at random."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs, self.rng = pairs, np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self.pairs.image)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = dihedral(self.pairs.image[index].float() / 255, self.pairs.mask[index].long(), self.rng)
        return image.contiguous(), mask.contiguous()


def plain_network(pairs: Pairs) -> nn.Module:
    """Build the library's U-Net with the same weights and decoder."""
    network = smp.Unet(ENCODER, encoder_weights=None, classes=2, decoder_channels=unet.Params().decoder_channels)
    network.encoder.model.load_state_dict(packaged_efficientnet.packaged_weights(), strict=False)
    return network.train()


def plain_loss(network: nn.Module, image: Tensor, mask: Tensor) -> Tensor:
    """Return cross-entropy and soft Dice loss of normalised images."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in normalisation(ENCODER))
    logits = network((image - mean) / std)
    return nn.functional.cross_entropy(logits, mask) + soft_dice_loss(logits, mask)


def plain_step(pairs: Pairs, batch: int) -> Callable[[], None]:
    """Return one optimiser step of the plain loop on one batch."""
    network = plain_network(pairs)
    optimizer = torch.optim.AdamW(network.parameters(), RATE)
    image, mask = pairs.image[:batch].float() / 255, pairs.mask[:batch].long()

    def step() -> None:
        optimizer.zero_grad()
        plain_loss(network, image, mask).backward()
        optimizer.step()

    return step


def plain_cell(pairs: Pairs, batch: int, steps: int) -> None:
    """Build and train in a plain loop."""
    network = plain_network(pairs)
    optimizer = torch.optim.AdamW(network.parameters(), RATE)
    loader = DataLoader(PlainPairs(pairs), batch, shuffle=True, drop_last=True)
    done = 0
    while done < steps:
        for image, mask in loader:
            optimizer.zero_grad()
            plain_loss(network, image, mask).backward()
            optimizer.step()
            done += 1
            if done == steps:
                break


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
