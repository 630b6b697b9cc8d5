"""How likely validation chooses another arm when the segmenters are trained again, as on another processor.

The verdict speaks of the arm with the highest Dice on validation images. Where several arms are nearly equal there,
other last bits choose another arm, and the sentence of the study changes with it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.core import seeding
from pipeline.stages.compare.claim import Claim
from pipeline.stages.compare.results import Results
from pipeline.stages.mix.treatments import Treatment

DRAWS = 20_000


def with_other_choice(
    claim: Claim | None, grids: Mapping[str, Results], treatments: Sequence[Treatment], segmenters: Iterable[str]
) -> Claim | None:
    """Return the claim with the chance of another choice; the arguments are those of `chance_of_other_choice`."""
    return claim and replace(claim, other_choice=chance_of_other_choice(claim, grids, treatments, segmenters))


def chance_of_other_choice(
    claim: Claim, grids: Mapping[str, Results], treatments: Sequence[Treatment], segmenters: Iterable[str]
) -> float | None:
    """Return the chance that training the grid again makes validation choose another arm than that of a claim.

    `grids` holds the results by segmenter; the claim's arm was chosen among all `treatments` under `segmenters`. None
    where there is nothing to choose from, or one seed. The validation images stay the same, and every mean is taken as
    normal. Its variance v comes from the seeds (`interaction_variance`). The highest of several means is partly luck,
    so all are drawn towards their own mean by the share b = 1 - v / variance of the means, and not below 0 (empirical
    Bayes, Efron & Morris 1973); trained again, a mean then has the variance v (1 + b).
    """
    by_segmenter = {name: validation_means(grids[name], treatments) for name in segmenters}
    arms = [(name, one.training_sets) for name in by_segmenter for one in treatments]
    n_seeds = next(iter(by_segmenter.values())).shape[1]
    if len(arms) < 2 or n_seeds < 2:
        return None
    means = np.concatenate([means.mean(1) for means in by_segmenter.values()])
    variances = [interaction_variance(means) / n_seeds for means in by_segmenter.values()]
    share = max(0.0, 1 - np.mean(variances) / max(means.var(ddof=1), 1e-300))
    expected = means.mean() + share * (means - means.mean())
    spread = np.sqrt(np.repeat(variances, len(treatments)) * (1 + share))
    rng = seeding.numpy_rng("chosen again")
    chosen = (expected + spread * rng.standard_normal((DRAWS, len(arms)))).argmax(1)
    return float((chosen != arms.index((claim.segmenter, claim.training_sets))).mean())


def validation_means(results: Results, treatments: Sequence[Treatment]) -> NDArray[np.float64]:
    """Return the mean Dice on validation images as [treatments, seeds], over the training sets of each treatment."""
    return np.array(
        [np.mean([results.tables[name, "val", "dice"].mean(1) for name in one.training_sets], 0) for one in treatments]
    )


def interaction_variance(means: NDArray[np.float64]) -> float:
    """Return the variance of [arms, seeds] that neither arms nor seeds explain; of one arm, that of its seeds.

    What a seed does to all arms alike moves no arm past another.
    """
    arms, seeds = means.shape
    if arms == 1:
        return float(means.var(ddof=1))
    residuals = means - means.mean(0) - means.mean(1, keepdims=True) + means.mean()
    return float((residuals**2).sum() / ((arms - 1) * (seeds - 1)))
