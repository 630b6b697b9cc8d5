"""The requests that image metrics make about image sets; evaluation.feature_cache.FeatureCache answers them."""

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.data.image_set import ImageSet
from pipeline.stages.score.params import Score


class FeatureStore(Protocol):
    """Rows per image of a set; each set is decoded once for all metrics.

    All processes of a launch call the same methods in the same order and get the same results.
    """

    @property
    def settings(self) -> Score:
        """Return the section `score` of the study."""
        ...

    @property
    def seed(self) -> int:
        """Return the study's seed, part of the names of all random streams."""
        ...

    def extractors(self, kind: Literal["rows", "distances"]) -> list[str]:
        """Return the extractors of one kind in `score.extractors`, those with missing weights included."""
        ...

    def missing(self, extractor: str) -> str | None:
        """Return why an extractor cannot be used: not in `score.extractors`, or no weights; None if it can."""
        ...

    def features(self, images: ImageSet, extractor: str) -> NDArray[np.float32]:
        """Return features [N, D] in the order of the set's rows."""
        ...

    def distances(self, first: ImageSet, second: ImageSet, extractor: str) -> NDArray[np.float32]:
        """Return distances [N] between row k of the first set and row k of the second; a set's rows may repeat."""
        ...

    def predictions(self, images: ImageSet) -> list[NDArray[np.uint8]]:
        """Return label maps [J, H, W] for every row: one per judge that judges the image, at least one.

        Cross-fitted judges that have seen the pair of an image's mask are not among them.
        """
        ...

    def cross_fitted_by(self, images: ImageSet) -> list[tuple[int, ...]] | None:
        """Return for every row the numbers of the judges of `predictions`; None where there is one judge for all."""
        ...
