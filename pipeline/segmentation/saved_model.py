"""Trained segmenters that are kept: which seeds, and a folder that holds all that prediction needs."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core import files, plugins
from pipeline.core.contracts import Segmenter
from pipeline.core.errors import UserError
from pipeline.data.intensities import Intensities
from pipeline.data.sample import DatasetSpec
from pipeline.stages.prepare.params import Data

RECORD = "kept.json"


def save_model(segmenter: Segmenter, spec: DatasetSpec, folder: Path, reading: Mapping[str, Any]) -> None:
    """Write a trained segmenter that `load_model` opens without params.yaml, and seal it.

    `reading` is what prediction must know of the reader of its data (`reader_settings`).
    """
    shutil.rmtree(folder, ignore_errors=True)
    segmenter.save(folder)
    files.write_json(folder / RECORD, {"spec": spec.model_dump(), "reading": dict(reading), **segmenter.about})
    files.seal(folder)


def reader_settings(data: Data) -> dict[str, Any]:
    """Return the reader of a study and, of volumes, how it scales intensities; no path."""
    scaling = {key: data.options[key] for key in Intensities.model_fields if key in data.options} if data.shape else {}
    return {"reader": data.reader, **scaling}


def is_saved(folder: Path) -> bool:
    """Return whether the folder holds a complete, undamaged segmenter."""
    return (folder / RECORD).is_file() and not files.damaged(folder)


def load_model(folder: Path) -> tuple[Segmenter, DatasetSpec, dict[str, Any]]:
    """Return a kept segmenter with its weights, its data set, and how that was read.

    Raises UserError where there is none.
    """
    if not is_saved(folder):
        raise UserError(
            f"{folder} holds no kept segmenter ({RECORD} is missing); set segment.keep to best_seed or all, run the"
            " stage segment and give a folder of outputs/<study>/segmentation/<segmenter>/kept"
        )
    record = files.read_json(folder / RECORD)
    spec, method = DatasetSpec.model_validate(record["spec"]), record["method"]
    module = plugins.load("segmenters", method)
    values = {key: value for key, value in record["params"].items() if key in module.Params.model_fields}
    values |= {"weights": "none"} if "weights" in values else {}  # the trained ones follow
    segmenter: Segmenter = module.build(plugins.read_params("segmenters", method, values, RECORD), spec)
    segmenter.load(folder)
    return segmenter, spec, record.get("reading", {})


def best_seeds(scores: Mapping[tuple[str, int], Sequence[Mapping[str, Any]]]) -> list[tuple[str, int]]:
    """Return, for each training set, the seed with the highest mean Dice on validation images; ties go to the first.

    `scores` has the rows of each (training set, seed). Test images are ignored.
    """
    best: dict[str, tuple[float, int]] = {}
    for (name, seed), rows in scores.items():
        dice = float(np.mean([row["dice"] for row in rows if row["split"] == "val"]))
        if name not in best or dice > best[name][0]:
            best[name] = dice, seed
    return [(name, seed) for name, (_, seed) in best.items()]


def copy_model(folder: Path, target: Path) -> None:
    """Link the files of a kept segmenter into a folder that is about to be published."""
    shutil.rmtree(target, ignore_errors=True)
    for path in sorted(folder.iterdir()):
        if not path.match(files.TEMPORARY) and path.name != files.SEAL:
            target.mkdir(parents=True, exist_ok=True)
            files.link_or_copy(path, target / path.name)
