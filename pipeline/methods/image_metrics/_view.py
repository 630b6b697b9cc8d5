"""What a quality metric may ask about image sets, and the equally large pieces that distances compare."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.core import seeding
from pipeline.data.image_set import ImageSet
from pipeline.methods.image_metrics._partners import families
from pipeline.stages.score.params import Score as Settings

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
    training, sources = real.split("train"), {row["source_id"] for row in synthetic}
    train = _first_copies(training, sources, view, extractor)
    made = _first_copies(synthetic, set(training.ids), view, extractor)
    test = _first_copies(real.split("test"), set(), view, extractor)
    n = min(len(train), len(made))
    yield Piece("train", train[:n], made[:n], test[:n] if len(test) >= n else None)
    half = n // 2
    yield Piece("train_half", train[:half], made[half : 2 * half], train[half : 2 * half])
    m = min(n, len(test))
    yield Piece("heldout", test[:m], made[:m], train[:m])


def _first_copies(images: ImageSet, others: Collection[str], view: View, extractor: str) -> Rows:
    """Feature rows in the order of `_order`."""
    return view.features(images, extractor)[_order(images, others, view.seed)]


def _order(images: ImageSet, others: Collection[str], seed: int) -> list[int]:
    """The first image of every mask: all sources once, then those with a second mask, and so on.

    Within a round the sources that the other set has too come first, in a seeded order: so the same sources stand in
    the same places of both sets, and a further mask of a source comes after all of them.
    """
    rounds: Counter[str] = Counter()
    places: list[tuple[int, bool, int, int]] = []
    names = families(images)
    for k in _first(images):
        source = names[k]
        places.append((rounds[source], source not in others, seeding.number(seed, "pieces", source), k))
        rounds[source] += 1
    return [k for *_, k in sorted(places)]


def _first(images: ImageSet) -> list[int]:
    """Indices of the rows that are the first image of their mask."""
    return [k for k, row in enumerate(images) if row["copy"] == 0]
