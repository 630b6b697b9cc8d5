"""The equally large pieces of a real and a synthetic set that distances of feature distributions compare."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core import seeding
from pipeline.data.image_set import ImageSet
from pipeline.methods.image_metrics._contract import FeatureStore
from pipeline.methods.image_metrics._partners import families

GROUPS = 20  # of the jackknife


@dataclass(frozen=True)
class Piece:
    """Synthetic rows against real rows of the same number; `stand_in` are real rows in place of the synthetic ones."""

    variant: str
    real: NDArray[np.float32]
    synthetic: NDArray[np.float32]
    stand_in: NDArray[np.float32] | None

    @property
    def groups(self) -> NDArray[np.int64]:
        """Jackknife group of every position; a mask's real and synthetic image share a position where both exist."""
        return np.arange(len(self.real)) % min(GROUPS, len(self.real))

    @property
    def shares_masks(self) -> bool:
        """Whether a real and a synthetic image may have one mask; then the two sets are not independent."""
        return self.variant == "train"


def sizes(real: ImageSet, synthetic: ImageSet) -> dict[str, int]:
    """Return the number of images per set in each variant of `pieces`."""
    sets = real.split("train"), real.split("test"), synthetic
    train, test, generated = (len(_first_copies(images)) for images in sets)
    n = min(train, generated)
    return {"train": n, "train_half": n // 2, "heldout": min(n, test)}


def pieces(real: ImageSet, synthetic: ImageSet, store: FeatureStore, extractor: str) -> Iterator[Piece]:
    """Yield three comparisons of the first copies (one image per mask, so that any number of `copies` compares).

    train: with the training images, as papers do (a set that copies them scores best); stand-in: test images, if there
    are as many. With fewer there is no floor at this n: other training images would have to be half of the n, and a
    distance depends on n. train_half: images made from half of the masks with the real images of the other half;
    stand-in: the real images of those masks. heldout: with the test images; stand-in: the training images.
    """
    training, sources = real.split("train"), {row["source_id"] for row in synthetic}
    train = _ordered_features(training, sources, store, extractor)
    generated = _ordered_features(synthetic, set(training.ids), store, extractor)
    test = _ordered_features(real.split("test"), set(), store, extractor)
    n = min(len(train), len(generated))
    yield Piece("train", train[:n], generated[:n], test[:n] if len(test) >= n else None)
    half = n // 2
    yield Piece("train_half", train[:half], generated[half : 2 * half], train[half : 2 * half])
    m = min(n, len(test))
    yield Piece("heldout", test[:m], generated[:m], train[:m])


def _ordered_features(
    images: ImageSet, others: Collection[str], store: FeatureStore, extractor: str
) -> NDArray[np.float32]:
    """Return the features of the first copies in the order of `_order`."""
    return store.features(images, extractor)[_order(images, others, store.seed)]


def _order(images: ImageSet, others: Collection[str], seed: int) -> list[int]:
    """Return the first image of every mask: all sources once, then those with a second mask, and so on.

    Within a round the sources that the other set has too come first, in a seeded order: so the same sources have the
    same positions in both sets, and a further mask of a source comes after all of them.
    """
    rounds: Counter[str] = Counter()
    keys: list[tuple[int, bool, int, int]] = []
    names = families(images)
    for k in _first_copies(images):
        source = names[k]
        keys.append((rounds[source], source not in others, seeding.number(seed, "pieces", source), k))
        rounds[source] += 1
    return [k for *_, k in sorted(keys)]


def _first_copies(images: ImageSet) -> list[int]:
    """Return the indices of the rows that are the first image of their mask."""
    return [k for k, row in enumerate(images) if row["copy"] == 0]
