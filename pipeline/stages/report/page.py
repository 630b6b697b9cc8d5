"""The report of a study: one HTML page that needs nothing else, figures, the files that `dvc` shows. No torch."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.core.tables import write_metrics
from pipeline.stages.compare.comparison import collect_metrics, read_comparison
from pipeline.stages.report import losses
from pipeline.stages.report.charts import Charts, charts, sheets, write_figures
from pipeline.stages.report.content import page_content, page_pictures
from pipeline.stages.report.stage_outputs import stage_outputs
from pipeline.study import Params

DATA_FILES = (
    "page.css",
    "page.html.j2",
    "page.js",
)  # read by stages/records, so that an edit of them re-runs the report
SIDES = (256, 192, 128, 96)  # pixels of a picture: the largest that lets the page be smaller than LARGEST
LARGEST = 15 * 1000**2  # bytes


def write_report(params: Params) -> None:
    """Write metrics.json, multiplier_curve.csv, losses/, figures/ and, last, index.html below reports/."""
    study, generators = params.study, list(params.generators)
    for folder in (paths.REPORT, paths.REPORT / "losses"):
        files.sweep(folder)
    for _, output in stage_outputs(params):
        files.check(output)
    metrics = collect_metrics(study, generators, has_judge=params.judge is not None)
    write_metrics(paths.REPORT / "metrics.json", metrics)
    curve = paths.comparison(study) / "multiplier_curve.csv"
    files.write_bytes(paths.REPORT / "multiplier_curve.csv", curve.read_bytes())
    runs = [*losses.read_runs(study, generators), *losses.read_arms(study, params.segmenters)]
    losses.write_totals(paths.REPORT / "losses", runs)
    drawn = charts(params, read_comparison(study))
    write_figures(paths.REPORT / "figures", drawn, sheets(params))
    files.write_bytes(paths.REPORT / "index.html", page(params, drawn).encode())


def page(params: Params, drawn: Charts | None = None) -> str:
    """Return the page as text, its pictures as large as its size allows.

    Raises UserError where no size of pictures is small enough.
    """
    content = page_content(params, drawn or charts(params, read_comparison(params.study)))
    frame = {"script": _text("page.js"), "style": _text("page.css"), "policy": policy()}
    size = 0
    for side in SIDES:
        pictures = page_pictures(params, side)
        text = _template().render(frame, content=content, pictures=pictures)
        size = len(text.encode())
        if size < LARGEST:
            return text
    raise UserError(
        f"the report would have {size / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f}; show fewer pictures:"
        f" report.samples is {params.report.samples}, audit.pictures is {params.audit.pictures}"
    )


def _template() -> Any:
    loader = PackageLoader("pipeline.stages.report", ".")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template("page.html.j2")


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
