"""Four rules for the interval of a difference over seeds and images: how often each claims an effect that is not there.

Seeds and images are crossed and everything is normal, so that a study is its mean and three mean squares (seeds,
images, seed x image), which are drawn directly. The rules: MOVER with all noise of seed x image subtracted from the
variance between seeds, with nothing subtracted, with `kept_share` (the rule of pipeline.metrics.statistics.paired),
and a crossed mixed model with Satterthwaite's degrees of freedom. Like a verdict, every claim also needs the images
alone (here a t-test in place of sign flips). Prints, for each number of seeds, the highest rate over a grid of noise,
and the power.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))
from pipeline.metrics.statistics.paired import kept_share

LEVEL = 0.05
Array = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Noise:
    """SDs in Dice points: of a seed's mean, of an image's mean, of seed x image."""

    seeds: float
    images: float
    cells: float


@dataclass(frozen=True)
class Studies:
    """Simulated studies: mean, and what seeds, images and seed x image contribute to its variance, as estimated."""

    mean: Array
    of_seeds: Array
    of_images: Array
    of_cells: Array
    seeds: int
    images: int


def draw(noise: Noise, seeds: int, images: int, runs: int, rng: np.random.Generator, gain: float = 0.0) -> Studies:
    """Draw the means and mean squares of `runs` studies."""
    of_seeds = noise.seeds**2 / seeds + noise.cells**2 / (seeds * images)
    of_images = noise.images**2 / images + noise.cells**2 / (seeds * images)
    of_cells, df = noise.cells**2 / (seeds * images), (seeds - 1) * (images - 1)
    error = np.sqrt(of_seeds + of_images - of_cells)
    return Studies(
        rng.normal(gain, error, runs),
        of_seeds * rng.chisquare(seeds - 1, runs) / (seeds - 1),
        of_images * rng.chisquare(images - 1, runs) / (images - 1),
        of_cells * rng.chisquare(df, runs) / df,
        seeds,
        images,
    )


def claims(found: Studies) -> Mapping[str, Bools]:
    """Return, by rule, which studies claim an effect."""
    images_alone = np.abs(found.mean) > _quantile(found.images - 1) * np.sqrt(found.of_images)
    less = found.of_seeds - found.of_cells
    by_rule = {
        "all subtracted": _mover(found, np.maximum(less, 0)),
        "nothing subtracted": _mover(found, found.of_seeds),
        "kept share": _mover(found, np.maximum(less, kept_share(found.seeds) * found.of_seeds)),
        "mixed model": _satterthwaite(found),
    }
    return {rule: claimed & images_alone for rule, claimed in by_rule.items()}


def _mover(found: Studies, of_seeds: Array) -> Bools:
    squares = _quantile(found.seeds - 1) ** 2 * of_seeds + _quantile(found.images - 1) ** 2 * found.of_images
    return np.abs(found.mean) > np.sqrt(squares)


def _satterthwaite(found: Studies) -> Bools:
    """A variance that comes out below 0 is taken as 0, so that the sum is at least that of one factor alone."""
    total = found.of_seeds + found.of_images - found.of_cells
    total = np.maximum(total, np.maximum(found.of_seeds, found.of_images))
    df_cells = (found.seeds - 1) * (found.images - 1)
    spread = (
        found.of_seeds**2 / (found.seeds - 1) + found.of_images**2 / (found.images - 1) + found.of_cells**2 / df_cells
    )
    return np.abs(found.mean) > stats.t.ppf(1 - LEVEL / 2, np.maximum(total**2 / spread, 1)) * np.sqrt(total)


def _quantile(df: float) -> float:
    return float(stats.t.ppf(1 - LEVEL / 2, df))


def highest_rates(seeds: int, runs: int, rng: np.random.Generator) -> dict[str, float]:
    """Return the highest percentage of false claims of each rule over a grid of noise and images."""
    worst: dict[str, float] = {}
    for images, cells, seed_sd in product((10, 30, 100, 300), (0.0, 0.3, 0.5, 0.7, 0.9), (0.0, 0.25, 0.5, 1, 2, 4)):
        noise = Noise(
            seed_sd * np.sqrt(300 / images), 6 * np.sqrt(1 - cells), 6 * np.sqrt(cells * seeds)
        )  # an image SD of 6 points, averaged over seeds
        for rule, claimed in claims(draw(noise, seeds, images, runs, rng)).items():
            worst[rule] = max(worst.get(rule, 0.0), 100 * float(claimed.mean()))
    return {rule: round(rate, 1) for rule, rate in worst.items()}


def found_shares(seeds: int, cells: float, seed_sd: float, runs: int, rng: np.random.Generator) -> dict[str, float]:
    """Return with which percentage each rule finds a gain of two points with 300 images of SD 12."""
    noise = Noise(seed_sd, 12 * np.sqrt(1 - cells), 12 * np.sqrt(cells * seeds))
    found = claims(draw(noise, seeds, 300, runs, rng, gain=2.0))
    return {rule: round(100 * float(claimed.mean()), 1) for rule, claimed in found.items()}


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=60_000)
    runs, rng = parser.parse_args().runs, np.random.default_rng(0)
    for seeds in (2, 3, 5, 10):
        row = {"seeds": seeds, "highest false claims, %": highest_rates(seeds, runs, rng)}
        for cells, seed_sd in product((0.25, 0.5, 0.9), (0.0, 1.0)):
            row[f"power, cells {cells}, seed SD {seed_sd}"] = found_shares(seeds, cells, seed_sd, runs, rng)
        sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
