"""Cosines pair by pair, and the Vendi score from the whole n x n matrix."""

import numpy as np
from scipy import linalg


def cosine_literal(x: np.ndarray, y: np.ndarray) -> float:
    """x.y / (|x| |y|)."""
    return float(np.dot(x, y) / (np.sqrt(np.dot(x, x)) * np.sqrt(np.dot(y, y))))


def mean_cosine_literal(one: np.ndarray, other: np.ndarray) -> float:
    """Mean over all pairs."""
    return float(np.mean([[cosine_literal(x, y) for y in other] for x in one]))


def vendi_literal(rows: np.ndarray) -> float:
    """exp(-tr(K/n log K/n)) with a matrix logarithm; the rows must be independent, so that it exists."""
    shares = np.array([[cosine_literal(x, y) for y in rows] for x in rows]) / len(rows)
    return float(np.exp(-np.trace(shares @ linalg.logm(shares)).real))
