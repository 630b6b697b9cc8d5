"""Intervals of distances hold the distance of the two distributions about as often as they say."""

from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.methods.image_metrics import cmmd, frechet_infinity, frechet_infinity_both, kernel
from pipeline.methods.image_metrics._pieces import Piece
from pipeline.metrics.images import mmd
from pipeline.metrics.images.kernel import cubic, gaussian, unit_length
from pipeline.metrics.images.score import ScoreResult
from pipeline.stages.score.params import Score

D, SHIFT, TRIALS = 12, 1.0, 40
SPREAD = np.arange(1, D + 1) ** -0.5
MANY = 4000


def rows(seed: int, n: int, shift: float = 0.0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(n, D)) * SPREAD + 0.5 + shift / np.sqrt(D)
    return drawn.astype(np.float32)


def scores(metric: ModuleType, names: list[str], n: int) -> list[ScoreResult]:
    """The last of the metric's scores on TRIALS pairs of sets."""
    found = []
    for trial in range(TRIALS):
        piece = Piece("train", rows(2 * trial, n), rows(2 * trial + 1, n, SHIFT), None)
        cache: Any = SimpleNamespace(seed=trial, settings=Score(kid_subset_size=30))
        found.append(metric._scores(names, piece, cache)[-1])
    return found


def discrepancy(kernel_of: mmd.Kernel, both: np.ndarray) -> float:
    """Of so many rows that it is that of the distributions."""
    return float(mmd.mmd2(both, mmd.all_rows(MANY, MANY), kernel_of).unbiased[0])


@pytest.mark.parametrize("metric", ["frechet_infinity_both", "kernel", "cmmd_unbiased"])
def test_the_interval_holds_the_truth(metric: str) -> None:
    both = np.concatenate([rows(9998, MANY), rows(9999, MANY, SHIFT)])
    truth, found = {
        "frechet_infinity_both": lambda: (SHIFT**2, scores(frechet_infinity_both, ["x"], 60)),
        "kernel": lambda: (discrepancy(cubic, both), scores(kernel, ["x"], 60)),
        "cmmd_unbiased": lambda: (
            1000 * discrepancy(gaussian, unit_length(both)),
            scores(cmmd, ["x", "x_unbiased"], 60),
        ),
    }[metric]()
    held = [score.low < truth < score.high for score in found if score.low is not None and score.high is not None]
    assert len(held) == TRIALS
    assert np.mean(held) >= 0.85  # 95 % less three standard errors of 40 trials
    halves = [(score.high or 0) - (score.value or 0) for score in found]
    assert np.mean(halves) < 4 * np.std([score.value for score in found])  # wide enough is not too wide


def test_the_interval_of_the_published_line_is_about_real_sets_of_this_size() -> None:
    """It keeps the bias of 60 real images, so the truth is the mean over sets of 60; that of the variant is below."""
    found = scores(frechet_infinity, ["x"], 60)
    truth = np.mean([score.value for score in found if score.value is not None])
    held = [score.low < truth < score.high for score in found if score.low is not None and score.high is not None]
    assert np.mean(held) >= 0.85
    both = [score.value for score in scores(frechet_infinity_both, ["x"], 60) if score.value is not None]
    assert truth > np.mean(both) + 0.05
