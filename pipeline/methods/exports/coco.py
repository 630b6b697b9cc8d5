"""COCO: one JSON file of instances per split; an instance is a connected component of one class, as run lengths."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.data.image_set import ImageSet
from pipeline.data.labels import IGNORED_PIXELS
from pipeline.methods.exports._format import ExportOptions, Splits, class_names, copy_pair, flat_columns

TOUCHING = np.ones((3, 3), int)  # pixels that share a side or a corner belong to one component
Record = dict[str, Any]


def write(splits: Splits, folder: Path, options: ExportOptions) -> None:
    """Write SPLIT/ (images, and the label maps beside them) and annotations/instances_SPLIT.json, line by line.

    Raises UserError where a mask has ignored pixels.
    """
    for images in splits.values():
        if first := next((row["id"] for row in images if row.get(IGNORED_PIXELS)), None):
            raise UserError(f"the mask of {first} has ignored pixels, which coco cannot express; export nnunet")
    (folder / "annotations").mkdir(parents=True)
    for split, images in splits.items():
        path = folder / "annotations" / f"instances_{split}.json"
        with path.open("w", encoding="utf-8", newline="\n") as out:
            names = list(enumerate(class_names(images.spec.num_classes)))[1:]
            out.write('{"info": ' + json.dumps({"description": f"{options.name}, {split}"}))
            _write_list(out, "categories", ({"id": label, "name": name} for label, name in names))
            _write_list(out, "images", _pictures(images, folder / split, f"{options.name} {split}"))
            _write_list(out, "annotations", _instances(images))
            out.write("}\n")


def run_lengths(region: NDArray[np.bool_]) -> list[int]:
    """Return the lengths of the runs of equal pixels of a mask [H, W] down its columns.

    The first run is background and may have length 0.
    """
    pixels = region.ravel(order="F")
    edges = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    runs = np.diff(np.concatenate([[0], edges, [pixels.size]])).tolist()
    return [0, *runs] if pixels[0] else runs


def _write_list(out: TextIO, key: str, records: Iterable[Record]) -> None:
    out.write(f',\n"{key}": [')
    for number, record in enumerate(records):
        out.write(("" if number == 0 else ",") + "\n" + json.dumps(record, sort_keys=True))
    out.write("]")


def _pictures(images: ImageSet, folder: Path, title: str) -> Iterator[Record]:
    """Copy the files and yield COCO's images, numbered from 1 in the order of the set."""
    for number, row in enumerate(track(images, title, len(images)), 1):
        copy_pair(images, row, folder / row["file_name"], folder / row["mask"])
        columns = flat_columns(row)
        shape = {"height": images.spec.size, "width": images.spec.size}
        yield {**columns, **shape, "id": number, "case": columns["id"], "file_name": row["file_name"]}


def _instances(images: ImageSet) -> Iterator[Record]:
    """Yield COCO's annotations, numbered from 1."""
    records = (
        {**component, "image_id": number, "iscrowd": 0}
        for number, row in enumerate(images, 1)
        for component in components(images.mask(row))
    )
    yield from ({**record, "id": number} for number, record in enumerate(records, 1))


def components(mask: NDArray[np.uint8]) -> Iterator[Record]:
    """Yield every component of a label map [H, W]: class, box (x, y, width, height), area in pixels, run lengths."""
    for label in np.unique(mask[mask > 0]).tolist():
        regions, _ = ndimage.label(mask == label, TOUCHING)  # type: ignore[misc]
        for number, (rows, columns) in enumerate(ndimage.find_objects(regions), 1):
            region = regions == number
            box = [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
            shape = {"size": list(mask.shape), "counts": run_lengths(region)}
            yield {"category_id": label, "bbox": box, "area": int(region.sum()), "segmentation": shape}
