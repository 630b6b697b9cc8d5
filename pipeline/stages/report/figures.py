"""Figures of the report. Series differ in marker, line style and label, never in colour alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from pipeline.stages.report import legend
from pipeline.stages.report.drawing import Drawing
from pipeline.stages.report.losses import smooth

# A contrast of at least 3 on white and on the dark page.
COLOURS = ("#3b82c4", "#c9731c", "#2f9e77", "#b55fa8", "#8f8a3c", "#c4554d", "#5d6fd0")
GREY = "#7f8792"
MARKERS, LINES = "osD^vP*X<>", ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))


@dataclass(frozen=True)
class Point:
    """One arm on the multiplier curve: mean Dice with its confidence interval."""

    multiplier: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """An arm's Dice minus that of the reference, with its interval and verdict."""

    name: str
    value: float
    low: float
    high: float
    verdict: str


def multiplier_curve(
    title: str, curves: Mapping[str, Sequence[Point]], reference: Point, ceilings: Mapping[str, float] = {}
) -> Drawing:
    """Dice over the multiplier, a labelled line per generator; the band is the interval of the reference arm.

    `ceilings` are the Dice of training sets with more real images by name, each a level line.
    """

    def draw(axes: Axes) -> None:
        axes.axhspan(reference.low, reference.high, color=GREY, alpha=0.18, linewidth=0)
        axes.axhline(reference.mean, color=GREY, linewidth=1.2, linestyle=(0, (2, 2)), label="real images only")
        for name, mean in ceilings.items():
            axes.axhline(mean, color=GREY, linewidth=1.2, label=f"{name}: more real images")
        for number, (name, points) in enumerate(curves.items()):
            shift = 0.05 * (number - (len(curves) - 1) / 2)  # intervals of equal multipliers must not cover each other
            x, mean = [p.multiplier + shift for p in points], [p.mean for p in points]
            spread = [[_bar_length(p, p.low) for p in points], [_bar_length(p, p.high) for p in points]]
            axes.errorbar(x, mean, spread, markersize=5.5, capsize=3, elinewidth=1, label=name, **_style(number))
        axes.set_xticks(sorted({p.multiplier for points in curves.values() for p in points} | {0}))
        axes.set_xlabel("synthetic images per real image (multiplier)")
        axes.set_ylabel("Dice on real test images")
        assert isinstance(axes.figure, Figure)
        axes.figure.legend(loc="outside lower left", ncols=2)  # outside, so that it covers no interval

    ends = "; ".join(f"{name}: {_steps(points)}" for name, points in curves.items())
    levels = "".join(f" {name}, more real images: {mean:.3f}." for name, mean in ceilings.items())
    key = legend.CURVE + (legend.CEILINGS if ceilings else ())
    alt_text = f"Dice over the multiplier, {title}. Real images only: {reference.mean:.3f}.{levels} {ends}."
    return Drawing(f"multiplier_curve_{title}", f"{title}: Dice by multiplier", alt_text, draw, key, (4.6, 3.9))


def differences(title: str, rows: Sequence[Difference], reference: str, margin: float, metric: str = "Dice") -> Drawing:
    """A line per arm: its interval around its difference; the band is the margin within which arms count as equal."""

    def draw(axes: Axes) -> None:
        axes.axvspan(-margin, margin, facecolor=GREY, alpha=0.18, linewidth=0)
        axes.axvline(0, color=GREY, linewidth=1.2, linestyle=(0, (2, 2)))
        for place, row in enumerate(reversed(rows)):
            axes.plot([row.low, row.high], [place, place], color=COLOURS[0], linewidth=1.6, solid_capstyle="butt")
            axes.plot([row.value], [place], color=COLOURS[0], marker=SIGNS.get(row.verdict, "o"), markersize=7)
        axes.set_yticks(range(len(rows)), [f"{row.name}\n{row.verdict}" for row in reversed(rows)])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel(f"{metric} minus {reference}")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(visible=False, axis="y")

    summary = "; ".join(f"{r.name} {r.value:+.3f} [{r.low:+.3f}, {r.high:+.3f}], {r.verdict}" for r in rows)
    alt_text = f"{metric} minus {reference}, {title}, with intervals. {summary}. Within {margin} arms count as equal."
    return Drawing(
        f"differences_{title}",
        f"{title}: difference from {reference}",
        alt_text,
        draw,
        legend.DIFFERENCES,
        (4.6, max(3.5, 0.9 + 0.42 * len(rows))),
    )


SIGNS = {"better": ">", "worse": "<", "equivalent": "D", "inconclusive": "o"}


