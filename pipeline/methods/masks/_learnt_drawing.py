"""Drawing from the model of masks: in blocks, until a mask is as asked for and unlike every training mask."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from pipeline.core import seeding
from pipeline.core.contracts import ConditioningMask
from pipeline.data.image_set import ImageSet, Row
from pipeline.methods.masks import _learnt_network as network
from pipeline.methods.masks._bounds import Mask
from pipeline.methods.masks._learnt_copies import Likeness
from pipeline.methods.masks._learnt_fields import flags_of, hints_of, mask_of
from pipeline.methods.masks._learnt_params import Params
from pipeline.methods.masks._learnt_regions import Nesting, Shape, shapes_of
from pipeline.methods.masks._learnt_training import MaskModel
from pipeline.methods.masks._lesions import Spread, measure_spreads, resample_lesion
from pipeline.methods.masks._sequence import mask_id

BLOCK = 16  # masks that are drawn together, whatever the count: the last bits depend on it
KEPT = 32  # blocks in memory
OFF, FAR = 0.2, 0.05  # of the logarithm of an area, and of a centre in sides: what counts as not as asked for


@dataclass(frozen=True)
class DrawnMask:
    """One try for a mask."""

    index: int
    attempt: int
    row: Row  # the training image whose mask the shapes are drawn from
    shapes: dict[int, Shape]  # asked for
    pixels: Mask
    overlap: float  # with the most alike training mask
    faults: tuple[int, int, int]  # labels that are missing; too alike; areas, places and cuts not as asked for


@dataclass(frozen=True)
class MaskDrawer:
    """Draws the k-th mask from the streams (seed, "learnt", k, try)."""

    params: Params
    train: ImageSet
    nesting: Nesting
    model: MaskModel
    spreads: Mapping[int, Spread]
    likeness: Likeness
    seed: str
    blocks: dict[int, list[DrawnMask]] = field(default_factory=dict, repr=False)  # the last KEPT

    def __call__(self, index: int) -> ConditioningMask:
        drawn = self._block(index // BLOCK)[index % BLOCK]
        about = {
            "method": "learnt",
            "drawn_from": drawn.row["id"],
            "model": self.model.digest,
            "try": drawn.attempt,
            "shapes": [_record(shape) for shape in drawn.shapes.values()],
            "overlap": round(drawn.overlap, 4),
            "limit": round(self.likeness.limit, 4),
        }
        name = mask_id("learnt", index)
        return ConditioningMask(name, "learnt", about, drawn.pixels, drawn.row["prompt"], drawn.row["source"])

    def _block(self, number: int) -> list[DrawnMask]:
        if number not in self.blocks:
            if len(self.blocks) >= KEPT:
                del self.blocks[next(iter(self.blocks))]
            self.blocks[number] = self._drawn_block(number)
        return self.blocks[number]

    def _drawn_block(self, number: int) -> list[DrawnMask]:
        """Draw the masks of a block; those at fault are drawn again, and the best try of each is taken."""
        best: dict[int, DrawnMask] = {}
        left = list(range(number * BLOCK, (number + 1) * BLOCK))
        for attempt in range(self.params.tries):
            for drawn in self.draw(left, attempt):
                if drawn.index not in best or drawn.faults < best[drawn.index].faults:
                    best[drawn.index] = drawn
            left = [index for index in left if any(best[index].faults)]
            if not left:
                break
        return [best[index] for index in sorted(best)]

    def draw(self, indices: Sequence[int], attempt: int) -> list[DrawnMask]:
        """Draw one try for each of some masks."""
        streams = [f"{self.seed}/learnt/{index}/{attempt}" for index in indices]
        asked = [self._asked(index, stream) for index, stream in zip(indices, streams, strict=True)]
        grid, nesting = self.params.grid, self.nesting
        hints = np.stack([hints_of(shapes, nesting, grid) for _, shapes in asked])
        flags = torch.tensor([flags_of(shapes, nesting) for _, shapes in asked])
        fields = network.sample(self.model.network, torch.from_numpy(hints), flags, streams).numpy()
        masks = [mask_of(f, s, nesting, self.train.spec.size) for f, (_, s) in zip(fields, asked, strict=True)]
        overlaps = self.likeness.nearest(masks).tolist()
        return [
            DrawnMask(index, attempt, row, shapes, mask, overlap, self._faults(mask, shapes, overlap))
            for index, (row, shapes), mask, overlap in zip(indices, asked, masks, overlaps, strict=True)
        ]

    def _asked(self, index: int, stream: str) -> tuple[Row, dict[int, Shape]]:
        """Return a training image and the shapes of its mask, all moved by the same draw from the kernel."""
        row, mask = self._source(index)
        number = seeding.number(stream, "shapes")
        shapes = shapes_of(mask, self.nesting)
        return row, {label: self._moved(shape, np.random.default_rng(number)) for label, shape in shapes.items()}

    def _moved(self, shape: Shape, rng: np.random.Generator) -> Shape:
        ellipse, bandwidth = shape.ellipse, self.params.bandwidth
        spread = self.spreads.get(ellipse.label) or measure_spreads([ellipse])[ellipse.label]
        return Shape(resample_lesion(ellipse, spread, bandwidth, rng), shape.pieces, shape.holed)

    def _source(self, index: int) -> tuple[Row, Mask]:
        """Return training mask `index` modulo their number; where it is empty, a random one that is not."""
        rng = seeding.numpy_rng(self.seed, "learnt", index, "source")
        positions = (index % len(self.train), *rng.permutation(len(self.train)).tolist())
        pairs = ((self.train.rows[position], self.train.mask(self.train.rows[position])) for position in positions)
        return next((row, mask) for row, mask in pairs if mask.any())

    def _faults(self, mask: Mask, asked: Mapping[int, Shape], overlap: float) -> tuple[int, int, int]:
        found = shapes_of(mask, self.nesting)
        both = [(asked[label].ellipse, found[label].ellipse) for label in asked if label in found]
        areas = sum(abs(np.log(one.area / other.area)) > OFF for one, other in both)
        places = sum(np.hypot(*np.subtract(one.centre, other.centre)) > FAR for one, other in both)
        cuts = sum(one.cut != other.cut for one, other in both)
        return len(asked) - len(both), int(overlap > self.likeness.limit), int(areas + places + cuts)


def _record(shape: Shape) -> dict[str, Any]:
    ellipse = asdict(shape.ellipse)
    return {**ellipse, "centre": [*shape.ellipse.centre], "pieces": shape.pieces, "holed": shape.holed}
