"""Checks of the ignored pixels (label IGNORED) of a training set; none of them reaches a loss."""

from pipeline.core.contracts import IGNORED, Segmenter
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet, Row
from pipeline.data.labels import IGNORED_PIXELS
from pipeline.data.loading import Pairs


def check_rows(segmenter: Segmenter, images: ImageSet) -> None:
    """Raise UserError where a segmenter needs the label of every pixel, and the manifest says that some have none."""
    if first := next((row for row in images if row.get(IGNORED_PIXELS)), None):
        _check_segmenter(segmenter, images, first)


def check(segmenter: Segmenter, images: ImageSet, pairs: Pairs) -> None:
    """Raise UserError where all pixels of a mask are ignored, or some that the segmenter cannot do without."""
    for index, row in enumerate(images):  # one by one: all at once they may not fit into memory
        masks = pairs.mask[index : index + 1] if pairs.masks is None else pairs.masks[index]
        ignored = masks == IGNORED
        if not ignored.any():
            continue
        _check_segmenter(segmenter, images, row)
        if ignored.flatten(1).all(1).any():
            raise UserError(
                f"{images.folder / row['mask']}: all pixels are ignored ({IGNORED}); nothing can be learned from it, so"
                " leave the image out"
            )


def _check_segmenter(segmenter: Segmenter, images: ImageSet, row: Row) -> None:
    if not getattr(segmenter, "takes_ignored", False):
        raise UserError(
            f"{images.folder / row['mask']} has ignored pixels ({IGNORED}); {segmenter.about['method']} needs the label"
            " of every pixel, so train another segmenter, or training sets without ignored pixels"
        )
