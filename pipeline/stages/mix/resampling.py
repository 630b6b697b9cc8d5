"""More copies of hard masks, fewer of easy ones, and as many images in all (the idea of FreeMask). No torch.

FreeMask (Yang et al. 2023) keeps min(1 + round(20 i / M), 20) of 20 images of the mask at rank i of M, the hardest
last, and ranks by the mean loss of a mask's classes. With one kind of lesion that is a rank by area, so a mask is here
as hard as its real image: 1 - Dice of the judge. FreeMask's line, from few copies to all, is laid so that its mean is
the multiplier.
"""

from collections.abc import Mapping
from pathlib import Path

from pipeline.core import files, paths, tables
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet, Row

TRAINING = Path("judge_maps") / "training.csv"  # in the folder of the scores


def resampled(study: str, name: str, generator: str, images: ImageSet, multiplier: int) -> ImageSet:
    """Return the first copies of every mask, more of the harder ones; `images` are all copies of the generator.

    Their number is that of `multiplier` copies of every mask. Raises UserError where a mask belongs to no training
    image, or where the stage score has published no Dice of training images.
    """
    hardness = _hardness(study, name, generator, images)
    counts = copies_by_rank(len(hardness), multiplier, 1 + max(row["copy"] for row in images))
    ranked = sorted(hardness, key=lambda mask: (hardness[mask], mask))
    wanted = dict(zip(ranked, counts, strict=True))
    return images.select(row for row in images if row["copy"] < wanted[mask_of(row)])


def copies_by_rank(masks: int, multiplier: int, copies: int) -> list[int]:
    """Return how many of `copies` images the masks have, the easiest first; their mean is the multiplier exactly.

    They rise in equal steps from 2 m - most to `most`, which is the lesser of 2 m - 1 and `copies`.
    """
    most = min(2 * multiplier - 1, copies)
    levels = 2 * (most - multiplier) + 1
    lower = [2 * multiplier - most + rank * levels // masks for rank in range(masks // 2)]
    middle = [multiplier] * (masks % 2)
    return [*lower, *middle, *(2 * multiplier - count for count in reversed(lower))]


def mask_of(row: Row) -> str:
    """Return what names the mask of an image."""
    return str(row.get("mask_id") or row["source_id"])


def _hardness(study: str, name: str, generator: str, images: ImageSet) -> dict[str, float]:
    """Return 1 - Dice of the judge on the real image of every mask; 0 where neither it nor the judge sees a lesion."""
    dice = _training_dice(study, name, generator)
    sources = {mask_of(row): str(row["source_id"]) for row in images}
    if unknown := [mask for mask, source in sources.items() if source not in dice]:
        raise UserError(
            f"training_sets.{name}.resample: {unknown[0]} ({len(unknown)} of {len(sources)} masks) belongs to no real"
            f" training image that the judge could find hard; use masks of training images for {generator}, or run the"
            " stage score again"
        )
    return {mask: 1 - dice[source] for mask, source in sources.items()}


def _training_dice(study: str, name: str, generator: str) -> Mapping[str, float]:
    folder = paths.scores(study, generator)
    if not (folder / TRAINING).is_file() or not (rows := tables.read_table(folder / TRAINING)):
        raise UserError(
            f"training_sets.{name}.resample: {folder / TRAINING} says nothing of training images; set score.judge_maps:"
            f" true and run the stage score for {generator}"
        )
    files.check(folder)
    return {row["id"]: float(row["dice"]) if row["dice"] else 1.0 for row in rows}
