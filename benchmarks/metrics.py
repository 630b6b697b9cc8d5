"""Time of the scores, in one run: the Frechet distance against clean-fid's, and the whole stage against four libraries.

frechet: 1450 + 1450 rows of 2048 features; both start from the same rows; they alternate, medians. stage: see
`score_stage.py`; 500 + 500 images of 256 pixels take about 20 minutes on one thread.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from cleanfid import fid
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.score_stage import processor_seconds, stage
from pipeline.metrics.images.frechet import frechet_distance

ROWS, FEATURES = 1450, 2048  # polyp images of the paper; Inception's features
TOLERANCE = 1e-3  # both must tell the same distance


def main() -> None:
    """Times the parts and prints their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--repeats", type=int, default=3, help="of the Frechet distance")
    parser.add_argument("--images", type=int, default=500, help="per set of the stage")
    parser.add_argument("--cpu-time", action="store_true", help="time of the processor: for a machine with other work")
    arguments = parser.parse_args()
    clock = processor_seconds if arguments.cpu_time else time.perf_counter
    results = {"frechet": round(frechet(arguments.repeats, clock), 3)}
    ours, theirs = stage(arguments.images, clock)
    results["stage"] = round(ratio("stage", [(ours, theirs)]), 3)
    if arguments.json:
        sys.stdout.write(json.dumps(results) + "\n")


def frechet(repeats: int, clock: Callable[[], float]) -> float:
    """clean-fid's time over ours."""
    real, fake = features(0), features(1)
    ours, theirs = frechet_distance(real, fake), float(fid.fid_from_feats(real, fake))  # also the warm-up
    if abs(ours - theirs) > TOLERANCE * theirs:
        raise SystemExit(f"ours is {ours}, clean-fid's {theirs}: they must agree before they are timed")
    times = [
        (seconds(lambda: frechet_distance(real, fake), clock), seconds(lambda: fid.fid_from_feats(real, fake), clock))
        for _ in range(repeats)
    ]
    return ratio("frechet", times)


def features(seed: int) -> NDArray[np.float32]:
    """Stand-ins for pooled activations: not negative, few directions hold most of the variance."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(9).normal(size=(FEATURES, FEATURES)) * np.arange(1, FEATURES + 1)[:, None] ** -0.5
    return np.maximum(rng.normal(size=(ROWS, FEATURES)) @ mixing + 0.2 * seed, 0).astype(np.float32)


def ratio(part: str, times: list[tuple[float, float]]) -> float:
    """Median of the others' times over the median of ours."""
    ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    sys.stderr.write(f"{part}: ours {ours:.2f} s, others {theirs:.2f} s, ratio {theirs / ours:.1f}\n")
    return theirs / ours


def seconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    """Time of one call."""
    begin = clock()
    call()
    return clock() - begin


if __name__ == "__main__":
    main()
