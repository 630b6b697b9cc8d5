"""Findings of the doctor: their severity, the check that made them, what was found, what to do."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One finding: an error stops a stage, a warning spoils or endangers a result, a note is good to know."""

    severity: Severity
    check: str  # its name, as docs/doctor.md lists it
    found: str
    advice: str


def error(check: str, found: str, advice: str) -> Finding:
    """Return a finding that stops a stage."""
    return Finding("error", check, found, advice)


def warning(check: str, found: str, advice: str) -> Finding:
    """Return a finding that stops nothing but should be mended."""
    return Finding("warning", check, found, advice)


def note(check: str, found: str, advice: str) -> Finding:
    """Return a finding that is good to know."""
    return Finding("note", check, found, advice)


def errors(check: str, text: str, advice: str) -> Iterator[Finding]:
    """Yield one error per line of a UserError; what follows a line's last semicolon is its advice, else `advice`."""
    for line in (line.strip() for line in text.splitlines() if line.strip()):
        found, semicolon, cure = line.rpartition("; ")
        yield error(check, found, cure) if semicolon else error(check, line, advice)


def shortened(names: list[str], limit: int = 5) -> str:
    """Join the first names of a list, and say how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def count(number: int, noun: str) -> str:
    """Return a number with its noun: 1 mask, 2 masks."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
