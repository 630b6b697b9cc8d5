"""Facts of the Frechet distance."""

import numpy as np
import pytest
import torch
from cleanfid import fid
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from pipeline.metrics.images.frechet import frechet_distance, without_blocks
from pipeline.metrics.statistics.resampling import jackknife_interval
from tests.reference.frechet_literal import frechet_literal


def rows(seed: int, n: int, d: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ np.diag(np.linspace(0.2, 1.5, d)) * scale + shift


@pytest.mark.parametrize(("n", "m", "d"), [(60, 40, 8), (30, 90, 24), (25, 25, 20)])
def test_it_equals_the_formula_with_a_matrix_root(n: int, m: int, d: int) -> None:
    real, fake = rows(0, n, d), rows(1, m, d, scale=1.3, shift=0.4)
    assert frechet_distance(real, fake) == pytest.approx(frechet_literal(real, fake), rel=1e-6)


@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 64), (80, 60, 128)])  # more and fewer rows than columns
def test_it_equals_clean_fid_and_torch_fidelity_on_shared_features(n: int, m: int, d: int) -> None:
    real, fake = np.abs(rows(0, n, d)), np.abs(rows(1, m, d, scale=1.2, shift=0.1))
    ours = frechet_distance(real, fake)
    assert ours == pytest.approx(fid.fid_from_feats(real, fake), rel=1e-3)
    first, second = (fid_features_to_statistics(torch.from_numpy(x)) for x in (real, fake))
    theirs = fid_statistics_to_metric(first, second, verbose=False)["frechet_inception_distance"]
    assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.parametrize(("n", "d"), [(24, 30), (24, 16), (40, 8)])  # n < D, n > D, n > 2 D: each has its own way
def test_leaving_out_a_group_equals_computing_without_its_rows(n: int, d: int) -> None:
    real, fake, groups = rows(0, n, d, shift=3), rows(1, n, d, scale=1.4, shift=2), np.arange(n) % 5
    without = without_blocks(real, fake, groups, groups)
    for group in range(5):
        kept = groups != group
        assert without(group) == pytest.approx(frechet_distance(real[kept], fake[kept]), rel=1e-9)


def test_one_dimension_by_hand() -> None:
    # means 1 and 4, variances 1 and 4: (1 - 4)^2 + (1 - 2)^2 = 10
    real, fake = np.array([[0.0], [1.0], [2.0]]), np.array([[2.0], [4.0], [6.0]])
    assert frechet_distance(real, fake) == pytest.approx(10, abs=1e-12)


@pytest.mark.parametrize("n", [20, 300])  # fewer and more rows than columns
def test_a_set_has_no_distance_to_itself_in_any_order(n: int) -> None:
    real = rows(2, n, 64, shift=5)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(real, real[::-1]) == pytest.approx(0, abs=1e-9)


def test_it_is_symmetric_and_takes_float32() -> None:
    real, fake = rows(3, 40, 64).astype(np.float32), rows(4, 50, 64, shift=1).astype(np.float32)
    assert frechet_distance(real, fake) == pytest.approx(frechet_distance(fake, real), rel=1e-9)


def test_fewer_images_make_it_larger_though_nothing_else_changes() -> None:
    small = frechet_distance(rows(5, 50, 32), rows(6, 50, 32))
    large = frechet_distance(rows(5, 800, 32), rows(6, 800, 32))
    assert small > 5 * large  # why only distances at equal n compare


def test_the_jackknife_tells_how_much_the_distance_varies() -> None:
    n, d, groups = 60, 100, np.arange(60) % 20
    values, halves = [], []
    for seed in range(0, 60, 2):
        real, fake = rows(seed, n, d), rows(seed + 1, n, d, shift=0.3)
        value = frechet_distance(real, fake)
        low, high = jackknife_interval(value, without_blocks(real, fake, groups, groups), 20)
        assert low < value < high
        values.append(value)
        halves.append((high - low) / 2)
    true_half = 2.09 * np.std(values, ddof=1)  # t quantile of 19 degrees of freedom
    assert 0.7 < np.mean(halves) / true_half < 1.6
