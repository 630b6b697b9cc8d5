"""The real images that a generator can have copied: its training images, and those without masks that it saw."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.core.pair_limit import recorded_limit
from pipeline.data.image_set import ImageSet, Row
from pipeline.data.limited import training_pairs
from pipeline.evaluation.feature_cache import FeatureCache
from pipeline.stages.base.manifest import saw_training_images, unlabelled_images
from pipeline.stages.finetune.params import FROM_NOTHING, TRAINING_FREE, GeneratorEntry


def unlabelled_of(study: str, *entries: GeneratorEntry) -> ImageSet | None:
    """Return the images without masks that entries or the base of their study were trained on; None without any."""
    seen = unlabelled_images(study) or any(entry.pseudo_labels for entry in entries)
    return ImageSet.open(paths.unlabelled(study)) if seen else None


def held_out(real: ImageSet, unlabelled: ImageSet | None) -> ImageSet:
    """Return the real images that neither the generator nor the base was trained on."""
    seen = set(unlabelled.ids if unlabelled else ())  # training images beyond data.train_limit among them
    return real.select(row for row in real if row["split"] != "train" and row["id"] not in seen)


def seen_pairs(study: str, real: ImageSet, synthetic: ImageSet, seed: int) -> ImageSet:
    """Return the training pairs whose images the generator of a set has seen, its base included.

    Those are all where the base was pretrained on them, whatever the limit of the generator, and else the pairs within
    its limit.
    """
    method = str(synthetic.rows[0].get("method")) if len(synthetic) else ""
    if saw_training_images(study) and method not in (*TRAINING_FREE, *FROM_NOTHING):
        return real.split("train")
    return fine_tuned_on(real, synthetic, seed)


def fine_tuned_on(real: ImageSet, synthetic: ImageSet, seed: int) -> ImageSet:
    """Return the training pairs within the limit of the generator of a set; `seed` is the study's."""
    row = synthetic.rows[0] if len(synthetic) else {}
    return training_pairs(real, recorded_limit(row), seed, f"generators.{row.get('generator')}")


@dataclass(frozen=True)
class TrainingImages:
    """Training images, then unlabelled ones; positions count through both."""

    train: ImageSet
    unlabelled: ImageSet | None = None  # None: neither generator nor base saw any

    def __len__(self) -> int:
        return sum(len(images) for images in self.sets)

    @property
    def sets(self) -> tuple[ImageSet, ...]:
        """The one or two sets."""
        return (self.train,) if self.unlabelled is None else (self.train, self.unlabelled)

    def id(self, position: int) -> str:
        """Return the id of an image."""
        return self._at(position)[1]["id"]

    def picture(self, position: int) -> NDArray[np.uint8]:
        """Return an image [C, H, W]."""
        images, row = self._at(position)
        return images.picture(row)

    def features(self, cache: FeatureCache, probe: str) -> NDArray[Any]:
        """Return the features of all images."""
        return np.concatenate([cache.features(images, probe) for images in self.sets])

    def excluded(self, synthetic: ImageSet) -> list[list[int]]:
        """Return per synthetic image the positions that it is not compared with; empty where it keeps no background.

        The image that lent the background is not searched for copies: its pixels are there on purpose. Neither are
        images of the same group (patient, sequence), which show the same background. Raises UserError where fewer than
        two images are left.
        """
        if not any("keep_background" in row for row in synthetic):
            return []
        rows = [row for images in self.sets for row in images]
        units = {row["id"]: unit_of(row) for row in self.train}
        members: dict[str, list[int]] = {}
        for position, row in enumerate(rows):
            members.setdefault(unit_of(row), []).append(position)
        found = [members[units[row["background_id"]]] if row.get("background_id") in units else [] for row in synthetic]
        if len(rows) - max(map(len, found), default=0) < 2:
            raise UserError(
                f"{synthetic.folder}: all training images belong to one group, which lent the backgrounds, so none is"
                " left to compare with; the audit needs at least 2 others"
            )
        return found

    def _at(self, position: int) -> tuple[ImageSet, Row]:
        count = len(self.train)
        if position < count or self.unlabelled is None:
            return self.train, self.train.rows[position]
        return self.unlabelled, self.unlabelled.rows[position - count]


def unit_of(row: Row) -> str:
    """Return the group of a row, or its id where it has none; no id holds a slash."""
    return f"group/{row['group']}" if row.get("group") else row["id"]
