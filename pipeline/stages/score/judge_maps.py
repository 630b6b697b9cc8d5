"""The judge's map of every synthetic image, and what it says of real training pixels, for the stage mix.

The folder judge_maps of the scores holds a file per image (data.judge_maps), maps.csv with their hashes, classes.csv
with the cross-entropy of real training pixels, and training.csv with the Dice of real training images. Cross-fitted
judges judge what they have not seen (evaluation.judges); where all judges judge an image, the mean of their
probabilities counts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core import files, paths, tables
from pipeline.core.progress import track
from pipeline.core.runtime import Runtime
from pipeline.data import judge_maps
from pipeline.data.image_set import ImageSet, Row
from pipeline.data.judge_maps import Levels
from pipeline.evaluation.judges import Judges, judged_by
from pipeline.metrics.segmentation import overlap

VERSION = 1  # raised when the same judges give other maps
BATCH = 32  # images that a judge sees at once; cut before they are dealt, so that no number depends on the processes
FOLDER, MAPS, CLASSES, TRAINING = "judge_maps", "maps.csv", "classes.csv", "training.csv"
COLUMNS = {
    MAPS: ("id", "file", "sha256"),
    CLASSES: ("class", "pixels", "cross_entropy", "quantile_99"),
    TRAINING: ("id", "dice"),
}
QUANTILE = 0.99


def write_empty(folder: Path) -> None:
    """Write the tables of a study that asks for no maps, with their headers alone."""
    for name, columns in COLUMNS.items():
        tables.write_table(folder / name, (), columns)


def judge_pixels(real: ImageSet, synthetic: ImageSet, study: str, judges: Judges, runtime: Runtime) -> Path:
    """Return a folder of work with the maps of the synthetic images and all tables; maps that are there are kept."""
    train = real.split("train")
    about = (VERSION, files.tree_sha256(paths.judge(study)), train.digest, synthetic.digest)
    work = paths.work("judge_maps", files.fingerprint(*about))
    judging = _Judging(judges, runtime)
    judging.fill(synthetic, work / "maps")
    judging.fill(train, work / "training")
    runtime.barrier()
    if runtime.is_main:
        _write_tables(train, synthetic, work)
    return work


@dataclass(frozen=True)
class _Judging:
    judges: Judges
    runtime: Runtime

    def fill(self, images: ImageSet, folder: Path) -> None:
        """Write this process's share of the maps of a set; batches whose files are all there are skipped."""
        starts = range(self.runtime.rank * BATCH, len(images), self.runtime.world * BATCH)
        title = f"judge every pixel of {images.folder.name}"
        for start in track(starts, title, visible=self.runtime.is_main):
            rows = images.rows[start : start + BATCH]
            missing = [row for row in rows if not (folder / _name(row)).is_file()]
            if missing:
                for row, levels in zip(rows, self._levels(images, rows), strict=True):
                    files.write_bytes(folder / _name(row), judge_maps.encode(levels))

    def _levels(self, images: ImageSet, rows: Sequence[Row]) -> Iterator[Levels]:
        pixels = torch.from_numpy(np.stack([images.picture(row) for row in rows])).to(self.runtime.device)
        found = []
        for segmenter in self.judges.segmenters:
            segmenter.objective.to(pixels.device)
            found.append(segmenter.predict(pixels.float() / 255).mean(1).float().cpu().numpy())
        numbers = judged_by(rows, self.judges.folds, len(found))
        for place, chosen in enumerate(numbers):
            yield judge_maps.levels_of(np.mean([found[number][place] for number in chosen], axis=0))


def _name(row: Row) -> str:
    return f"{row['id']}.png"


def _write_tables(train: ImageSet, synthetic: ImageSet, work: Path) -> None:
    """Write the three tables. Raises UserError where a map is damaged."""
    classes = train.spec.num_classes
    counts = np.zeros((classes, judge_maps.LEVELS), np.int64)  # real training pixels by class and grey level
    dice: list[dict[str, Any]] = []
    for row in train:
        levels, mask = judge_maps.read(work / "training" / _name(row), classes), train.mask(row)
        own = judge_maps.of_labels(levels, mask)
        for label in range(classes):
            counts[label] += np.bincount(own[mask == label], minlength=judge_maps.LEVELS)
        value = overlap.mean_over_occurring(overlap.dice, levels.argmax(0), mask, classes)
        dice.append({"id": row["id"], "dice": "" if np.isnan(value) else round(value, 6)})
    maps = [{"id": row["id"], "file": f"maps/{_name(row)}"} for row in synthetic]
    sums = [one | {"sha256": files.sha256(work / one["file"])} for one in maps]
    tables.write_table(work / MAPS, sums, COLUMNS[MAPS])
    tables.write_table(work / TRAINING, dice, COLUMNS[TRAINING])
    tables.write_table(work / CLASSES, [_of_class(label, row) for label, row in enumerate(counts)], COLUMNS[CLASSES])


def _of_class(label: int, counts: NDArray[np.int64]) -> dict[str, Any]:
    """Return mean and 99 % quantile of the cross-entropy of a class, from its pixels per grey level."""
    losses, total = judge_maps.cross_entropies(), int(counts.sum())
    if not total:
        return {"class": label, "pixels": 0, "cross_entropy": "", "quantile_99": ""}
    upwards = counts[::-1].cumsum()  # the highest level has the smallest loss
    quantile = losses[::-1][int(np.searchsorted(upwards, QUANTILE * total))]
    mean = float(counts @ losses) / total
    return {"class": label, "pixels": total, "cross_entropy": f"{mean:.6g}", "quantile_99": f"{quantile:.6g}"}
