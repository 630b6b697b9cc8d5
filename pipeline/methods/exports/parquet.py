"""Parquet shards whose image and mask columns are `Image` features of Hugging Face's datasets, with the PNG bytes.

`datasets.load_dataset(folder)` reads them; pyarrow is needed to write them.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.data.image_set import ImageSet, Row
from pipeline.methods.exports._format import PUBLIC_NAMES, TEXT, ExportOptions, Splits, chunks, flat_columns, read_pair

ROW_GROUP = 25  # pairs held in memory


def write(splits: Splits, folder: Path, options: ExportOptions) -> None:
    """Write `shard_size` pairs per file. Raises UserError where pyarrow is missing."""
    arrow = _pyarrow()
    (folder / "data").mkdir(parents=True)
    for split, images in splits.items():
        count = -(-len(images) // options.shard_size)
        rows = track(images, f"{options.name} {split}", len(images))
        for number, shard in enumerate(chunks(rows, options.shard_size)):
            name = f"{PUBLIC_NAMES[split]}-{number:05d}-of-{count:05d}.parquet"
            _write_shard(arrow, images, shard, folder / "data" / name)


def _write_shard(arrow: ModuleType, images: ImageSet, rows: Iterable[Row], path: Path) -> None:
    schema = _schema(arrow)
    with arrow.parquet.ParquetWriter(path, schema) as file:
        for group in chunks(rows, ROW_GROUP):
            file.write_table(arrow.Table.from_pylist([_record(images, row) for row in group], schema))


def _record(images: ImageSet, row: Row) -> dict[str, Any]:
    image, mask = read_pair(images, row)
    files = {"image": {"bytes": image, "path": row["file_name"]}, "mask": {"bytes": mask, "path": row["mask"]}}
    return {**files, **flat_columns(row)}


def _schema(arrow: ModuleType) -> Any:
    """Return the columns, with the features that `datasets` builds from them under the key `huggingface`."""
    picture = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    values = {**dict.fromkeys(TEXT, "string"), "copy": "int64", "synthetic": "bool", "more": "string"}
    types = {"string": arrow.string(), "int64": arrow.int64(), "bool": arrow.bool_()}
    columns = [("image", picture), ("mask", picture), *((name, types[kind]) for name, kind in values.items())]
    pictures = {name: {"_type": "Image"} for name in ("image", "mask")}
    features = {**pictures, **{name: {"dtype": kind, "_type": "Value"} for name, kind in values.items()}}
    return arrow.schema(columns, {"huggingface": json.dumps({"info": {"features": features}})})


def _pyarrow() -> ModuleType:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(
            "the format parquet needs the package pyarrow, which is not installed: pip install pyarrow"
        ) from None
    return pyarrow
