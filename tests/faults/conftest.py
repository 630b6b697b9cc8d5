"""Studies that faults are tried on: a whole small one, and one that has only begun."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.faults import launching
from tests.faults.launching import CHEAP, STAGES, done, published, small_params


@dataclass
class Clean:
    """A study that ran without interruption, and how long each stage took."""

    folder: Path
    hashes: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    operations: dict[str, int] = field(default_factory=dict)

    def run(self, name: str) -> None:
        began = time.monotonic()
        self.operations[name] = len(done(self.folder, name).operations)
        self.seconds[name] = time.monotonic() - began

    def close(self) -> None:
        """Keeps what is published only: every run makes its work anew."""
        self.hashes = published(self.folder)

    def of(self, name: str) -> dict[str, str]:
        """The hashes of one stage's outputs."""
        return of_stage(self.hashes, name)


def of_stage(hashes: dict[str, str], name: str) -> dict[str, str]:
    """Those of these files that a stage publishes."""
    tops = [launching.place(output) for output in STAGES[name].outputs]
    return {path: one for path, one in hashes.items() if any(path == top or path.startswith(f"{top}/") for top in tops)}


def begin(folder: Path) -> Clean:
    folder.mkdir()
    YAML(typ="safe").dump(small_params(), folder / "params.yaml")
    return Clean(folder)


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Clean:
    """The real images, and the training set that needs nothing else: what takes no time."""
    clean = begin(tmp_path_factory.mktemp("faults") / "begun")
    for name in CHEAP:
        clean.run(name)
    clean.close()
    return clean


@pytest.fixture(scope="session")
def whole_study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clean]:
    """All stages, one after the other."""
    clean = begin(tmp_path_factory.mktemp("faults") / "whole")
    for name in STAGES:
        clean.run(name)
    clean.close()
    assert not launching.leftovers(clean.folder)
    yield clean
    assert published(clean.folder) == clean.hashes, "a stage wrote into files that were published already"
