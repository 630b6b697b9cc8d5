"""How often verdicts err, and how often they find what is there: simulated studies through the code of real ones.

Every run draws the scores of a whole study and hands them to pipeline.stages.compare (arms.evidence or
generator_level.treatment_evidence, and verdict.conclude), whose verdicts are counted. SDs are in Dice points: that of
a segmenter's mean from seed to seed within an arm, and that of the paired difference of one image, averaged over
seeds; the share `cells` of the latter's variance is noise of seed x image (0.3 to 0.9 in two studies of real and
drawn polyps). Clusters hold five images that share half of the variance. The last part compares the images that the
report calls needed with those that simulation needs.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

sys.path.insert(0, str(Path(__file__).parents[1]))
from pipeline.stages.compare.arms import evidence, needs
from pipeline.stages.compare.design import Design
from pipeline.stages.compare.generator_level import treatment_evidence
from pipeline.stages.compare.results import Results
from pipeline.stages.compare.verdict import conclude
from pipeline.stages.mix.treatments import Treatment
from pipeline.study import Params, load_params

Row = dict[str, Any]
CLUSTER, SHARED = 5, 0.5  # images per cluster, share of the variance that they have in common


@dataclass(frozen=True)
class Scenario:
    """A study: arms that differ from the reference by `gains` points, and its noise."""

    gains: tuple[float, ...] = (0.0,)
    seeds: int = 5
    seed_sd: float = 0.0
    image_sd: float = 12.0
    images: int = 300
    clustered: bool = False
    cells: float = 0.5
    correlation: float = 0.0  # of the arms' own noise of images with each other; the reference has its own
    skewed: bool = False  # Dice between 0 and 1, most of it near 0.9, instead of normal scores
    noisy_arms: str = "all"  # whose means differ from seed to seed: all, the reference or the first arm
    generators: int = 1  # above 1: one arm, tested as a treatment with so many trained generators
    generator_sd: float = 0.0  # of a trained generator's mean


def _null() -> Iterator[Scenario]:
    """Yield the scenarios without any effect."""
    for seeds, images, cells, seed_sd in product((3, 5, 10), (10, 30, 100, 300), (0.0, 0.5, 0.9), (0.0, 1.0, 3.0)):
        yield Scenario((0.0,), seeds, seed_sd * (300 / images) ** 0.5, 12.0, images, cells=cells)
    for seeds, arms, cells, correlation, noisy in product(
        (3, 5), (3, 12), (0.5, 0.9), (0.0, 0.8), ("all", "reference", "first")
    ):
        yield Scenario((0.0,) * arms, seeds, 3.0, 12.0, 60, cells=cells, correlation=correlation, noisy_arms=noisy)
    for seeds, images, cells, seed_sd, arms in product((3, 5), (10, 60, 300), (0.5, 0.9), (0.0, 3.0), (1, 3)):
        yield Scenario((0.0,) * arms, seeds, seed_sd, 12.0, images, cells=cells, skewed=True)
    for seeds, images, cells, seed_sd in product((3, 5), (60, 300), (0.0, 0.9), (0.0, 2.0)):
        yield Scenario((0.0,), seeds, seed_sd, 12.0, images, clustered=True, cells=cells)


NULL = list(_null())
GENERATORS = [
    Scenario((gain,), seeds, 0.5, 12.0, 300, correlation=0.5, generators=generators, generator_sd=generator_sd)
    for gain in (0.0, 2.0)
    for generators, seeds in ((2, 5), (3, 5), (5, 5), (3, 10))
    for generator_sd in (0.0, 0.5, 1.0, 2.0)
]
TRUE = [
    *(Scenario((2.0,), 5, seed_sd, cells=cells) for cells in (0.0, 0.25, 0.5) for seed_sd in (0.0, 0.5, 1.0)),
    *(Scenario((2.0,), seeds, seed_sd) for seeds in (10, 20) for seed_sd in (0.0, 0.5, 1.0)),
    *(Scenario((2.0, 2.0, 2.0), 5, seed_sd) for seed_sd in (0.0, 0.5, 1.0)),
]
NEEDED = [Scenario((2.0,), 5), Scenario((2.0,), 10), Scenario((2.0,), 20, 1.0), Scenario((2.0,), 10, image_sd=6.0)]


def main() -> None:
    """Simulates, tells, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--runs", type=int, default=5000)
    arguments = parser.parse_args()
    results: dict[str, list[Row]] = {"null": [], "true": [], "generators": [], "needed": []}
    for part, row in rows(arguments.runs):
        results[part].append(row)
        sys.stderr.write(f"{part}: {row}\n")
    if arguments.json:
        sys.stdout.write(json.dumps(results | {"runs": arguments.runs}) + "\n")


def rows(runs: int) -> Iterator[tuple[str, Row]]:
    """Every line of the table with its part."""
    for scenario in NULL:
        yield "null", asdict(scenario) | claims(scenario, runs)
    for scenario in TRUE:
        yield "true", asdict(scenario) | claims(scenario, runs)
    for scenario in GENERATORS:
        yield "generators", asdict(scenario) | claims(scenario, runs)
    for scenario in NEEDED:
        yield "needed", asdict(scenario) | needed(scenario, runs)


def study(arms: int, margin: float = 0.01) -> Params:
    """The demo's parameters with so many arms."""
    values = load_params(Path(__file__).parents[1] / "params.yaml").model_dump()
    sets = {"real": {}} | {f"x{k}": {"generator": "siamese", "multiplier": k} for k in range(1, arms + 1)}
    values |= {"training_sets": sets, "segmenters": {"unet": {}}, "generators": {"siamese": {"copies": arms}}}
    values |= {"judge": {"segmenter": "unet"}, "compare": {"margin": margin, "resamples": 2000}, "confirm": None}
    return Params.model_validate(values)


