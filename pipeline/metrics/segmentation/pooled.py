"""Dice, sensitivity, specificity and accuracy of counted pixels: of one image, or of all pixels of a set at once.

Pooling (the "micro" average of torchmetrics, as DermoSegDiff scores) weighs images by the size of their lesions; a mean
over images weighs all alike.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

NAMES = ("dsc", "se", "sp", "acc")


@dataclass(frozen=True)
class ConfusionCounts:
    """Pixels by prediction and truth; adding pools them."""

    tp: int
    fp: int
    fn: int
    tn: int

    @classmethod
    def of(cls, predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> Self:
        """Count the pixels of two masks [*spatial]."""
        masks = (predicted & true, predicted, true)
        tp, predicted_positive, positive = (int(np.count_nonzero(mask)) for mask in masks)
        return cls(tp, predicted_positive - tp, positive - tp, true.size - predicted_positive - positive + tp)

    def __add__(self, other: "ConfusionCounts") -> "ConfusionCounts":
        return ConfusionCounts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def scores(self) -> dict[str, float]:
        """By NAMES: DSC, SE = TP / (TP + FN), SP = TN / (TN + FP), ACC; 1 where the denominator is 0.

        So an image without a lesion has SE 1 whatever was predicted (its false positives cost SP, ACC and DSC).
        """
        fractions = (
            (2 * self.tp, 2 * self.tp + self.fp + self.fn),
            (self.tp, self.tp + self.fn),
            (self.tn, self.tn + self.fp),
            (self.tp + self.tn, self.tp + self.fp + self.fn + self.tn),
        )
        return {name: part / total if total else 1.0 for name, (part, total) in zip(NAMES, fractions, strict=True)}
