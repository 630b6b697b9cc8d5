"""The rating page, served or saved to a file."""

import base64
import json
from functools import cache
from typing import Any

from pipeline.web.page_files import FRAMES, Page, build_page

PACKAGE = "pipeline.web.rating"
DATA_FILES = ("page.css", "page.html", "page.js", "saved.js", "served.js")
META = '<meta http-equiv="Content-Security-Policy" content="{policy}">'


@cache
def served_page() -> Page:
    """Return the page of `twinsynth rate serve`; it holds no name and no image."""
    page = build_page(PACKAGE, ("served.js", "page.js"), "'self'")
    return Page(page.html, page.policy + FRAMES)


def saved_page(name: str, tasks: list[tuple[str, bytes]]) -> Page:
    """Return a page that needs no server: a rater's name, and id and PNG of the images in the rater's order."""
    images = [{"id": image, "png": base64.b64encode(png).decode()} for image, png in tasks]
    study = {"name": name, "images": images}
    data = f'<script type="application/json" id="study">{_embedded(study)}</script>'
    return build_page(PACKAGE, ("saved.js", "page.js"), "'none'", META, data)


def _embedded(value: Any) -> str:
    """Return JSON that cannot end the element in which it stands."""
    return json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
