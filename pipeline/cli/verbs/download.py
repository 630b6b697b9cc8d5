"""twinsynth download: where the data sets of the papers are published, and laying out what was fetched from there."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli.output import add_json, declare, tell, tell_json
from pipeline.core.errors import UserError

if TYPE_CHECKING:
    from pipeline.cli.download.laying_out import LaidOut
    from pipeline.cli.download.published_set import Layout, PublishedSet

SHOWN = 20  # differences that are printed


def add(subparsers: Any) -> None:
    """Declare the verb."""
    parser = declare(
        subparsers,
        "download",
        "print where a data set of the papers is published and under which terms, and lay out what you downloaded",
        "twinsynth download                                   # the names of all sets",
        "twinsynth download kvasir_seg                        # its page, terms and files; downloads nothing",
        "twinsynth download kvasir_seg --from kvasir-seg.zip  # into data/kvasir_seg",
        "twinsynth download kvasir_seg --from kvasir-seg.zip --study polyps",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="the data set; without it, all of them are listed")
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="FILE", help="the folder or zip archive that you downloaded"
    )
    parser.add_argument(
        "--study", metavar="STUDY", help="the study whose layout is wanted, if several studies use the set"
    )
    parser.add_argument("--to", type=Path, metavar="DIR", help="the target folder (default: data.root of the study)")
    parser.add_argument(
        "--accept-differences",
        action="store_true",
        help="lay out the complete and readable pairs of a source that differs from what is published",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print what is known of the sets, or lay one out. Raises UserError where a source is not as published."""
    from pipeline.cli.download import catalogue

    if arguments.name is None:
        if arguments.source is not None:
            raise UserError("name the data set that --from holds; twinsynth download lists the names")
        return _list(arguments.json)
    entry = catalogue.find(arguments.name)
    layout = catalogue.layout_of(entry, arguments.study)
    if arguments.source is not None:
        return _lay_out(arguments, entry, layout)
    if arguments.json:
        tell_json(_record(entry))
    else:
        tell("\n".join(_about(entry)))
    return 0


def _list(as_json: bool) -> int:
    from pipeline.cli.download.catalogue import SETS

    if as_json:
        tell_json([_record(entry) for entry in SETS])
        return 0
    width = max(len(entry.name) for entry in SETS)
    for entry in SETS:
        tell(f"{entry.name:<{width}}  {entry.title}")
    tell("twinsynth download NAME says where one is published and under which terms")
    return 0


def _record(entry: "PublishedSet") -> dict[str, Any]:
    about = {key: getattr(entry, key) for key in ("name", "title", "page", "terms", "cite")}
    layouts = [
        {
            "root": layout.root,
            "studies": layout.studies,
            "pairs": {split.title: split.count for split in layout.splits},
            "by_hand": layout.by_hand,
        }
        for layout in entry.layouts
    ]
    return {**about, "fetch": entry.fetch, "layouts": layouts}


def _about(entry: "PublishedSet") -> Iterator[str]:
    yield entry.title
    yield f"  page   {entry.page or 'none'}"
    yield f"  terms  {entry.terms}; read them there, they change"
    yield f"  cite   {entry.cite}"
    for number, file in enumerate(entry.fetch):
        yield f"  {'fetch' if number == 0 else '     '}  {file}"
    for layout in entry.layouts:
        studies = f"{'study' if len(layout.studies) == 1 else 'studies'} {', '.join(layout.studies)}"
        if layout.by_hand:
            yield f"  then   put {layout.by_hand} at {layout.root} ({studies})"
        else:
            option = "" if layout is entry.layouts[0] else f" --study {layout.studies[0]}"
            yield f"  then   twinsynth download {entry.name} --from FOLDER_OR_ZIP{option}"
            yield f"         into {layout.root} ({studies})"
    yield "Nothing was downloaded. Accept the terms on the page before you download."


def _lay_out(arguments: argparse.Namespace, entry: "PublishedSet", layout: "Layout") -> int:
    from pipeline.cli.download.catalogue import partners
    from pipeline.cli.download.laying_out import LaidOut, lay_out
    from pipeline.cli.download.matching import match
    from pipeline.cli.download.sources import list_files

    if layout.by_hand:
        raise UserError(f"{entry.name} is not laid out by this command; put {layout.by_hand} at {layout.root}")
    root, listing = arguments.to or Path(layout.root), list_files(arguments.source)
    result = lay_out(match(layout, listing.files), layout, root, arguments.accept_differences)
    if not isinstance(result, LaidOut):
        return _refuse(arguments.json, entry, result, listing.hint())
    missing = [other.name for other in partners(entry, layout) if not _is_there(other, layout.root, root)]
    if arguments.json:
        about = {"set": entry.name, "root": root, "pairs": result.pairs, "written": result.written}
        tell_json({**about, "differences": result.differences, "still_needed": missing})
        return 0
    tell("\n".join(_summary(root, result)))
    if missing:
        tell(f"the study {layout.studies[0]} needs these too: {', '.join(missing)}")
    else:
        tell(f"next: twinsynth study use {arguments.study or layout.studies[0]}, then twinsynth doctor")
    return 0


def _refuse(as_json: bool, entry: "PublishedSet", differences: tuple[str, ...], hint: str) -> int:
    """Name the differences. Raises UserError, or prints JSON and returns its status."""
    if as_json:
        tell_json({"set": entry.name, "root": None, "differences": differences})
        return 2
    for line in differences[:SHOWN]:
        tell(f"  {line}")
    if len(differences) > SHOWN:
        tell(f"  and {len(differences) - SHOWN} more; --json lists all")
    raise UserError(
        f"the source differs from {entry.name} as published in {_points(differences)}, and nothing was written;"
        f" {f'{hint}; ' if hint else ''}download it again, or lay out its complete and readable pairs with"
        " --accept-differences"
    )


def _points(differences: tuple[str, ...]) -> str:
    return "one point" if len(differences) == 1 else f"{len(differences)} points"


def _summary(root: Path, result: "LaidOut") -> Iterator[str]:
    counts = ", ".join(f"{count} {title}" for title, count in result.pairs.items())
    state = f"{result.written} files new" if result.written else "all was there already"
    yield f"{root}: {counts} ({state})"
    if result.differences:
        yield f"accepted although it differs in {_points(result.differences)}, the first: {result.differences[0]}"


def _is_there(other: "PublishedSet", shared_root: str, root: Path) -> bool:
    """Return whether the last split of a set, its test images, has a folder below the root."""
    (layout,) = [one for one in other.layouts if one.root == shared_root and one.shared]
    return (root / layout.splits[-1].images.to).parent.is_dir()
