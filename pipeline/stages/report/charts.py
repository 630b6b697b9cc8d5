"""All drawings of a study by the section of the page in which they stand, and their files."""

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.core import files
from pipeline.core.progress import track
from pipeline.data.image_set import png
from pipeline.stages.report import (
    between,
    convergence,
    figures,
    gallery,
    history,
    looking,
    losses,
    maps,
    raters,
    screening,
)
from pipeline.stages.report.drawing import Drawing
from pipeline.stages.report.figures import Difference, Point
from pipeline.study import Params

Row = dict[str, Any]
Charts = Mapping[str, list[Drawing]]


def charts(params: Params, comparison: Row) -> Charts:
    """Drawings by section, each section in the order of params.yaml."""
    runs = [*losses.read_runs(params), *losses.read_arms(params)]
    return {
        "curve": list(_curves(comparison)),
        "differences": list(_differences(params, comparison)),
        "segmenters": list(between.drawings(params, comparison)),
        "sampling": list(raters.steps(params)),
        "convergence": list(convergence.drawings(params)),
        "weights": list(looking.weight_drawings(params)),
        "screening": list(_screened(params)),
        "maps": list(maps.feature_maps(params)),
        "snapshots": list(maps.snapshots(params)),
        "losses": [*(figures.loss_curves(run.name, run.curves) for run in runs), *history.validations(params)],
    }


def write_figures(folder: Path, params: Params, drawn: Charts) -> None:
    """Every drawing as SVG and PNG, and a sheet of samples per generator; what else lay in `folder` is removed."""
    made = {f"samples_{name}.png": png(gallery.sheet(params, name)) for name in params.generators}
    for name in params.segmenters:
        if (sheet := raters.sheet(params, name)) is not None:
            made[f"raters_{name}.png"] = png(sheet)
    made |= {f"{name}.png": png(sheet) for name, sheet in looking.sheets(params).items()}
    for drawing in track(list(chain(*drawn.values())), "report: figures"):
        made |= {f"{slug(drawing.name)}.svg": drawing.svg(), f"{slug(drawing.name)}.png": drawing.png()}
    for name, content in made.items():
        files.write_bytes(folder / name, content)
    for path in folder.iterdir():
        if path.name not in made:
            path.unlink()


def slug(name: str) -> str:
    """A name as a file's name."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")


def _curves(comparison: Row) -> Iterator[Drawing]:
    drawn = {point["segmenter"] for point in comparison["curve"]}
    for arm in comparison["arms"]:
        if arm["role"] != "reference" or arm["segmenter"] not in drawn:
            continue
        lines: dict[str, list[Point]] = {}
        for point in comparison["curve"]:
            if point["segmenter"] == arm["segmenter"]:
                place = Point(point["multiplier"], point["dice"], point["low"], point["high"])
                lines.setdefault(point["generator"], []).append(place)
        reference = Point(0, arm["dice"], arm["dice_low"], arm["dice_high"])
        yield figures.multiplier_curve(arm["segmenter"], lines, reference)


def _differences(params: Params, comparison: Row) -> Iterator[Drawing]:
    for segmenter in params.segmenters:
        rows = [
            Difference(
                arm["training_set"], arm["difference"], arm["difference_low"], arm["difference_high"], arm["verdict"]
            )
            for arm in comparison["arms"]
            if arm["segmenter"] == segmenter and arm["role"] != "reference" and arm["difference_low"] is not None
        ]
        if rows:
            yield figures.differences(segmenter, rows, params.compare.reference, params.compare.margin)


def _screened(params: Params) -> Iterator[Drawing]:
    found = screening.screenings(params)
    if found:
        kept = {one.training_set: (one.record["kept"], one.record["images"] - one.record["kept"]) for one in found}
        yield figures.kept_and_dropped(kept)
