"""Figures of the report as SVG text: the same bytes for the same numbers, in the colours of the page's mode."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.reporting.losses import smooth

INK = "#010203"  # replaced by the colour of the page's text
COLOURS = ("#3b82c4", "#d9822b", "#2f9e77", "#b55fa8", "#8f8a3c", "#c4554d", "#5d6fd0", "#7f8792")
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "legend.frameon": False,
    **dict.fromkeys(["text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"], INK),
}


@dataclass(frozen=True)
class Point:
    """One arm on the multiplier curve: mean Dice with its confidence interval."""

    multiplier: int
    mean: float
    low: float
    high: float


def multiplier_curve(title: str, curves: Mapping[str, Sequence[Point]], reference: Point) -> str:
    """Dice over the multiplier, a line per generator; the band is the interval of the reference arm."""

    def draw(axes: Axes) -> None:
        axes.axhspan(reference.low, reference.high, color=COLOURS[-1], alpha=0.18, linewidth=0)
        axes.axhline(reference.mean, color=COLOURS[-1], linewidth=1.2, linestyle="--", label="real images only")
        for number, ((name, points), colour) in enumerate(zip(curves.items(), _cycle(len(curves)), strict=True)):
            shift = 0.04 * (number - (len(curves) - 1) / 2)  # intervals of equal multipliers must not cover each other
            x, mean = [p.multiplier + shift for p in points], [p.mean for p in points]
            spread = [[_reach(p, p.low) for p in points], [_reach(p, p.high) for p in points]]
            axes.errorbar(x, mean, spread, color=colour, marker="o", markersize=5, capsize=3, label=name)
        axes.set_xticks(sorted({p.multiplier for points in curves.values() for p in points} | {0}))
        axes.set_xlabel("synthetic images per real image (multiplier)")
        axes.set_ylabel("Dice on real test images")
        axes.legend(loc="best")

    return _svg(f"curve {title}", draw, (5.4, 3.5))


def loss_curves(title: str, curves: Mapping[str, NDArray[np.float64]]) -> str:
    """Losses over optimiser steps on a logarithmic axis, each the mean over a fiftieth of the run; 0 is left out."""

    def draw(axes: Axes) -> None:
        for (name, values), colour in zip(curves.items(), _cycle(len(curves)), strict=True):
            line = smooth(values, max(1, len(values) // 50))
            axes.plot(np.where(line > 0, line, np.nan), color=colour, linewidth=1.3, label=name)
        axes.set_yscale("log")
        axes.set_xlabel("optimiser step")
        axes.legend(loc="best", fontsize=8)

    return _svg(f"loss {title}", draw, (4.6, 2.9))


def feature_map(title: str, points: Mapping[str, NDArray[np.float64]]) -> str:
    """Images of several sorts (name -> [N, 2]) on one plane; each sort has its own colour and marker."""

    def draw(axes: Axes) -> None:
        for (name, places), colour, marker in zip(points.items(), _cycle(len(points)), "os^Dv", strict=False):
            axes.scatter(*places.T, s=12, color=colour, marker=marker, alpha=0.7, linewidths=0, label=name)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.legend(loc="best", fontsize=8)

    return _svg(f"map {title}", draw, (4.6, 3.6))


def over_steps(title: str, steps: Sequence[float], values: NDArray[np.float64]) -> str:
    """A score over training steps with its interval; `values` are value, low and high [3, N], NaN where unknown."""

    def draw(axes: Axes) -> None:
        middle, low, high = values
        axes.fill_between(steps, low, high, color=COLOURS[0], alpha=0.18, linewidth=0)
        axes.plot(steps, middle, color=COLOURS[0], marker="o", markersize=4, linewidth=1.3)
        axes.set_xlabel("optimiser step")

    return _svg(f"steps {title}", draw, (4.6, 2.6))


def _reach(point: Point, end: float) -> float:
    """Length of one half of an error bar; the reference arm shows its interval as a band."""
    return abs(point.mean - end) if point.multiplier else 0.0


def _cycle(count: int) -> list[str]:
    return [COLOURS[number % (len(COLOURS) - 1)] for number in range(count)]


def _svg(name: str, draw: Callable[[Axes], None], size: tuple[float, float]) -> str:
    """Only the <svg> element: no date, ids that depend on the name alone, as wide as its place."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1 role="img"', text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return text.replace(INK, "currentColor")
