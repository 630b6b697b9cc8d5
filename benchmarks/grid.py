"""Time of two processes on a grid of eight cells, as a share of that of one process; one thread each, equal results.

The whole command is timed, start-up and imports included: `accelerate-launch stages/segment.py` over one training set
with eight seeds, on procedural images. The two processes share out the cells by a counter.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.core import files, paths
from pipeline.stages.mix.mix import mix
from pipeline.stages.prepare.prepare import prepare
from pipeline.study import load_params

REPOSITORY = Path(__file__).parents[1]
CELLS = 8
CONFIGS = {1: "cpu", 2: "cpu2"}  # processes: file of configs/accelerate


def main() -> None:
    """Runs both launches, alternating, and compares what they publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--steps", type=int, default=16, help="optimiser steps of a cell")
    parser.add_argument("--pixels", type=int, default=96)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        material(study(arguments.steps, arguments.pixels))
        times, found = measure(arguments.repeats)
    ratio = statistics.median(times[2]) / statistics.median(times[1])
    if len(found) > 1:
        raise SystemExit("one and two processes published different files")
    sys.stderr.write(f"{CELLS} cells, one process {times[1]} s, two {times[2]} s; equal results\n")
    if arguments.json:
        sys.stdout.write(json.dumps({"time_ratio": round(ratio, 3)}) + "\n")


def study(steps: int, pixels: int) -> dict[str, Any]:
    """params.yaml: the U-Net with the packaged encoder; what comes before training sets is not run."""
    return {
        "study": "grid",
        "threads": 1,
        "data": {
            "reader": "phantom",
            "size": pixels,
            "prompt": "A photo of a polyp.",
            "train": 48,
            "val": 16,
            "test": 32,
        },
        "base": {"source": "nowhere"},
        "finetune": {"max_steps": 1, "global_batch": 1, "learning_rate": 1e-3},
        "generate": {"steps": 1, "guidance_scale": 1.0, "batch_size": 1},
        "generators": {"siamese": {"copies": 1}},
        "judge": {"segmenter": "unet"},
        "training_sets": {"real": {}},
        "segmenters": {"unet": {}},
        "segment": {"max_steps": steps, "batch_size": 16, "learning_rate": 1e-3, "seeds": list(range(CELLS))},
    }


def material(values: dict[str, Any]) -> None:
    """params.yaml, the real set and the training set, in the current folder."""
    YAML().dump(values, Path("params.yaml"))
    params = load_params()
    prepare(params)
    mix(params, "real")


def measure(repeats: int) -> tuple[dict[int, list[float]], set[str]]:
    """Seconds of each launch by number of processes, and the hashes of what was published."""
    times: dict[int, list[float]] = {1: [], 2: []}
    found = set()
    published = paths.segmentation("grid", "unet")
    for _ in range(repeats):
        for processes, seconds in times.items():
            shutil.rmtree(paths.WORK, ignore_errors=True)
            shutil.rmtree(published, ignore_errors=True)
            seconds.append(round(launched(processes), 2))
            found.add(files.tree_sha256(published))
    return times, found


def launched(processes: int) -> float:
    """Seconds of the stage under so many processes of one thread each."""
    config = REPOSITORY / "configs" / "accelerate" / f"{CONFIGS[processes]}.yaml"
    launcher = str(Path(sys.executable).with_name("accelerate-launch"))
    command = [launcher, "--quiet", "--config_file", str(config), str(REPOSITORY / "stages" / "segment.py")]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    start = time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
