"""Which images are rated: equally many real test images and images of every generator, drawn by the study's seed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.core import paths, seeding
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet, Row
from pipeline.data.ratings import REAL
from pipeline.rating.blinding import of_one_length, plain_png
from pipeline.study import Params


@dataclass(frozen=True)
class Picture:
    """One image to be rated."""

    arm: str  # a generator entry, or REAL
    id: str
    png: bytes


def image_sets(params: Params, generators: Sequence[str] = ()) -> dict[str, ImageSet]:
    """The real test images and the synthetic sets of the generators (none: all), by arm. Raises UserError."""
    if REAL in params.generators:
        raise UserError(f"generators.{REAL}: in ratings the name belongs to real images; choose another")
    if unknown := [name for name in generators if name not in params.generators]:
        raise UserError(
            f"there is no generator {unknown[0]!r} in params.yaml; there are: {', '.join(params.generators)}"
        )
    chosen = [name for name in params.generators if name in generators or not generators]
    test = ImageSet.open(paths.real(params.study)).split("test")
    sets = {REAL: test, **{name: ImageSet.open(paths.synthetic(params.study, name)) for name in chosen}}
    if empty := [arm for arm, images in sets.items() if not len(images)]:
        raise UserError(f"there is no image of {empty[0]} to rate; run its stage again")
    return sets


def digests(sets: dict[str, ImageSet]) -> dict[str, str]:
    """What identifies the images of each arm."""
    return {arm: images.digest for arm, images in sets.items()}


def draw(sets: dict[str, ImageSet], count: int, seed: int) -> list[Picture]:
    """`count` images of each arm, or as many as the smallest arm has; files of one length."""
    equal = min(count, *map(len, sets.values()))
    chosen = [(arm, images, row) for arm, images in sets.items() for row in _drawn(images, equal, seed, arm)]
    pngs = of_one_length([plain_png(images.picture(row)) for _, images, row in chosen])
    return [Picture(arm, row["id"], png) for (arm, _, row), png in zip(chosen, pngs, strict=True)]


def _drawn(images: ImageSet, count: int, seed: int, arm: str) -> list[Row]:
    """Rows at random; images of one mask come second times only when every mask has been drawn."""
    seen: Counter[str] = Counter()
    turns: list[tuple[int, int]] = []
    for place in seeding.numpy_rng(seed, "rating", arm).permutation(len(images)).tolist():
        source = images.rows[place]["source_id"]
        turns.append((seen[source], place))
        seen[source] += 1
    return [images.rows[place] for _, place in sorted(turns, key=lambda turn: turn[0])[:count]]
