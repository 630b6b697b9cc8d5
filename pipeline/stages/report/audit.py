"""The audit in the report: a row per generator and its closest pairs. No torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import files, paths, tables
from pipeline.data.image_set import ImageSet
from pipeline.stages.report import pictures
from pipeline.stages.report.gallery import colours_last
from pipeline.study import Params

TOP = 12  # suspects listed per generator
PIXELS = "pixels"  # the space in which a mirrored image is found too


@dataclass(frozen=True)
class Pair:
    """A synthetic image and its nearest training image, mirrored as it fits best, as data URIs."""

    id: str
    nearest: str
    suspect: bool
    own_source: bool
    space: str
    distance: float
    synthetic: str
    real: str


@dataclass(frozen=True)
class AuditOf:
    """What the page shows of one generator's audit."""

    generator: str
    record: dict[str, Any]  # audit.json
    suspects: list[dict[str, str]]  # the first TOP rows of suspects.csv
    pairs: list[Pair]  # the closest first


def audits(params: Params, side: int = pictures.SIDE) -> list[AuditOf]:
    """The audits there are, in the order of params.yaml; a generator that has not been audited is left out."""
    return [_audit(params, name, side) for name in params.generators if _folder(params, name).is_dir()]


def _audit(params: Params, generator: str, side: int) -> AuditOf:
    folder = _folder(params, generator)
    return AuditOf(
        generator,
        files.read_json(folder / "audit.json"),
        tables.read_table(folder / "suspects.csv")[:TOP],
        list(_pairs(params, generator, side)),
    )


def _pairs(params: Params, generator: str, side: int) -> Iterator[Pair]:
    real, made = ImageSet.open(paths.real(params.study)), ImageSet.open(paths.synthetic(params.study, generator))
    real_rows, made_rows = ({row["id"]: row for row in images} for images in (real, made))
    for row in tables.read_table(_folder(params, generator) / "images.csv")[: params.audit.pictures]:
        flip = row["flip"] if row["space"] == PIXELS else ""
        down, right = -1 if flip in ("vertical", "both") else 1, -1 if flip in ("horizontal", "both") else 1
        yield Pair(
            row["id"],
            row["nearest"],
            row["suspect"] == "1",
            row["own_source"] == "1",
            row["space"].replace("_", " "),
            float(row["distance_" + row["space"]]),
            pictures.photo(colours_last(made, made_rows[row["id"]]), side),
            pictures.photo(colours_last(real, real_rows[row["nearest"]])[::down, ::right], side),
        )


def _folder(params: Params, generator: str) -> Path:
    return paths.audit(params.study, generator)
