"""How far the estimate of the arm that validation chooses is off: from the seeds that chose it, and from fresh seeds.

Every run draws the mean Dice of a reference and of arms that are in truth as good, by seed, on validation and on test
images, and chooses an arm by the code of the stage confirm. SDs are in Dice points and mean what they mean in
calibration.py: `seed_sd` is that of a segmenter's mean from seed to seed within an arm (the luck of a seed shows on
validation and test images alike), `image_sd` that of the paired difference of one image, averaged over the seeds of the
grid, of which the share `cells` of the variance is noise of seed x image. The true difference is 0, so that the mean
estimate is the bias.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))
from pipeline.stages.confirm.choice import candidates, choose
from pipeline.stages.mix.treatments import Treatment

RUNS, STREAM = 20_000, 0
Means = NDArray[np.float64]  # [runs, the reference and the arms, seeds], in Dice points


@dataclass(frozen=True)
class Scenario:
    """A study without any effect, and its noise."""

    seed_sd: float
    image_sd: float
    arms: int = 6
    seeds: int = 3  # of the grid
    fresh: int = 5  # seeds of the confirmation
    validation: int = 100  # images
    test: int = 300
    cells: float = 0.5


@dataclass(frozen=True)
class Bias:
    """The mean estimate for the chosen arm over all runs, and its standard error, in Dice points."""

    selection_seeds: float
    selection_seeds_se: float
    fresh_seeds: float
    fresh_seeds_se: float


SCENARIOS = [Scenario(1.0, 6.0), Scenario(2.0, 12.0), Scenario(1.0, 12.0), Scenario(2.0, 6.0)]


def main() -> None:
    """Simulates, tells, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--runs", type=int, default=RUNS)
    arguments = parser.parse_args()
    rows = [asdict(scenario) | asdict(bias(scenario, arguments.runs)) for scenario in SCENARIOS]
    for row in rows:
        sys.stderr.write(f"{row}\n")
    if arguments.json:
        sys.stdout.write(json.dumps({"rows": rows, "runs": arguments.runs, "stream": STREAM}) + "\n")


def bias(scenario: Scenario, runs: int) -> Bias:
    """Return how far the two estimates of the chosen arm are off on average."""
    rng = np.random.default_rng(STREAM)
    luck = [_normal(rng, scenario.seed_sd, runs, scenario, n) for n in (scenario.seeds, scenario.fresh)]
    validation = luck[0] + _image_noise(rng, runs, scenario, scenario.validation, scenario.seeds)[0]
    test = _image_noise(rng, runs, scenario, scenario.test, scenario.seeds, scenario.fresh)
    chosen = chosen_arms(validation)
    old, new = (_estimates(seeds + noise, chosen) for seeds, noise in zip(luck, test, strict=True))
    return Bias(*_mean_and_error(old), *_mean_and_error(new))


def chosen_arms(validation: Means) -> NDArray[np.int64]:
    """Return the place of the arm with the highest validation mean in every run, by the code of the stage confirm."""
    arms = [Treatment((f"x{place}",)) for place in range(1, validation.shape[1])]
    places = []
    for means in validation.mean(2):
        chosen = choose(candidates({("unet", f"x{place}"): mean for place, mean in enumerate(means)}, arms))
        assert chosen is not None
        places.append(int(chosen.training_sets[0][1:]))
    return np.array(places)


def _image_noise(rng: np.random.Generator, runs: int, scenario: Scenario, images: int, *seeds: int) -> list[Means]:
    """Return, per number of seeds, the mean noise of images: an arm's own, shared by its seeds, and seed x image."""
    own_sd = scenario.image_sd * np.sqrt((1 - scenario.cells) / 2 / images)
    cell_sd = scenario.image_sd * np.sqrt(scenario.cells * scenario.seeds / 2 / images)
    own = _normal(rng, own_sd, runs, scenario, 1)
    return [own + _normal(rng, cell_sd, runs, scenario, number) for number in seeds]


def _normal(rng: np.random.Generator, sd: float, runs: int, scenario: Scenario, seeds: int) -> Means:
    return rng.normal(0, sd, (runs, scenario.arms + 1, seeds))


def _estimates(test: Means, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean difference of the chosen arm to the reference, which comes first, in every run."""
    means = test.mean(2)
    return means[np.arange(len(means)), chosen] - means[:, 0]


def _mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


if __name__ == "__main__":
    main()
