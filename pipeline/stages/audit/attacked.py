"""The images that a membership attack is tried on: training images of the generator, and held-out images."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.metrics.statistics.grouped import Units
from pipeline.metrics.statistics.membership import Side
from pipeline.metrics.statistics.resampling import Array
from pipeline.stages.audit.training_images import unit_of


@dataclass(frozen=True)
class Attacked:
    """Members and controls: real images of the same source, divided by the same rule."""

    members: ImageSet  # the training images of the generator
    controls: ImageSet  # images that neither it nor its base has seen
    left_out: tuple[str, ...]  # held-out images that are no controls

    @classmethod
    def of(cls, members: ImageSet, held_out: ImageSet, near_duplicates: Collection[str]) -> "Attacked":
        """Return members and controls; controls resemble no training image and share no patient with a member.

        `held_out` are real images that neither the generator nor its base was trained on. Images without masks that the
        base was pretrained on are members of the base, and neither members nor controls here. Raises UserError where a
        side has fewer than two images.
        """
        patients = {unit_of(row) for row in members}
        controls = held_out.select(
            row for row in held_out if row["id"] not in near_duplicates and unit_of(row) not in patients
        )
        for name, images in (("training", members), ("held-out", controls)):
            if len(images) < 2:
                raise UserError(
                    f"audit.membership: {len(images)} {name} images of {images.folder} can be attacked, but it needs at"
                    " least 2; add images, or set audit.membership: null"
                )
        used = set(controls.ids)
        return cls(members, controls, tuple(name for name in held_out.ids if name not in used))

    @property
    def sets(self) -> tuple[ImageSet, ImageSet]:
        """Members, then controls."""
        return self.members, self.controls

    def sides(self, scores: tuple[Array, Array]) -> tuple[Side, Side]:
        """Return the scores of members and controls with the patients of the images."""
        members, controls = (Side(one, units_of(images)) for one, images in zip(scores, self.sets, strict=True))
        return members, controls


def units_of(images: ImageSet) -> Units:
    """Return the patient or sequence of each image, or the image itself where none is known."""
    return Units(tuple(unit_of(row) for row in images), any(row.get("group") for row in images))


def nearest_share(distances: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Return minus the mean over spaces of distances of members and controls, each divided by the space's median.

    The median is that of both sides together, so that it does not tell them apart.
    """
    scaled = [
        tuple(side / max(float(np.median(np.concatenate(space))), 1e-12) for side in space) for space in distances
    ]
    members, controls = (-np.mean(side, axis=0) for side in zip(*scaled, strict=True))
    return members, controls
