"""Drawings: figures as parts of the page, in the colours of its mode, and as SVG and PNG files for papers."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.stages.report.legend import Key

INK = "#010203"  # in the page replaced by the colour of its text
PAPER = "#fefdfc"  # in the page replaced by the colour of the card that the drawing lies on
DPI = 300
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "hatch.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 10,
    **dict.fromkeys(["text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"], INK),
}


@dataclass(frozen=True)
class Drawing:
    """A figure and its caption; `alt_text` says in words what it shows, for readers who do not see it."""

    name: str  # of its files
    caption: str
    alt_text: str
    draw: Callable[[Axes], None]
    key: Key  # what its marks mean
    size: tuple[float, float] = (4.4, 3.2)  # inches

    def inline(self) -> str:
        """Return the <svg> element alone, without size and style attributes, which the page's policy forbids."""
        text = self._render("svg", transparent=True).decode()
        text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
        text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
        text = re.sub(r'<g id="[^"]*"', "<g", text)
        text = re.sub(r' style="([^"]*)"', lambda match: _attributes(match[1]), text)
        text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
        text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
        head = f'<svg role="img" aria-label="{escape(self.alt_text)}" stroke-linejoin="round"'
        return text.replace("<svg", head, 1).replace(INK, "currentColor").replace(PAPER, "var(--card)")

    def svg(self) -> bytes:
        """Return an SVG file, black on white."""
        return self._render("svg")

    def png(self) -> bytes:
        """Return a PNG file, black on white."""
        return self._render("png", dpi=DPI)

    def _render(self, kind: str, **options: Any) -> bytes:
        """Return the same bytes for the same numbers: no date, no version, ids that depend on the name alone."""
        with matplotlib.rc_context({**STYLE, "svg.hashsalt": self.name}):
            figure = Figure(figsize=self.size, layout="constrained")
            self.draw(figure.subplots())
            buffer = io.BytesIO()
            metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
            figure.savefig(buffer, format=kind, metadata=metadata, **options)
        return buffer.getvalue()


def _attributes(style: str) -> str:
    """Return a style attribute as presentation attributes; the font is that of the page."""
    pairs = [part.split(":", 1) for part in style.split(";") if ":" in part]
    named = [(name.strip(), value.strip()) for name, value in pairs]
    return "".join(f' {name}="{value}"' for name, value in named if name != "font-family")
