"""Checks that no image or mask of validation and test gets into a training set."""

from collections.abc import Collection, Iterable

from pipeline.core.errors import UserError
from pipeline.core.pair_limit import PairLimit, recorded_limit
from pipeline.core.progress import track
from pipeline.data import hashing, mask_hashes
from pipeline.data.image_set import ImageSet, Row
from pipeline.data.lenders import background_of, control_image_of, lenders
from pipeline.data.splitting import HELD_OUT

THEIRS = "of the validation or test split"


def check_leaks(parts: Iterable[ImageSet], real: ImageSet, predicted: ImageSet | None = None) -> None:
    """Raise UserError naming ids if a part holds what belongs to validation or test, or may do so.

    That is: one of their images; an image made from the mask of one of them, transformed or not, or with pixels that
    one of them lent, or drawn with one of them as a hint; one of their masks (unless it is empty, or a real training
    image has the same mask too); an image that does not say which mask it follows. A mask of a bank or of a procedure
    has no training image, but the columns mask_id and transform. Images of `predicted`, which have pseudo-labels, count
    as training images; the stage prepare has compared them with the held-out ones.
    """
    held_out = [row for row in real if row["split"] in HELD_OUT]
    images = {hashing.content_hash(real.image(row)) for row in held_out}
    sources = {row["id"] for row in held_out}
    known = {row["id"] for row in real if row["split"] not in HELD_OUT} | {*(predicted.ids if predicted else ())}
    lendable = {None, *known}
    masks = mask_hashes.held_out_digests(real, predicted)
    for part in parts:
        rows = track(part, "mix: looking for held-out images", len(part))
        copied = [row["id"] for row in rows if hashing.content_hash(part.image(row)) in images]
        _refuse(copied, part, f"are images {THEIRS}")  # by pixels: a synthetic PNG carries text too
        derived = [row["id"] for row in part if row["source_id"] in sources]
        _refuse(derived, part, f"are made from images {THEIRS}, or from masks of the same name")
        lent = [row["id"] for row in part if lenders(row) & sources]
        _refuse(lent, part, f"hold pixels or masks of images {THEIRS}, or were drawn with one as a hint")
        foreign = [row["id"] for row in part if background_of(row) not in lendable]
        _refuse(foreign, part, "hold pixels of an image (background_id) that is no real training image")
        shown = [row["id"] for row in part if control_image_of(row) not in lendable]
        _refuse(shown, part, "were drawn with an image (control_image_id) that is no real training image")
        unknown = [row["id"] for row in part if row["source_id"] not in known and not _names_its_mask(row)]
        _refuse(unknown, part, "are not made from a real training image and name no other mask (mask_id, transform)")
        _refuse(_with_masks(part, masks), part, f"have masks {THEIRS}")


def check_limit(images: ImageSet, real: ImageSet, within: ImageSet, limit: PairLimit | None, where: str) -> None:
    """Raise UserError where synthetic images come from real pairs beyond the limit of their training set.

    `within` holds the pairs of `real` within it. Refused are images of a generator that was fine-tuned on more pairs,
    on those of another draw or on all; an image that follows the mask of another pair, transformed or not; one with
    pixels that another pair lent, or drawn with one as a hint; one whose mask is that of another pair, wherever it came
    from (unless it is empty, or a pair within the limit has it too).
    """
    if limit is None:
        return
    seen = {recorded_limit(row) for row in images}
    if wrong := [other for other in seen if other is None or other.draw != limit.draw or other.pairs > limit.pairs]:
        found = "no limit" if wrong[0] is None else f"the limit {wrong[0]}"
        raise UserError(
            f"{images.folder}: the images are of a generator with {found}, but {where}.limit is {limit}; run the stages"
            " finetune and generate again"
        )
    others = {*real.ids} - {*within.ids}
    beyond = [row["id"] for row in images if {row["source_id"], *lenders(row)} & others]
    theirs = f"real pairs beyond {where}.limit, which is {limit}"
    harm = "the arm would get more real pairs than it says"
    _refuse(beyond, images, f"come from {theirs}", harm)
    masks = mask_hashes.digests_beyond(real.select(row for row in real if row["id"] in others), within)
    _refuse(_with_masks(images, masks), images, f"have masks of {theirs}", harm)


def _names_its_mask(row: Row) -> bool:
    return bool(row["source_id"] and row.get("mask_id")) and row.get("transform") is not None


def _with_masks(part: ImageSet, masks: Collection[str]) -> list[str]:
    """Return the ids of rows with one of these masks; a mask file that several copies share is decoded once."""
    matches: dict[str, bool] = {}
    for row in part:
        if row["mask_sha256"] not in matches:
            matches[row["mask_sha256"]] = mask_hashes.mask_digest(part.mask(row)) in masks
    return [row["id"] for row in part if matches[row["mask_sha256"]]]


def _refuse(
    ids: list[str], part: ImageSet, fault: str, harm: str = "training with it would make the test worthless"
) -> None:
    if ids:
        listed = ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
        raise UserError(f"{part.folder}: {listed} {fault}; {harm}. Make the set again")
