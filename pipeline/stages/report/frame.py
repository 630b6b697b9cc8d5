"""What the pages of reports share: templates, style, script, and the policy that lets only these run."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

DATA_FILES = (
    "macros.html.j2",
    "page.css",
    "page.js",
)  # read by stages/records, so that an edit of them re-runs the report


REPORT = "pipeline.stages.report"


def render(template: str, package: str = REPORT, **values: Any) -> str:
    """Return a page from a template of a package, by default this one; it escapes everything but Markup.

    Templates of other packages can use macros.html.j2 of this one.
    """
    loader = ChoiceLoader([PackageLoader(name, ".") for name in dict.fromkeys((package, REPORT))])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    frame = {"script": _text("page.js"), "style": _text("page.css"), "policy": policy()}
    return environment.get_template(template).render(frame, **values)


@cache
def policy() -> str:
    """Return the content security policy: our script and style by their hashes, pictures of the page, nothing else."""
    script, style = (_hash(_text(name)) for name in ("page.js", "page.css"))
    return (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )


@cache
def _text(name: str) -> Markup:
    return Markup((Path(__file__).parent / name).read_text(encoding="utf-8").strip())


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
