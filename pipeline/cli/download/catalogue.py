"""The published data sets of all papers, by name."""

import difflib

from pipeline.cli.download.other_sets import OTHERS
from pipeline.cli.download.polyp_sets import POLYPS
from pipeline.cli.download.published_set import Layout, PublishedSet
from pipeline.cli.download.skin_sets import SKIN
from pipeline.core.errors import UserError

SETS = (*POLYPS, *SKIN, *OTHERS)


def find(name: str) -> PublishedSet:
    """Return the set of a name, whatever its case and punctuation. Raises UserError that lists the names."""
    by_letters = {_letters(entry.name): entry for entry in SETS}
    if found := by_letters.get(_letters(name)):
        return found
    near = difflib.get_close_matches(_letters(name), by_letters, n=1)
    hint = f"did you mean {by_letters[near[0]].name}? " if near else ""
    raise UserError(f"there is no data set {name!r}; {hint}there are: {', '.join(entry.name for entry in SETS)}")


def layout_of(entry: PublishedSet, study: str | None) -> Layout:
    """Return the layout that a study wants, the first one without a study. Raises UserError."""
    fitting = [layout for layout in entry.layouts if study is None or study in layout.studies]
    if not fitting:
        studies = ", ".join(name for layout in entry.layouts for name in layout.studies)
        raise UserError(f"--study is {study!r}, which does not use {entry.name}; these do: {studies}")
    return fitting[0]


def partners(entry: PublishedSet, layout: Layout) -> list[PublishedSet]:
    """Return the other sets that the studies of a layout put into the same root beside this one."""
    return [
        other
        for other in SETS
        if layout.shared and other is not entry and any(one.root == layout.root and one.shared for one in other.layouts)
    ]


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
