"""Dice, sensitivity, specificity and accuracy of counted pixels: of one image, or of all pixels of a set at once.

Pooling (the "micro" average of torchmetrics, as DermoSegDiff scores) weighs images by their lesions' size; a mean over
images weighs all alike.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

NAMES = ("dsc", "se", "sp", "acc")


@dataclass(frozen=True)
class Counts:
    """Pixels by prediction and truth; adding pools them."""

    tp: int
    fp: int
    fn: int
    tn: int

    @classmethod
    def of(cls, found: NDArray[np.bool_], true: NDArray[np.bool_]) -> Self:
        """Counts of two masks [*spatial]."""
        tp, positive, real = (int(np.count_nonzero(mask)) for mask in (found & true, found, true))
        return cls(tp, positive - tp, real - tp, true.size - positive - real + tp)

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def scores(self) -> dict[str, float]:
        """By NAMES: DSC, SE = TP / (TP + FN), SP = TN / (TN + FP), ACC; 1 where nothing could have been wrong.

        So an image without a lesion has SE 1 whatever was found there (its false alarms cost SP, ACC and DSC).
        """
        shares = (
            (2 * self.tp, 2 * self.tp + self.fp + self.fn),
            (self.tp, self.tp + self.fn),
            (self.tn, self.tn + self.fp),
            (self.tp + self.tn, self.tp + self.fp + self.fn + self.tn),
        )
        return {name: part / whole if whole else 1.0 for name, (part, whole) in zip(NAMES, shares, strict=True)}
