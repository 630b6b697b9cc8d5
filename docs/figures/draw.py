"""Draws the figures of docs/methods.md: python docs/figures/draw.py [FILE ...] [--to FOLDER]. Every run the same bytes.

Diagrams need matplotlib only; the pictures are made by the code that they explain, on procedural images.
"""

import argparse
import importlib
from collections.abc import Mapping
from pathlib import Path

import matplotlib

HERE = Path(__file__).parent
STYLE = {"svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif", "axes.spines.top": False}
STYLE |= {"axes.spines.right": False, "legend.frameon": False}
FIGURES: Mapping[str, str] = {  # file: the module of the function that has the file's name
    "siamese_step.svg": "diagrams",
    "siamese_schedule.svg": "diagrams",
    "multipliers.svg": "diagrams",
    "screening.svg": "diagrams",
    "verdicts.svg": "diagrams",
    "hints.png": "pictures",
    "masks.png": "pictures",
    "audit.svg": "pictures",
}


def main() -> None:
    """Writes every figure, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="FILE", help=f"all by default: {', '.join(FIGURES)}")
    parser.add_argument("--to", type=Path, default=HERE)
    arguments = parser.parse_args()
    arguments.to.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or FIGURES:
        save(name, arguments.to / name)


def save(name: str, path: Path) -> None:
    """Draws one figure on white, without the date, with ids that depend on its name alone."""
    draw = getattr(importlib.import_module(FIGURES[name]), Path(name).stem)
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
        draw().savefig(path, dpi=100, facecolor="white", metadata=metadata)


if __name__ == "__main__":
    main()
