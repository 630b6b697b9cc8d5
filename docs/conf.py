"""Settings of the site: make docs builds it with Sphinx, MyST-Parser and pydata-sphinx-theme, without a network."""

import re
import tomllib
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
OUTSIDE = {"benchmarks/results.md": "site/benchmarks.md"}  # pages outside this folder: the page that includes them

project = "twinsynth"
author = "the twinsynth developers"
release = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "notebooks"]
myst_heading_anchors = 4  # links name headings as code hosts do
suppress_warnings = ["misc.highlighting_failure"]  # blocks of YAML or JSON with an ellipsis

html_theme = "pydata_sphinx_theme"
html_title = "twinsynth"
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 8,
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
}
copyright = "the twinsynth developers, Apache-2.0"


def point_inside(app: Any, name: str, source: list[str]) -> None:
    """Let links to pages outside this folder lead to the pages that include them."""
    for path, page in OUTSIDE.items():
        up = "../" * (name.count("/") + 1)
        source[0] = re.sub(rf"\]\({re.escape(up + path)}", f"]({'../' * name.count('/')}{page}", source[0])


def setup(app: Any) -> None:
    """Connect what Sphinx calls for every page."""
    app.connect("source-read", point_inside)
