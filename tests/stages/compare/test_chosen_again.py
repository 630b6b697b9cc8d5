"""How likely validation chooses another arm when the grid is trained again, and whether the sentence says so."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.stages.compare.chosen_again import chance_of_other_choice, interaction_variance
from pipeline.stages.compare.claim import Claim
from pipeline.stages.compare.params import Compare
from pipeline.stages.compare.results import Results
from pipeline.stages.compare.sentence import sentence
from pipeline.stages.mix.treatments import Treatment
from tests.stages.compare.arm_rows import claim_of, row

ARMS = [Treatment((name,)) for name in ("x1", "x2", "x4")]


def grid(means: np.ndarray) -> Results:
    """Results whose validation Dice has these means [arms, seeds] on each of two images."""
    tables = {
        (*one.training_sets, "val", "dice"): np.stack([seeds - 0.1, seeds + 0.1], 1)
        for one, seeds in zip(ARMS, means, strict=True)
    }
    return Results(tables, tuple(map(str, range(means.shape[1]))), {"val": (("", "a"), ("", "b"))})


def chance(means: np.ndarray, arm: str | None = None) -> float | None:
    """The chance of another choice than an arm, by default the one with the highest mean."""
    found = claim_of([row()])
    assert found
    chosen = arm or ARMS[int(means.mean(1).argmax())].training_sets[0]
    claim = replace(found, training_sets=(chosen,))
    return chance_of_other_choice(claim, {"unet": grid(means)}, ARMS, ["unet"])


@pytest.mark.parametrize("apart", [0.0, 0.01, 0.03])
def test_the_chance_of_another_choice_is_the_share_of_other_choices(apart: float) -> None:
    """300 grids of three arms and five seeds, each trained twice. A seed moves all arms alike, and each for itself."""
    rng = np.random.default_rng(0)
    true = 0.8 + apart * np.arange(3)[:, None]
    chances, changed = [], []
    for _ in range(300):
        alike = rng.normal(0, 0.05, (1, 5))
        first, second = (true + alike + rng.normal(0, 0.02, (3, 5)) for _ in range(2))
        chances.append(chance(first))
        changed.append(first.mean(1).argmax() != second.mean(1).argmax())
    assert abs(np.mean(chances) - np.mean(changed)) < 0.13


def test_what_a_seed_does_to_all_arms_does_not_count() -> None:
    alike = np.array([[0.7, 0.8, 0.9]])
    assert interaction_variance(alike + np.array([[0.0], [0.1], [0.3]])) == pytest.approx(0, abs=1e-12)
    assert interaction_variance(alike) == pytest.approx(0.01)
    assert chance(alike + np.array([[0.0], [0.1], [0.3]])) == 0
    rng = np.random.default_rng(1)
    found = [interaction_variance(rng.normal(0, 0.02, (4, 3)) + alike) for _ in range(2000)]
    assert np.mean(found) == pytest.approx(0.02**2, rel=0.05)


def test_nothing_to_choose_from_or_one_seed_gives_no_chance() -> None:
    found = claim_of([row(training_set="x1")])
    assert found
    means = np.array([[0.8, 0.81], [0.7, 0.72], [0.6, 0.63]])
    assert chance_of_other_choice(found, {"unet": grid(means)}, ARMS[:1], ["unet"]) is None
    assert chance_of_other_choice(found, {"unet": grid(means[:, :1])}, ARMS, ["unet"]) is None


def test_two_segmenters_are_candidates_together() -> None:
    """An arm that is far ahead under one segmenter is not, where another segmenter has its equal."""
    rng = np.random.default_rng(2)
    means = np.array([[0.9], [0.7], [0.6]]) + rng.normal(0, 0.01, (3, 3))
    found = claim_of([row(training_set="x1")])
    assert found
    grids = {"unet": grid(means), "segformer": grid(means + rng.normal(0, 0.01, (3, 3)))}
    assert chance_of_other_choice(found, grids, ARMS, ["unet"]) == 0
    both = chance_of_other_choice(found, grids, ARMS, ["unet", "segformer"])
    assert both is not None and 0.05 < both < 0.95


@pytest.mark.parametrize(("other", "said"), [(None, False), (0.05, False), (0.1, True), (0.62, True)])
def test_the_sentence_says_that_the_choice_is_close(other: float | None, said: bool) -> None:
    arms = [row()]
    found = claim_of(arms)
    assert isinstance(found, Claim)
    words = sentence(replace(found, other_choice=other), arms, Compare())
    assert ("The choice of siamese_x1 is close: on another processor, there is a chance of" in words) is said
    assert not said or words.endswith(f"about {100 * (other or 0):.0f} % that validation would choose a different arm.")
