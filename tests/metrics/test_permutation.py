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
