"""What is known of a published data set: its page, terms and files, and how a study wants these laid out."""

import re
from dataclasses import dataclass
from functools import cached_property

RATER = "rater"  # the group of a pattern that tells several masks of one image apart


@dataclass(frozen=True)
class Files:
    """Files of one kind: where the archive has them, and where the study wants them."""

    pattern: str  # of the whole path, in any case, archive's or folder's name first; its groups tell files apart
    to: str  # path below the root, of the groups, {name} and {suffix}
    example: str  # such a path, for messages

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        """The pattern; folders above what it names do not matter."""
        return re.compile(rf"(?:.*/)?{self.pattern}", re.IGNORECASE)


@dataclass(frozen=True)
class Split:
    """Images and masks that belong together by the groups of their patterns (RATER apart)."""

    title: str
    images: Files
    masks: Files
    count: int | None = None  # images; None: not fixed
    size: tuple[int, int] | None = None  # width and height of every image in pixels; None: they differ
    raters: int = 1  # masks of one image
    listed: str = ""  # takes the images that this list of benchmark_tests.json names
    unlisted: str = ""  # takes the images that it does not name


@dataclass(frozen=True)
class Layout:
    """The folder that some studies read; without splits the user lays it out."""

    root: str
    studies: tuple[str, ...]
    splits: tuple[Split, ...] = ()
    extras: tuple[Files, ...] = ()  # files without partner that are taken along where they are there
    shared: tuple[str, ...] = ()  # folders below the root that other sets fill too
    by_hand: str = ""  # what goes into the root, where there are no splits


@dataclass(frozen=True)
class PublishedSet:
    """One data set as its authors publish it."""

    name: str
    title: str
    page: str  # empty: it is not public
    terms: str  # as the providers tell them
    cite: str
    fetch: tuple[str, ...]  # files of the page, and what they hold
    layouts: tuple[Layout, ...]
