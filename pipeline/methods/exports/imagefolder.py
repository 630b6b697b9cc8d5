"""Hugging Face's imagefolder: train/, validation/, test/ with images, masks and a line of metadata.jsonl per image.

`datasets.load_dataset("imagefolder", data_dir=...)` gives the columns `image` and `mask` decoded.
"""

import json
from pathlib import Path

from pipeline.core.progress import track
from pipeline.methods.exports._format import PUBLIC_NAMES, ExportOptions, Splits, copy_pair, flat_columns


def write(splits: Splits, folder: Path, options: ExportOptions) -> None:
    """Write one folder per split."""
    for split, images in splits.items():
        part = folder / PUBLIC_NAMES[split]
        part.mkdir(parents=True)
        with (part / "metadata.jsonl").open("w", encoding="utf-8", newline="\n") as lines:
            for row in track(images, f"{options.name} {split}", len(images)):
                copy_pair(images, row, part / row["file_name"], part / row["mask"])
                names = {"file_name": row["file_name"], "mask_file_name": row["mask"]}
                lines.write(json.dumps({**names, **flat_columns(row)}, sort_keys=True) + "\n")
