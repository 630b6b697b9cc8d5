"""Copying matched files to where a study reads them: checked beside the target first, never half written."""

import os
import shutil
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.cli.download.matching import Match, Pair, Placement, check_sizes
from pipeline.cli.download.published_set import Layout
from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.data.decoding import claimed_size, decoder_message

PART = 2**20  # bytes copied at once
LONG = 500  # files whose copying is worth a bar
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class LaidOut:
    """What was laid out: pairs by split, how many files were new, and the differences that were accepted."""

    pairs: Mapping[str, int]
    written: int
    differences: tuple[str, ...]


def lay_out(match: Match, layout: Layout, root: Path, accept: bool = False) -> LaidOut | tuple[str, ...]:
    """Copy the pairs of a source below `root`; return all differences, and write nothing, where there are any.

    `accept`: write the sound pairs all the same. Raises UserError where files claim impossible sizes, where others are
    in the way, and where the disk is full.
    """
    if match.differences and not accept:
        return match.differences
    check_sizes(match.placements)
    here = {one for one in match.placements if _in_place(one, root)}
    _check_way(match, layout, root)
    new = [one for one in match.placements if one not in here]
    with _staging(root, sum(one.source.size for one in new)) as staging:
        damaged = _copy(new, staging)
        places = {one: (root if one in here else staging) / one.target for one in match.placements}
        sound, faults = _sound(match, places, damaged)
        differences = (*match.differences, *faults)
        if differences and not accept:
            return differences
        if not any(sound.values()):
            raise UserError("no pair is complete and readable, so there is nothing to lay out")
        wanted = {one for pairs in sound.values() for pair in pairs for one in pair.files} | {*match.extras}
        moved = [one for one in new if one in wanted]
        _publish(staging, root, moved, [one for one in new if one not in wanted])
    return LaidOut({title: len(pairs) for title, pairs in sound.items()}, len(moved), differences)


def _in_place(placement: Placement, root: Path) -> bool:
    """Return whether the target exists with the source's content. Raises UserError where it has another one."""
    target = root / placement.target
    if not target.exists():
        return False
    if placement.source.place is not None and target.samefile(placement.source.place):
        return True
    with placement.source.open() as source, target.open("rb") as present:
        while (part := source.read(PART)) == present.read(PART):
            if not part:
                return True
    raise UserError(f"{target} exists with another content; move it away, or name another folder with --to")


def _check_way(match: Match, layout: Layout, root: Path) -> None:
    """Raise UserError where a folder holds pictures that are not of the set, or one picture in another format."""
    own: dict[PurePosixPath, set[str]] = defaultdict(set)
    for placement in match.placements:
        own[placement.target.parent].add(placement.target.name)
    in_the_way = [
        root / folder / name
        for folder in sorted(own)
        for name in _strangers(root / folder, own[folder], folder.as_posix() in layout.shared)
    ]
    if in_the_way:
        more = f" and {len(in_the_way) - 1} more" if len(in_the_way) > 1 else ""
        raise UserError(
            f"{in_the_way[0]}{more} does not belong to this source; move it away, or name another folder with --to"
        )


def _strangers(folder: Path, own: set[str], shared: bool) -> list[str]:
    """Return the files of a folder beside its own; of a shared folder those that are its own in another format."""
    stems = {PurePosixPath(name).stem for name in own}
    return sorted(name for name in _names(folder) - own if not shared or PurePosixPath(name).stem in stems)


def _names(folder: Path) -> set[str]:
    return (
        {path.name for path in folder.iterdir() if path.is_file() and path.name[0] != "."} if folder.is_dir() else set()
    )


@contextmanager
def _staging(root: Path, size: int) -> Iterator[Path]:
    """Yield a new folder beside the root that is removed in the end. Raises UserError where the disk is too full."""
    place = root.resolve()  # the root may be a link to another disk
    place.parent.mkdir(parents=True, exist_ok=True)
    if size > (free := shutil.disk_usage(place.parent).free):
        raise UserError(
            f"{root.parent} has {free / 2**30:.1f} GiB free, but the files take {size / 2**30:.1f}; make room"
        )
    for left_behind in place.parent.glob(f".{place.name}.*.tmp"):  # by a process that was killed
        shutil.rmtree(left_behind, ignore_errors=True)
    staging = place.with_name(files.temporary_name(place.name))
    staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _copy(placements: list[Placement], staging: Path) -> dict[Placement, str]:
    """Copy files to the staging folder, at most as many bytes as each claims; return what is wrong with some."""
    damaged = {}
    for placement in track(placements, "download: copying", visible=len(placements) >= LONG):
        target = staging / placement.target
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with placement.source.open() as source, target.open("xb") as copy:
                left = placement.source.size
                while left and (part := source.read(min(PART, left))):
                    copy.write(part)
                    left -= len(part)
                if left or source.read(1):
                    damaged[placement] = "does not hold as many bytes as it claims"
        except DAMAGED as error:
            damaged[placement] = f"is damaged in its archive ({decoder_message(error)}); fetch it again"
    return damaged


def _sound(
    match: Match, places: Mapping[Placement, Path], damaged: Mapping[Placement, str]
) -> tuple[dict[str, list[Pair]], list[str]]:
    """Return the pairs whose files open and have the sizes they should have, and the faults of the others."""
    sound, faults = (
        {title: list[Pair]() for title in match.pairs},
        [f"{one.source.path} {why}" for one, why in damaged.items()],
    )
    pairs = [(title, pair) for title, of_split in match.pairs.items() for pair in of_split]
    for title, pair in track(pairs, "download: checking", visible=len(pairs) >= LONG):
        if any(one in damaged for one in pair.files):
            continue
        if fault := _fault(pair, places):
            faults.append(fault)
        else:
            sound[title].append(pair)
    return sound, faults


def _fault(pair: Pair, places: Mapping[Placement, Path]) -> str:
    """Return what is wrong with the headers of a pair; empty where nothing is."""
    sizes = {}
    for placement in pair.files:
        try:
            sizes[placement] = claimed_size(places[placement])
        except Exception as error:  # noqa: BLE001, what a damaged file raises is up to Pillow's decoders
            return f"{placement.source.path} cannot be opened ({decoder_message(error)})"
    width, height = sizes[pair.image]
    for placement, (other_width, other_height) in sizes.items():
        if (other_width, other_height) != (width, height):
            own = f"{other_width} x {other_height}"
            return f"{placement.source.path} has {own} pixels, but its image has {width} x {height}"
    if pair.size is not None and (width, height) != pair.size:
        published = f"{pair.size[0]} x {pair.size[1]}"
        return f"{pair.image.source.path} has {width} x {height} pixels, but the published one has {published}"
    return ""


def _publish(staging: Path, root: Path, moved: list[Placement], dropped: list[Placement]) -> None:
    """Rename the staging folder to the root or, where the root exists, each file into it."""
    for placement in dropped:
        (staging / placement.target).unlink(missing_ok=True)
    if not root.exists():
        os.replace(staging, root)
        return
    for placement in moved:
        target = root / placement.target
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(staging / placement.target, target)
