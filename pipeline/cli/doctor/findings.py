"""What the doctor finds: how bad it is, which check found it, what was found, what to do."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """An error stops a stage, a warning spoils or endangers a result, a note is good to know."""

    severity: Severity
    check: str  # its name, as docs/doctor.md lists it
    found: str
    advice: str


def error(check: str, found: str, advice: str) -> Finding:
    """Something that stops a stage."""
    return Finding("error", check, found, advice)


def warning(check: str, found: str, advice: str) -> Finding:
    """Something that runs and is better mended."""
    return Finding("warning", check, found, advice)


def note(check: str, found: str, advice: str) -> Finding:
    """Something good to know."""
    return Finding("note", check, found, advice)


def errors(check: str, text: str, advice: str) -> Iterator[Finding]:
    """One error per line of a UserError; what follows a line's last semicolon is its advice, else `advice`."""
    for line in (line.strip() for line in text.splitlines() if line.strip()):
        found, cut, cure = line.rpartition("; ")
        yield error(check, found, cure) if cut else error(check, line, advice)


def shortened(names: list[str], limit: int = 5) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def count(number: int, noun: str) -> str:
    """1 mask, 2 masks."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
