"""Scores of the samples of a segmenter against the masks of all raters of an image."""

from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import UserError
from pipeline.data.sample import DatasetSpec
from pipeline.metrics.segmentation.multirater import AmbiguityScores, EmptySets, ambiguity_scores, empty_sets
from pipeline.segmentation.class_scores import class_means
from pipeline.segmentation.params import Segment

NAMES = (*AmbiguityScores.__dataclass_fields__, *EmptySets.__dataclass_fields__)  # columns of scores.csv


def check_level_sets(segment: Segment, spec: DatasetSpec) -> None:
    """Raise UserError where level sets are asked for with more than two classes."""
    if segment.level_sets and spec.num_classes > 2:
        raise UserError(f"segment.level_sets is for two classes; {spec.name} has {spec.num_classes}")


def sampled_labels(probabilities: NDArray[np.float32], segment: Segment) -> NDArray[np.integer]:
    """Return label maps [S, *spatial] of probabilities [S, K, *spatial]: the most probable class of each sample.

    With segment.level_sets a single probability map gives num_samples masks: where it exceeds (k - 1/2) / num_samples,
    for k = 1 ... num_samples; a pixel of probability p is then in about a fraction p of them.
    """
    if not segment.level_sets or len(probabilities) > 1:
        return probabilities.argmax(1)
    levels = (np.arange(segment.num_samples) + 0.5) / segment.num_samples
    return (probabilities[0, 1] > levels.reshape(-1, *[1] * (probabilities.ndim - 2))).astype(np.uint8)


def rater_scores(
    samples: NDArray[np.integer], raters: NDArray[np.uint8], num_classes: int, segment: Segment
) -> dict[str, float]:
    """Return, by NAMES, the mean scores over the foreground classes of label maps [S, *spatial] and [R, *spatial].

    Of the columns of EmptySets these are the shares of the classes.
    """
    rules = segment.empty_truth, segment.pair_rule, segment.pair_region
    pairs = [(samples == label, raters == label) for label in range(1, num_classes)]
    return class_means([asdict(ambiguity_scores(*pair, *rules)) | asdict(empty_sets(*pair)) for pair in pairs])
