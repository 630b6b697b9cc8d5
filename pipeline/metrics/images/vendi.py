"""Vendi score: the effective number of different images in a set."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.images.arrays import Array, Features
from pipeline.metrics.images.similarity import unit


def vendi(rows: Features) -> float:
    """Return exp of the entropy of the eigenvalues of K / n, K cosines of rows [n, D] (Friedman & Dieng 2023, eq. 3).

    From 1 (all alike) to min(n, D) (all orthogonal); cosines of features that are never negative are far from 0, so
    only scores of one extractor at one n are comparable.
    """
    wide = unit(rows)
    return _of_gram(_gram(wide), len(wide))


def vendi_without(rows: Features, groups: NDArray[np.integer]) -> Callable[[int], float]:
    """Return a function that computes the score without one group; the matrix of products is computed once."""
    wide = unit(rows)
    full = _gram(wide)

    def estimate(left_out: int) -> float:
        is_kept = groups != left_out
        if len(full) == len(wide):
            return _of_gram(full[np.ix_(is_kept, is_kept)], int(is_kept.sum()))
        return _of_gram(full - wide[~is_kept].T @ wide[~is_kept], int(is_kept.sum()))

    return estimate


def _gram(wide: Array) -> Array:
    """Return products of rows or of columns, whichever is smaller: both have the same non-zero eigenvalues."""
    return wide.T @ wide if len(wide) > wide.shape[1] else wide @ wide.T


def _of_gram(gram: Array, n: int) -> float:
    shares = np.linalg.eigvalsh(gram) / n
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))
