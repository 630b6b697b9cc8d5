"""What stages before confirm leave: the scores of a grid, and a study of one treatment with two generators."""

from pathlib import Path
from typing import Any

from pipeline.core import paths, tables


def leave_scores(segmenter: str, val: dict[str, float], test: float = 0.5, seeds: tuple[int, ...] = (0, 1)) -> Path:
    """The scores of a finished grid below the current folder: two images per split, `val` apart by seed and image."""
    path = paths.segmentation("toy", segmenter) / "scores.csv"
    rows: list[dict[str, Any]] = []
    for name, dice in val.items():
        for seed in seeds:
            unit = {"segmenter": segmenter, "training_set": name, "seed": seed}
            for image, shift in (("a", 0.01), ("b", -0.01)):
                rows.append(unit | {"split": "val", "image": image, "dice": dice + shift * (1 + seed)})
                rows.append(unit | {"split": "test", "image": image, "dice": test})
    tables.write_table(path, rows)
    return path


def two_generators() -> dict[str, Any]:
    """Two entries that differ in their seed alone, each with the multipliers 1 and 2."""
    generators = {"siamese": {"copies": 2}, "siamese_b": {"method": "siamese", "seed": 1, "copies": 2}}
    sets = {f"{g}_x{m}": {"generator": g, "multiplier": m} for g in generators for m in (1, 2)}
    return {"generators": generators, "training_sets": {"real": {}} | sets}
