"""The pieces of a real and a synthetic set that distances of feature distributions compare."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core import seeding
from pipeline.data.image_set import ImageSet
from pipeline.methods.image_metrics._contract import FeatureStore
from pipeline.methods.image_metrics._groups import units_of
from pipeline.methods.image_metrics._partners import families
from pipeline.metrics.statistics.grouped import Blocks, Units, blocks_by_position, blocks_by_unit

ONE_HALF = "the training images come from one group (such as a patient), which cannot be halved"
Features = NDArray[np.float32]


@dataclass(frozen=True)
class Piece:
    """Synthetic rows against real rows; `stand_in` are real rows in place of the synthetic ones, as many.

    The units of the rows are their patients or sequences (where unknown, their masks); None: nothing is known of them.
    """

    variant: str
    real: Features
    synthetic: Features
    stand_in: Features | None
    real_units: Units | None = None
    synthetic_units: Units | None = None

    @property
    def blocks(self) -> Blocks:
        """Jackknife block of every row: by units where groups are known.

        Otherwise by position; a mask's real and synthetic image share a position where both exist.
        """
        real, synthetic = self.real_units, self.synthetic_units
        if real is None or synthetic is None or not (real.are_groups or synthetic.are_groups):
            return blocks_by_position(len(self.real), len(self.synthetic))
        return blocks_by_unit(real, synthetic)

    @property
    def synthetic_blocks(self) -> Blocks:
        """Jackknife block of every synthetic row, for statistics of the synthetic images alone."""
        units = self.synthetic_units
        if units is None or not units.are_groups:
            return blocks_by_position(len(self.synthetic), len(self.synthetic))
        return blocks_by_unit(units, units)

    @property
    def missing_half(self) -> str | None:
        """Why there are no halves to compare; None if there are."""
        grouped = self.real_units is not None and self.real_units.are_groups
        return ONE_HALF if grouped and self.variant == "train_half" and not len(self.real) else None

    @property
    def shares_masks(self) -> bool:
        """Whether a real and a synthetic image may have one mask; then the two sets are not independent."""
        return self.variant == "train"


@dataclass(frozen=True)
class _Side:
    """Rows of a set (train, test or synthetic), in the order in which they are taken, and the unit of each."""

    name: str
    rows: tuple[int, ...]
    units: Units

    def first(self, n: int, start: int = 0) -> "_Side":
        return self._those(range(len(self.rows))[start : start + n])

    def of_units(self, accepts: Callable[[str], bool]) -> "_Side":
        return self._those([k for k, name in enumerate(self.units.names) if accepts(name)])

    def _those(self, places: Collection[int]) -> "_Side":
        units = Units(tuple(self.units.names[k] for k in places), self.units.are_groups)
        return _Side(self.name, tuple(self.rows[k] for k in places), units)


@dataclass(frozen=True)
class _Comparison:
    variant: str
    real: _Side
    synthetic: _Side
    stand_in: _Side | None


def sizes(real: ImageSet, synthetic: ImageSet, seed: int, whole_real: bool = False) -> dict[str, int]:
    """Return the number of synthetic images in each variant of `pieces`."""
    compared = _comparisons(real, synthetic, seed, whole_real)
    return {comparison.variant: len(comparison.synthetic.rows) for comparison in compared}


def pieces(
    real: ImageSet, synthetic: ImageSet, store: FeatureStore, extractor: str, whole_real: bool = False
) -> Iterator[Piece]:
    """Yield three comparisons of the first copies (one image per mask, so that any number of `copies` compares).

    train: with the training images, as papers do (a set that copies them scores best); stand-in: test images, if there
    are as many. With fewer there is no floor at this n: other training images would have to be half of the n, and a
    distance depends on n. train_half: images made from half of the masks with the real images of the other half;
    stand-in: the real images of those masks; where groups are known, none is in both halves, so that the halves may be
    smaller. heldout: with the test images; stand-in: the training images. Real and synthetic images are equally many;
    with `whole_real`, train and heldout take all real and all synthetic ones.
    """
    sets = {"train": real.split("train"), "synthetic": synthetic, "test": real.split("test")}
    features = {name: store.features(images, extractor) for name, images in sets.items()}

    def rows(side: _Side) -> Features:
        return features[side.name][list(side.rows)]

    for compared in _comparisons(real, synthetic, store.seed, whole_real):
        stand_in = None if compared.stand_in is None else rows(compared.stand_in)
        units = compared.real.units, compared.synthetic.units
        yield Piece(compared.variant, rows(compared.real), rows(compared.synthetic), stand_in, *units)


def _comparisons(real: ImageSet, synthetic: ImageSet, seed: int, whole_real: bool) -> list[_Comparison]:
    sides = _sides(real, synthetic, seed)
    train, test, generated = sides["train"], sides["test"], sides["synthetic"]
    n = min(len(train.rows), len(generated.rows))
    m = min(n, len(test.rows))
    halves = _halves(train.first(n), generated.first(n))
    if whole_real:
        made = len(generated.rows)
        floors = [side.first(made) if len(side.rows) >= made else None for side in (test, train)]
        train_piece = _Comparison("train", train, generated, floors[0])
        return [train_piece, halves, _Comparison("heldout", test, generated, floors[1])]
    floor = test.first(n) if len(test.rows) >= n else None
    return [
        _Comparison("train", train.first(n), generated.first(n), floor),
        halves,
        _Comparison("heldout", test.first(m), generated.first(m), train.first(m)),
    ]


def _sides(real: ImageSet, synthetic: ImageSet, seed: int) -> Mapping[str, _Side]:
    """Return the first copies of the three sets in the order of `_order`."""
    training, test = real.split("train"), real.split("test")
    sources = {row["source_id"] for row in synthetic}
    sets = {"train": (training, sources), "synthetic": (synthetic, set(training.ids)), "test": (test, set[str]())}
    sides: dict[str, _Side] = {}
    for name, (images, others) in sets.items():
        order, names = _order(images, others, seed), families(images)
        sides[name] = _Side(name, tuple(order), units_of([names[k] for k in order], real))
    return sides


def _halves(train: _Side, generated: _Side) -> _Comparison:
    """Compare the real images of one half with the synthetic ones of the other half."""
    half = len(train.rows) // 2
    if not (train.units.are_groups or generated.units.are_groups):
        rest = train.first(half, half)
        return _Comparison("train_half", train.first(half), generated.first(half, half), rest)
    chosen, left = set[str](), half
    for name, count in Counter(train.units.names).items():
        if count <= left:
            chosen.add(name)
            left -= count
    first = train.of_units(chosen.__contains__)
    rest, made = (side.of_units(lambda name: name not in chosen) for side in (train, generated))
    n = min(len(side.rows) for side in (first, rest, made))
    return _Comparison("train_half", first.first(n), made.first(n), rest.first(n))


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
