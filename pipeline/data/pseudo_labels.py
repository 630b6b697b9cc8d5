"""Images with pseudo-labels (masks that segmenters predicted, Lee 2013) beside the training pairs. No torch."""

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet, Row

COLUMN = "pseudo_labelled"  # true in the rows of images whose mask was predicted; other rows do not have it


def is_pseudo_labelled(row: Row) -> bool:
    """Return whether the mask of a row was predicted."""
    return bool(row.get(COLUMN))


def with_training_pairs(study: str, where: str) -> ImageSet:
    """Return the training pairs of a study and its images with pseudo-labels, which the stage pseudo_labels published.

    `where` is the entry of params.yaml that needs them, for the error. Raises UserError where there are none.
    """
    images = ImageSet.open(paths.pseudo_labels(study))
    if not any(map(is_pseudo_labelled, images)):
        raise UserError(
            f"{where} needs images with pseudo-labels, and {images.folder} holds none; set"
            " data.unlabelled.pseudo_labels and run the stage pseudo_labels"
        )
    return images


def pseudo_labelled(images: ImageSet) -> ImageSet:
    """Return the rows whose masks were predicted."""
    return images.select(row for row in images if is_pseudo_labelled(row))


def labelled(images: ImageSet) -> ImageSet:
    """Return the rows whose masks were drawn by people, and synthetic ones."""
    return images.select(row for row in images if not is_pseudo_labelled(row))
