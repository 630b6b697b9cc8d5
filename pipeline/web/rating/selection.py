"""Which images are rated: equally many real test images and images of every generator, drawn by the study's seed."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from pipeline.core import paths, seeding
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet, Row
from pipeline.data.ratings import REAL
from pipeline.web.rating.blinding import pad_to_one_length, plain_png


@dataclass(frozen=True)
class Picture:
    """One image to be rated."""

    arm: str  # a generator entry, or REAL
    id: str
    png: bytes


def image_sets(study: str, generators: Collection[str], selected: Collection[str] = ()) -> dict[str, ImageSet]:
    """Open the real test images and the synthetic sets of the selected generators (none: all), by arm.

    Raises UserError where a selected generator does not exist, or a set has no image.
    """
    if REAL in generators:
        raise UserError(f"generators.{REAL}: in ratings this name belongs to real images; choose another one")
    if unknown := [name for name in selected if name not in generators]:
        raise UserError(
            f"there is no generator {unknown[0]!r} in params.yaml; the available ones are: {', '.join(generators)}"
        )
    shown = [name for name in generators if name in selected or not selected]
    test = ImageSet.open(paths.real(study)).split("test")
    sets = {REAL: test, **{name: ImageSet.open(paths.synthetic(study, name)) for name in shown}}
    if empty := [arm for arm, images in sets.items() if not len(images)]:
        raise UserError(f"there is no image of {empty[0]} to rate; run its stage again")
    return sets


def digests(sets: dict[str, ImageSet]) -> dict[str, str]:
    """Return what identifies the images of each arm."""
    return {arm: images.digest for arm, images in sets.items()}


def draw(sets: dict[str, ImageSet], count: int, seed: int) -> list[Picture]:
    """Draw `count` images of each arm, or as many as the smallest arm has, as files of one length."""
    equal = min(count, *map(len, sets.values()))
    drawn = [(arm, images, row) for arm, images in sets.items() for row in _random_rows(images, equal, seed, arm)]
    pngs = pad_to_one_length([plain_png(images.picture(row)) for _, images, row in drawn])
    return [Picture(arm, row["id"], png) for (arm, _, row), png in zip(drawn, pngs, strict=True)]


def _random_rows(images: ImageSet, count: int, seed: int, arm: str) -> list[Row]:
    """Return rows at random; images of one mask come a second time only when every mask has been drawn."""
    drawn: Counter[str] = Counter()
    turns: list[tuple[int, int]] = []
    for place in seeding.numpy_rng(seed, "rating", arm).permutation(len(images)).tolist():
        source = images.rows[place]["source_id"]
        turns.append((drawn[source], place))
        drawn[source] += 1
    return [images.rows[place] for _, place in sorted(turns, key=lambda turn: turn[0])[:count]]
