"""Time of the host for each sample of a generator's training, without the networks: what must hide behind the device.

Gathered bytes, moments and prompts, and the noise that every sample draws from its own stream; on a GPU also pinning
and copying, and the launch of the conversions there. The images are noise of 384 pixels; nothing is trained.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from pipeline.data.loading import Pairs
from pipeline.networks.stable_diffusion.latent_batches import Draws, LatentBatches

CHANNELS, FACTOR, TOKENS, WIDTH, TIMESTEPS = 4, 8, 77, 768, 1000  # of Stable Diffusion 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--pixels", type=int, default=384)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpu-time", action="store_true", help="time of the processor: for a machine with other work")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batches = stand_in(arguments.pixels, arguments.images, arguments.batch)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    result = measure(batches, device, arguments.repeats, clock)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    result |= {"pixels": arguments.pixels, "batch": arguments.batch, "threads": arguments.threads, "device": name}
    sys.stderr.write(f"{result['ms_per_sample']} ms per sample, of which {result['ms_of_noise']} ms draw noise\n")
    if arguments.json:
        sys.stdout.write(json.dumps(result) + "\n")


def stand_in(pixels: int, images: int, batch: int) -> LatentBatches:
    """Batches over a base whose moments and embeddings are noise: the host's work does not depend on them."""
    side = pixels // FACTOR
    model: Any = SimpleNamespace(keep=None, schedule=range(TIMESTEPS), offload=lambda: None)
    model.moments = lambda image: torch.randn(len(image), 2 * CHANNELS, side, side)
    model.embed = lambda prompts: torch.randn(len(prompts), TOKENS, WIDTH)
    image = torch.randint(0, 256, (images, 3, pixels, pixels), dtype=torch.uint8)
    ids = tuple(map(str, range(images)))
    pairs = Pairs(image, (image[:, 0] > 127).to(torch.uint8), ("A photo of a polyp.",) * images, ids)
    return LatentBatches(model, pairs, batch, "host", flip=True, dropout=0.05)


def measure(batches: LatentBatches, device: torch.device, repeats: int, clock: Any) -> dict[str, Any]:
    """Medians of the milliseconds per sample, after three batches to warm up."""
    size = batches.batch_size
    whole, noise = [], []
    for step in range(repeats + 3):
        begin = clock()
        host = batches.batch(step)
        if device.type == "cuda":
            host.to(device)
        whole.append(clock() - begin)
        begin = clock()
        Draws.of(host.streams, tuple(host.draws.noise.shape[1:]), TIMESTEPS)
        noise.append(clock() - begin)
    per_sample = {"ms_per_sample": whole, "ms_of_noise": noise}
    return {name: round(1000 * statistics.median(times[3:]) / size, 3) for name, times in per_sample.items()}


if __name__ == "__main__":
    main()
