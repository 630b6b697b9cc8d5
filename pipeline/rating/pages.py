"""The page, served or saved to a file: plain HTML, one style, one script, a policy that allows nothing else."""

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

DATA_FILES = ("page.css", "page.html", "page.js", "saved.js", "served.js")
POLICY = (
    "default-src 'none'; script-src {script}; style-src {style}; img-src blob: data:; connect-src {connect}; "
    "base-uri 'none'; form-action 'none'"
)
FRAMES = "; frame-ancestors 'none'"  # has no meaning in a file


@dataclass(frozen=True)
class Page:
    """HTML and the content security policy that it needs."""

    html: str
    policy: str


@cache
def served_page() -> Page:
    """Return the page of `twinsynth rate serve`; it holds no name and no image."""
    page = _page("served.js", "'self'", "", "")
    return Page(page.html, page.policy + FRAMES)


def saved_page(name: str, tasks: list[tuple[str, bytes]]) -> Page:
    """Return a page that needs no server: a rater's name, and id and PNG of the images in the rater's order."""
    images = [{"id": image, "png": base64.b64encode(png).decode()} for image, png in tasks]
    study = {"name": name, "images": images}
    data = f'<script type="application/json" id="study">{_embedded(study)}</script>'
    return _page("saved.js", "'none'", '<meta http-equiv="Content-Security-Policy" content="{policy}">', data)


def _page(store: str, connect: str, meta: str, data: str) -> Page:
    style, script = _text("page.css"), f"{_text(store)}\n{_text('page.js')}"
    policy = POLICY.format(script=_hash(script), style=_hash(style), connect=connect)
    parts = {"policy": meta.format(policy=policy), "style": style, "data": data, "script": script}
    html = _text("page.html")
    for name, part in parts.items():
        html = html.replace(f"<!--{name}-->", part, 1)
    return Page(html, policy)


def _text(name: str) -> str:
    return files("pipeline.rating").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embedded(value: Any) -> str:
    """Return JSON that cannot end the element in which it stands."""
    return json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
