"""The list of all reports with their verdicts, reports/index.html. It belongs to no study, so DVC does not keep it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.stages.report.frame import render

DATA_FILES = ("index.html.j2",)
NUMBERS = "numbers.json"  # of a report: all that is in the tables of DVC and more, with title and verdict


@dataclass(frozen=True)
class ListedReport:
    """A line of the list."""

    study: str
    title: str
    verdict: str


def write_index() -> Path:
    """Write the list of the reports that are here and return its place."""
    place = paths.REPORTS / "index.html"
    files.write_bytes(place, render("index.html.j2", reports=list(listed_reports())).encode())
    return place


def listed_reports() -> Iterator[ListedReport]:
    """Yield the reports by their study's name; a damaged one is listed without its verdict."""
    for page in sorted(paths.REPORTS.glob("*/index.html")):
        try:
            numbers = files.read_json(page.parent / NUMBERS)
            yield ListedReport(page.parent.name, str(numbers["title"]), str(numbers["verdict"]))
        except (UserError, OSError, KeyError, TypeError):
            yield ListedReport(page.parent.name, "", "its numbers cannot be read; twinsynth report --again writes them")
