"""All drawings of a study by the section of the page in which they stand, and their files."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core import files
from pipeline.core.progress import track
from pipeline.data.image_set import png
from pipeline.stages.compare.params import Compare, common_training_set
from pipeline.stages.mix.params import TrainingSet
from pipeline.stages.report import (
    attention_maps,
    boundary_weights,
    convergence,
    exchange,
    figures,
    frontier,
    frontier_figure,
    gallery,
    losses,
    rater_samples,
    score_figures,
    screening,
    segmenter_comparison,
    training_history,
)
from pipeline.stages.report.drawing import Drawing
from pipeline.stages.report.figures import Difference, Point
from pipeline.study import Params

Record = dict[str, Any]
Charts = Mapping[str, list[Drawing]]


def charts(params: Params, comparison: Record) -> Charts:
    """Return the drawings by section, each section in the order of params.yaml."""
    study, generators, segmenters = params.study, list(params.generators), list(params.segmenters)
    runs = [*losses.read_runs(study, generators), *losses.read_arms(study, segmenters)]
    points = frontier.frontier_rows(study, params.generators, comparison)
    loss_curves = [figures.loss_curves(run.name, run.curves) for run in runs]
    return {
        "curve": list(_curves(comparison)),
        "exchange": list(exchange.drawings(segmenters, comparison)),
        "differences": list(_differences(segmenters, params.compare, comparison["arms"])),
        "frontier": list(frontier_figure.drawings(segmenters, points, params.compare.reference)),
        "segmenters": list(segmenter_comparison.drawings(params.compare, comparison.get("segmenters", ()))),
        "sampling": list(rater_samples.drawings(study, segmenters)),
        "convergence": list(convergence.drawings(study, segmenters, common_training_set(params.compare))),
        "weights": list(boundary_weights.drawings(params.segmenters)),
        "screening": list(_screened(study, params.training_sets)),
        "maps": list(score_figures.feature_maps(study, generators)),
        "snapshots": list(score_figures.snapshots(study, generators)),
        "losses": [*loss_curves, *training_history.validation_losses(study, generators)],
    }


def sheets(params: Params) -> dict[str, NDArray[np.uint8]]:
    """Return sheets of pictures for papers [H, W, 3] by the names of their files: samples, raters, maps."""
    study, segmenters, training_set = params.study, params.segmenters, common_training_set(params.compare)
    pages = {f"samples_{name}": gallery.sheet(study, name, params.report.samples) for name in params.generators}
    for name in segmenters:
        if (sheet := rater_samples.sheet(study, name, training_set)) is not None:
            pages[f"raters_{name}"] = sheet
    maps = boundary_weights.sheets(study, segmenters)
    return pages | maps | attention_maps.sheets(study, segmenters, training_set)


def write_figures(folder: Path, drawn: Charts, sheets: Mapping[str, NDArray[np.uint8]]) -> None:
    """Write every drawing as SVG and PNG, and every sheet as PNG; what else lay in `folder` is removed."""
    contents = {f"{name}.png": png(sheet) for name, sheet in sheets.items()}
    for drawing in track(list(chain(*drawn.values())), "report: figures"):
        contents |= {f"{slug(drawing.name)}.svg": drawing.svg(), f"{slug(drawing.name)}.png": drawing.png()}
    for name, content in contents.items():
        files.write_bytes(folder / name, content)
    for path in folder.iterdir():
        if path.name not in contents:
            path.unlink()


def slug(name: str) -> str:
    """Return a name as a file's name."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")


def _curves(comparison: Record) -> Iterator[Drawing]:
    with_curve = {point["segmenter"] for point in comparison["curve"]}
    for arm in comparison["arms"]:
        if arm["role"] != "reference" or arm["segmenter"] not in with_curve:
            continue
        lines: dict[str, list[Point]] = {}
        points = [point for point in comparison["curve"] if point["segmenter"] == arm["segmenter"]]
        alike = len({point["options"] for point in points}) == 1  # what all lines share tells none of them apart
        for point in points:
            name = ", ".join(filter(None, (point["generator"], "" if alike else point["options"])))
            lines.setdefault(name, []).append(Point(point["multiplier"], point["dice"], point["low"], point["high"]))
        reference = Point(0, arm["dice"], arm["dice_low"], arm["dice_high"])
        ceilings = {
            other["training_set"]: other["dice"]
            for other in comparison["arms"]
            if other["role"] == "ceiling" and other["segmenter"] == arm["segmenter"]
        }
        yield figures.multiplier_curve(arm["segmenter"], lines, reference, ceilings)


def _differences(segmenters: Iterable[str], compare: Compare, arms: Sequence[Record]) -> Iterator[Drawing]:
    for segmenter in segmenters:
        rows = [
            Difference(
                arm["training_set"], arm["difference"], arm["difference_low"], arm["difference_high"], arm["verdict"]
            )
            for arm in arms
            if arm["segmenter"] == segmenter and arm["role"] != "reference" and arm["difference_low"] is not None
        ]
        if rows:
            own = {arm.get("reference") or compare.reference for arm in arms if arm["role"] != "reference"}
            name = compare.reference if own == {compare.reference} else "the reference of its limit"
            yield figures.differences(segmenter, rows, name, compare.margin)


def _screened(study: str, training_sets: Mapping[str, TrainingSet]) -> Iterator[Drawing]:
    screened = screening.screenings(study, training_sets)
    if screened:
        kept = {one.training_set: (one.record["kept"], one.record["images"] - one.record["kept"]) for one in screened}
        yield figures.kept_and_dropped(kept)
