"""The Croissant file of a synthetic set: JSON-LD after the Croissant format 1.0 of MLCommons."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.core import files
from pipeline.data import shards
from pipeline.data.image_set import FOLDERS
from pipeline.data.manifest import MANIFEST
from pipeline.stages.generate.card import SetSummary
from pipeline.stages.generate.provenance import PSEUDO_LABELLED, notice

FILE = "croissant.json"
RELEASED = "2026-11-22"  # of this version of twinsynth; outputs hold no time of day
VERSION_1_0 = "http://mlcommons.org/croissant/1.0"
TERMS = ("citeAs", "column", "extract", "field", "fileProperty", "fileObject", "fileSet", "format", "includes",
         "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex",
         "repeated", "replace", "separator", "source", "subField", "transform")  # fmt: skip
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in TERMS},
}
TYPES = {bool: "sc:Boolean", int: "sc:Integer", float: "sc:Float", str: "sc:Text"}
TABLE = "metadata"
PICTURES = {"file_name": "image-files", "mask": "mask-files"}  # column of a row: the file set it names a file of
OWN_COLUMNS = {"id": str, "source_id": str, "mask_id": str, "transform": str, "copy": int, "seed": str, "prompt": str,
               "split": str, "source": str, "mask": str, "sha256": str, "mask_sha256": str}  # fmt: skip
OF_REAL_IMAGES = {  # further columns, by the shared column that a set has with them
    "keep_background": ("background_id", "placed"),
    "strength": ("background_id",),
    "image_weight": ("control_image_id",),
}


def write(folder: Path, summary: SetSummary, manifest_sha256: str) -> None:
    """Write croissant.json into the folder of the set; `manifest_sha256` is the hash of metadata.jsonl."""
    files.write_json(folder / FILE, describe(summary, manifest_sha256))


def describe(summary: SetSummary, manifest_sha256: str) -> dict[str, Any]:
    """Return the description of the set as JSON-LD."""
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": VERSION_1_0,
        "name": summary.name,
        "description": " ".join(_description(summary)),
        "license": summary.licence,
        "url": "./",
        "datePublished": RELEASED,
        "creator": {"@type": "sc:Organization", "name": "twinsynth"},
        "keywords": ["synthetic", "medical imaging", "segmentation"],
        "version": "1.0.0",
        "isLiveDataset": False,
        "distribution": [_table(manifest_sha256), *_containers(summary)],
        "recordSet": [_images(summary)] if summary.sharded else [_images(summary), _masks()],
    }


def _description(summary: SetSummary) -> Iterator[str]:
    yield notice(summary.columns)
    yield f"{summary.images} images with masks for segmentation; see README.md."
    if PSEUDO_LABELLED in summary.columns:
        count = summary.columns[PSEUDO_LABELLED]
        yield f"The generator was also fine-tuned on {count} real images with predicted masks (pseudo-labels)."
    if summary.unlabelled:
        yield f"The base model was pretrained on {summary.unlabelled} real images without masks too."


def _table(sha256: str) -> dict[str, Any]:
    about = {"name": MANIFEST, "contentUrl": MANIFEST, "encodingFormat": "application/jsonlines", "sha256": sha256}
    return {"@type": "cr:FileObject", "@id": TABLE, "description": "One line per image.", **about}


def _containers(summary: SetSummary) -> list[dict[str, Any]]:
    if not summary.sharded:
        return [_pictures(column) for column in PICTURES]
    includes = [f"{shards.FOLDER}/*.tar", f"{shards.FOLDER}/*/*.tar"]
    about = {"name": "shards", "encodingFormat": "application/x-tar", "includes": includes}
    told = "Images, masks and their rows as WebDataset; README.md says where the table places their bytes."
    return [{"@type": "cr:FileSet", "@id": "shards", "description": told, **about}]


def _pictures(column: str) -> dict[str, Any]:
    name, folder = PICTURES[column], FOLDERS[column]
    about = {"encodingFormat": "image/png", "includes": [f"{folder}/*.png", f"{folder}/*/*.png"]}
    return {"@type": "cr:FileSet", "@id": name, "name": name, "description": f"PNG files of {folder}/.", **about}


def _images(summary: SetSummary) -> dict[str, Any]:
    """Return the record set of the images: all columns, and the pixels where they are files of their own."""
    lent = {name: str for shared, names in OF_REAL_IMAGES.items() if shared in summary.columns for name in names}
    types = {**OWN_COLUMNS, **lent, **{key: type(value) for key, value in summary.columns.items()}}
    about = "One record per synthetic image."
    if summary.sharded:
        types |= {"file_name": str, **shards.COLUMN_TYPES}
        return _records("images", about, [_column("images", name, TYPES[kind]) for name, kind in types.items()])
    columns = [_column("images", name, TYPES[kind]) for name, kind in types.items()]
    return _record_set("images", about, "file_name", columns, "image")


def _masks() -> dict[str, Any]:
    """Return a record set for the masks alone: the reference implementation joins a table with one file set only."""
    columns = [_column("masks", name, "sc:Text") for name in ("id", "mask_id", "source_id", "mask_sha256")]
    return _record_set("masks", "The mask of each image, by the image's id.", "mask", columns, "mask")


def _record_set(name: str, about: str, column: str, columns: list[dict[str, Any]], content: str) -> dict[str, Any]:
    return _records(name, about, [*columns, _path(name, column), _content(name, content, column)])


def _records(name: str, about: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    header = {"name": name, "description": about, "key": {"@id": f"{name}/id"}, "field": fields}
    return {"@type": "cr:RecordSet", "@id": name, **header}


def _column(records: str, name: str, kind: str) -> dict[str, Any]:
    source = {"fileObject": {"@id": TABLE}, "extract": {"column": name}}
    return {"@type": "cr:Field", "@id": f"{records}/{name}", "name": name, "dataType": kind, "source": source}


def _path(records: str, column: str) -> dict[str, Any]:
    """Return the field of the column that names a file, joined with the files by the last part of the path."""
    last_part = {"transform": {"regex": "(?:.*/)?([^/]+)$"}}
    source = {"fileObject": {"@id": TABLE}, "extract": {"column": column}, **last_part}
    files_of_set = {"fileSet": {"@id": PICTURES[column]}, "extract": {"fileProperty": "filename"}}
    about = {"name": "path", "dataType": "sc:Text", "source": source, "references": files_of_set}
    return {"@type": "cr:Field", "@id": f"{records}/path", **about}


def _content(records: str, name: str, column: str) -> dict[str, Any]:
    source = {"fileSet": {"@id": PICTURES[column]}, "extract": {"fileProperty": "content"}}
    about = {"name": name, "dataType": "sc:ImageObject", "source": source}
    return {"@type": "cr:Field", "@id": f"{records}/{name}", **about}
