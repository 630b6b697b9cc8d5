"""Vendi score: how many different images a set amounts to."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.images.arrays import Array, Features
from pipeline.metrics.images.similarity import unit


def vendi(rows: Features) -> float:
    """exp of the entropy of the eigenvalues of K / n, K the cosines of rows [n, D] (Friedman & Dieng 2023, eq. 3).

    From 1 (all alike) to min(n, D) (all orthogonal); cosines of features that are never negative lie far from 0, so
    only scores of one extractor at one n compare.
    """
    wide = unit(rows)
    return _of_gram(_gram(wide), len(wide))


def vendi_without(rows: Features, groups: NDArray[np.integer]) -> Callable[[int], float]:
    """The score of all rows but those of one group; the matrix of products is formed once."""
    wide = unit(rows)
    whole = _gram(wide)

    def estimate(left_out: int) -> float:
        is_kept = groups != left_out
        if len(whole) == len(wide):
            return _of_gram(whole[np.ix_(is_kept, is_kept)], int(is_kept.sum()))
        return _of_gram(whole - wide[~is_kept].T @ wide[~is_kept], int(is_kept.sum()))

    return estimate


def _gram(wide: Array) -> Array:
    """Products of rows or of columns, whichever is smaller: both have the same eigenvalues apart from zeros."""
    return wide.T @ wide if len(wide) > wide.shape[1] else wide @ wide.T


def _of_gram(gram: Array, n: int) -> float:
    shares = np.linalg.eigvalsh(gram) / n
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))
