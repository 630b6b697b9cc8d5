"""Kernel distance: unbiased squared maximum mean discrepancy with the cubic polynomial kernel."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.floating]


def cubic(x: Rows, y: Rows) -> NDArray[np.float64]:
    """(x.y / D + 1)^3 for rows [n, D] and [m, D] -> [n, m] (Binkowski et al. 2018, eq. 4)."""
    return (x.astype(np.float64) @ y.astype(np.float64).T / x.shape[1] + 1) ** 3


def mmd2(real: Rows, fake: Rows) -> float:
    """Unbiased MMD^2 (Gretton et al. 2012, eq. 3) of at least two rows each; may be negative."""
    n, m = len(real), len(fake)
    within_real, within_fake = cubic(real, real), cubic(fake, fake)
    first = (within_real.sum() - np.trace(within_real)) / (n * (n - 1))
    second = (within_fake.sum() - np.trace(within_fake)) / (m * (m - 1))
    return float(first + second - 2 * cubic(real, fake).mean())


def kernel_distance(
    real: Rows, fake: Rows, subsets: int, subset_size: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Mean and standard error of MMD^2 over random subsets (drawn without replacement, at most all rows of a set)."""
    size = min(subset_size, len(real), len(fake))
    estimates = np.array([mmd2(*(_draw(rows, size, rng) for rows in (real, fake))) for _ in range(subsets)])
    return float(estimates.mean()), float(estimates.std(ddof=1) / np.sqrt(subsets)) if subsets > 1 else 0.0


def _draw(rows: Rows, size: int, rng: np.random.Generator) -> Rows:
    return rows[rng.choice(len(rows), size, replace=False)]


def without_groups(real: Rows, fake: Rows, groups: NDArray[np.integer]) -> Callable[[int], float]:
    """MMD^2 of all rows (equally many per set) but those of one group, from kernel sums that are computed once."""
    count = int(groups.max()) + 1
    member = np.eye(count)[groups]  # [n, groups]
    blocks = []  # sums of the kernel between groups, diagonals left out
    for x, y, is_within in ((real, real, True), (fake, fake, True), (real, fake, False)):
        kernel = cubic(x, y)
        if is_within:
            np.fill_diagonal(kernel, 0)
        blocks.append(member.T @ kernel @ member)

    def estimate(left_out: int) -> float:
        kept = np.arange(count) != left_out
        n = member[:, kept].sum()
        first, second, cross = (block[np.ix_(kept, kept)].sum() for block in blocks)
        return float((first + second) / (n * (n - 1)) - 2 * cross / n**2)

    return estimate
