"""How often the interval of the annotation exchange rate covers the truth: simulated studies through the real code.

Every run draws the test scores of a learning curve (six sizes from 25 to 800 real pairs) and of one arm of 100 real
pairs whose synthetic images are worth 63 more, or nothing. The curves have three shapes, of which a power law fits one.
Noise as in benchmarks/calibration.py: SDs in Dice points, of a segmenter's mean from seed to seed and of the paired
difference of one image, averaged over seeds; the share `cells` of the latter's variance is noise of seed x image.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))
from pipeline.metrics.statistics.exchange_rate import Bootstrap, Runs, exchange_rate, resample

Row = dict[str, Any]
SIZES = (25, 50, 100, 200, 400, 800)
N, WORTH = 100, 163  # real pairs of the arm, and those that its images are worth
CLUSTER, SHARED = 5, 0.5  # images per cluster, share of their variance that they have in common
CURVES: dict[str, Callable[[float], float]] = {
    "power law": lambda n: 85 - 90 * n**-0.5,
    "exponential": lambda n: 82 - 25 * float(np.exp(-n / 300)),
    "logistic": lambda n: 55 + 30 / (1 + (n / 120) ** -1.5),
}


@dataclass(frozen=True)
class Scenario:
    """A study and its noise."""

    curve: str
    worth: int = WORTH  # real pairs; N where synthetic images are worth nothing
    seeds: int = 5
    seed_sd: float = 1.0
    falling: bool = False  # the seed SD is twice as large at 25 pairs and half as large at 800
    image_sd: float = 12.0
    images: int = 300
    cells: float = 0.5
    clustered: bool = False
    draws: int = 1  # subsets for sizes up to 100, whose means differ with an SD of one point


SCENARIOS = [
    *(Scenario(curve, worth, seeds) for seeds in (3, 5) for curve in CURVES for worth in (WORTH, N)),
    Scenario("logistic", seeds=3, seed_sd=0.0),
    Scenario("logistic", seeds=3, seed_sd=3.0),
    Scenario("logistic", seeds=3, cells=0.0),
    Scenario("logistic", seeds=3, cells=0.9),
    Scenario("logistic", seeds=3, falling=True),
    Scenario("logistic", images=60),
    Scenario("logistic", clustered=True),
    Scenario("logistic", draws=3),
]


def main() -> None:
    """Simulates, tells, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--runs", type=int, default=5000)
    arguments = parser.parse_args()
    rows = []
    for scenario in SCENARIOS:
        rows.append(asdict(scenario) | coverage(scenario, arguments.runs))
        sys.stderr.write(f"{rows[-1]}\n")
    if arguments.json:
        sys.stdout.write(json.dumps({"scenarios": rows, "runs": arguments.runs}) + "\n")


def coverage(scenario: Scenario, runs: int, resamples: int = 400) -> Row:
    """Percent of intervals that hold the truth: of all studies, and of those in which a rate is stated.

    `stated` is their share, `two_sided` the share of intervals that are closed on both sides, and `ratio` the median
    ratio of their ends.
    """
    rng = np.random.default_rng(0)
    found = np.array([_one(scenario, rng, resamples) for _ in range(runs)])
    low, high, stated = found[:, 0], found[:, 1], found[:, 2] == 1
    holds, closed = (low <= scenario.worth) & (scenario.worth <= high), np.isfinite(found[:, :2]).all(1)
    row = {"coverage": holds, "stated_coverage": holds[stated], "stated": stated, "two_sided": closed}
    shares = {key: round(100 * float(values.mean()), 1) for key, values in row.items() if len(values)}
    return shares | ({"ratio": round(float(np.median(high[closed] / low[closed])), 2)} if closed.any() else {})


def _one(scenario: Scenario, rng: np.random.Generator, resamples: int) -> tuple[float, float, bool]:
    """Ends of one study's interval, and whether its rate is stated."""
    *curve, arm = draw(scenario, rng)
    bootstrap = Bootstrap(resamples, 0.95, rng)
    rate = exchange_rate(resample(curve, arm, bootstrap), bootstrap)
    return rate.equivalent.low, rate.equivalent.high, rate.refusal is None


def draw(scenario: Scenario, rng: np.random.Generator) -> list[Runs]:
    """The scores of one study, by unit: the learning curve, then the arm."""
    one, level = scenario, CURVES[scenario.curve]
    own, cells = one.image_sd * np.sqrt((1 - one.cells) / 2), one.image_sd * np.sqrt(one.cells * one.seeds / 2)
    hardness = 15 * _normal(one, (), rng)
    runs = []
    for n, truth in [*((n, level(n)) for n in SIZES), (N, level(one.worth))]:
        seed_sd = one.seed_sd * (2 * (n / 25) ** -0.4 if one.falling else 1)
        draws = one.draws if n <= N else 1
        scores = truth + hardness + own * _normal(one, (draws, 1), rng) + cells * _normal(one, (draws, one.seeds), rng)
        scores = scores + rng.normal(0, seed_sd, (draws, one.seeds, 1))
        scores = scores + (rng.standard_normal((draws, 1, 1)) if draws > 1 else 0)
        runs.append(Runs(n, _by_unit(one, scores) / 100))
    return runs


def _normal(scenario: Scenario, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise [*shape, images] of variance 1; images of a cluster share SHARED of it."""
    noise = rng.standard_normal((*shape, scenario.images))
    if not scenario.clustered:
        return noise
    shared = rng.standard_normal((*shape, scenario.images // CLUSTER)).repeat(CLUSTER, -1)
    return np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * noise


def _by_unit(scenario: Scenario, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores [draws, seeds, units], with one column per cluster where there are clusters."""
    if not scenario.clustered:
        return scores
    return scores.reshape(*scores.shape[:2], -1, CLUSTER).mean(-1)


if __name__ == "__main__":
    main()
