"""The generators of a study side by side: how good their images are, what they do for a segmenter, what they cost.

Everything is read from what the other stages have published. Times differ from run to run, so they stand in bench.csv
alone: the pages of two equal runs have equal bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.core import files, paths, tables
from pipeline.stages.compare.comparison import read_output
from pipeline.stages.finetune.params import GeneratorEntry

FILE = "bench.csv"
ROLES = ("arm", "rival")  # of training sets that hold a generator's images and are no control
Record = dict[str, Any]


@dataclass(frozen=True)
class BenchRow:
    """One arm that holds images of a generator, under one segmenter; None where a number was not measured."""

    segmenter: str
    training_set: str
    generator: str
    method: str
    multiplier: int
    faithfulness: float | None
    frechet: float | None  # Fréchet distance in the features of `extractor`, to the training images
    recall: float | None  # of the same features
    extractor: str | None
    suspects: int | None  # images that the audit suspects to be copies, of all images of the generator
    audited: int | None
    difference: float | None  # in Dice to the reference, with its interval
    difference_low: float | None
    difference_high: float | None
    verdict: str | None
    train_steps: int | None
    train_seconds: float | None  # of the fine-tuning alone, without the base
    seconds_per_image: float | None  # of one process


def bench_rows(
    study: str, generators: Mapping[str, GeneratorEntry], extractors: Sequence[str], comparison: Mapping[str, Any]
) -> list[BenchRow]:
    """Return the rows of all arms of generators but controls, distances in the features of the first extractor.

    Raises UserError where a generator has no scores.
    """
    about_images = {
        name: _scores(study, name, extractors) | copies_found(study, name) | _seconds(study, name)
        for name in generators
    }
    rows = []
    for arm in comparison["arms"]:
        name = arm["generator"]
        if name in generators and arm["role"] in ROLES:
            about = {key: arm[key] for key in ("segmenter", "training_set", "generator", "multiplier")}
            gain = {key: arm.get(key) for key in ("difference", "difference_low", "difference_high", "verdict")}
            rows.append(BenchRow(**about, method=generators[name].method_of(name), **gain, **about_images[name]))
    return rows


def write_bench(path: Path, rows: Sequence[BenchRow]) -> None:
    """Write the rows as CSV with six significant digits; the header alone where there is none."""
    plain = [{key: rounded(value) for key, value in asdict(row).items()} for row in rows]
    tables.write_table(path, plain, [field.name for field in fields(BenchRow)])


def _scores(study: str, generator: str, extractors: Sequence[str]) -> Record:
    """Return the scores of a generator, distances in the features of the first extractor that has one."""
    scores = read_output(paths.scores(study, generator) / "metrics.json")
    distances, recalls = scores.get("frechet", {}), scores.get("recall", {})
    extractor = next((name for name in extractors if distances.get(name) is not None), None)
    return {
        "faithfulness": scores.get("faithfulness"),
        "extractor": extractor,
        "frechet": distances.get(extractor),
        "recall": recalls.get(extractor),
    }


def copies_found(study: str, generator: str) -> Record:
    """Return the suspected copies among the images of a generator, and the number of images; None without an audit."""
    path = paths.audit(study, generator) / "audit.json"
    record = files.read_json(path) if path.is_file() else {}
    return {"suspects": record.get("suspects"), "audited": record.get("images")}


def _seconds(study: str, generator: str) -> Record:
    """Return what fine-tuning and drawing took; None where a stage ran before times were kept, or trained nothing."""
    training, drawing = (
        files.read_json(path) if path.is_file() else {"seconds": None}
        for path in (paths.finetune_seconds(study, generator), paths.generate_seconds(study, generator))
    )
    drawn, trained = drawing["seconds"], training["seconds"]
    return {
        "train_steps": None if trained is None else training["steps"],
        "train_seconds": trained,
        "seconds_per_image": None if drawn is None else drawn / drawing["images"],
    }


def rounded(value: Any) -> Any:
    """Return a number with six significant digits, and anything else as it is."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
