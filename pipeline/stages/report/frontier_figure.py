"""The figure of the frontier: a point per generator, its Dice gain over the AUC of the strongest attack on it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.stages.report import legend
from pipeline.stages.report.drawing import PAPER, Drawing
from pipeline.stages.report.figures import COLOURS, GREY, MARKERS
from pipeline.stages.report.frontier import FrontierRow

SIZE = (5.2, 4.4)  # inches
AREA = (270.0, 222.0)  # points of the axes, about
LETTER, LINE = 5.2, 11.0  # points of a letter's width and of a line's height
NEAR = 5
OFFSETS = tuple(product((NEAR, 14, 26), (1, -1), (1, -1)))  # points of a label from its mark, up or down, right or left
Box = tuple[float, float, float, float]  # left, bottom, right, top


@dataclass(frozen=True)
class Spot:
    """A point of the figure with the ends of its intervals; without an interval the ends are the point itself."""

    name: str
    privacy: str
    x: float
    y: float
    x_ends: tuple[float, float]
    y_ends: tuple[float, float]


def drawings(segmenters: Iterable[str], rows: Sequence[FrontierRow], reference: str) -> Iterator[Drawing]:
    """Yield a figure per segmenter under which a generator has an attack and a gain."""
    for segmenter in segmenters:
        drawn = [row for row in rows if row.segmenter == segmenter and row.is_drawn]
        if drawn:
            of_rows = {row.reference or reference for row in drawn}  # arms of another limit have their own
            yield frontier(segmenter, drawn, of_rows.pop() if len(of_rows) == 1 else "the reference of its limit")


def frontier(title: str, rows: Sequence[FrontierRow], reference: str) -> Drawing:
    """A labelled point per generator with the intervals of both numbers, its colour and marker by the privacy."""
    spots = [_spot(row) for row in rows]
    kinds = {row.epsilon_text: _strictness(row) for row in rows}
    names = sorted(kinds, key=lambda name: kinds[name])

    def draw(axes: Axes) -> None:
        axes.axvline(0.5, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.axhline(0, color=GREY, linewidth=1.2, linestyle=":")
        for number, name in enumerate(names):
            for place, spot in enumerate(one for one in spots if one.privacy == name):
                spread = [[spot.x - spot.x_ends[0]], [spot.x_ends[1] - spot.x]]
                height = [[spot.y - spot.y_ends[0]], [spot.y_ends[1] - spot.y]]
                axes.errorbar(
                    [spot.x],
                    [spot.y],
                    height,
                    spread,
                    color=COLOURS[number % len(COLOURS)],
                    marker=MARKERS[number % len(MARKERS)],
                    linestyle="none",
                    markersize=7,
                    capsize=3,
                    elinewidth=1.1,
                    label=None if place else f"epsilon: {name}",
                )
        _limit(axes, spots)
        for spot, (right, up) in zip(spots, places(spots, axes.get_xlim(), axes.get_ylim()), strict=True):
            axes.annotate(
                spot.name,
                (spot.x, spot.y),
                xytext=(right, up),
                textcoords="offset points",
                fontsize=9.5,
                ha="left" if right > 0 else "right",
                va="bottom" if up > 0 else "top",
                bbox={"facecolor": PAPER, "alpha": 0.7, "linewidth": 0, "pad": 0.5},
                arrowprops=None if abs(up) == NEAR else {"arrowstyle": "-", "color": GREY, "linewidth": 0.8},
            )
        axes.set_xlabel("AUC of the attack")
        axes.set_ylabel(f"Dice minus {reference}")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        assert isinstance(axes.figure, Figure)
        axes.figure.legend(loc="outside lower left", ncols=3, handletextpad=0.4)

    summary = "; ".join(f"{one.name}, epsilon {one.privacy}: Dice {one.y:+.3f}, AUC {one.x:.2f}" for one in spots)
    alt_text = f"Dice minus {reference} over the AUC of the strongest attack, {title}. {summary}."
    return Drawing(f"frontier_{title}", f"{title}: Dice gain against attack", alt_text, draw, legend.FRONTIER, SIZE)


def _spot(row: FrontierRow) -> Spot:
    assert row.auc is not None and row.difference is not None  # drawn rows have both
    return Spot(
        row.generator,
        row.epsilon_text,
        row.auc,
        row.difference,
        _ends(row.auc, row.auc_low, row.auc_high),
        _ends(row.difference, row.difference_low, row.difference_high),
    )


def _ends(value: float, low: float | None, high: float | None) -> tuple[float, float]:
    """Return the ends of the interval of a value, or the value twice if it has no interval."""
    return (value, value) if low is None or high is None else (min(low, value), max(high, value))


def _strictness(row: FrontierRow) -> tuple[int, float]:
    """Return the place of a row's privacy in the legend: none, not known, then from a large epsilon to a small one."""
    return (0, float(row.made_elsewhere)) if row.epsilon is None else (1, -row.epsilon)


