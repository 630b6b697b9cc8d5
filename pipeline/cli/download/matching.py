"""Which file of a source becomes which file of a layout, and how the source differs from what is published."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from pipeline.cli.download.published_set import RATER, Files, Layout, Split
from pipeline.cli.download.sources import SourceFile
from pipeline.core.errors import UserError

DATA_FILES = ("benchmark_tests.json",)
TESTS = Path(__file__).with_name(DATA_FILES[0])  # names of the test images that PraNet's benchmark draws from two sets
FILE_LIMIT, TOTAL_LIMIT = 2**28, 2**36  # bytes of one picture, of all; more is no data set of pictures
Key = tuple[str, ...]


@dataclass(frozen=True)
class Placement:
    """A file of the source, and its path below the root of the layout."""

    source: SourceFile
    target: PurePosixPath


@dataclass(frozen=True)
class Pair:
    """An image with its masks."""

    image: Placement
    masks: tuple[Placement, ...]
    size: tuple[int, int] | None  # expected width and height

    @property
    def files(self) -> tuple[Placement, ...]:
        """All files of the pair."""
        return (self.image, *self.masks)


@dataclass(frozen=True)
class Match:
    """The complete pairs of a source by the title of their split, files without partner, and all differences."""

    pairs: Mapping[str, tuple[Pair, ...]]
    extras: tuple[Placement, ...]
    differences: tuple[str, ...]

    @property
    def placements(self) -> list[Placement]:
        """All files to lay out."""
        return [file for pairs in self.pairs.values() for pair in pairs for file in pair.files] + [*self.extras]


def match(layout: Layout, sources: Sequence[SourceFile]) -> Match:
    """Find the pairs of every split among the files of a source; differences name counts, names and sizes."""
    pairs, differences = dict[str, tuple[Pair, ...]](), list[str]()
    for split in layout.splits:
        found, faults = _split(split, sources)
        pairs[split.title], differences = found, differences + faults
    extras = [placement for files in layout.extras for placement in _placed(files, sources).values()]
    return Match(pairs, tuple(placement for placement, *_ in extras), tuple(differences))


def _split(split: Split, sources: Sequence[SourceFile]) -> tuple[tuple[Pair, ...], list[str]]:
    images, masks = (_chosen(split, _placed(files, sources)) for files in (split.images, split.masks))
    differences = [*_twice(images.values(), 1), *_twice(masks.values(), split.raters)]
    pairs = []
    for key, (image, *_) in sorted(images.items(), key=lambda item: _natural(item[0])):
        own = masks.get(key, [])
        if len(own) == split.raters:
            pairs.append(Pair(image, tuple(own), split.size))
        elif len(own) < split.raters:
            lacking = "mask" if split.raters == 1 else f"masks of {split.raters} raters, but {len(own)}"
            differences.append(f"{image.source.path} has no {lacking}")
    differences += [f"{file.source.path} has no image" for key in masks.keys() - images.keys() for file in masks[key]]
    if not images and not masks:
        return (), [f"{split.title}: no file such as {split.images.example} was found"]
    if split.count is not None and len(images) != split.count:
        differences.append(f"{split.title}: {len(images)} images were found, but {split.count} are published")
    return tuple(pairs), differences


def _placed(files: Files, sources: Iterable[SourceFile]) -> dict[Key, list[Placement]]:
    """Return the files that match by their groups, the rater's left out, with their targets."""
    placed: dict[Key, list[Placement]] = {}
    for source in sources:
        if found := files.compiled.fullmatch(source.path):
            path, groups = PurePosixPath(source.path), found.groupdict()
            target = files.to.format(**groups, name=path.name, suffix=path.suffix.lower())
            key = tuple(text.casefold() for name, text in groups.items() if name != RATER)
            placed.setdefault(key, []).append(Placement(source, PurePosixPath(target)))
    return {key: _distinct(same) for key, same in placed.items()}


def _distinct(placements: list[Placement]) -> list[Placement]:
    """Return the files without copies: one format of several, TIFF first, and a file on disk before one in an archive.

    Files of one target that differ are all kept.
    """
    kept: list[Placement] = []
    for placement in sorted(placements, key=_preference):
        rivals = [one for one in kept if one.target.with_suffix("") == placement.target.with_suffix("")]
        if not any(one.target != placement.target or _same(one.source, placement.source) for one in rivals):
            kept.append(placement)
    return kept


def _preference(placement: Placement) -> tuple[bool, bool, str]:
    return placement.target.suffix != ".tif", placement.source.place is None, placement.source.path


def _same(first: SourceFile, second: SourceFile) -> bool:
    """Return whether two files have the same content."""
    if first.size != second.size:
        return False
    with first.open() as one, second.open() as other:
        return one.read(FILE_LIMIT) == other.read(FILE_LIMIT)


def _twice(found: Iterable[Sequence[Placement]], most: int) -> list[str]:
    return [
        f"{placements[0].source.path} and {placements[most].source.path} have the same name and different contents"
        for placements in found
        if len(placements) > most
    ]


def _chosen(split: Split, placed: dict[Key, list[Placement]]) -> dict[Key, list[Placement]]:
    """Return the files whose key the split's list names, or does not name."""
    if split.listed:
        return {key: files for key, files in placed.items() if key[0] in benchmark_tests(split.listed)}
    if split.unlisted:
        return {key: files for key, files in placed.items() if key[0] not in benchmark_tests(split.unlisted)}
    return placed


@cache
def benchmark_tests(name: str) -> frozenset[str]:
    """Return the stems of the test images that PraNet's benchmark draws from a set."""
    return frozenset(json.loads(TESTS.read_text(encoding="utf-8"))[name])


def check_sizes(placements: Sequence[Placement]) -> None:
    """Raise UserError where files claim more bytes than pictures have, before anything is unpacked."""
    for source in (one.source for one in placements):
        if source.size > FILE_LIMIT:
            raise UserError(f"--from: {source.path} takes {source.size // 2**20} MiB unpacked; no picture does")
    if (total := sum(one.source.size for one in placements)) > TOTAL_LIMIT:
        raise UserError(f"--from: all files take {total // 2**30} GiB unpacked; no such set of pictures does")


def _natural(key: Key) -> list[tuple[int, str]]:
    """Return what sorts 2 before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for text in key for part in re.split(r"(\d+)", text)]
