"""A generator while it was trained: validation losses and images of the same masks, where finetune kept them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.core import paths, tables
from pipeline.stages.report import figures, pictures
from pipeline.stages.report.drawing import Drawing

STRIPS = 8  # moments of the training that are shown
HEIGHT = 96  # pixels of a strip
ROWS = 3  # of a kept grid: masks, real images, synthetic images


@dataclass(frozen=True)
class Strip:
    """Images side by side: the masks, the real ones, or those of one moment of the training."""

    label: str
    picture: str  # data URI


def validation_losses(study: str, generators: Iterable[str]) -> Iterator[Drawing]:
    """Yield the validation losses of each generator; none where finetune.validate_every is not set."""
    for name in generators:
        path = paths.generator(study, name) / "validation.csv"
        rows = tables.read_table(path) if path.is_file() else []
        if rows:
            losses = [column for column in rows[0] if column != "step"]
            curves = {column: [float(row[column] or "nan") for row in rows] for column in losses}
            yield figures.validation_curves(f"validation {name}", [float(row["step"]) for row in rows], curves)


def strips(study: str, generators: Iterable[str]) -> dict[str, list[Strip]]:
    """Return, by generator, the same masks drawn at several moments; {} where finetune.sample_every is not set."""
    samples = {name: sorted((paths.generator(study, name) / "samples").glob("*.png")) for name in generators}
    return {name: list(_strips(grids)) for name, grids in samples.items() if grids}


def _strips(grids: list[Path]) -> Iterator[Strip]:
    places = sorted(set(np.linspace(0, len(grids) - 1, STRIPS).round().astype(int).tolist()))
    masks, real, _ = _split(grids[0])
    yield Strip("masks", pictures.jpeg(masks))
    yield Strip("real", pictures.jpeg(real))
    for place in places:
        yield Strip(f"step {int(grids[place].stem)}", pictures.jpeg(_split(grids[place])[-1]))


def _split(grid: Path) -> list[NDArray[np.uint8]]:
    """Return the rows of a kept grid, each HEIGHT pixels high or less."""
    with Image.open(grid) as picture:
        height = min(HEIGHT, picture.height // ROWS)
        size = round(picture.width * height * ROWS / picture.height), height * ROWS
        return np.split(np.asarray(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)), ROWS)
