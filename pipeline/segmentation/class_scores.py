"""Scores of the foreground classes of one image: their means, and a column for each class."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

ScoreRow = dict[str, Any]  # scores of an image, by column of scores.csv


def class_means(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average each score over classes; `scores` has one mapping per foreground class."""
    return {name: float(np.mean([one[name] for one in scores])) for name in scores[0]}


def class_columns(scores: Sequence[Mapping[str, Any]]) -> ScoreRow:
    """Return the scores of class 1, 2 ... under `<name>_<class>`, score by score."""
    return {f"{name}_{label}": one[name] for name in scores[0] for label, one in enumerate(scores, 1)}


def rounded(scores: Mapping[str, float | None]) -> ScoreRow:
    """Round numbers as they stand in scores.csv."""
    return {name: None if value is None else round(value, 6) for name, value in scores.items()}
