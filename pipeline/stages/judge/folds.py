"""The two halves of the training pairs on which cross-fitted judges learn, and where their judges lie. No torch."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.core import seeding, tables
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.data.splitting import assign_folds
from pipeline.stages.judge.params import FOLDS

TABLE = "folds.csv"  # in the folder of the judge: id of every training pair, and its fold


def assign(train: ImageSet, seed: int) -> dict[str, int]:
    """Return the fold, 0 or 1, of every training pair by its id; pairs of one group lie in one fold.

    Groups (of the manifest's column `group`; a pair without one is its own) go in seeded order, large ones first, each
    to the smaller fold. Raises UserError where there are fewer than two groups, or a class lies in one fold only.
    """
    groups = [row.get("group") or row["id"] for row in train]
    if len(set(groups)) < FOLDS:
        found = f"{len(train)} training pairs, all of the group {groups[0]}" if len(train) > 1 else f"{len(train)}"
        raise UserError(
            f"judge.cross_fit needs training pairs of at least two groups, found {found} in {train.folder}; set"
            " judge.cross_fit: false, or use more data"
        )
    numbers = assign_folds(groups, FOLDS, seeding.number(seed, "judge", "folds"))
    folds = dict(zip(train.ids, numbers, strict=True))
    _check_classes(train, folds)
    return folds


def others(train: ImageSet, folds: Mapping[str, int], fold: int) -> ImageSet:
    """Return the pairs from which the judge of a fold learns: those of the other fold."""
    return train.select(row for row in train if folds[row["id"]] != fold)


def write(folder: Path, folds: Mapping[str, int]) -> None:
    """Write the folds of all training pairs into the folder of the judge."""
    tables.write_table(folder / TABLE, [{"id": name, "fold": fold} for name, fold in folds.items()])


def read(folder: Path) -> dict[str, int] | None:
    """Return the folds that `write` wrote; None where the folder holds one judge of all pairs."""
    if not (folder / TABLE).is_file():
        return None
    return {row["id"]: int(row["fold"]) for row in tables.read_table(folder / TABLE)}


def subfolder(folder: Path, fold: int) -> Path:
    """Return the folder of the judge of one fold."""
    return folder / f"fold_{fold}"


def folders(folder: Path) -> dict[str, Path]:
    """Return the folders of the judges in the folder of the stage by their names: itself, or one per fold."""
    if not (folder / TABLE).is_file():
        return {"judge": folder}
    return {f"judge fold {fold}": subfolder(folder, fold) for fold in range(FOLDS)}


def _check_classes(train: ImageSet, folds: Mapping[str, int]) -> None:
    """Raise UserError where only one of the folds shows a class; a class in neither is the data's own fault."""
    shown: tuple[set[int], ...] = tuple(set() for _ in range(FOLDS))
    for row in train:
        shown[folds[row["id"]]].update(np.unique(train.masks(row)).tolist())
    for fold, classes in enumerate(shown):
        if missing := set().union(*shown) - classes:
            labels, size = ", ".join(map(str, sorted(missing))), list(folds.values()).count(fold)
            raise UserError(
                f"judge.cross_fit: a judge would learn from {size} of {len(folds)} training pairs whose masks never"
                f" show class {labels}; set judge.cross_fit: false, or use more images that show it"
            )