def _limit(axes: Axes, spots: Sequence[Spot]) -> None:
    """Show all intervals and both lines, with a rim for the labels."""
    for values, line, set_limits in (
        ([end for one in spots for end in one.x_ends], 0.5, axes.set_xlim),
        ([end for one in spots for end in one.y_ends], 0.0, axes.set_ylim),
    ):
        low, high = min(*values, line), max(*values, line)
        rim = 0.12 * (high - low) or 0.05
        set_limits(low - rim, high + rim)


def places(
    spots: Sequence[Spot], x_limits: tuple[float, float], y_limits: tuple[float, float]
) -> list[tuple[float, float]]:
    """Return the offset of each label in points (right, up): close to its mark, and where it covers least.

    A label should cover no other label, no mark, no interval, and lie inside the axes. The axes are taken to be AREA
    points wide and high, and letters to be equally wide.
    """

    def at(value: float, limits: tuple[float, float], length: float) -> float:
        return (value - limits[0]) / (limits[1] - limits[0]) * length

    def line(spot: Spot) -> tuple[Box, Box]:
        (x, left, right), (y, low, high) = (
            (at(middle, limits, length), *(at(end, limits, length) for end in ends))
            for middle, ends, limits, length in (
                (spot.x, spot.x_ends, x_limits, AREA[0]),
                (spot.y, spot.y_ends, y_limits, AREA[1]),
            )
        )
        return (left, y, right, y), (x, low, x, high)

    bars = [bar for spot in spots for bar in line(spot)]
    marks = [(x - 5, y - 5, x + 5, y + 5) for spot in spots for (_, y, _, _), (x, _, _, _) in [line(spot)]]
    taken: list[Box] = []
    chosen = []
    for spot, (left, low, right, high) in zip(spots, marks, strict=True):
        x, y, width = (left + right) / 2, (low + high) / 2, LETTER * len(spot.name)
        labels = [(offset, _label(x, y, width, *offset)) for offset in ((s * o, u * o) for o, u, s in OFFSETS)]
        offset, box = min(labels, key=lambda one: _cost(one[1], taken, marks, bars) + abs(one[0][1]) / 10)
        taken.append(box)
        chosen.append(offset)
    return chosen


def _label(x: float, y: float, width: float, right: float, up: float) -> Box:
    left, low = x + right - (width if right < 0 else 0), y + up - (LINE if up < 0 else 0)
    return left, low, left + width, low + LINE


def _cost(label: Box, taken: Sequence[Box], marks: Sequence[Box], bars: Sequence[Box]) -> int:
    """Return how bad a label's place is."""
    outside = label[0] < 0 or label[1] < 0 or label[2] > AREA[0] or label[3] > AREA[1]
    covered = [sum(_meet(label, other) for other in boxes) for boxes in (taken, marks, bars)]
    return 20 * outside + 10 * covered[0] + 10 * covered[1] + covered[2]


def _meet(one: Box, other: Box) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]
