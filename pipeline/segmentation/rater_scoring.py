"""Scores of the samples of a segmenter against the masks of all raters of an image."""

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import UserError
from pipeline.data.sample import DatasetSpec
from pipeline.metrics.segmentation.multirater import Ambiguity, ambiguity
from pipeline.segmentation.params import Segment

NAMES = tuple(Ambiguity.__dataclass_fields__)  # columns of scores.csv


def check_level_sets(segment: Segment, spec: DatasetSpec) -> None:
    """Raise UserError where level sets are asked for with more than two classes."""
    if segment.level_sets and spec.num_classes > 2:
        raise UserError(f"segment.level_sets is for two classes; {spec.name} has {spec.num_classes}")


def masks_of(samples: NDArray[np.float32], chosen: Segment) -> NDArray[np.integer]:
    """Label maps [S, *spatial] of probabilities [S, K, *spatial], each sample's most probable class.

    With segment.level_sets a single probability gives num_samples masks: where it exceeds (k - 1/2) / num_samples, for
    k = 1 ... num_samples; a pixel of probability p is then in about p of them.
    """
    if not chosen.level_sets or len(samples) > 1:
        return samples.argmax(1)
    levels = (np.arange(chosen.num_samples) + 0.5) / chosen.num_samples
    return (samples[0, 1] > levels.reshape(-1, *[1] * (samples.ndim - 2))).astype(np.uint8)


def rater_scores(
    samples: NDArray[np.integer], raters: NDArray[np.uint8], num_classes: int, chosen: Segment
) -> dict[str, Any]:
    """By NAMES, of label maps [S, *spatial] and [R, *spatial]: means over the foreground classes."""
    found = [
        asdict(ambiguity(samples == label, raters == label, chosen.empty_truth, chosen.pair_rule))
        for label in range(1, num_classes)
    ]
    return {name: float(np.mean([scores[name] for scores in found])) for name in NAMES}
