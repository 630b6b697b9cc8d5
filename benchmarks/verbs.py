"""Seconds of `twinsynth init`, `doctor` and `estimate` on 1000 drawn pairs of 512 pixels.

`python benchmarks/verbs.py --json` prints {"init_s": x, "doctor_s": x, "estimate_s": x, "cpu_s": {verb: x}}, each of
one process from its start to its end. On a machine that does other work too, cpu_s is what compares.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
PAIRS, SIDE = 1000, 512
VERBS = {
    "init": ("--images", "images", "--masks", "masks", "--name", "drawn", "--device", "cpu"),
    "doctor": ("--study", "drawn"),
    "estimate": ("--study", "drawn"),
}


def main() -> None:
    """Draw the pairs, run every verb once and print how long each took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project(Path(folder), arguments.pairs)
        times = {verb: timed(Path(folder), verb, more) for verb, more in VERBS.items()}
    if arguments.json:
        walls = {f"{verb}_s": wall for verb, (wall, _) in times.items()}
        print(json.dumps(walls | {"cpu_s": {verb: cpu for verb, (_, cpu) in times.items()}}))
        return
    for verb, (wall, cpu) in times.items():
        print(f"{verb:<10}{wall:6.1f} s, {cpu:6.1f} s of CPU")


def project(folder: Path, pairs: int) -> None:
    """A folder as the verbs need it, with smooth noisy images and discs as their masks."""
    for name in (".git", ".dvc/tmp", "outputs", "configs/studies", "images", "masks"):
        (folder / name).mkdir(parents=True)
    (folder / ".dvc/config").write_text("")
    (folder / "dvc.yaml").write_text("stages: {}")
    rng, (rows, columns) = np.random.default_rng(0), np.mgrid[:SIDE, :SIDE]
    for number in range(pairs):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(int)
        pixels = np.clip(smooth + rng.integers(-4, 5, (SIDE, SIDE, 1)), 0, 255).astype(np.uint8)
        middle, radius = rng.integers(SIDE // 5, 4 * SIDE // 5, 2), rng.integers(SIDE // 25, SIDE // 5)
        inside = (columns - middle[0]) ** 2 + (rows - middle[1]) ** 2 < radius**2
        Image.fromarray(pixels).save(folder / "images" / f"{number:04}.png", compress_level=1)
        Image.fromarray(np.uint8(255) * inside.astype(np.uint8)).save(folder / "masks" / f"{number:04}.png")


def timed(folder: Path, verb: str, more: tuple[str, ...]) -> tuple[float, float]:
    """Seconds by the clock and of CPU that one verb takes. Raises CalledProcessError where it fails."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "pipeline.cli", verb, *more],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return round(wall, 2), round(cpu, 2)


if __name__ == "__main__":
    main()