def design(params: Params) -> Design:
    """The comparison of the study's arms."""
    return Design(params.compare, params.training_sets, len(params.segmenters), params.seed)


def draw(scenario: Scenario, rng: np.random.Generator) -> Results:
    """The scores of one study on its test images; what all arms share cancels and is left out, unless it is skewed."""
    seeds, images = scenario.seeds, scenario.images
    own, cells = (
        scenario.image_sd * np.sqrt((1 - scenario.cells) / 2),
        scenario.image_sd * np.sqrt(scenario.cells * seeds / 2),
    )
    hardness, common = rng.normal(2, 1.5, images), _normal(scenario, 1, rng)
    tables = {}
    for arm, (name, gain) in enumerate(zip(study_arms(scenario), (0.0, *_arm_gains(scenario)), strict=True)):
        shared = scenario.correlation if arm else 0.0
        noise = own * (np.sqrt(shared) * common + np.sqrt(1 - shared) * _normal(scenario, 1, rng))
        noise = noise + cells * _normal(scenario, seeds, rng)
        trained = rng.normal(0, scenario.generator_sd) if scenario.generators > 1 and arm else 0.0
        is_noisy = {"all": True, "reference": arm == 0, "first": arm == 1}[scenario.noisy_arms]
        level = gain + trained + (rng.normal(0, scenario.seed_sd, (seeds, 1)) if is_noisy and scenario.seed_sd else 0.0)
        # a point of Dice is about 0.1 on the scale of the logit
        points = level + noise
        tables[name, "test", "dice"] = expit(hardness + points / 10) if scenario.skewed else points / 100
    names = tuple(("", str(place)) for place in range(images))
    clusters = {"test": tuple(f"{place // CLUSTER}" for place in range(images))} if scenario.clustered else {}
    return Results(tables, tuple(map(str, range(seeds))), {"test": names}, clusters)


def _normal(scenario: Scenario, seeds: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """[seeds, images] of variance 1; images of a cluster share SHARED of it."""
    own = rng.standard_normal((seeds, scenario.images))
    if not scenario.clustered:
        return own
    shared = rng.standard_normal((seeds, -(-scenario.images // CLUSTER))).repeat(CLUSTER, 1)[:, : scenario.images]
    return np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * own


def study_arms(scenario: Scenario) -> list[str]:
    """Names of the training sets, the reference first."""
    return ["real", *(f"x{k}" for k in range(1, len(_arm_gains(scenario)) + 1))]


def _arm_gains(scenario: Scenario) -> tuple[float, ...]:
    """The gain of every training set but the reference: of a treatment with several generators, one per generator."""
    return scenario.gains * scenario.generators if scenario.generators > 1 else scenario.gains


def verdicts(scenario: Scenario, runs: int, params: Params | None = None) -> list[list[str]]:
    """The verdicts on the arms, or on the one treatment, of every simulated study."""
    names = study_arms(scenario)[1:]
    params = params or study(len(names))
    rng = np.random.default_rng(0)
    found = []
    for _ in range(runs):
        results = draw(scenario, rng)
        if scenario.generators > 1:
            arms = [treatment_evidence(design(params), Treatment(tuple(names)), results)]
        else:
            arms = [evidence(design(params), name, results) for name in names]
        found.append([str(arm.verdict) for arm in conclude(arms, params.compare)])
    return found


def claims(scenario: Scenario, runs: int) -> Row:
    """Percent of arms, and of studies with any arm, that are called better or worse; of arms, better."""
    claimed = np.array(verdicts(scenario, runs))
    any_claim = np.isin(claimed, ("better", "worse", "equivalent, yet not zero"))
    shares = {"claims": any_claim.mean(), "any_claim": any_claim.any(1).mean(), "better": (claimed == "better").mean()}
    shares["equivalent"] = np.char.startswith(claimed, "equivalent").mean()
    return {key: round(100 * float(share), 2) for key, share in shares.items()}


def needed(scenario: Scenario, runs: int) -> Row:
    """Images needed to find the gain with 80 %: as the report says (median over studies), and as simulation says."""
    params = study(len(scenario.gains), margin=max(scenario.gains) / 100)
    rng = np.random.default_rng(1)
    told = [needs(design(params), "x1", draw(scenario, rng)).images_needed for _ in range(max(100, runs // 5))]
    middle = float(np.median([np.inf if number is None else number for number in told]))
    if not np.isfinite(middle):
        return {"told": None, "simulated": None, "ratio": None}
    truth = simulated_need(scenario, runs, middle)
    return {"told": round(middle), "simulated": round(truth), "ratio": round(middle / truth, 3)}


def simulated_need(scenario: Scenario, runs: int, near: float) -> float:
    """Images at which 80 % of simulated studies find the gain: a line through the shares at sizes around `near`."""
    sizes = [round(near * factor) for factor in (0.7, 0.85, 1.0, 1.15, 1.3)]
    shares = [found_share(replace(scenario, images=size), runs) for size in sizes]
    slope, start = np.polyfit(np.sqrt(sizes), _probits(shares), 1)
    return float(((_probits([0.8])[0] - start) / slope) ** 2)


def found_share(scenario: Scenario, runs: int) -> float:
    """Share of simulated studies that call the first arm better."""
    return float(np.mean([found[0] == "better" for found in verdicts(scenario, runs)]))


def _probits(shares: Sequence[float]) -> NDArray[np.float64]:
    from scipy.special import ndtri

    return ndtri(np.clip(shares, 1e-4, 1 - 1e-4))


if __name__ == "__main__":
    main()
