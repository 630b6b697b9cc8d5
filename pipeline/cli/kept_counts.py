"""Counts that take seconds (networks are built for them), kept by what was counted, so that each is made once.

Those of the studies that `twinsynth init` writes come along in counts.json (benchmarks/shipped_counts.py writes it, a
test compares it with the code); others are kept in work/counts, also by the code and the libraries that counted.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import pipeline
from pipeline.core import files, paths
from pipeline.core.errors import UserError

DATA_FILES = ("counts.json",)
SHIPPED = Path(__file__).with_name(DATA_FILES[0])
FOLDER = paths.WORK / "counts"
LIBRARIES = ("torch", "diffusers", "transformers", "timm", "segmentation-models-pytorch")  # their networks are counted
V = TypeVar("V")


def kept(what: str, configuration: Any, count: Callable[[], V]) -> V:
    """Return the count of `what` (a JSON value) in a configuration (JSON-like values, models); count it if need be."""
    key = f"{what}-{files.fingerprint(configuration)}"
    if key in (known := shipped()):
        return known[key]
    place = FOLDER / f"{key}-{_counter()}.json"
    if place.is_file():
        with suppress(UserError):  # a damaged file is counted anew
            return files.read_json(place)
    value = count()
    with suppress(OSError):  # where nothing can be written, it takes its seconds again
        files.write_json(place, value)
    return value


@cache
def shipped() -> dict[str, Any]:
    """Return the counts that come along, by `<what>-<fingerprint>`."""
    return files.read_json(SHIPPED) if SHIPPED.is_file() else {}


@cache
def _counter() -> str:
    """Return the fingerprint of all code that may count, and of the libraries."""
    root = Path(pipeline.__path__[0])
    code = {path.relative_to(root).as_posix(): files.sha256(path) for path in root.rglob("*.py")}
    return files.fingerprint(code, {name: _version(name) for name in LIBRARIES})


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return ""
