"""What a quality metric may ask about image sets, and the equally large pieces that distances compare."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline import seeding
from pipeline.data.image_set import ImageSet
from pipeline.params import Score as Settings

GROUPS = 20  # of the jackknife
Rows = NDArray[np.float32]


class View(Protocol):
    """Rows per image of a set; each set is decoded once for all metrics (view.View).

    All processes of a launch call the same methods in the same order and get the same answers.
    """

    settings: Settings
    seed: int

    def extractors(self, gives: Literal["rows", "distances"]) -> list[str]:
        """The names in `score.extractors` of one sort, also those whose weights are missing."""
        ...

    def missing(self, extractor: str) -> str | None:
        """Why an extractor cannot be asked: not in `score.extractors`, or its weights are not there; None: it can."""
        ...

    def features(self, images: ImageSet, extractor: str) -> Rows:
        """[N, D] in the order of the set's rows."""
        ...

    def distances(self, first: ImageSet, second: ImageSet, extractor: str) -> Rows:
        """[N] between row k of the first set and row k of the second; a set's rows may repeat."""
        ...

    def predictions(self, images: ImageSet) -> NDArray[np.uint8]:
        """The judge's label maps [N, H, W] in the order of the set's rows."""
        ...


@dataclass(frozen=True)
class Piece:
    """Synthetic rows against real rows of the same number; `stand_in` are real rows in place of the synthetic ones."""

    variant: str
    real: Rows
    synthetic: Rows
    stand_in: Rows | None

    @property
    def groups(self) -> NDArray[np.int64]:
        """A jackknife group per position; a mask's real and synthetic image share a position where both are there."""
        return np.arange(len(self.real)) % min(GROUPS, len(self.real))

    @property
    def shares_masks(self) -> bool:
        """Are there pairs of a real and a synthetic image with one mask? Then the two sets are not independent."""
        return self.variant == "train"


def sizes(real: ImageSet, synthetic: ImageSet) -> dict[str, int]:
    """Images per set in each variant of `pieces`."""
    train, test, made = (len(_first(images)) for images in (real.split("train"), real.split("test"), synthetic))
    n = min(train, made)
    return {"train": n, "train_half": n // 2, "heldout": min(n, test)}


def pieces(real: ImageSet, synthetic: ImageSet, view: View, extractor: str) -> Iterator[Piece]:
    """Three comparisons of the first copies (as many as masks, so that generators with other `copies` compare).

    train: with the training images, as papers do (a set that copies them scores best); stand-in: test images, if there
    are as many. With fewer there is no floor at this n: other training images would have to be half of the n, and a
    distance depends on n. train_half: images made from half of the masks with the real images of the other half;
    stand-in: the real images of those masks. heldout: with the test images; stand-in: the training images.
    """
    train, made = _first_copies(real.split("train"), view, extractor), _first_copies(synthetic, view, extractor)
    test = _first_copies(real.split("test"), view, extractor)
    n = min(len(train), len(made))
    yield Piece("train", train[:n], made[:n], test[:n] if len(test) >= n else None)
    half = n // 2
    yield Piece("train_half", train[:half], made[half : 2 * half], train[half : 2 * half])
    m = min(n, len(test))
    yield Piece("heldout", test[:m], made[:m], train[:m])


def _first_copies(images: ImageSet, view: View, extractor: str) -> Rows:
    """Feature rows in a seeded order of the source masks: the same masks come in the same order in every set."""
    order = sorted(_first(images), key=lambda k: seeding.number(view.seed, "pieces", images.rows[k]["source_id"]))
    return view.features(images, extractor)[order]


def _first(images: ImageSet) -> list[int]:
    """Indices of the rows that are the first image of their mask."""
    return [k for k, row in enumerate(images) if row["copy"] == 0]
