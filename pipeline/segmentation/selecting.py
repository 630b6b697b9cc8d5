"""Looks at validation images during a training, which choose the weights that are kept (segment.select: best).

For a diffusion segmenter Dice is that of its own sampler and number of samples: of two entries that differ in the
sampler alone each keeps its own best weights. Test images are never looked at.
"""

from pipeline.core.contracts import Segmenter
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.segmentation.class_scores import ScoreRow
from pipeline.segmentation.convergence import mean_dice
from pipeline.segmentation.params import Segment
from pipeline.segmentation.predicting import evenly_spaced
from pipeline.training.selection import Selection

COLUMNS = ("segmenter", "training_set", "seed", "step", "n", "dice", "kept")


class Looks:
    """Real validation images that may choose weights, and what the looks of one training found."""

    def __init__(self, images: ImageSet) -> None:
        self.images, self.shown = images, 0
        self.selected: Selection | None = None

    def selection(self, segmenter: Segmenter, segment: Segment) -> Selection:
        """Return the selection of a training of `segmenter` by mean Dice.

        Raises UserError where there are no images, or one of them is synthetic or of another split than `val`.
        """
        assert segment.select_every is not None
        if not len(self.images):
            raise UserError("select: best needs validation images, and there are none; set data.val_share")
        if wrong := [row["id"] for row in self.images if row["synthetic"] or row["split"] != "val"]:
            raise UserError(f"select: best looks at real validation images alone; {wrong[0]} is none")
        images = evenly_spaced(self.images, segment.select_images or len(self.images))
        self.shown = len(images)
        self.selected = Selection(
            segment.select_every, lambda: mean_dice(segmenter, images, segment), segment.patience, segment.min_delta
        )
        return self.selected

    def rows(self) -> list[ScoreRow]:
        """Return step, n, dice and kept (1 for the weights that are kept, else 0) of each look; none without select."""
        if self.selected is None or self.selected.best is None:
            return []
        best = self.selected.best[0]
        return [
            {"step": step, "n": self.shown, "dice": round(dice, 6), "kept": int(step == best)}
            for step, dice in self.selected.scores
        ]
