"""How often training the segmenters again changes a verdict, and whether the sentence says so."""

import numpy as np
import pytest

from pipeline.metrics.statistics.paired import seed_noise
from pipeline.stages.compare.paired_difference import Evidence, PairedDifference, weigh_evidence
from pipeline.stages.compare.params import Compare
from pipeline.stages.compare.verdict import Conclusion, Verdict, chance_of_change, close_call, conclude

COMPARE = Compare(resamples=400)
SEEDS, IMAGES = 5, 120


def trained(by_image: np.ndarray, seed_sd: float, rng: np.random.Generator) -> tuple[Evidence, Conclusion]:
    """Five models against five, on images whose true differences are given."""
    models = rng.normal(0, seed_sd, (SEEDS, 1))
    table = by_image + models + rng.normal(0, 0.05, (SEEDS, len(by_image)))
    difference = PairedDifference(table, table, table.mean(0), float(table.mean()), seed_noise([table]))
    evidence = weigh_evidence(difference, COMPARE, 0.01, 0)
    return evidence, conclude([evidence], COMPARE)[0]


@pytest.mark.parametrize(("seed_sd", "surprises"), [(0.005, 0.05), (0.015, 0.25)])
def test_the_chance_of_another_verdict_is_the_share_of_other_verdicts(seed_sd: float, surprises: float) -> None:
    """300 studies whose difference is near the threshold, each trained twice on the same images.

    Where nearly all noise is between the seeds, five of them may seem more alike than they are: hence the surprises.
    """
    rng = np.random.default_rng(0)
    chances, changed = [], []
    for _ in range(300):
        by_image = rng.normal(rng.uniform(0, 0.04), 0.06, IMAGES)
        (evidence, first), (_, second) = (trained(by_image, seed_sd, rng) for _ in range(2))
        chances.append(chance_of_change(evidence, first, COMPARE))
        changed.append((first.largest_p < 0.05) != (second.largest_p < 0.05))
    assert abs(np.mean(chances) - np.mean(changed)) < 0.08
    sure = [one for one, chance in zip(changed, chances, strict=True) if chance < 0.05]
    assert len(sure) > 30 and np.mean(sure) < surprises
    doubtful = [one for one, chance in zip(changed, chances, strict=True) if chance > 0.3]
    assert len(doubtful) > 30 and np.mean(doubtful) > 0.25


def evidence(difference: float, half: float, p: float, retrained_sd: float) -> tuple[Evidence, Conclusion]:
    interval = difference - half, difference + half
    found = Evidence(difference, *interval, p, p, 0.9, 128, 5, 128, retrained_sd=retrained_sd)
    word = Verdict.INCONCLUSIVE if p > 0.05 else Verdict.WORSE
    return found, Conclusion(p, p, 0.9, word)


def test_a_chance_is_said_where_it_is_a_tenth_or_more() -> None:
    far = close_call(*evidence(-0.025, 0.018, 0.0146, 0.01), COMPARE)
    assert (
        far
        == "close: p = 0.0146 at the 0.05 level; the chance of a different verdict on another processor is about 24 %"
    )
    near = close_call(*evidence(-0.03, 0.034, 0.073, 0.014), COMPARE)
    assert near is not None and near.endswith("on another processor is about 39 %")
    rare = close_call(*evidence(-0.006, 0.027, 0.58, 0.018), COMPARE)
    assert rare == "p = 0.58 at the 0.05 level; the chance of a different verdict on another processor is about 16 %"
    assert close_call(*evidence(-0.05, 0.02, 0.0001, 0.01), COMPARE) is None
    assert close_call(*evidence(0.0, 0.02, 1.0, 0.007), COMPARE) is None


def test_without_a_spread_of_seeds_only_the_p_tells() -> None:
    assert chance_of_change(*evidence(-0.025, 0.018, 0.0146, 0.0), COMPARE) == 0
    assert close_call(*evidence(-0.025, 0.018, 0.0146, 0.0), COMPARE) is None
    assert "p = 0.03 at the 0.05 level; the verdict may differ" in str(
        close_call(*evidence(-1, 0.9, 0.03, 0.0), COMPARE)
    )
