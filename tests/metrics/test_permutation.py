"""Facts of the permutation test of a kernel distance."""

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from pipeline.core import plugins
from pipeline.data import phantom
from pipeline.metrics.images import mmd
from pipeline.metrics.images.kernel import cubic

SPLITS, DEALT = 200, 499


def p_value(rows: np.ndarray, seed: int, count: int = DEALT) -> float:
    """p of the first half of the rows against the second."""
    half = len(rows) // 2
    chosen = mmd.all_rows(half, half) + mmd.permutations(half, half, count, np.random.default_rng(seed))
    found = mmd.mmd2(rows, chosen, cubic).unbiased
    return mmd.permutation_p(found[0], found[1:])


def ps_of_random_halves(rows: np.ndarray) -> np.ndarray:
    """p of SPLITS random splits in halves."""
    orders = (np.random.default_rng([1, seed]).permutation(len(rows)) for seed in range(SPLITS))
    return np.array([p_value(rows[order], seed) for seed, order in enumerate(orders)])


def test_p_by_hand() -> None:
    assert mmd.permutation_p(3.0, np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx(3 / 5)
    assert mmd.permutation_p(9.0, np.arange(5.0)) == pytest.approx(1 / 6)  # never 0
    assert mmd.permutation_p(0.3, np.full(5, 0.1 + 0.2)) == 1  # equal but for rounding


def test_p_agrees_with_all_ways_of_dealing() -> None:
    rows = np.random.default_rng(0).normal(size=(10, 3)) + np.repeat([[0.0], [0.6]], 5, axis=0)
    every = np.array([np.isin(np.arange(10), picked) for picked in itertools.combinations(range(10), 5)])
    found = mmd.mmd2(rows, mmd.Selections(every, ~every), cubic).unbiased
    exact = (found >= found[0] - 1e-9).mean()  # combinations start with the first five
    assert 0.01 < exact < 0.5
    assert p_value(rows, 0, 20000) == pytest.approx(exact, abs=0.015)


def test_sets_that_differ_have_a_small_p() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 8)) + np.repeat([[0.0], [0.7]], 30, axis=0)
    assert p_value(rows, 0) == pytest.approx(1 / (DEALT + 1))


def test_p_of_random_halves_of_phantom_images_is_uniform() -> None:
    rows = features(phantom_images(80), thumbnails)
    assert stats.kstest(ps_of_random_halves(rows), "uniform").pvalue > 0.01


def test_pairs_that_are_not_independent_would_break_it() -> None:
    """Why no p is given against the training images: near-copies in both sets make p pile up at 1."""
    rows = features(phantom_images(40), thumbnails)
    noise = np.random.default_rng(0).normal(0, 1e-3, rows.shape)
    assert p_value(np.concatenate([rows, rows + noise]), 0) > 0.99


def patients(rng: np.random.Generator, count: int, is_even: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows of so many patients, whose images hardly differ within a patient, and the number of the patient of each."""
    names = np.repeat(np.arange(count), 8 if is_even else rng.integers(1, 16, count))
    return rng.normal(size=(count, 4))[names] + 0.3 * rng.normal(size=(len(names), 4)), names


@pytest.mark.parametrize(("is_even", "first", "second"), [(True, 10, 10), (False, 6, 20)])
def test_permuting_patients_keeps_the_level_and_permuting_their_images_does_not(
    is_even: bool, first: int, second: int
) -> None:
    """Two sets of other patients of one distribution, 200 times: shares of p <= 0.05."""
    rejected = np.zeros(2)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        (x, of_x), (y, of_y) = patients(rng, first, is_even), patients(rng, second, is_even)
        n, m = len(x), len(y)
        dealt = mmd.permutations(n, m, 199, rng), mmd.group_permutations(of_x, of_y, 199, rng)
        for k, permuted in enumerate(dealt):
            found = mmd.mmd2(np.concatenate([x, y]), mmd.all_rows(n, m) + permuted, cubic).unbiased
            rejected[k] += mmd.permutation_p(found[0], found[1:]) <= 0.05
    assert rejected[0] / 200 > 0.9
    assert rejected[1] / 200 <= 0.1  # 0.05 and three standard errors of 200 trials


def test_patients_of_two_distributions_have_a_small_p() -> None:
    rng = np.random.default_rng(0)
    (x, of_x), (y, of_y) = patients(rng, 20, False), patients(rng, 20, False)
    permuted = mmd.all_rows(len(x), len(y)) + mmd.group_permutations(of_x, of_y, DEALT, rng)
    found = mmd.mmd2(np.concatenate([x, y + 2]), permuted, cubic).unbiased
    assert mmd.permutation_p(found[0], found[1:]) < 0.01


def test_a_patient_s_images_are_dealt_together_and_each_set_keeps_its_number_of_patients() -> None:
    first, second = np.array([0, 0, 0, 1]), np.array([0, 1, 1, 2])
    chosen = mmd.group_permutations(first, second, 60, np.random.default_rng(0))
    assert (chosen.first ^ chosen.second).all()
    for dealt in chosen.first:
        assert len({dealt[0], dealt[1], dealt[2]}) == len({dealt[5], dealt[6]}) == 1
        assert dealt[[0, 3, 4, 5, 7]].sum() == 2


@pytest.mark.slow
def test_p_of_random_halves_of_real_images_is_uniform() -> None:
    found = os.environ.get("TWINSYNTH_REAL_DATA")
    if not found:
        pytest.skip("TWINSYNTH_REAL_DATA does not name a folder of real data")
    files = sorted((Path(found) / "kvasir_seg" / "images").glob("*.jpg"))[:200]
    assert len(files) == 200
    images = np.stack([np.asarray(Image.open(file).convert("RGB").resize((224, 224))) for file in files])
    rows = features(images.transpose(0, 3, 1, 2), plugins.load("features", "efficientnet_lite0").build())
    assert stats.kstest(ps_of_random_halves(rows), "uniform").pvalue > 0.01


def phantom_images(count: int) -> np.ndarray:
    look = phantom.Difficulty(0.7, 4)
    return np.stack([phantom.draw(f"permutation/{number}", 32, look, False)[0] for number in range(count)])


def features(images: np.ndarray, embed: Callable[[torch.Tensor], np.ndarray]) -> np.ndarray:
    torch.set_num_threads(1)
    return np.concatenate([embed(batch) for batch in torch.from_numpy(images.copy()).split(20)])


def thumbnails(images: torch.Tensor) -> np.ndarray:
    """A stand-in extractor: the image on a grid of 4 x 4."""
    return torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 4).flatten(1).numpy()
