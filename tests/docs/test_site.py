"""The site: every page has one place in its tree, and Sphinx builds it without a warning where it is installed."""

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.pages import blocks
from tests.patience import HUNG_LONG

DOCS = REPOSITORY / "docs"
HOME = DOCS / "index.md"
NEEDED = ("sphinx", "myst_parser", "pydata_sphinx_theme")


def entries(page: Path) -> list[Path]:
    """Return the pages that a page's tables of contents name."""
    lines = [line for block in blocks(page) if block.language == "{toctree}" for line in block.text.splitlines()]
    return [(page.parent / f"{line}.md").resolve() for line in lines if line and not line.startswith(":")]


def test_every_page_has_one_place_in_the_tree() -> None:
    pages = [page for page in DOCS.rglob("*.md") if "_build" not in page.parts]
    places = Counter(entry for page in pages for entry in entries(page))
    assert {page.relative_to(DOCS).as_posix(): places[page] for page in pages if places[page] != (page != HOME)} == {}
    assert [place for place in places if not place.exists()] == []


@pytest.mark.skipif(not all(map(importlib.util.find_spec, NEEDED)), reason="needs the extra docs: make docs")
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", str(DOCS), str(tmp_path)]
    ended = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=HUNG_LONG,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    foreign = [page.name for page in tmp_path.rglob("*.html") if 'src="http' in page.read_text(encoding="utf-8")]
    assert foreign == [], "pages must open without a network"
