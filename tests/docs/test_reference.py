"""The reference pages are those that docs/reference/write.py writes, and list every key of every shipped study."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.main import VERBS
from pipeline.core.section import read_yaml
from tests.conftest import REPOSITORY
from tests.patience import HUNG

REFERENCE = REPOSITORY / "docs" / "reference"
STUDIES = sorted((REPOSITORY / "configs" / "studies").glob("*.yaml"))
OF_PLUGINS = (
    ("mask_params", "masks"),
    ("conditioning_params", "conditioning"),
)  # keys of an entry: theirs, their plug-in


def listed() -> dict[str, set[str]]:
    """Return the keys in the first column of the tables of parameters, by the heading above."""
    keys: dict[str, set[str]] = {}
    heading = ""
    for line in (REFERENCE / "params.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif found := re.match(r"\| `([^`]+)` \|", line):
            keys.setdefault(heading, set()).add(found[1])
    return keys


LISTED = listed()


def unlisted(values: Mapping[str, Any], *headings: str, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys that stand under none of the headings; keys inside a listed one only where it has some."""
    known = set[str]().union(*(LISTED.get(heading, ()) for heading in headings))
    for key, value in values.items():
        path = f"{prefix}{key}"
        if path not in known:
            yield f"{headings[0]}.{path}"
        inner = [name for name in known if name.startswith(f"{path}.")]
        if inner and isinstance(value, Mapping):
            named = inner[0].startswith(f"{path}.NAME.")
            for one in value.values() if named else [value]:
                yield from unlisted(one, *headings, prefix=f"{path}.NAME." if named else f"{path}.")


def unlisted_of_entry(section: str, name: str, entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys of one entry that are not listed, those of its plug-ins included."""
    yield from unlisted(entry, section, entry.get("method", name))
    for key, choice in OF_PLUGINS:
        yield from unlisted(entry.get(key, {}), entry.get(choice, ""))
    if section == "segmenters":
        yield from unlisted(entry.get("segment", {}), "segment")


def missing(study: Mapping[str, Any]) -> list[str]:
    """Return every key of a study that the page does not list."""
    found = list[str]()
    for section, values in study.items():
        if not isinstance(values, Mapping):
            found += unlisted({section: values}, "The study") if section not in LISTED else []
        elif section in ("generators", "segmenters", "training_sets"):
            found += [key for name, entry in values.items() for key in unlisted_of_entry(section, name, entry)]
        else:
            found += unlisted(values, section, values.get("reader", ""))
    return found


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.stem)
def test_every_key_of_a_shipped_study_is_listed(study: Path) -> None:
    assert missing(read_yaml(study)) == []


def test_a_key_that_is_not_listed_is_found() -> None:
    study = {
        "data": {"reader": "phantom", "train": 3, "absent": 1},
        "base": {"autoencoder": {"channels": [16, 32], "absent": 1}},
        "generators": {
            "a": {"method": "siamese", "w_m": 1.0, "masks": "random", "mask_params": {"rotate": 3, "absent": 1}}
        },
        "segmenters": {"unet": {"segment": {"epochs": 3, "absent": 1}}},
    }
    assert missing(study) == ["data.absent", "base.autoencoder.absent", "random.absent", "segment.absent"]


def test_every_verb_is_listed() -> None:
    headings = re.findall(r"^## (\S+)$", (REFERENCE / "verbs.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert headings == list(VERBS)


def test_pages_are_written_again_byte_for_byte(tmp_path: Path) -> None:
    command = [sys.executable, str(REFERENCE / "write.py"), "--to", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, timeout=HUNG)
    names = ["params.md", "verbs.md", "api.md"]
    again = [name for name in names if (tmp_path / name).read_bytes() != (REFERENCE / name).read_bytes()]
    assert again == [], "run python docs/reference/write.py and commit what it writes"
