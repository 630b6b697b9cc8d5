"""Draws the pictures of docs/gallery.md from a finished study, such as the demo.

    dvc repro
    python docs/figures/gallery.py [--to docs/gallery]

Run it in the folder of params.yaml. Which images are shown follows from the study alone: masks and images are spread
evenly over the training set, and failures are the least faithful images and the closest pairs of the audit.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from pipeline.core import paths, plugins, tables
from pipeline.data.image_set import ImageSet, Row
from pipeline.stages.report import gallery, pictures
from pipeline.study import Params, load_params

Pixels = NDArray[np.uint8]
REPOSITORY = Path(__file__).parents[2]
MASKS = ("real", "random", "elastic", "shapes", "several")
COLUMNS = 6
COLOURS = 256  # of the palette of a picture, which keeps it small


def main() -> None:
    """Draw all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--to", type=Path, default=REPOSITORY / "docs" / "gallery", help="folder (default: docs/gallery)"
    )
    folder = parser.parse_args().to
    study = load_params()
    folder.mkdir(parents=True, exist_ok=True)
    for draw in (masks, images, failures, closest):
        save(draw(study), folder / f"{draw.__name__}.png")


def masks(study: Params) -> Figure:
    """Training masks, and the masks that each choice of `masks` makes of the training set."""
    train = ImageSet.open(paths.real(study.study)).split("train")
    rows: dict[str, list[tuple[str, Pixels]]] = {}
    for name in MASKS:
        plugin = plugins.load("masks", name)
        made = plugin.build(plugin.Params(), train, COLUMNS, "docs/gallery")
        rows[name] = [("", pictures.colours(made[number].pixels)) for number in range(min(COLUMNS, len(made)))]
    return sheet(rows)


def images(study: Params) -> Figure:
    """Training masks, their real images, and what each generator has drawn for them."""
    train = ImageSet.open(paths.real(study.study)).split("train")
    chosen = gallery.spread(train.rows, COLUMNS)
    rows = {
        "mask": [("", pictures.colours(train.mask(row))) for row in chosen],
        "real": [("", gallery.colours_last(train, row)) for row in chosen],
    }
    for name in study.generators:
        made = ImageSet.open(paths.synthetic(study.study, name))
        first = {row["source_id"]: row for row in reversed(made.take(1).rows)}
        rows[name] = [("", gallery.colours_last(made, first[row["id"]])) for row in chosen if row["id"] in first]
    return sheet(rows)


def failures(study: Params) -> Figure:
    """The least faithful images of each generator, with the outline of the mask that they should follow."""
    rows: dict[str, list[tuple[str, Pixels]]] = {}
    for name in study.generators:
        scored = tables.read_table(paths.scores(study.study, name) / "images.csv")
        ranked = sorted((float(row["dice"]), row["id"]) for row in scored if row.get("dice"))[:COLUMNS]
        made = ImageSet.open(paths.synthetic(study.study, name))
        by_id = {row["id"]: row for row in made}
        rows[name] = [(f"Dice {dice:.2f}", outlined(made, by_id[image])) for dice, image in ranked]
    return sheet(rows)


def closest(study: Params) -> Figure:
    """The pairs of a synthetic and a training image that the audit finds closest."""
    train = {row["id"]: row for row in ImageSet.open(paths.real(study.study))}
    real = ImageSet.open(paths.real(study.study))
    rows: dict[str, list[tuple[str, Pixels]]] = {}
    for name in study.generators:
        made = ImageSet.open(paths.synthetic(study.study, name))
        by_id = {row["id"]: row for row in made}
        pairs = tables.read_table(paths.audit(study.study, name) / "images.csv")
        shown = [pair for pair in pairs if pair["nearest"] in train][: COLUMNS // 2]
        rows[name] = []
        for pair in shown:
            rows[name].append(("synthetic", gallery.colours_last(made, by_id[pair["id"]])))
            rows[name].append(("its nearest", gallery.colours_last(real, train[pair["nearest"]])))
    return sheet(rows)


def outlined(images: ImageSet, row: Row) -> Pixels:
    """An image with the outline of its mask."""
    return pictures.overlay(gallery.colours_last(images, row), images.mask(row))


def sheet(rows: Mapping[str, Sequence[tuple[str, Pixels]]]) -> Figure:
    """Pictures [H, W, 3] with their titles, a row per name."""
    shown = {name: cells for name, cells in rows.items() if cells}
    figure = Figure(figsize=(1.3 * COLUMNS + 0.4, 1.42 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), COLUMNS, squeeze=False)
    for axes, (name, cells) in zip(grid, shown.items(), strict=True):
        axes[0].text(-0.06, 0.5, name, rotation=90, ha="right", va="center", fontsize=8, transform=axes[0].transAxes)
        for place, one in enumerate(axes):
            one.set_axis_off()
            if place < len(cells):
                one.imshow(cells[place][1], interpolation="nearest")
                one.set_title(cells[place][0], fontsize=7, pad=2)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a picture with a palette."""
    figure.savefig(path, dpi=120, facecolor="white", metadata={"Software": None})
    with Image.open(path) as full:
        small = full.convert("RGB").quantize(COLOURS)
    small.save(path, optimize=True)


if __name__ == "__main__":
    main()
