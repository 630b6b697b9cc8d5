"""nnU-Net v2: DatasetXXX_Name of natural RGB images, one PNG per case, and folds that never validate on synthetic ones.

Cases of train and val go to imagesTr, for nnU-Net takes its validation from there; cases of test go to imagesTs.
"""

from collections.abc import Sequence
from pathlib import Path

from pipeline import files, seeding, tracking
from pipeline.data.image_set import ImageSet, Row
from pipeline.errors import UserError
from pipeline.exports._pairs import Settings, Splits, class_names, copy

Fold = dict[str, list[str]]


def write(splits: Splits, folder: Path, settings: Settings) -> None:
    """Writes the data set with splits_final.json and cases.csv. Raises UserError where real cases are too few."""
    training = [row for split, images in splits.items() if split != "test" for row in images]
    chosen = folds(training, settings.folds, settings.seed)
    target = folder / f"Dataset{settings.dataset_id:03d}_{settings.name}"
    for split, images in splits.items():
        _write_cases(images, target, "Ts" if split == "test" else "Tr", f"{settings.name} {split}")
    tracking.write_table(
        target / "cases.csv", [_about(split, row) for split, images in splits.items() for row in images]
    )
    files.write_json(target / "splits_final.json", chosen)
    files.write_json(target / "dataset.json", _description(splits["train"].spec.num_classes, len(training)))


def folds(rows: Sequence[Row], count: int, seed: int) -> list[Fold]:
    """Seeded folds over the real cases; equal images share a fold.

    A synthetic case is in the training part of every fold but the one whose validation part holds its source.
    Raises UserError where there are fewer real images than folds.
    """
    contents = sorted({row["sha256"] for row in rows if not row["synthetic"]})
    if len(contents) < count:
        raise UserError(
            f"{count} folds need as many different real images to validate on, found {len(contents)}; lower --folds,"
            " or export a training set: synthetic images alone cannot validate"
        )
    order = seeding.numpy_rng(seed, "folds").permutation(len(contents)).tolist()
    fold_of_content = {contents[index]: position % count for position, index in enumerate(order)}
    fold_of_real = {row["id"]: fold_of_content[row["sha256"]] for row in rows if not row["synthetic"]}
    return [_fold(rows, fold_of_real, number) for number in range(count)]


def _fold(rows: Sequence[Row], fold_of_real: dict[str, int], number: int) -> Fold:
    origins = {row["id"]: row["source_id"] if row["synthetic"] else row["id"] for row in rows}
    return {
        "train": [case for case, origin in origins.items() if fold_of_real.get(origin) != number],
        "val": [case for case, fold in fold_of_real.items() if fold == number],
    }


def _write_cases(images: ImageSet, target: Path, kind: str, title: str) -> None:
    for row in tracking.progress(images, title, len(images)):
        names = (f"images{kind}/{row['id']}_0000.png", f"labels{kind}/{row['id']}.png")
        copy(images, row, target / names[0], target / names[1])


def _about(split: str, row: Row) -> Row:
    columns = ("synthetic", "source_id", "generator", "copy")
    return {"case": row["id"], "split": split, **{column: row[column] for column in columns}}


def _description(num_classes: int, cases: int) -> Row:
    return {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {name: label for label, name in enumerate(class_names(num_classes))},
        "numTraining": cases,
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
    }
