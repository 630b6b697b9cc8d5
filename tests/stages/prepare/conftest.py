"""What the tests of the stage prepare share."""

from pathlib import Path

import pytest


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; the data set is its sibling."""
    current = tmp_path / "project"
    current.mkdir()
    monkeypatch.chdir(current)
    return current
