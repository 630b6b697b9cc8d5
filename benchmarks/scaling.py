"""What a large set costs besides sampling: pairs written per second, bytes per pair, and how evenly work is dealt.

Writes image-mask pairs of 384 pixels as an image set and as tar shards; counts bytes of the manifest per row; simulates
static dealing (batch b belongs to process b modulo their number) on processes of unequal speed that stop at times.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from pipeline.data.image_set import MANIFEST, ImageSet
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.methods.exports import webdataset
from pipeline.methods.exports._format import ExportOptions

SIDE = 384
FILE_SYSTEM_BLOCK = 4096


def main() -> None:
    """Measures, simulates, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--images", type=int, default=200)
    arguments = parser.parse_args()
    results = written(arguments.images) | dealt()
    for name, value in results.items():
        sys.stderr.write(f"{name}: {value}\n")
    if arguments.json:
        sys.stdout.write(json.dumps(results) + "\n")


def written(count: int) -> dict[str, float]:
    """Rates and sizes of one process on this disk."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = list(pairs(count))
        begin = time.perf_counter()
        images = ImageSet.create(folder / "set", DatasetSpec(name="scaling", size=SIDE), drawn)
        as_files = time.perf_counter() - begin
        begin = time.perf_counter()
        webdataset.write({"train": images}, folder / "shards", ExportOptions("scaling"))
        as_shards = time.perf_counter() - begin
        sizes = [path.stat().st_size for path in (folder / "set").rglob("*.png")]
        shards = sum(path.stat().st_size for path in (folder / "shards").rglob("*.tar"))
        manifest = (folder / "set" / MANIFEST).stat().st_size
    return {
        "pairs_per_second_written": round(count / as_files, 1),
        "pairs_per_second_into_shards": round(count / as_shards, 1),
        "kilobytes_per_pair": round(sum(sizes) / count / 1e3, 1),
        "kilobytes_per_pair_in_shards": round(shards / count / 1e3, 1),
        "bytes_per_manifest_row": round(manifest / count, 1),
    }


def pairs(count: int) -> Iterator[tuple[Sample, dict[str, Any]]]:
    """Smooth random pictures with the noise of a camera, so that PNG cannot cheat, and round masks."""
    rng = np.random.default_rng(0)
    for k in range(count):
        image = rng.integers(0, 256, (48, 48, 3), np.uint8)
        wide = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(np.int16)
        noisy = np.clip(wide // 2 + 60 + rng.integers(-2, 3, wide.shape), 0, 255).astype(np.uint8)
        y, x = np.ogrid[:SIDE, :SIDE]
        mask = ((y - 200) ** 2 + (x - 180) ** 2 < (60 + k % 60) ** 2).astype(np.uint8)
        yield Sample(f"s{k:08d}", np.moveaxis(noisy, -1, 0), mask[None], "A photo of a polyp.", "train", ""), {}


def dealt(batches: int = 6000, processes: int = 64, runs: int = 200) -> dict[str, float]:
    """Time lost to static dealing, as a share of the ideal time, for processes of 5 % spread in speed.

    With stops: each process is stopped for a tenth of the ideal time with probability 0.05 and then goes on.
    """
    rng = np.random.default_rng(0)
    lost: dict[str, list[float]] = {"static_dealing_loss": [], "static_dealing_loss_with_stops": []}
    for _ in range(runs):
        speed = rng.normal(1, 0.05, processes).clip(0.5)
        ideal = batches / speed.sum()
        own = batches / processes / speed
        stopped = own + (rng.random(processes) < 0.05) * 0.1 * ideal
        lost["static_dealing_loss"].append(own.max() / ideal - 1)
        lost["static_dealing_loss_with_stops"].append(stopped.max() / ideal - 1)
    return {name: round(float(np.mean(values)), 3) for name, values in lost.items()}


if __name__ == "__main__":
    main()
