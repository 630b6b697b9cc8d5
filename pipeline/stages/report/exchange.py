"""The annotation exchange rate in the report: the learning curves of a segmenter, and what is read off them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from pipeline.stages.report import legend
from pipeline.stages.report.drawing import Drawing
from pipeline.stages.report.figures import COLOURS, GREY, LINES, MARKERS

Record = dict[str, Any]
REAL = "real"  # the line of real images alone, as the stage compare names it
STYLES = tuple(style for style in LINES if style != ":")  # readings of the rate are dotted


def drawings(segmenters: Iterable[str], comparison: Record) -> Iterator[Drawing]:
    """Yield, per segmenter with a fitted learning curve, Dice over the number of real pairs."""
    for segmenter in segmenters:
        points, fits, rates = (
            [row for row in comparison.get(key, ()) if row["segmenter"] == segmenter]
            for key in ("learning_curve", "learning_fits", "exchange")
        )
        if fits:
            yield learning_curves(segmenter, points, fits[0], rates)


def learning_curves(title: str, points: Sequence[Record], fit: Record, rates: Sequence[Record]) -> Drawing:
    """Dice over real pairs on a logarithmic axis, a line per multiplier or control, and the readings of the rate.

    `points` are rows of learning_curve.csv, `fit` is the fitted curve of real images, `rates` are rows of exchange.csv.
    """
    lines = dict.fromkeys(row["line"] for row in points if row["line"] != REAL)

    def draw(axes: Axes) -> None:
        _real(axes, [row for row in points if row["line"] == REAL], fit)
        for number, name in enumerate(lines, 1):
            rows = [row for row in points if row["line"] == name]
            sizes, colour = [row["n_real"] for row in rows], COLOURS[number % len(COLOURS)]
            style: dict[str, Any] = {"color": colour, "linestyle": STYLES[number % len(STYLES)]}
            means, spread = [row["dice"] for row in rows], _spread(rows)
            axes.fill_between(
                sizes, [r["low"] for r in rows], [r["high"] for r in rows], color=colour, alpha=0.13, linewidth=0
            )
            marker = MARKERS[number % len(MARKERS)]
            axes.errorbar(sizes, means, spread, marker=marker, markersize=5.5, capsize=3, label=name, **style)
            for row in rates:
                if row["line"] == name and row["equivalent"] is not None:
                    reading = [row["n_real"], row["equivalent"]]
                    axes.plot(reading, [row["dice"]] * 2, color=colour, linewidth=1, linestyle=":")
                    axes.plot(reading[1:], [row["dice"]], color=colour, marker="|", markersize=9)
        _logarithmic(axes, [row["n_real"] for row in points if row["line"] == REAL])
        axes.set_xlabel("real pairs")
        axes.set_ylabel("Dice on real test images")
        assert isinstance(axes.figure, Figure)
        axes.figure.legend(loc="outside lower left", ncols=2)  # outside, so that it covers no interval

    curve = ", ".join(f"{row['dice']:.3f} at {row['n_real']}" for row in points if row["line"] == REAL)
    readings = " ".join(f"{row['sentence']}." for row in rates if row["equivalent"] is not None)
    alt_text = f"Dice over real pairs, {title}. Real images alone: {curve}. {readings}".strip()
    return Drawing(
        f"learning_curve_{title}", f"{title}: Dice by real pairs", alt_text, draw, legend.EXCHANGE, (5.2, 4.3)
    )


def _real(axes: Axes, rows: Sequence[Record], fit: Record) -> None:
    """Draw the means of real images alone, their fitted curve with its band, and the power law."""
    axes.fill_between(fit["n_real"], fit["low"], fit["high"], color=COLOURS[0], alpha=0.18, linewidth=0)
    axes.plot(fit["n_real"], fit["dice"], color=COLOURS[0], linewidth=1.8, label="real images alone")
    axes.plot(fit["n_real"], fit["power_law"], color=GREY, linewidth=1.2, linestyle="--", label="power law")
    means, sizes = [row["dice"] for row in rows], [row["n_real"] for row in rows]
    axes.errorbar(
        sizes, means, _spread(rows), color=COLOURS[0], marker=MARKERS[0], markersize=5.5, capsize=3, linestyle="none"
    )


def _spread(rows: Sequence[Record]) -> list[list[float]]:
    """Return the lengths of the lower and the upper halves of error bars."""
    return [[max(row["dice"] - row["low"], 0.0) for row in rows], [max(row["high"] - row["dice"], 0.0) for row in rows]]


def _logarithmic(axes: Axes, sizes: Sequence[float]) -> None:
    """A logarithmic axis of sizes, with a tick at each size that was measured."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(np.array(sizes, float).tolist()))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