def loss_curves(title: str, curves: Mapping[str, NDArray[np.float64]]) -> Drawing:
    """Losses over optimiser steps on a logarithmic axis, each the mean over a fiftieth of the run; 0 is left out."""

    def draw(axes: Axes) -> None:
        for number, (name, values) in enumerate(curves.items()):
            line = smooth(values, max(1, len(values) // 50))
            steps, every = np.arange(1, len(line) + 1), max(1, len(line) // 5)
            style: dict[str, Any] = _style(number) | {"markevery": (number * every // (len(curves) + 1), every)}
            axes.plot(steps, np.where(line > 0, line, np.nan), label=name, markersize=4, linewidth=1.3, **style)
        _logarithmic(axes)
        axes.set_xlabel("optimiser step")
        axes.set_ylabel("loss")
        axes.legend(loc="best")

    ends = "; ".join(
        f"{name} from {v[0]:.3g} to {smooth(v, max(1, len(v) // 50))[-1]:.3g}" for name, v in curves.items()
    )
    return Drawing(
        f"loss_{title}", title, f"Loss of {title} over optimiser steps: {ends}.", draw, legend.LOSSES, (4.4, 3.0)
    )


def validation_curves(title: str, steps: Sequence[float], curves: Mapping[str, Sequence[float]]) -> Drawing:
    """Losses on validation images over optimiser steps, on a logarithmic axis."""

    def draw(axes: Axes) -> None:
        for number, (name, values) in enumerate(curves.items()):
            line = np.array(values, float)
            axes.plot(
                steps, np.where(line > 0, line, np.nan), label=name, markersize=4.5, linewidth=1.3, **_style(number)
            )
        _logarithmic(axes)
        axes.set_xlabel("optimiser step")
        axes.set_ylabel("loss on validation images")
        axes.legend(loc="best")

    ends = "; ".join(f"{name} from {values[0]:.3g} to {values[-1]:.3g}" for name, values in curves.items())
    return Drawing(
        f"validation_{title}", title, f"Validation loss of {title}: {ends}.", draw, legend.VALIDATION, (4.4, 3.0)
    )


def feature_map(title: str, points: Mapping[str, NDArray[np.float64]]) -> Drawing:
    """Images of several sorts (name -> [N, 2]) on one plane; each sort has its own colour and marker."""

    def draw(axes: Axes) -> None:
        for number, (name, places) in enumerate(points.items()):
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            axes.scatter(*places.T, s=15, color=colour, marker=marker, alpha=0.75, linewidths=0, label=name)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, 0), ncols=min(3, len(points)), handletextpad=0.2, markerscale=1.6
        )

    counts = ", ".join(f"{len(places)} {name}" for name, places in points.items())
    alt_text = f"Features of real images and those of {title} on a plane by t-SNE: {counts} images."
    return Drawing(f"map_{title}", title, alt_text, draw, legend.FEATURES, (4.4, 3.8))


def score_over_steps(title: str, steps: Sequence[float], values: NDArray[np.float64]) -> Drawing:
    """A score over training steps with its interval; `values` are value, low and high [3, N], NaN where unknown."""

    def draw(axes: Axes) -> None:
        middle, low, high = values
        axes.fill_between(steps, low, high, color=COLOURS[0], alpha=0.18, linewidth=0)
        axes.plot(steps, middle, color=COLOURS[0], marker="o", markersize=4, linewidth=1.3)
        axes.set_xlabel("optimiser step")

    summary = ", ".join(f"{value:.3g} at {step:g}" for step, value in zip(steps, values[0], strict=True))
    return Drawing(
        f"steps_{title}", title, f"{title} over optimiser steps: {summary}.", draw, legend.SNAPSHOTS, (4.4, 2.8)
    )


def dice_over_sampling(title: str, curves: Mapping[str, NDArray[np.float64]]) -> Drawing:
    """Dice after each sampling step, a line per segmenter; the band goes from the worst to the best seed [seeds, N]."""

    def draw(axes: Axes) -> None:
        for number, (name, values) in enumerate(curves.items()):
            places, style = np.arange(1, values.shape[1] + 1), _style(number)
            every = max(1, len(places) // 10)
            axes.fill_between(places, values.min(0), values.max(0), color=style["color"], alpha=0.15, linewidth=0)
            axes.plot(places, values.mean(0), label=name, markersize=5, linewidth=1.4, markevery=every, **style)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("sampling step")
        axes.set_ylabel("Dice on real test images")
        axes.legend(loc="best")

    summary = "; ".join(
        f"{name}: {', '.join(f'{dice:.3f}' for dice in _thinned(values.mean(0)))}" for name, values in curves.items()
    )
    alt_text = f"Dice over sampling steps, trained on {title}, from the first step to the last. {summary}."
    return Drawing(
        f"sampling_steps_{title}", f"{title}: Dice by sampling step", alt_text, draw, legend.OVER_SEEDS, (4.6, 3.5)
    )


def dice_over_training(title: str, curves: Mapping[str, NDArray[np.float64]]) -> Drawing:
    """Dice on validation images over training, a line per segmenter; the band goes from the worst to the best seed.

    `curves` are the steps, then the Dice of every seed [1 + seeds, N].
    """

    def draw(axes: Axes) -> None:
        for number, (name, (steps, *seeds)) in enumerate(curves.items()):
            style, values = _style(number), np.array(seeds)
            axes.fill_between(steps, values.min(0), values.max(0), color=style["color"], alpha=0.15, linewidth=0)
            axes.plot(steps, values.mean(0), label=name, markersize=4.5, linewidth=1.3, **style)
        axes.set_xlabel("optimiser step")
        axes.set_ylabel("Dice on validation images")
        axes.legend(loc="best")

    summary = "; ".join(
        f"{name}: {', '.join(f'{dice:.3f}' for dice in _thinned(values[1:].mean(0)))}"
        for name, values in curves.items()
    )
    alt_text = f"Dice on validation images over training on {title}, mean over seeds, from first to last: {summary}."
    return Drawing(
        f"convergence_{title}", f"{title}: Dice over training", alt_text, draw, legend.OVER_SEEDS, (4.6, 3.5)
    )


def boundary_weight(title: str, curves: Mapping[str, NDArray[np.float64]]) -> Drawing:
    """The boundary weight over the distance from the border (as a share of the largest), a line per timestep."""

    def draw(axes: Axes) -> None:
        for number, (name, values) in enumerate(curves.items()):
            places, every = np.linspace(0, 1, len(values)), (number, 10)
            axes.plot(places, values, label=name, markersize=4, linewidth=1.3, markevery=every, **_style(number))
        axes.set_ylim(0, 1.03)
        axes.set_xlabel("distance from the border / largest distance")
        axes.set_ylabel("boundary weight W")
        axes.legend(loc="lower left")

    half = "; ".join(f"{name}: {values[len(values) // 2]:.2f}" for name, values in curves.items())
    alt_text = f"Boundary weight of {title} over the distance from the border, from 1 to 0; halfway {half}."
    return Drawing(f"boundary_weight_{title}", f"{title}: boundary weight", alt_text, draw, legend.BOUNDARY, (4.6, 3.5))


def kept_and_dropped(counts: Mapping[str, tuple[int, int]]) -> Drawing:
    """A bar per screened training set: images kept (filled) and dropped (hatched), with their numbers."""

    def draw(axes: Axes) -> None:
        for place, (kept, dropped) in enumerate(reversed(list(counts.values()))):
            axes.barh(place, kept, color=COLOURS[0], height=0.6)
            axes.barh(place, dropped, left=kept, height=0.6, fill=False, hatch="////", edgecolor=COLOURS[1])
        labels = [f"{name}\n{kept} kept, {dropped} dropped" for name, (kept, dropped) in counts.items()]
        axes.set_yticks(range(len(counts)), labels[::-1])
        axes.set_xlabel("synthetic images")
        axes.grid(visible=False, axis="y")

    summary = "; ".join(f"{name}: {kept} kept, {dropped} dropped" for name, (kept, dropped) in counts.items())
    alt_text = f"Synthetic images of screened training sets. {summary}."
    return Drawing("screening", "Kept and dropped", alt_text, draw, legend.KEPT, (4.4, 0.9 + 0.5 * len(counts)))


def _logarithmic(axes: Axes) -> None:
    """Plain numbers at 1, 2 and 5 of every decade, or at some decades of many."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,), numticks=7))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _style(number: int) -> dict[str, Any]:
    """Colour, marker and line style of the series of this number."""
    style = LINES[number % len(LINES)]
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)], "linestyle": style}


def _thinned(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most eight values, the first and the last among them."""
    return values[np.linspace(0, len(values) - 1, min(8, len(values))).round().astype(int)]


def _steps(points: Sequence[Point]) -> str:
    return ", ".join(f"{p.mean:.3f} at {p.multiplier}" for p in points)


def _bar_length(point: Point, end: float) -> float:
    """Length of one half of an error bar; the reference arm shows its interval as a band."""
    return abs(point.mean - end) if point.multiplier else 0.0
