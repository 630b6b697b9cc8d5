"""What the stage score leaves of the judge's maps, written by hand."""

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.core import files, paths, tables
from pipeline.data import judge_maps
from pipeline.data.image_set import ImageSet
from pipeline.data.judge_maps import Levels

SURE, HESITANT = 100, 5  # log-odds in tenths: probabilities 0.99995 and 0.62


def agreeing(mask: np.ndarray, tenths: int = SURE) -> Levels:
    """The levels of a judge of two classes that sees what the mask says."""
    sign = np.where(mask > 0, tenths, -tenths)
    return np.stack([judge_maps.ZERO - sign, judge_maps.ZERO + sign]).astype(np.uint8)


def write_maps(levels: Mapping[str, Levels], classes: Sequence[tuple[float, float]] = ((0.1, 0.3), (0.2, 0.9))) -> None:
    """Write the maps of these images, and mean and quantile of the cross-entropy of each class."""
    folder = paths.scores("toy", "siamese") / "judge_maps"
    for name, values in levels.items():
        files.write_bytes(folder / "maps" / f"{name}.png", judge_maps.encode(values))
    sums = {name: files.sha256(folder / "maps" / f"{name}.png") for name in levels}
    tables.write_table(
        folder / "maps.csv", [{"id": name, "file": f"maps/{name}.png", "sha256": sums[name]} for name in levels]
    )
    rows = [
        {"class": label, "pixels": 9, "cross_entropy": mean, "quantile_99": quantile}
        for label, (mean, quantile) in enumerate(classes)
    ]
    tables.write_table(folder / "classes.csv", rows)


def write_training(dice: Mapping[str, float | str]) -> None:
    """Write the judge's Dice of real training images."""
    folder = paths.scores("toy", "siamese") / "judge_maps"
    tables.write_table(folder / "training.csv", [{"id": name, "dice": value} for name, value in dice.items()])


def synthetic() -> ImageSet:
    return ImageSet.open(paths.synthetic("toy", "siamese"))
