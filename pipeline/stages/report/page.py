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
from pipeline.data.image_set import ImageSet
from pipeline.segmentation.params import entry_settings
from pipeline.stages.compare.comparison import collect_metrics
from pipeline.stages.report import (
    audit,
    between,
    completeness,
    further,
    gallery,
    history,
    identity,
    looking,
    losses,
    raters,
    screening,
)
from pipeline.stages.report.charts import Charts, charts, write_figures
from pipeline.stages.report.identity import as_yaml
from pipeline.study import Params

__all__ = ["as_yaml", "page", "write_report"]
Row = dict[str, Any]
SIDES = (256, 192, 128, 96)  # pixels of a picture: the largest that lets the page be smaller than LARGEST
LARGEST = 15 * 1000**2  # bytes


def write_report(params: Params) -> None:
    """Writes metrics.json, multiplier_curve.csv, losses/, figures/ and, last, index.html below reports/."""
    for folder in (paths.REPORT, paths.REPORT / "losses"):
        files.sweep(folder)
    for _, place in completeness.places(params):
        files.check(place)
    write_metrics(
        paths.REPORT / "metrics.json",
        collect_metrics(params.study, list(params.generators), has_judge=params.judge is not None),
    )
    curve = paths.comparison(params.study) / "multiplier_curve.csv"
    files.write_bytes(paths.REPORT / "multiplier_curve.csv", curve.read_bytes())
    losses.write_totals(paths.REPORT / "losses", [*losses.read_runs(params), *losses.read_arms(params)])
    drawn = charts(params, read_comparison(params))
    write_figures(paths.REPORT / "figures", params, drawn)
    files.write_bytes(paths.REPORT / "index.html", page(params, drawn).encode())


def page(params: Params, drawn: Charts | None = None) -> str:
    """The page as text, its pictures as large as its size allows. Raises UserError where none are small enough."""
    about = _about(params, drawn or charts(params, read_comparison(params)))
    size = 0
    for side in SIDES:
        text = _template().render(about | _pictures(params, side))
        size = len(text.encode())
        if size < LARGEST:
            return text
    raise UserError(
        f"the report would have {size / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f}; show fewer pictures:"
        f" report.samples is {params.report.samples}, audit.pictures is {params.audit.pictures}"
    )


def read_comparison(params: Params) -> Row:
    """comparison.json. Raises UserError where the stage compare has not run."""
    return _json(paths.comparison(params.study) / "comparison.json")


def _template() -> Any:
    loader = PackageLoader("pipeline.stages.report", ".")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template("page.html.j2")


def _pictures(params: Params, side: int) -> Row:
    return {
        "gallery": gallery.examples(params, side),
        "extremes": gallery.extremes(params, side),
        "audits": audit.audits(params, side),
        "raters": raters.galleries(params, side),
        "heatmaps": looking.heatmaps(params, side),
        "weights": looking.weights(params, side),
    }


def _about(params: Params, drawn: Charts) -> Row:
    """All that the template shows but pictures; everything is escaped but the figures that we draw."""
    comparison, scores = read_comparison(params), _scores(params)
    return {
        "params": params,
        "title": params.report.title,
        "script": _own("page.js"),
        "style": _own("page.css"),
        "policy": policy(),
        "verdict": comparison["verdict"],
        "verdicts": comparison.get("verdicts", {}),
        "facts": _facts(params),
        "lengths": _lengths(params),
        "confidence": f"{params.compare.confidence:.0%}",
        "charts": {section: [(one.caption, Markup(one.inline())) for one in drawn[section]] for section in drawn},
        "curve": comparison["curve"],
        "arms": comparison["arms"],
        "choice": comparison["choice"],
        "trend": comparison["trend"],
        "generator_seeds": comparison["generator_seeds"],
        "needs": [arm for arm in comparison["arms"] if arm["role"] == "arm" and arm["detectable"] is not None],
        "test_sets": sorted({name for arm in comparison["arms"] for name in arm["test_sets"]}),
        "segmenters": between.by_metric(params, comparison),
        "segmenters_verdict": comparison.get("segmenters_verdict"),
        "further": further.tables(params),
        "judge_dice": _json(paths.judge(params.study) / "metrics.json").get("dice"),
        "scores": {title: row for title, row in scores.items() if _told(row)},
        "untold": _untold(scores),
        "with_p": any(score["p_value"] is not None for row in scores.values() for score in row.values()),
        "screenings": screening.screenings(params),
        "strips": history.strips(params),
        "endings": losses.endings([*losses.read_runs(params), *losses.read_arms(params)]),
        "hashes": identity.hashes(params),
        "versions": identity.versions(),
        "yaml": as_yaml(params),
    }


@cache
def policy() -> str:
    """The content security policy: our own script and style by their hashes, pictures that the page holds, no more."""
    script, style = (_hash(_own(name)) for name in ("page.js", "page.css"))
    return (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )


@cache
def _own(name: str) -> Markup:
    return Markup((Path(__file__).parent / name).read_text(encoding="utf-8").strip())


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _facts(params: Params) -> str:
    real = ImageSet.open(paths.real(params.study))
    counts = [f"{len(real.split(name))} {name}" for name in ("train", "val", "test")]
    extent = " x ".join(map(str, real.spec.spatial))
    if real.spec.spacing is not None:
        size = f"{extent} voxels of {' x '.join(f'{side:g}' for side in real.spec.spacing)} mm"
    else:
        size = f"{extent} pixels"
    return (
        f"Real pairs: {', '.join(counts)}; {size},"
        f" {real.spec.num_classes} classes with background, data read by “{params.data.reader}”."
    )


def _lengths(params: Params) -> str:
    """How long segmenters train, in words."""
    alike: dict[str, list[str]] = {}
    for name in params.segmenters:
        chosen = entry_settings(params.segment, name, params.segmenters[name])
        epochs = f"{chosen.epochs} epochs of its training set, so more steps on more images"
        alike.setdefault(f"{chosen.max_steps} optimiser steps" if chosen.max_steps else epochs, []).append(name)
    if len(alike) == 1:
        return next(iter(alike))
    return "; ".join(f"{length} ({', '.join(names)})" for length, names in alike.items())


def _scores(params: Params) -> dict[str, dict[str, Row]]:
    """Records of scores.json by title and generator; all generators are scored alike."""
    table: dict[str, dict[str, Row]] = {}
    for generator in params.generators:
        for record in _json(paths.scores(params.study, generator) / "scores.json"):
            title = record["name"].replace(".", ", ").replace("_", " ")
            title += f" (against {record['variant'].replace('_', ' ')})" if record["variant"] else ""
            table.setdefault(title, {})[generator] = {**record, "digits": _digits(record["value"], record["floor"])}
    return table


def _told(row: dict[str, Row]) -> bool:
    return any(score["value"] is not None for score in row.values())


def _untold(scores: dict[str, dict[str, Row]]) -> dict[str, list[str]]:
    """Titles of scores that no generator has, by the reason."""
    found: dict[str, list[str]] = {}
    for title, row in scores.items():
        if not _told(row):
            found.setdefault(next(iter(row.values()))["reason"], []).append(title)
    return found


def _digits(*values: float | None) -> int:
    return 1 if max(abs(value or 0.0) for value in values) >= 10 else 3


def _json(path: Any) -> Any:
    if not path.is_file():
        raise UserError(f"{path} does not exist; run the stage that makes it (dvc repro runs all that are missing)")
    return files.read_json(path)
