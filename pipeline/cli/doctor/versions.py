"""Checks of Python and packages against the lock file."""

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.markers import Marker

from pipeline.cli.doctor.findings import Finding, error, note, shortened, warning

LOCK = Path("requirements.lock")
OLDEST, NEWEST = (3, 11), (3, 13)
# These change results or break stages; of the others only missing ones are reported.
DECISIVE = (
    "torch",
    "torchvision",
    "numpy",
    "diffusers",
    "transformers",
    "accelerate",
    "timm",
    "scipy",
    "pillow",
    "dvc",
)
CURE = "make setup, or pip install --require-hashes -r requirements.lock"
PIN = re.compile(r"([A-Za-z0-9][\w.-]*)==([^\s;\\]+)(?:\s*;\s*([^\\]+))?")


def findings(lock: Path = LOCK) -> Iterator[Finding]:
    """Check Python, and find missing packages and packages of other versions than the lock's."""
    yield from python(sys.version_info[:2])
    if not lock.is_file():
        yield note("packages", f"there is no {lock} here", "run in the project's folder to have versions compared")
        return
    yield from packages(pins(lock.read_text(encoding="utf-8")), installed())


def python(version: tuple[int, int]) -> Iterator[Finding]:
    """Check the interpreter's version."""
    if not OLDEST <= version <= NEWEST:
        number = ".".join(map(str, version))
        yield error(
            "python", f"this is Python {number}", "make an environment with Python 3.11, 3.12 or 3.13: make setup"
        )


def pins(text: str) -> dict[str, str]:
    """Return the versions by package that the lock asks for on this machine."""
    versions = {}
    for line in text.splitlines():
        match = PIN.match(line)
        if match and (match[3] is None or Marker(match[3].strip()).evaluate()):
            versions[_canonical(match[1])] = match[2]
    return versions


def installed() -> dict[str, str]:
    """Return the versions by package of this environment."""
    return {_canonical(package.metadata["Name"]): package.version for package in metadata.distributions()}


def packages(locked: dict[str, str], present: dict[str, str]) -> Iterator[Finding]:
    """Compare versions, ignoring the build of a package (torch 2.10.0+cu128)."""
    decisive = {name: version for name, version in locked.items() if name in DECISIVE}
    missing = [name for name in decisive if name not in present]
    if missing:
        yield error("packages", f"not installed: {', '.join(missing)}", CURE)
    other = [
        f"{name} {present[name]} (locked: {version})"
        for name, version in decisive.items()
        if name in present and present[name].partition("+")[0] != version.partition("+")[0]
    ]
    if other:
        yield warning("packages", f"other versions than locked: {', '.join(other)}", f"{CURE}; results may differ")
    rest = [name for name in locked if name not in DECISIVE and name not in present]
    if rest:
        yield note("packages", f"locked but not installed: {shortened(rest)}", "fine where only tests need them")


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
