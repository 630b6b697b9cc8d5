"""What is in a folder of pairs: how many, their sizes, colours, labels and empty masks, seen through the reader."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from pipeline.cli.init_study.layouts import Layout
from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.core.section import parse
from pipeline.data.decoding import COLOUR_TOLERANCE, Fault, Item, decode
from pipeline.data.labels import THRESHOLD
from pipeline.data.sample import Sample
from pipeline.stages.prepare.params import Data

LOOKED_AT = 300  # pairs that are decoded, evenly spaced over all
MOST_LABELS = 32  # more different small values are no labels
SMALL_SIDE = 4  # pixels; a lesion whose area is that of a smaller square can hardly be drawn or learnt


@dataclass(frozen=True)
class Look:
    """What one decoded pair shows."""

    height: int
    width: int
    colour: bool
    values: frozenset[int]  # of the mask as stored
    counts: tuple[int, ...]  # pixels by value 0..255


@dataclass(frozen=True)
class Survey:
    """What all pairs show."""

    splits: dict[str, int]  # pairs by split as the data set brings it; "drawn": without one
    groups: int  # patients or volumes where the data set tells them
    looks: tuple[Look, ...]
    num_classes: int  # background included
    values: tuple[int, ...]  # of the masks as stored
    faults: tuple[str, ...]

    @property
    def pairs(self) -> int:
        """All usable pairs."""
        return sum(self.splits.values())

    @property
    def size(self) -> tuple[int, int]:
        """Median width and height in pixels."""
        return int(median(look.width for look in self.looks)), int(median(look.height for look in self.looks))

    @property
    def colour(self) -> bool:
        """Whether any image has colours."""
        return any(look.colour for look in self.looks)

    @property
    def empty(self) -> int:
        """Masks without foreground among those looked at."""
        return sum(share == 0 for share in self.shares)

    @property
    def shares(self) -> list[float]:
        """Foreground of every mask looked at, as a share of the image."""
        first = THRESHOLD + 1 if self.num_classes == 2 and max(self.values) > 1 else 1
        return [sum(look.counts[first:]) / sum(look.counts) for look in self.looks]

    def small(self, size: int) -> float:
        """Share of the masks with foreground whose foreground is below SMALL_SIDE^2 pixels at a size."""
        found = [share for share in self.shares if share]
        return sum(share * size**2 < SMALL_SIDE**2 for share in found) / max(1, len(found))

    def told(self) -> dict[str, Any]:
        """For machines."""
        kind = "colour" if self.colour else "grey"
        facts = {"pairs": self.pairs, "splits": self.splits, "groups": self.groups, "looked_at": len(self.looks)}
        seen = {"size": list(self.size), "images": kind, "num_classes": self.num_classes, "empty_masks": self.empty}
        return facts | seen | {"faults": list(self.faults)}


def survey(layout: Layout) -> Survey:
    """Reads names, and pixels of up to LOOKED_AT pairs. Raises UserError where nothing can be used."""
    items = _items(layout)
    pairs = [item for item in items if not isinstance(item, Fault)]
    faults = [str(item) for item in items if isinstance(item, Fault)]
    looks = []
    for item in track(spaced(pairs, LOOKED_AT), "looking at images", visible=False):
        found = item if isinstance(item, Sample) else decode(item)
        if isinstance(found, Sample):
            looks.append(look(found))
        else:
            faults += map(str, found)
    if not looks:
        raise UserError(f"no pair of {layout.root} can be used; {faults[0] if faults else 'it holds none'}")
    values = sorted(set().union(*(one.values for one in looks)))
    splits = Counter(pair.split or "drawn" for pair in pairs)
    groups = len({pair.group for pair in pairs if pair.group})
    classes = max(layout.num_classes or 0, num_classes(values))
    return Survey(dict(splits), groups, tuple(looks), classes, tuple(values), tuple(faults))


def _items(layout: Layout) -> list[Item]:
    values = {"reader": layout.reader, "root": str(layout.root), "size": 64, "prompt": layout.prompt, **layout.keys}
    data = parse(Data, values)
    return list(
        plugins.load("readers", data.reader).read(data, plugins.read_params("readers", data.reader, data.own, ""))
    )


def spaced(items: Sequence[Any], count: int) -> list[Any]:
    """At most `count` of the items, evenly spaced."""
    chosen = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))
    return [items[position] for position in chosen.tolist()]


def look(sample: Sample) -> Look:
    """What one pair shows at its own size."""
    image, mask = np.asarray(sample.image, np.uint8), sample.masks[0]
    counts = np.bincount(mask.ravel(), minlength=256)
    colour = bool((image.max(0).astype(int) - image.min(0)).max(initial=0) > COLOUR_TOLERANCE)
    height, width = mask.shape
    return Look(height, width, colour, frozenset(np.flatnonzero(counts).tolist()), tuple(counts.tolist()))


def num_classes(values: Sequence[int]) -> int:
    """Classes with background by the masks' values: labels as they are, else two by the threshold. Raises UserError."""
    highest = max(values)
    if highest <= 1 or highest > THRESHOLD:
        return 2
    if len(values) > MOST_LABELS:
        raise UserError(
            f"the masks hold {len(values)} grey levels up to {highest}: neither labels (0, 1, 2 ...) nor a mask whose"
            f" foreground is above {THRESHOLD}; save them as one of these"
        )
    return highest + 1
