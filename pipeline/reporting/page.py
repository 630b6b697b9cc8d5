"""The report of a study: one HTML page that needs nothing else, and beside it the files that `dvc` shows. No torch."""

import platform
from collections.abc import Iterator
from importlib.metadata import version
from io import StringIO
from pathlib import PurePath
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from ruamel.yaml import YAML

from pipeline import files, paths
from pipeline.comparison import collect_metrics
from pipeline.data.image_set import ImageSet
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.reporting import audit, figures, gallery, losses, maps, screening
from pipeline.reporting.figures import Point
from pipeline.tracking import write_metrics

Row = dict[str, Any]
VERSIONS = ("torch", "diffusers", "transformers")


def write_report(params: Params) -> None:
    """Writes metrics.json, multiplier_curve.csv, losses/ and, last, index.html below reports/."""
    write_metrics(paths.REPORT / "metrics.json", collect_metrics(params))
    curve = paths.comparison(params.study) / "multiplier_curve.csv"
    files.write_bytes(paths.REPORT / "multiplier_curve.csv", curve.read_bytes())
    losses.write_totals(paths.REPORT / "losses", [*losses.read_runs(params), *losses.read_arms(params)])
    files.write_bytes(paths.REPORT / "index.html", page(params).encode())


def page(params: Params) -> str:
    """The page as text; everything in it is escaped but the figures that we draw."""
    comparison = _json(paths.comparison(params.study) / "comparison.json")
    scores = _scores(params)
    environment = Environment(
        loader=PackageLoader("pipeline.reporting", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        params=params,
        title=params.report.title,
        verdict=comparison["verdict"],
        facts=_facts(params),
        confidence=f"{params.compare.confidence:.0%}",
        curves={name: Markup(svg) for name, svg in _curves(comparison)},
        arms=comparison["arms"],
        choice=comparison["choice"],
        trend=comparison["trend"],
        generator_seeds=comparison["generator_seeds"],
        needs=[arm for arm in comparison["arms"] if arm["role"] == "arm" and arm["detectable"] is not None],
        test_sets=sorted({name for arm in comparison["arms"] for name in arm["test_sets"]}),
        gallery=gallery.examples(params),
        judge_dice=_json(paths.judge(params.study) / "metrics.json")["dice"],
        scores={title: row for title, row in scores.items() if _told(row)},
        untold=_untold(scores),
        with_p=any(score["p_value"] is not None for row in scores.values() for score in row.values()),
        audits=audit.audits(params),
        screenings=screening.screenings(params),
        maps={name: Markup(svg) for name, svg in maps.feature_maps(params)},
        snapshots={name: Markup(svg) for name, svg in maps.snapshots(params)},
        losses={name: Markup(svg) for name, svg in _loss_figures(params)},
        versions=", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in VERSIONS)]),
        yaml=as_yaml(params),
    )


def as_yaml(params: Params) -> str:
    """All parameters, those left out of params.yaml included, as a params.yaml that gives the same study.

    Of an absolute path only the last part is shown (elsewhere/name): a report must not tell whose machine made it.
    """
    text = StringIO()
    writer = YAML()
    writer.default_flow_style = False
    writer.dump(_without_places(params.model_dump(mode="json")), text)
    return text.getvalue()


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_places(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_places(item) for item in value]
    return f"elsewhere/{PurePath(value).name}" if isinstance(value, str) and PurePath(value).is_absolute() else value


def _facts(params: Params) -> str:
    real = ImageSet.open(paths.real(params.study))
    counts = [f"{len(real.split(name))} {name}" for name in ("train", "val", "test")]
    return (
        f"Real pairs: {', '.join(counts)}; {real.spec.size} x {real.spec.size} pixels,"
        f" {real.spec.num_classes} classes with background, data read by “{params.data.reader}”."
    )


def _curves(comparison: Row) -> Iterator[tuple[str, str]]:
    for arm in comparison["arms"]:
        if arm["role"] != "reference":
            continue
        lines: dict[str, list[Point]] = {}
        for point in comparison["curve"]:
            if point["segmenter"] == arm["segmenter"]:
                place = Point(point["multiplier"], point["dice"], point["low"], point["high"])
                lines.setdefault(point["generator"], []).append(place)
        reference = Point(0, arm["dice"], arm["dice_low"], arm["dice_high"])
        yield arm["segmenter"], figures.multiplier_curve(arm["segmenter"], lines, reference)


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


def _loss_figures(params: Params) -> Iterator[tuple[str, str]]:
    for run in [*losses.read_runs(params), *losses.read_arms(params)]:
        yield run.name, figures.loss_curves(run.name, run.curves)


def _json(path: Any) -> Any:
    if not path.is_file():
        raise UserError(f"{path} does not exist; run the stage that makes it (dvc repro runs all that are missing)")
    return files.read_json(path)
