"""The claims of papers: cells of their tables in configs/papers. A cell that is only recalled does not count as one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from pipeline.core import tables
from pipeline.core.errors import UserError

FOLDER = Path("configs/papers")  # dvc.yaml names it: an edit of a cell re-runs the report
STUDIES = "studies.csv"
SHOWN = ("read", "corroborated")  # how a number is known that may be shown as what the paper claims
KNOWN = (*SHOWN, "recalled")
RELATIVE = "%"  # unit of a difference in percent of what it is a difference from
FACTORS = {"": 1.0, "mm": 1.0, "points": 100.0, RELATIVE: 100.0}  # from our scores to a paper's unit


@dataclass(frozen=True)
class StudyOfPaper:
    """A line of studies.csv: a study of configs/studies, and the file with the cells of its paper."""

    study: str
    file: str
    paper: str  # for people
    differences: str  # between the protocols of paper and study, in one sentence


@dataclass(frozen=True)
class Cell:
    """A cell of a paper's table, or a number of its text, and what it corresponds to in a study.

    The first five are ours: entries of a study and a column of its protocol.csv, empty where it has no counterpart.
    """

    study: str
    segmenter: str
    training_set: str
    against: str  # a training set or a segmenter; the number is then a difference
    score: str
    method: str  # this and all further ones as the paper has it
    metric: str
    value: str
    spread: str  # what the paper prints behind +-
    unit: str
    known: str
    place: str

    @property
    def is_claim(self) -> bool:
        """Whether the number is known well enough to be shown, and the study has something to show beside it."""
        return self.known in SHOWN and bool(self.segmenter and self.training_set and self.score)

    @property
    def decimals(self) -> int:
        """The number of decimals that the paper prints."""
        return len(self.value.partition(".")[2])


@dataclass(frozen=True)
class PaperClaims:
    """What one paper claims about one study."""

    paper: str
    differences: str
    cells: list[Cell]


R = TypeVar("R", StudyOfPaper, Cell)


def read_claims(study: str, folder: Path = FOLDER) -> list[PaperClaims]:
    """Return what papers claim about a study; nothing where studies.csv does not name it, or is not there.

    Raises UserError naming the file and the line of a cell that is not as it should be.
    """
    if not (folder / STUDIES).is_file():
        return []
    claims = []
    for one in read_studies(folder):
        if one.study == study:
            cells = [cell for cell in read_cells(folder / one.file) if cell.study == study and cell.is_claim]
            claims.append(PaperClaims(one.paper, one.differences, cells))
    return [one for one in claims if one.cells]


def read_studies(folder: Path = FOLDER) -> list[StudyOfPaper]:
    """Return the lines of studies.csv. Raises UserError."""
    return [row for _, row in _rows(folder / STUDIES, StudyOfPaper)]


def read_cells(path: Path) -> list[Cell]:
    """Return all cells of a file of configs/papers, the recalled ones included. Raises UserError."""
    if not path.is_file():
        raise UserError(f"{path.parent / STUDIES} names {path.name}, which does not exist; correct the name there")
    rows = _rows(path, Cell)
    for line, cell in rows:
        _check(f"{path}, line {line}", cell)
    return [cell for _, cell in rows]


def _rows(path: Path, kind: type[R]) -> list[tuple[int, R]]:
    """Return the rows of a file with the numbers of their lines, where every cell is on one line."""
    names, rows = [field.name for field in fields(kind)], tables.read_table(path)
    for line, row in enumerate(rows, 2):
        if list(row) != names or None in row.values():
            found = sum(cell is not None for cell in row.values())
            raise UserError(f"{path}, line {line}: found {found} cells under other columns than {', '.join(names)}")
    return [(line, _made(kind, row)) for line, row in enumerate(rows, 2)]


def _made(kind: type[R], row: Mapping[str, Any]) -> R:
    return kind(**row)


def _check(where: str, cell: Cell) -> None:
    """Raise UserError for a word or a number that cannot be."""
    _check_word(where, "known", cell.known, KNOWN)
    _check_word(where, "unit", cell.unit, tuple(FACTORS))
    for name, text in (("value", cell.value), ("spread", cell.spread)):
        if not _is_number(text) and (name == "value" or text):
            raise UserError(f"{where}: {name} is {text!r}; write a number as the paper prints it, for example 0.815")
    if cell.unit == RELATIVE and not cell.against:
        raise UserError(f"{where}: unit is '%', but against is empty; name what the difference is relative to")


def _check_word(where: str, name: str, word: str, choices: Sequence[str]) -> None:
    if word not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise UserError(f"{where}: {name} is {word!r}; use one of {listed}")


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).removeprefix("-").isdecimal()
