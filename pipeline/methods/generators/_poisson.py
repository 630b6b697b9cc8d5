"""Poisson blending: details of one image, colours that continue those of another (Perez et al. 2003)."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

STEPS = ((-1, 0), (1, 0), (0, -1), (0, 1))  # to the four neighbours


def blend(front: NDArray[np.float32], behind: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return `behind` [C, H, W] with the gradients of `front` where `inside` [H, W], without a step at the rim.

    The result is front + h: h is harmonic inside and equals behind - front just outside. Beyond the frame there is
    nothing to equal. Where everything is inside, that is `front`.
    """
    if inside.all():
        return front
    unknowns = np.argwhere(inside)
    numbers = np.full(inside.shape, -1)
    numbers[inside] = np.arange(len(unknowns))
    diagonal, right = np.zeros(len(unknowns)), np.zeros((len(unknowns), len(front)))
    rows, columns = [np.arange(len(unknowns))], [np.arange(len(unknowns))]
    offset = (behind - front).astype(np.float64)
    for step in STEPS:
        there = unknowns + step
        valid = np.flatnonzero(((there >= 0) & (there < inside.shape)).all(1))
        down, across = there[valid].T
        diagonal[valid] += 1
        rim = numbers[down, across] < 0
        right[valid[rim]] += offset[:, down[rim], across[rim]].T
        rows.append(valid[~rim])
        columns.append(numbers[down, across][~rim])
    values = np.concatenate([diagonal, -np.ones(sum(map(len, rows)) - len(unknowns))])
    matrix = sparse.csc_matrix((values, (np.concatenate(rows), np.concatenate(columns))))
    result = behind.copy()
    result[:, inside] = front[:, inside] + splu(matrix).solve(right).T
    return result
