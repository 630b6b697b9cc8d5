"""What the tests of verbs share."""

from pathlib import Path

import pytest

from pipeline.cli import kept_counts


@pytest.fixture(autouse=True)
def own_counts(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of kept counts, so that none comes from another test."""
    folder = tmp_path_factory.mktemp("counts")
    monkeypatch.setattr(kept_counts, "FOLDER", folder)
    return folder
