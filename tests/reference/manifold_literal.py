"""Precision, recall, density and coverage, word by word, image by image (Naeem et al. 2020, eq. 1, 3, 4 and 6)."""

import numpy as np


def prdc_literal(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    """Loops over all pairs; distances in float32."""

    def distance(x: np.ndarray, y: np.ndarray) -> np.float32:
        return np.float32(np.sqrt(((x.astype(np.float64) - y) ** 2).sum()))

    def radii(rows: np.ndarray) -> list[np.float32]:
        return [sorted(distance(x, y) for j, y in enumerate(rows) if j != i)[k - 1] for i, x in enumerate(rows)]

    of_real, of_fake = radii(real), radii(fake)
    inside = [[distance(x, y) < radius for x, radius in zip(real, of_real, strict=True)] for y in fake]
    recalled = [any(distance(x, y) < radius for y, radius in zip(fake, of_fake, strict=True)) for x in real]
    covered = [min(distance(x, y) for y in fake) < radius for x, radius in zip(real, of_real, strict=True)]
    return {
        "precision": sum(any(balls) for balls in inside) / len(fake),
        "recall": sum(recalled) / len(real),
        "density": sum(sum(balls) for balls in inside) / (k * len(fake)),
        "coverage": sum(covered) / len(real),
    }
