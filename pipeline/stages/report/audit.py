"""The audit in the report: a row per generator, and its closest pairs. No torch."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.core import files, paths, tables
from pipeline.data.image_set import ImageSet
from pipeline.stages.base.manifest import unlabelled_images
from pipeline.stages.pseudo_labels.output import read_record
from pipeline.stages.report import pictures
from pipeline.stages.report.gallery import colours_last
from pipeline.stages.report.membership import Attacks, attacks

TOP = 12  # suspects listed per generator
PIXELS = "pixels"  # the space in which a mirrored image is found too


@dataclass(frozen=True)
class ClosestPair:
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
class GeneratorAudit:
    """The audit of one generator as the page shows it."""

    generator: str
    record: dict[str, Any]  # audit.json
    suspects: list[dict[str, str]]  # the first TOP rows of suspects.csv
    pairs: list[ClosestPair]  # the closest first
    attacks: Attacks


def audits(study: str, generators: Iterable[str], pairs: int, side: int = pictures.SIDE) -> list[GeneratorAudit]:
    """Return the audits of generators with their closest `pairs`; one that has not been audited is left out."""
    return [_audit(study, name, pairs, side) for name in generators if paths.audit(study, name).is_dir()]


def _audit(study: str, generator: str, pairs: int, side: int) -> GeneratorAudit:
    folder = paths.audit(study, generator)
    return GeneratorAudit(
        generator,
        files.read_json(folder / "audit.json"),
        tables.read_table(folder / "suspects.csv")[:TOP],
        list(_closest_pairs(study, generator, pairs, side)),
        attacks(folder),
    )


def _closest_pairs(study: str, generator: str, count: int, side: int) -> Iterator[ClosestPair]:
    real, synthetic = ImageSet.open(paths.real(study)), ImageSet.open(paths.synthetic(study, generator))
    places = {row["id"]: (images, row) for images in [*_unlabelled(study), real] for row in images}
    synthetic_rows = {row["id"]: row for row in synthetic}
    for row in tables.read_table(paths.audit(study, generator) / "images.csv")[:count]:
        flip = row["flip"] if row["space"] == PIXELS else ""
        down, right = -1 if flip in ("vertical", "both") else 1, -1 if flip in ("horizontal", "both") else 1
        yield ClosestPair(
            row["id"],
            row["nearest"],
            row["suspect"] == "1",
            row["own_source"] == "1",
            row["space"].replace("_", " "),
            float(row["distance_" + row["space"]]),
            pictures.photo(colours_last(synthetic, synthetic_rows[row["id"]]), side),
            pictures.photo(colours_last(*places[row["nearest"]])[::down, ::right], side),
        )


def _unlabelled(study: str) -> list[ImageSet]:
    """Return the set of images without masks that a base or a generator has seen, of which there may be copies too."""
    return [ImageSet.open(paths.unlabelled(study))] if unlabelled_images(study) or read_record(study) else []
