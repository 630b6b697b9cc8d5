"""A comparison by subgroup with plain loops: the images of one level, the interval of their differences, Holm."""

import math
from collections.abc import Sequence

from scipy import stats


def level_difference(
    arm: Sequence[Sequence[float]],
    reference: Sequence[Sequence[float]],
    names: Sequence[str],
    groups: Sequence[str],
    level: str,
    confidence: float,
) -> tuple[float, float, float, float]:
    """Mean difference, both ends of its interval and p of one arm [seeds][images] on the images of one level."""
    inside = [k for k, name in enumerate(names) if name == level]
    seeds = len(arm)
    differences = [[arm[s][k] - reference[s][k] for k in inside] for s in range(seeds)]
    own = sorted({groups[k] for k in inside})
    table = []
    for row in differences:
        mean = sum(row) / len(row)
        sums = dict.fromkeys(own, 0.0)
        for k, value in zip(inside, row, strict=True):
            sums[groups[k]] += value - mean
        table.append([mean + sums[group] * len(own) / len(inside) for group in own])
    units = len(own)
    of_seeds = [sum(row) / units for row in table]
    of_units = [sum(row[u] for row in table) / seeds for u in range(units)]
    mean = sum(of_seeds) / seeds
    rest = sum((table[s][u] - of_seeds[s] - of_units[u] + mean) ** 2 for s in range(seeds) for u in range(units)) / (
        (seeds - 1) * (units - 1)
    )
    total = sum((value - mean) ** 2 for value in of_seeds) / (seeds - 1)
    between = max(total - rest / units, min(1.0, 3 / seeds) * total) / seeds
    images = sum((value - mean) ** 2 for value in of_units) / (units - 1) / units

    def half(p: float) -> float:
        return math.hypot(
            stats.t.ppf(1 - p / 2, units - 1) * math.sqrt(images),
            stats.t.ppf(1 - p / 2, seeds - 1) * math.sqrt(between),
        )

    width = half(1 - confidence)
    low, high = 1e-12, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if half(middle) > abs(mean) else (low, middle)
    return mean, mean - width, mean + width, low


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: the smallest times their number, the next times one less, never falling, at most 1."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda k: p_values[k])):
        largest = max(largest, min(1.0, p_values[place] * (len(p_values) - rank)))
        adjusted[place] = largest
    return adjusted
