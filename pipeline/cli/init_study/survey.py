"""A survey of a folder of pairs through its reader: how many, their sizes, colours, labels and empty masks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from pipeline.cli.init_study.layouts import DatasetLayout
from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.core.section import parse
from pipeline.data.decoding import COLOUR_TOLERANCE, Fault, Item, channel_spread, decode
from pipeline.data.labels import THRESHOLD
from pipeline.data.sample import Sample
from pipeline.stages.prepare.params import Data

SAMPLED = 300  # pairs that are decoded, evenly spaced over all
LONG = 100  # pairs that take a second or more to decode, and are worth a bar
MOST_LABELS = 32  # more different small values are no labels
SMALL_SIDE = 4  # pixels; a lesion whose area is that of a smaller square can hardly be drawn or learnt


@dataclass(frozen=True)
class PairStatistics:
    """Statistics of one decoded pair."""

    height: int
    width: int
    colour: bool
    values: frozenset[int]  # of the mask as stored
    counts: tuple[int, ...]  # pixels by value 0..255


@dataclass(frozen=True)
class Survey:
    """Statistics of all pairs."""

    splits: dict[str, int]  # pairs by split as the data set brings it; "drawn": without one
    groups: int  # patients or volumes where the data set tells them
    sample: tuple[PairStatistics, ...]  # of the decoded pairs
    num_classes: int  # background included
    values: tuple[int, ...]  # of the masks as stored
    faults: tuple[str, ...]

    @property
    def pairs(self) -> int:
        """Number of usable pairs."""
        return sum(self.splits.values())

    @property
    def size(self) -> tuple[int, int]:
        """Median width and height in pixels."""
        return int(median(pair.width for pair in self.sample)), int(median(pair.height for pair in self.sample))

    @property
    def colour(self) -> bool:
        """Whether any image has colours."""
        return any(pair.colour for pair in self.sample)

    @property
    def empty(self) -> int:
        """Number of decoded masks without foreground."""
        return sum(share == 0 for share in self.shares)

    @property
    def shares(self) -> list[float]:
        """Foreground of every decoded mask, as a share of the image."""
        first = THRESHOLD + 1 if self.num_classes == 2 and max(self.values) > 1 else 1
        return [sum(pair.counts[first:]) / sum(pair.counts) for pair in self.sample]

    def small(self, size: int) -> float:
        """Return the share of the masks with foreground whose foreground is below SMALL_SIDE^2 pixels at a size."""
        shares = [share for share in self.shares if share]
        return sum(share * size**2 < SMALL_SIDE**2 for share in shares) / max(1, len(shares))

    def record(self) -> dict[str, Any]:
        """Return the survey as JSON values."""
        return {
            "pairs": self.pairs,
            "splits": self.splits,
            "groups": self.groups,
            "looked_at": len(self.sample),
            "size": list(self.size),
            "images": "colour" if self.colour else "grey",
            "num_classes": self.num_classes,
            "empty_masks": self.empty,
            "faults": list(self.faults),
        }


def survey(layout: DatasetLayout) -> Survey:
    """Read all names, and the pixels of up to SAMPLED pairs. Raises UserError where no pair can be used."""
    items = _items(layout)
    pairs = [item for item in items if not isinstance(item, Fault)]
    faults = [str(item) for item in items if isinstance(item, Fault)]
    sample, chosen = [], spaced(pairs, SAMPLED)
    for item in track(chosen, "init: looking at images", visible=len(chosen) >= LONG):
        decoded = item if isinstance(item, Sample) else decode(item)
        if isinstance(decoded, Sample):
            sample.append(statistics_of(decoded))
        else:
            faults += map(str, decoded)
    if not sample:
        raise UserError(f"no pair in {layout.root} can be used: {faults[0] if faults else 'there is none'}")
    values = sorted(set().union(*(pair.values for pair in sample)))
    splits = Counter(pair.split or "drawn" for pair in pairs)
    groups = len({pair.group for pair in pairs if pair.group})
    classes = max(layout.num_classes or 0, num_classes(values))
    return Survey(dict(splits), groups, tuple(sample), classes, tuple(values), tuple(faults))


def _items(layout: DatasetLayout) -> list[Item]:
    values = {"reader": layout.reader, "root": str(layout.root), "size": 64, "prompt": layout.prompt, **layout.keys}
    data = parse(Data, values)
    return list(
        plugins.load("readers", data.reader).read(data, plugins.read_params("readers", data.reader, data.options, ""))
    )


def spaced(items: Sequence[Any], count: int) -> list[Any]:
    """Return at most `count` of the items, evenly spaced."""
    positions = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))
    return [items[position] for position in positions.tolist()]


def statistics_of(sample: Sample) -> PairStatistics:
    """Return the statistics of one pair at its native size."""
    image, mask = np.asarray(sample.image, np.uint8), sample.masks[0]
    counts = np.bincount(mask.ravel(), minlength=256)
    colour = int(channel_spread(image).max(initial=0)) > COLOUR_TOLERANCE
    height, width = mask.shape
    return PairStatistics(height, width, colour, frozenset(np.flatnonzero(counts).tolist()), tuple(counts.tolist()))


def num_classes(values: Sequence[int]) -> int:
    """Return the number of classes with background by the masks' values: labels, or two by the threshold.

    Raises UserError where the values are neither.
    """
    highest = max(values)
    if highest <= 1 or highest > THRESHOLD:
        return 2
    if len(values) > MOST_LABELS:
        raise UserError(
            f"the masks hold {len(values)} grey levels up to {highest}; these are neither labels (0, 1, 2 ...) nor a"
            " mask whose"
            f" foreground is above {THRESHOLD}; save them as one of these"
        )
    return highest + 1
