"""How often a comparison by subgroup invents harm, and how often it finds harm that is there, by simulation.

Every run draws the scores of a study as benchmarks/calibration.py does, divides its test images at random (by site, sex
and lesion size, or whole clusters by site and sex), and hands both to pipeline.stages.compare.subgroups. Without a
planted loss no subgroup is worse, so every "worse" is invented. SDs and gains are in Dice points.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import calibration
from benchmarks.calibration import CLUSTER, Scenario, design, draw, study_arms
from pipeline.metrics.statistics.proportion import wilson_interval
from pipeline.stages.compare.results import Results
from pipeline.stages.compare.subgroups import SubgroupDifference, compare_subgroups
from pipeline.study import Params

Row = dict[str, Any]
SITES = {"A": 0.4, "B": 0.2, "C": 0.3, "D": 0.1}
SEXES = {"f": 0.45, "m": 0.45, "": 0.1}
HARMED = "B"  # the site of a planted loss


@dataclass(frozen=True)
class Split:
    """A study and how much its first arm loses at one site, in points below the gain elsewhere."""

    scenario: Scenario
    loss: float = 0.0


BASE = Scenario((0.0, 0.0, 0.0), 5, 1.0, 12.0, 300, cells=0.5)
NULL = [
    Split(BASE),
    Split(replace(BASE, seeds=3)),
    Split(replace(BASE, images=100)),
    Split(replace(BASE, cells=0.9)),
    Split(replace(BASE, clustered=True)),
    Split(replace(BASE, skewed=True)),
    Split(replace(BASE, seed_sd=3.0, correlation=0.8)),
    Split(replace(BASE, gains=(2.0, 2.0, 2.0))),
]
PLANTED = [Split(replace(BASE, gains=(2.0, 2.0, 2.0), image_sd=sd), loss) for sd in (6.0, 12.0) for loss in (5, 8, 12)]


def main() -> None:
    """Simulate, report progress on stderr, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    arguments = parser.parse_args()
    results: list[Row] = []
    for row in rows(arguments.runs):
        results.append(row)
        sys.stderr.write(f"{row}\n")
    sys.stdout.write(json.dumps({"rows": results, "runs": arguments.runs}) + "\n")


def rows(runs: int) -> Iterator[Row]:
    """Every line of the table."""
    for split in (*NULL, *PLANTED):
        yield asdict(split) | rates(split, runs)


def study(arms: int) -> Params:
    """The study of benchmarks/calibration.py with three columns of subgroups."""
    params = calibration.study(arms)
    compare = params.compare.model_copy(update={"subgroups": ("site", "sex", "lesion_size")})
    return params.model_copy(update={"compare": compare})


def divided(scenario: Scenario, rng: np.random.Generator) -> tuple[dict[str, dict[str, str]], NDArray[np.float64]]:
    """Site and sex by image, the same within a cluster, and the area of each image's foreground; all at random."""
    places = np.arange(scenario.images) // (CLUSTER if scenario.clustered else 1)
    columns = {
        name: rng.choice(list(shares), size=places.max() + 1, p=list(shares.values()))[places]
        for name, shares in (("site", SITES), ("sex", SEXES))
    }
    attributes = {
        str(place): {name: str(values[place]) for name, values in columns.items()} for place in range(scenario.images)
    }
    return attributes, rng.lognormal(-3, 1, scenario.images)


def compared(split: Split, params: Params, rng: np.random.Generator) -> list[SubgroupDifference]:
    """The comparison by subgroup of one simulated study."""
    results = draw(split.scenario, rng)
    attributes, areas = divided(split.scenario, rng)
    results = replace(results, areas={"test": tuple(areas)})
    if split.loss:
        results = with_loss(results, [attributes[name]["site"] == HARMED for _, name in results.images["test"]], split)
    return compare_subgroups(design(params), attributes, {"unet": results})


def with_loss(results: Results, harmed: list[bool], split: Split) -> Results:
    """The results with a loss of the first arm on some images."""
    key = study_arms(split.scenario)[1], "test", "dice"
    return replace(results, tables={**results.tables, key: results.tables[key] - np.array(harmed) * split.loss / 100})


def rates(split: Split, runs: int) -> Row:
    """Percent of studies that call any subgroup worse, or any worse or better, with 95 % intervals (Wilson).

    With a planted loss, `found` is the percent of studies that call the first arm worse at its site, and `worse` counts
    the other comparisons that share no image with it: these are the other sites, where no arm loses.
    """
    params, rng = study(len(split.scenario.gains)), np.random.default_rng(0)
    worse = better = found = 0
    for _ in range(runs):
        rows = compared(split, params, rng)
        planted = [one for one in rows if split.loss and one.training_sets == ("x1",) and one.level == HARMED]
        found += any(one.is_harmed for one in planted)
        sound = [one for one in rows if not split.loss or (one.column == "site" and one not in planted)]
        worse += any(one.is_harmed for one in sound)
        better += any(str(one.conclusion and one.conclusion.verdict) == "better" for one in sound)
    counts = {"worse": worse, "better": better, "found": found}
    return {
        name: {"rate": 100 * count / runs, "interval": [100 * end for end in wilson_interval(count, runs)]}
        for name, count in counts.items()
    }


if __name__ == "__main__":
    main()
