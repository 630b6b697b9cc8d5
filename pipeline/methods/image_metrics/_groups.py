"""The patient or sequence of real images, and of synthetic images through the real image whose mask they follow."""

from collections.abc import Sequence

from pipeline.data.image_set import ImageSet
from pipeline.methods.image_metrics._partners import families
from pipeline.metrics.statistics.grouped import Units


def image_units(images: ImageSet, real: ImageSet) -> Units:
    """Return the unit of every image of a real or synthetic set: the group of the real image that its mask is from.

    Where that is unknown, the unit is the source of the mask, or the mask if a procedure made it.
    """
    return units_of(families(images), real)


def units_of(sources: Sequence[str], real: ImageSet) -> Units:
    """Return the group of each of the `sources`, ids of images of `real`; the source itself where it has no group."""
    groups = {row["id"]: f"group/{row['group']}" for row in real if row.get("group")}  # no id holds a slash
    return Units(tuple(groups.get(name, name) for name in sources), any(name in groups for name in sources))
