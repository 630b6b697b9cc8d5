"""Masks that nobody has drawn: a small diffusion model of signed distances, trained on the training masks alone.

Mask k has the labels of training mask k modulo their number, each asked for the area, place, aspect and tilt of its
region there, moved by a Gaussian kernel (a smoothed bootstrap); the model makes an outline of them. It is trained on
the CPU when the first mask is needed, and kept in `work`.
"""

from collections.abc import Iterator

from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.methods.masks import _learnt_network as network
from pipeline.methods.masks._bounds import Mask
from pipeline.methods.masks._learnt_copies import Likeness
from pipeline.methods.masks._learnt_drawing import MaskDrawer
from pipeline.methods.masks._learnt_params import Params
from pipeline.methods.masks._learnt_regions import Nesting, shapes_of, spread_rows
from pipeline.methods.masks._learnt_training import mask_model
from pipeline.methods.masks._lesions import measure_spreads
from pipeline.methods.masks._sequence import LazyMasks, require_images

MEASURED = 1000  # most training masks from which the width of the kernel is measured
LEAST = 2  # masks with a lesion, without which there is nothing to tell apart


def build(params: Params, train: ImageSet, count: int | None, seed: str) -> LazyMasks:
    """Mask k has the labels of training mask k modulo their number. Raises UserError where too few have a lesion."""
    rows = [row for row in require_images(train) if train.mask(row).any()]
    if len(rows) < LEAST:
        raise UserError(
            f"{train.folder}: {len(rows)} of {len(train)} training masks have a lesion, but masks: learnt needs {LEAST}"
            " to learn from; use masks: random, or add labelled images"
        )
    filled = train.select(rows)
    nesting = Nesting.of(_masks(filled), train.spec.num_classes)
    few = (train.mask(rows[place]) for place in spread_rows(len(rows), MEASURED))
    spreads = measure_spreads([shape.ellipse for mask in few for shape in shapes_of(mask, nesting).values()])
    likeness = Likeness.of(_masks(filled), [row.get("group") or row["id"] for row in rows], params.alike)
    model = mask_model(params, filled, nesting, seed)
    drawer = MaskDrawer(params, train, nesting, model, spreads, likeness, seed)
    return LazyMasks(len(train) if count is None else count, drawer)


def operations(params: Params, num_classes: int) -> tuple[float, float]:
    """Count the floating-point operations of the training and of drawing one mask, without those of further tries."""
    return network.operations(params.width, params.grid, num_classes - 1, params.steps)


def _masks(train: ImageSet) -> Iterator[Mask]:
    return (train.mask(row) for row in train)
