"""Scores of the samples of a segmenter against the masks of all raters of an image."""

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.multirater import Ambiguity, ambiguity
from pipeline.segment_params import Segment

NAMES = tuple(Ambiguity.__dataclass_fields__)  # columns of scores.csv


def rater_scores(
    samples: NDArray[np.integer], raters: NDArray[np.uint8], num_classes: int, chosen: Segment
) -> dict[str, Any]:
    """By NAMES, of label maps [S, *spatial] and [R, *spatial]: means over the foreground classes."""
    found = [
        asdict(ambiguity(samples == label, raters == label, chosen.empty_truth, chosen.pair_rule))
        for label in range(1, num_classes)
    ]
    return {name: float(np.mean([scores[name] for scores in found])) for name in NAMES}
