"""Declaration and output of verbs: help with examples, text for people, JSON for machines."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError

Formatter = argparse.RawDescriptionHelpFormatter


def declare(verbs: Any, name: str, about: str, *examples: str) -> argparse.ArgumentParser:
    """Add a parser below `verbs` whose help says what it does in one line and ends with examples."""
    epilog = f"example: {examples[0]}" if len(examples) == 1 else "\n  ".join(["examples:", *examples])
    return verbs.add_parser(
        name, help=about, description=about, epilog=epilog, formatter_class=Formatter, allow_abbrev=False
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the flag --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON value, for machines")


def positive(text: str) -> int:
    """Return the whole number above zero that an option gives. Raises ValueError, which argparse reports."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def tell(text: str) -> None:
    """Print one or more lines."""
    sys.stdout.write(f"{text}\n")


def tell_json(value: Any) -> None:
    """Print one JSON value."""
    tell(json.dumps(value, indent=2, default=_as_json))


def confirm(question: str) -> bool:
    """Return whether the user agrees on a terminal. Raises UserError where there is no terminal."""
    if not sys.stdin.isatty():
        raise UserError(f"{question} There is no terminal to ask on; pass --yes to continue")
    sys.stdout.write(f"{question} [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _as_json(value: Any) -> Any:
    if isinstance(value, Path):
        return value.as_posix()
    raise TypeError(f"{type(value).__name__} has no form in JSON")
