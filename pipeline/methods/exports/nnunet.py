"""nnU-Net v2: DatasetXXX_Name of pictures (PNG) or volumes (NIfTI), and folds that never validate on synthetic ones.

Cases of train and val go to imagesTr, for nnU-Net takes its validation from there; cases of test go to imagesTs.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.core import files, seeding, tables
from pipeline.core.contracts import IGNORED
from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.data import nifti
from pipeline.data.image_files import RGB_CHANNELS, VOLUME
from pipeline.data.image_set import ImageSet, Row, png
from pipeline.data.labels import IGNORED_PIXELS
from pipeline.data.lenders import lenders
from pipeline.data.sample import DatasetSpec
from pipeline.methods.exports._format import ExportOptions, Splits, class_names, copy_pair

Fold = dict[str, list[str]]


def write(splits: Splits, folder: Path, options: ExportOptions) -> None:
    """Write the data set with splits_final.json and cases.csv. Raises UserError where real cases are too few."""
    training = [row for split, images in splits.items() if split != "test" for row in images]
    assigned = folds(training, options.folds, options.seed)
    target = folder / f"Dataset{options.dataset_id:03d}_{options.name}"
    for split, images in splits.items():
        _write_cases(images, target, "Ts" if split == "test" else "Tr", f"{options.name} {split}")
    tables.write_table(target / "cases.csv", [_case(split, row) for split, images in splits.items() for row in images])
    files.write_json(target / "splits_final.json", assigned)
    ignores = any(row.get(IGNORED_PIXELS) for row in training)
    files.write_json(target / "dataset.json", _description(splits["train"].spec, len(training), ignores))


def folds(rows: Sequence[Row], count: int, seed: int) -> list[Fold]:
    """Assign the real cases to seeded folds; equal images share a fold.

    A synthetic case is in the training part of every fold except the one whose validation part holds its source,
    or an image that lent it pixels or a mask.
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
    origins = {row["id"]: {row["source_id"], *lenders(row)} if row["synthetic"] else {row["id"]} for row in rows}
    validation = {name for name, fold in fold_of_real.items() if fold == number}
    return {
        "train": [case for case, names in origins.items() if not names & validation],
        "val": [case for case, fold in fold_of_real.items() if fold == number],
    }


def _write_cases(images: ImageSet, target: Path, kind: str, title: str) -> None:
    ending = VOLUME if images.spec.ndim == 3 else ".png"
    for row in track(images, title, len(images)):
        image, label = target / f"images{kind}" / f"{row['id']}_0000{ending}", f"labels{kind}/{row['id']}{ending}"
        copy_pair(images, row, image, target / label)
        if row.get(IGNORED_PIXELS):  # which nnU-Net wants as the label after the last class
            mask = images.mask(row)
            (target / label).write_bytes(png(np.where(mask == IGNORED, images.spec.num_classes, mask).astype(np.uint8)))
        if images.spec.channels > 1 and not _coloured(images.spec):
            _write_channels(images, row, image)


def _write_channels(images: ImageSet, row: Row, first: Path) -> None:
    """Write a file for each channel in place of the one that holds them all."""
    affine = nifti.read_affine(first) if images.spec.ndim == 3 else None
    for channel, plane in enumerate(images.image(row)):
        path = first.with_name(first.name.replace("_0000.", f"_{channel:04d}."))
        path.write_bytes(png(plane.astype(np.uint8)) if affine is None else nifti.encode(plane, affine))


def _case(split: str, row: Row) -> Row:
    columns = ("synthetic", "source_id", "generator", "copy")
    return {"case": row["id"], "split": split, **{column: row[column] for column in columns}}


def _coloured(spec: DatasetSpec) -> bool:
    """Return whether the channels are colours, which nnU-Net stores in one file."""
    return spec.ndim == 2 and spec.channels == RGB_CHANNELS


def _description(spec: DatasetSpec, cases: int, ignores: bool) -> Row:
    volumes, names_of_labels = spec.ndim == 3, [*class_names(spec.num_classes), *(["ignore"] if ignores else [])]
    names = ("R", "G", "B") if _coloured(spec) else [f"channel_{channel}" for channel in range(spec.channels)]
    return {
        "channel_names": {str(channel): name for channel, name in enumerate(names)},
        "labels": {name: label for label, name in enumerate(names_of_labels)},
        "numTraining": cases,
        "file_ending": VOLUME if volumes else ".png",
        **({} if volumes else {"overwrite_image_reader_writer": "NaturalImage2DIO"}),
    }
