"""Pages made of one HTML file, one style and one script, under a policy that allows nothing else."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

DATA_FILES = ("base.css",)  # colours, buttons and frames of all pages
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


def build_page(package: str, scripts: Sequence[str], connect: str, meta: str = "", data: str = "") -> Page:
    """Build the page of a package from its page.html, page.css and scripts, and from the style of all pages.

    `connect` is the policy's source of requests, `meta` an element with "{policy}" for pages without a server, and
    `data` the element that holds a page's data.
    """
    style = f"{_text('pipeline.web', *DATA_FILES)}\n{_text(package, 'page.css')}"
    script = "\n".join(_text(package, name) for name in scripts)
    policy = POLICY.format(script=_hash(script), style=_hash(style), connect=connect)
    html = _text(package, "page.html")
    parts = {"policy": meta.format(policy=policy), "style": style, "data": data, "script": script}
    for name, part in parts.items():
        html = html.replace(f"<!--{name}-->", part, 1)
    return Page(html, policy)


def _text(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
